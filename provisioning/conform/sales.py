"""The scripted box's books: sales by key, in a scripted log, with their ends.

Owns what a sale's state is at a moment. Must never look at the wire.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from appliance.crypto.disclosure import commit
from appliance.crypto.random import random_piece
from appliance.ports.clock import Clock
from appliance.wire import entries
from appliance.wire.answers import Event, PaymentAnswer, State
from appliance.wire.requests import TenderBody
from provisioning.conform.script import Script
from provisioning.conform.scripted_log import Forgery, ScriptedLog

STRANGER_KEY: Final = "01900000-0000-7000-8000-000000000001"
BASE_SIZE: Final = 3
"""Genesis, boot and the stranger's sale: the log before its filler."""
_FILLER_ENTRIES: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sale:
    key: str
    payload: bytes
    currency: str
    total_minor: int
    intent_seq: int
    due_ms: int | None
    seqs: tuple[int, ...]
    state: State


class Sales:
    """Sales of one scenario. A sale of a stranger is always there, so that its receipt can be replayed."""

    def __init__(self, *, log: ScriptedLog, clock: Clock, terminal: str) -> None:
        self._log = log
        self._clock = clock
        self._actor = f"terminal:{terminal}"
        self._sales: dict[str, _Sale] = {}
        self._script = Script()
        boot = entries.BootEntry(version="0", self_tests=0, epoch=0, post_quantum="memory")
        log.append(entries.BOOT, "box", boot, clock.now_ms())
        self.record(STRANGER_KEY, b"\x00" * 32, "EUR", 4_200)
        for _ in range(_FILLER_ENTRIES):
            log.append(entries.BOOT, "box", boot, clock.now_ms())

    def begin(self, script: Script) -> None:
        """Follow `script` from here on."""
        self._script = script
        if script.log_size is not None:
            self._log.lose_all_but(script.log_size)
            self._sales = {key: sale for key, sale in self._sales.items() if sale.seqs[-1] < script.log_size}

    def payload_of(self, key: str) -> bytes | None:
        sale = self._sales.get(key)
        return None if sale is None else sale.payload

    def record(self, key: str, payload: bytes, currency: str, total_minor: int) -> None:
        """Write the sale, or its intent, unless the key is there already."""
        if key in self._sales:
            return
        now_ms = self._clock.now_ms()
        commitments = {entries.PAYLOAD: commit(random_piece(), payload)}
        asked = entries.Asked(key=uuid.UUID(key).bytes, commitments=commitments)
        is_open = self._script.ending is not None
        sale = entries.SaleFacts(
            currency=currency,
            total=total_minor,
            tenders=(TenderBody(kind="card" if is_open else "cash", amount_minor=total_minor),),
            lines=(),
            sold_at_ms=now_ms,
        )
        if is_open:
            operation = entries.OperationFacts(
                id=f"{key}/0", kind="authorise", provider_key=f"{key}/0", amount=total_minor, currency=currency
            )
            body: entries.SaleEntry | entries.IntentEntry = entries.IntentEntry(
                operation=operation, payment=asked.key, asked=asked, sale=sale
            )
        else:
            body = entries.SaleEntry(asked=asked, sale=sale)
        seq = self._log.append(entries.INTENT if is_open else entries.SALE, self._actor, body, now_ms)
        is_ever_due = self._script.ending in ("approved", "declined")
        self._sales[key] = _Sale(
            key=key,
            payload=payload,
            currency=currency,
            total_minor=total_minor,
            intent_seq=seq,
            due_ms=self._clock.monotonic_ms() + self._script.ending_after_ms if is_ever_due else None,
            seqs=(seq,),
            state="being_checked" if is_open else "approved",
        )

    def answer(
        self, key: str, *, box_now_ms: int, proof: Forgery | None, receipt_of: str | None = None
    ) -> PaymentAnswer:
        """What the books say about `key`; `proof` None leaves the receipt out."""
        sale = self._sale(key)
        proven = self._sale(receipt_of or key)
        is_final = sale.state != "being_checked"
        has_receipt = is_final and proof is not None
        return PaymentAnswer(
            key=key,
            verb="payment",
            state=sale.state,
            seq=sale.seqs[-1],
            currency=sale.currency,
            total_minor=sale.total_minor,
            now_ms=box_now_ms,
            receipt=self._log.receipt(proven.seqs, proof) if has_receipt and proof is not None else None,
            pending=is_final and not has_receipt,
            code="card_declined" if sale.state == "declined" else None,
        )

    def receipt(self, keys: list[str]) -> bytes:
        """One receipt that proves all of `keys`."""
        return self._log.receipt(tuple(seq for key in keys for seq in self._sale(key).seqs), self._script.forgery)

    def events(self, after: int) -> list[Event]:
        """Events behind `after`, oldest first."""
        sales = [self._sale(key) for key in self._sales if key != STRANGER_KEY]
        return [
            Event(seq=sale.seqs[-1], key=sale.key, verb="payment", state=sale.state)
            for sale in sales
            if sale.seqs[-1] > after
        ]

    def _sale(self, key: str) -> _Sale:
        """The sale as it stands now: an end that fell due is written first."""
        sale = self._sales[key]
        if sale.state != "being_checked" or sale.due_ms is None or self._clock.monotonic_ms() < sale.due_ms:
            return sale
        is_approved = self._script.ending == "approved"
        outcome = entries.OutcomeEntry(
            operation=f"{key}/0",
            kind="authorise",
            payment=uuid.UUID(key).bytes,
            state="confirmed" if is_approved else "rejected",
            intent=self._log.entry_hash(sale.intent_seq),
        )
        seq = self._log.append(entries.OUTCOME, self._actor, outcome, self._clock.now_ms())
        ended = _Sale(
            key=key,
            payload=sale.payload,
            currency=sale.currency,
            total_minor=sale.total_minor,
            intent_seq=sale.intent_seq,
            due_ms=None,
            seqs=(sale.intent_seq, seq),
            state="approved" if is_approved else "declined",
        )
        self._sales[key] = ended
        return ended
