"""Receipts checked with the ledger's own verifier, and what their entries say to a till.

Owns the step from proven entries to states. Must never accept a log that is not this box's: a receipt of the same
owner's other shop proves nothing about this sale.

Source: docs/formats/receipt.md, docs/formats/entry-kinds.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import msgspec

from appliance.crypto import cbor, jws
from appliance.ledger.entry import ENTRY_BYTES_MAX, Entry
from appliance.ledger.receipt import verify_receipt
from appliance.ledger.shown_head import head_of
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected
from appliance.model.operation import OperationKind
from appliance.model.payment import STATE_AFTER, PaymentState
from appliance.wire import entries, till_entries, vault_entries
from appliance.wire.requests import HeadBody, Seen
from provisioning.terminal import till_claims
from provisioning.terminal.receipts import VerifiedReceipt

_AS_BEFORE: Final = (PaymentState.APPROVED.value, PaymentState.PARTLY_REFUNDED.value)
_AFTER: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    which: _AS_BEFORE if after is None else (after.value,) for which, after in STATE_AFTER.items()
}
"""What an outcome proves of its payment; any other: being checked. The entry of a refund or reversal tells the rest."""


class LedgerReceipts:
    """`receipts.ReceiptVerifier` for the log named `audience`."""

    def __init__(self, *, trust: Trust, audience: str) -> None:
        self._logs = {log_id: keys for log_id, keys in trust.keys.items() if trust.logs[log_id].origin == audience}
        if not self._logs:
            raise Rejected("trust_without_log", f"trust.json vouches for no log named {audience}")

    @classmethod
    def from_file(cls, trust_file: bytes, audience: str) -> LedgerReceipts:
        """Raises Rejected: `trust_without_log`, and the codes of `load_trust`."""
        return cls(trust=load_trust(trust_file), audience=audience)

    def verify(self, receipt: bytes) -> VerifiedReceipt:
        """Raises Rejected with the codes of `verify_receipt`, or `receipt_entry_malformed`."""
        verified = verify_receipt(receipt, self._logs)
        states: dict[str, frozenset[str]] = {}
        for entry in verified.entries:
            for key, state in _told_by(entry):
                text = str(uuid.UUID(bytes=key))
                states[text] = states.get(text, frozenset()) | {state}
        root = verified.root.hex()
        return VerifiedReceipt(head=Seen(size=verified.size, root=root), proof=_proof(root, receipt), states=states)


def _proof(root: str, receipt: bytes) -> HeadBody:
    """The signatures of a receipt that was verified, as they are shown."""
    halves = {key_class: jws.to_base64url(half).decode() for key_class, half in head_of(receipt).items()}
    return HeadBody(root=root, classical=halves["classical"], post_quantum=halves["post_quantum"])


def _told_by(entry: Entry) -> Iterator[tuple[bytes, str]]:
    """Each (key, state) that an entry proves; kinds that say nothing about a sale prove nothing."""
    try:
        body = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
        match entry.kind:
            case entries.SALE:
                yield msgspec.convert(body, entries.SaleEntry).asked.key, "approved"
            case entries.INTENT:
                intent = msgspec.convert(body, entries.IntentEntry)
                # A forward is of what was accepted offline, and does not change that.
                state = "accepted_offline" if intent.operation.kind == OperationKind.FORWARD else "being_checked"
                yield intent.payment, state
                yield from ((key, "being_checked") for key in _asking(intent.asked, intent.request))
            case entries.OUTCOME:
                outcome = msgspec.convert(body, entries.OutcomeEntry)
                for key in (outcome.payment, *_asking(None, outcome.request)):
                    yield from ((key, state) for state in _AFTER.get((outcome.kind, outcome.state), ("being_checked",)))
            case entries.REFUND | entries.REVERSAL:
                undo = msgspec.convert(body, entries.UndoEntry)
                state = _undone(entry.kind, undo)
                yield from ((key, state) for key in (undo.payment, *_asking(undo.asked, undo.request)))
            case entries.TOMBSTONE:
                tombstone = msgspec.convert(body, entries.TombstoneEntry)
                yield tombstone.payment, "cancelled"
                yield from ((key, "cancelled") for key in _asking(tombstone.asked, None))
            case entries.REVERSAL_WANTED:
                wanted = msgspec.convert(body, entries.ReversalWantedEntry)
                yield wanted.payment, "being_checked"
                yield from ((key, "being_checked") for key in _asking(wanted.asked, wanted.request))
            case entries.SALE_GIVEN_UP:
                given_up = msgspec.convert(body, entries.SaleGivenUpEntry)
                yield given_up.payment, "being_checked"
                yield given_up.asked.key, "being_checked"
            case kind if kind in till_claims.ACT_OF:
                act = msgspec.convert(body, till_entries.DrawerEntry)
                yield act.asked.key, till_claims.act_state(till_claims.ACT_OF[kind], act.drawer, act.amount)
            case till_entries.VOUCHER_ISSUED:
                issued = msgspec.convert(body, till_entries.VoucherIssuedEntry)
                named = (issued.amount, issued.voucher.hex(), issued.expires)
                yield issued.asked.key, till_claims.voucher_state("issue", *named)
            case till_entries.VOUCHER_VOIDED:
                voided = msgspec.convert(body, till_entries.VoucherVoidedEntry)
                yield voided.asked.key, till_claims.voucher_state("void", voided.amount, voided.voucher.hex(), None)
            case vault_entries.KEPT:
                kept = msgspec.convert(body, vault_entries.TokenKeptEntry)
                for key in _asking(kept.asked, None):
                    yield key, till_claims.token_state("keep", kept.name)
            case vault_entries.FORGOTTEN:
                forgotten = msgspec.convert(body, vault_entries.TokenForgottenEntry)
                for key in _asking(forgotten.asked, None):
                    yield key, till_claims.token_state("forget", forgotten.name)
            case till_entries.DRAWER_CLOSED | till_entries.TERMINAL_CLOSED:
                closed = msgspec.convert(body, till_entries.PeriodClosedEntry)
                yield closed.asked.key, till_claims.period_state(closed.period)
            case _:
                return
    except msgspec.ValidationError as cause:
        raise Rejected("receipt_entry_malformed", f"entry {entry.seq} is no {entry.kind} of version 1") from cause


def _asking(asked: entries.Asked | None, request: bytes | None) -> tuple[bytes, ...]:
    """The key of the request that an entry is about."""
    if asked is not None:
        return (asked.key,)
    return () if request is None else (request,)


def _undone(kind: str, undo: entries.UndoEntry) -> str:
    if kind == entries.REVERSAL:
        return "reversed"
    return "partly_refunded" if undo.left else "refunded"
