"""Which card reader or PIN pad belongs to which till, and which is in use: one payment at a time on each.

A payment holds its reader from before its intent until its operation ended here. Whether the reader is really free is
the provider's to say; this spares a second customer the wait, and an intent that could come to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import RequestKey, TerminalId
from appliance.model.payment import Identity
from appliance.model.sale import Tender, TenderKind
from appliance.ports.provider import CardSource

OWN: Final = "reader"
"""A tender's `source` that means the till's own reader."""
_NO_PADS: Final[Mapping[TerminalId, CardSource]] = {}


class Readers:
    """The readers of the shop.

    Args:
        bound: each till's own reader.
        pads: each till's own PIN pad, which several may share.
        is_reader: whether a tender's source names a reader at all, and not a payment method.
        is_default: a card tender without a source goes to the till's own reader.
    """

    def __init__(
        self,
        *,
        bound: Mapping[TerminalId, CardSource],
        is_reader: Callable[[str], bool],
        is_default: bool,
        pads: Mapping[TerminalId, CardSource] = _NO_PADS,
    ) -> None:
        self._bound = bound
        self._pads = pads
        self._is_reader = is_reader
        self._is_default = is_default
        self._held: dict[CardSource, RequestKey] = {}

    @contextmanager
    def held(self, card: Tender, identity: Identity) -> Iterator[Tender]:
        """`card` with its reader named, held until `release`; let go at once when the block fails.

        Raises:
            Unavailable: `reader_busy`: another payment holds it.
            Rejected: `reader_not_bound`: it is not this till's.
        """
        reader = self._reader_of(card, identity.terminal)
        if reader is None:
            yield card
            return
        is_new = reader not in self._held
        if self._held.setdefault(reader, identity.key) != identity.key:
            raise Unavailable("reader_busy", "another payment is on this card reader; wait for its end, or abort it")
        try:
            yield replace(card, source=reader)
        except BaseException:
            if is_new:
                del self._held[reader]
            raise

    def release(self, payment: RequestKey) -> None:
        """The payment needs its reader no longer."""
        self._held = {reader: holder for reader, holder in self._held.items() if holder != payment}

    def _reader_of(self, card: Tender, terminal: TerminalId) -> CardSource | None:
        if card.kind is TenderKind.PIN_PAD:
            return self._pad_of(card, terminal)
        own = self._bound.get(terminal)
        if card.kind is not TenderKind.CARD:
            return None
        if card.source is None:
            return own if self._is_default else None
        if card.source != OWN and not self._is_reader(card.source):
            return None
        if own is None or card.source not in (OWN, own):
            raise Rejected("reader_not_bound", "the settings bind no such card reader to this till")
        return own

    def _pad_of(self, card: Tender, terminal: TerminalId) -> CardSource | None:
        own = self._pads.get(terminal)
        if own is None and not self._pads:
            return None
        if own is None or card.source not in (None, own):
            raise Rejected("reader_not_bound", "the settings bind no such PIN pad to this till")
        return own
