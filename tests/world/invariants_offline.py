"""What must hold of cards that were accepted without their bank: the log, the pads, the limits and the reports agree.

Owns that part of the verdict; it follows the log from its first entry to its last and counts anew what hangs on banks.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from appliance.ledger.entry import Entry
from appliance.model.operation import OperationKind, OperationState
from appliance.wire import entries, till_entries
from appliance.wire.till_entries import DayClosedEntry
from tests.world.books import Books
from tests.world.invariants_till import Periods
from tests.world.ledgered import Ledgered, key_name
from tests.world.pads import LIMITS, PadTwin

_ENDS: Final = {
    (OperationKind.FORWARD, OperationState.CONFIRMED): "forwarded",
    (OperationKind.FORWARD, OperationState.REJECTED): "lost",
    (OperationKind.WITHDRAW, OperationState.CONFIRMED): "withdrawn",
}


def judge_offline(books: Books, held: Ledgered, periods: Periods, pads: PadTwin) -> None:
    """Write every violation into the books."""
    for what in pads.wrong:
        books.violate("doubled", f"at the pads: {what}")
    moved = _follow(books, held)
    told: Counter[str] = Counter()
    cards = [card for card in pads.cards.values() if card.is_offline]
    told.update(offline=sum(card.minor for card in cards))
    for state, what in (("charged", "forwarded"), ("declined", "lost"), ("forgotten", "withdrawn")):
        told[what] += sum(card.minor for card in cards if card.state == state)
    if moved != +told:
        books.violate("lost", f"of cards accepted offline the log says {dict(moved)}, the pads {dict(told)}")
    for scope in ("shop", "terminal"):
        said: Counter[str] = Counter()
        for (each, _), chain in periods.items():
            for _, period in chain if each == scope else ():
                said.update({what: getattr(period.totals, what) for what in ("offline", *_ENDS.values())})
            if each == scope and chain[-1][1].waiting:
                books.violate("lost", f"{scope}: {chain[-1][1].waiting} wait for banks, and none do")
        if +said != moved:
            books.violate(
                "lost", f"all periods by {scope} say {dict(said)} of cards accepted offline, not {dict(moved)}"
            )
    for card in cards:
        if card.asked > 1 or (card.asked == 0) != (card.state == "forgotten"):
            books.violate("doubled", f"{books.name(card.payment)}: its bank was asked {card.asked} times, {card.state}")
    _check_losses(books, held)


def _follow(books: Books, held: Ledgered) -> Counter[str]:
    """What was accepted and what became of it; each intent that may accept leaves every limit whole."""
    moved: Counter[str] = Counter()
    hangs: dict[str, tuple[str, int]] = {}  # by authorisation: till and amount, reserved or accepted
    waits: dict[bytes, str] = {}
    asks: dict[str, bytes] = {}
    for entry, body in held.log:
        if entry.kind == entries.INTENT:
            operation = body["operation"]
            if operation.get("offline"):
                hangs[operation["id"]] = (entries.terminal_of(entry.actor), operation["amount"])
                _check_limits(books, hangs, entry, operation["amount"])
            elif operation["kind"] in (OperationKind.FORWARD, OperationKind.WITHDRAW):
                if body["payment"] not in waits or body["payment"] in asks.values():
                    books.violate("doubled", f"{books.name(key_name(body['payment']))} is forwarded, and does not wait")
                asks[operation["id"]] = body["payment"]
        elif entry.kind == entries.OUTCOME and body["state"] != OperationState.UNKNOWN:
            _end(body, hangs, waits, asks, moved)
    if hangs:
        books.violate("lost", f"{hangs} still hang on banks")
    return moved


def _check_limits(books: Books, hangs: dict[str, tuple[str, int]], entry: Entry, amount: int) -> None:
    own = sum(minor for till, minor in hangs.values() if till == entries.terminal_of(entry.actor))
    in_all = sum(minor for _, minor in hangs.values())
    if amount > LIMITS.sale_minor_max or own > LIMITS.terminal_minor_max or in_all > LIMITS.box_minor_max:
        books.violate(
            "lost", f"entry {entry.seq} lets {amount} be accepted offline: {own} at its till, {in_all} in all"
        )


def _end(
    body: dict[str, Any],
    hangs: dict[str, tuple[str, int]],
    waits: dict[bytes, str],
    asks: dict[str, bytes],
    moved: Counter[str],
) -> None:
    name, kind, state, payment = body["operation"], OperationKind(body["kind"]), body["state"], body["payment"]
    if state == OperationState.ACCEPTED:
        waits[payment] = name
        moved["offline"] += hangs[name][1]
    elif kind in (OperationKind.FORWARD, OperationKind.WITHDRAW):
        asks.pop(name)
        if (kind, state) in _ENDS:
            _, minor = hangs.pop(waits.pop(payment))
            moved[_ENDS[kind, state]] += minor
    else:
        hangs.pop(name, None)


def _check_losses(books: Books, held: Ledgered) -> None:
    """Each loss stands in the list of the day that learnt of it, once."""
    lost: list[int] = []
    for entry, body in held.log:
        if entry.kind == entries.OUTCOME:
            if (body["kind"], body["state"]) == (OperationKind.FORWARD, OperationState.REJECTED):
                lost.append(entry.seq)
        elif entry.kind == till_entries.DAY_CLOSED:
            day = msgspec.convert(body, DayClosedEntry)
            if [each.outcome for each in day.lost] != lost or day.lost_count != len(lost):
                books.violate("lost", f"{day.day}: lost were {lost}, told as {day.lost}")
            lost = []
