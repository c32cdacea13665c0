"""What the operator's door does about a person: says how much is held, erases it, hands it out with its proofs.

Owns the order: an entry of the log first, then the act. Must never put a person's name into a log line, a refusal or
an entry: entries name an alias.

* A misspelt name is refused. It must not end as "erased" while the person's values stay.
* Somebody else's values never leave with the person's own: where a signed request names two persons, neither gets it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.archive import Archive
from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.draft import Disclosure, Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.receipt import ReceiptBundle
from appliance.ledger.subjects import HeldEntry, Holding, erased_by, held_entries, holding
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import RequestKey
from appliance.model.limits import SIGNATURE_WAIT_MS, TEXT_CHARACTERS_MAX
from appliance.payment.history import history_seqs
from appliance.payment.records import asked_of
from appliance.ports.clock import Clock
from appliance.wire import entries

ACTOR: Final = "operator"
"""Whoever opened the box's own socket; named persons come with the admin door."""
KINDS: Final = ("cashier", "customer")
PAGE_ENTRIES: Final = 50
"""Under one receipt: 11 kB of signatures for all of them, and a page is proven in some milliseconds."""


class SubjectAnswers:
    """Acts on the ledger, reads through the archive: no payment waits behind a long export."""

    def __init__(
        self, *, ledger: Ledger, archive: Archive, clock: Clock, on_erased: Callable[[], Awaitable[None]]
    ) -> None:
        self._on_erased = on_erased
        self._ledger = ledger
        self._archive = archive
        self._clock = clock

    async def held(self, subject: str) -> dict[str, Any]:
        """How much is held about `subject`; `is_carried`: values lie in an earlier log of this box, too.

        Raises:
            Rejected: `subject_malformed`, `subject_unknown`.
        """
        key_ids = await self._key_ids(subject)
        is_carried = await self._vault().are_carried(key_ids)
        held = await (self._count(key_ids) if is_carried else self._holding(subject, key_ids))
        return {**_told(held), "is_carried": is_carried}

    async def erase(self, subject: str) -> dict[str, Any]:
        """Erase `subject`; a second call answers with the entry of the first.

        Raises:
            Rejected: as `held`.
            Unavailable, OutcomeUnknown: as `Ledger.erase`.
        """
        key_ids = await self._key_ids(subject)
        held = await self._count(key_ids)
        if not held.entries and not await self._vault().are_carried(key_ids):
            seq = await self._erased_by(subject)
            if seq is None:
                raise _unknown(seq)
            return {"seq": seq, "entries": 0, "was_erased": True}
        recorded = await self._ledger.erase(subject, actor=ACTOR)
        await self._on_erased()
        return {"seq": recorded.seq, "entries": held.entries, "was_erased": False}

    async def export(self, subject: str) -> AsyncGenerator[dict[str, Any]]:
        """First what follows, then receipt files with the person's values opened in them, last that of `exported`.

        Nothing is yielded before the `exported` entry is durable.

        Raises:
            Rejected: as `held`.
            Unavailable: `signing_down`.
        """
        key_ids = await self._key_ids(subject)
        held = await self._holding(subject, key_ids)
        if await self._ledger.receipts((self._ledger.head.size - 1,), SIGNATURE_WAIT_MS) is None:
            raise _unsigned()  # before anything says that it was handed out
        seq = await self._record(subject, held.entries)
        yield {**_told(held), "seq": seq}
        count = 0
        for key_id in key_ids:
            after = -1
            while page := await self._page(key_id, after):
                after, count = page[-1].entry.seq, count + len(page)
                yield {"receipt": (await self._receipt(page)).encode()}
        exported = await self._ledger.receipts((seq,), SIGNATURE_WAIT_MS)
        if exported is None:
            raise _unsigned()
        yield {"end": count, "exported": exported.encode()}

    async def _key_ids(self, subject: str) -> tuple[int, ...]:
        kind, _, value = subject.partition(":")
        if kind not in KINDS or not 0 < len(value) <= TEXT_CHARACTERS_MAX:
            raise Rejected("subject_malformed", "expected cashier:NAME or customer:ID, of at most 200 characters")
        return await self._vault().key_ids(subject)

    async def _holding(self, subject: str, key_ids: Sequence[int]) -> Holding:
        held = await self._count(key_ids)
        if not held.entries:
            raise _unknown(await self._erased_by(subject))
        return held

    async def _count(self, key_ids: Sequence[int]) -> Holding:
        # Not by the keys: a sale that was refused, or came again after an erasure, leaves a key and nothing under it.
        return await self._archive.read(lambda connection: holding(connection, key_ids))

    async def _erased_by(self, subject: str) -> int | None:
        alias = self._vault().alias_of(subject)
        return await self._archive.read(lambda connection: erased_by(connection, alias))

    async def _record(self, subject: str, count: int) -> int:
        body = entries.ExportedEntry(entries=count, subject=self._vault().alias_of(subject))
        draft = Draft(
            kind=entries.EXPORTED,
            actor=ACTOR,
            time_ms=self._clock.now_ms(),
            body=cbor.encode_ordered(msgspec.to_builtins(body)),
        )
        (recorded,) = await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        return recorded.seq

    async def _page(self, key_id: int, after: int) -> tuple[HeldEntry, ...]:
        return await self._archive.read(
            lambda connection: held_entries(connection, key_id, after=after, limit=PAGE_ENTRIES)
        )

    async def _receipt(self, page: Sequence[HeldEntry]) -> ReceiptBundle:
        """The entries of `page` and all others of the same payments, the person's values opened."""
        keys = [RequestKey(uuid.UUID(bytes=asked.key)) for held in page if (asked := asked_of(held.entry)) is not None]
        histories = await self._archive.read(lambda connection: [history_seqs(connection, key)[1] for key in keys])
        seqs = sorted({held.entry.seq for held in page}.union(*histories))
        bundle = await self._ledger.receipts(seqs, SIGNATURE_WAIT_MS)
        if bundle is None:
            raise _unsigned()
        opened = {held.entry.seq: await self._opened(held) for held in page}
        return replace(
            bundle,
            entries=tuple(replace(proven, disclosures=opened.get(proven.seq, ())) for proven in bundle.entries),
        )

    async def _opened(self, held: HeldEntry) -> tuple[Disclosure, ...]:
        asked = asked_of(held.entry)
        names_another = asked is not None and "request.1" in asked.commitments
        return tuple(
            value
            for value in await self._vault().open(held.values)
            if not (names_another and value.name.startswith("request"))
        )

    def _vault(self) -> DisclosureVault:
        vault = self._ledger.vault
        if vault is None:
            raise Unavailable("disclosures_closed", "expected a store key for the subject keys")
        return vault


def _told(held: Holding) -> dict[str, Any]:
    return {
        "entries": held.entries,
        "first_ms": None if held.first is None else held.first.time_ms,
        "last_ms": None if held.last is None else held.last.time_ms,
    }


def _unknown(erased_by_seq: int | None) -> Rejected:
    if erased_by_seq is None:
        return Rejected("subject_unknown", "nothing is held; expected the name exactly as tills send it")
    return Rejected("subject_unknown", f"nothing is held: entry {erased_by_seq} erased it, and nothing came since")


def _unsigned() -> Unavailable:
    return Unavailable("signing_down", "no head could be signed in time, so nothing could be proven")
