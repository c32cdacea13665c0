"""What must hold of a world at rest: log, tables, tills and provider say the same.

Owns the verdict. Must never change anything: it reads the log's bytes, the tables, the provider's oracle and what the
tills were told, and compares each with the others.

* lost: something that was acknowledged, promised or proven is not so.
* doubled: money or a sale is there twice.
* falsely failed: somebody was told that nothing was charged, and it was.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, Final

import msgspec

from appliance.ledger.merkle import Frontier, leaf_hash
from appliance.ledger.projection import tables_digest
from appliance.ledger.verify import verify_log
from appliance.model.errors import TillstoneError
from appliance.model.operation import OperationKind
from appliance.wire import entries
from appliance.wire.requests import PaymentBody
from appliance.wiring.projections import projections
from tests.crash.invariants import AFTER
from tests.world.books import FAILED, LOST, Books, Harm, Told, card_of, covers_of
from tests.world.box import CAPTURE_WINDOW_MS, CASH_ROUNDING_MINOR, WorldBox
from tests.world.ledgered import Ledgered, key_name, read_ledgered
from tests.world.refusals import BY_ITSELF
from tests.world.stepping import LIFE

KEPT: Final = frozenset({"approved", "partly_refunded"})
HELD: Final = frozenset({"authorised"})
GIVEN_BACK: Final = frozenset({"refunded", "reversed"})
TAUGHT: Final = KEPT | HELD | GIVEN_BACK | FAILED | {LOST, "expired"}
"""States that this verdict knows; a world at rest has no other."""


async def judge(
    books: Books, box: WorldBox, charges: list[dict[str, Any]], given_up: list[dict[str, Any]], *, rebuilds: bool
) -> Ledgered:
    """Write every violation into the books; returns what the box holds.

    Args:
        charges: what the providers took or hold.
        given_up: what they hold no longer.
    """
    assert box.ledger is not None
    held = await box.ledger.read(read_ledgered)
    for crash in box.life.loop.crashes:
        books.violate("lost", f"something crashed: {crash}")
    _check_log(books, held)
    _check_requests(books, held)
    _check_sales(books, held)
    _check_told(books, held)
    _check_given_back(books, held)
    _check_refunds(books, held)
    _check_tries(books, held)
    _check_cards(books, held, charges)
    _check_expired(books, held, given_up)
    if rebuilds:
        await _check_rebuild(books, box)
    return held


def _check_log(books: Books, held: Ledgered) -> None:
    """The log verifies from its bytes, and each head that anybody saw signed is a head of it."""
    try:
        verify_log(held.encoded, owner=None, check_bodies=True)
    except TillstoneError as error:
        books.violate("lost", f"the log does not verify: {error}")
    frontier = Frontier()
    for size, encoded in enumerate(held.encoded, start=1):
        frontier.append(leaf_hash(encoded), [])
        seen = books.heads.get(size)
        if seen is not None and frontier.root().hex() != seen:
            books.violate("lost", f"the head of {size} entries that a till verified is not one of this log")
    for size in books.heads:
        if size > len(held.encoded):
            books.violate("lost", f"a till verified a head of {size} entries, and the log has {len(held.encoded)}")


def _check_requests(books: Books, held: Ledgered) -> None:
    """Each key has at most one entry, each entry a key that somebody used; what was refused has none."""
    seen = Counter(_asked(body) for _, body in held.log if isinstance(body, dict) and body.get("asked"))
    known = books.asked | books.sales.keys()
    for key, count in seen.items():
        if count > 1:
            books.violate("doubled", f"{books.name(key)} is in the log {count} times")
        if key not in known:
            books.violate("doubled", f"{books.name(key)} is in the log, and no till asked under this key")
    for key in books.refused:
        if seen[key]:
            books.violate("lost", f"{books.name(key)} was refused, and is in the log")


def _check_sales(books: Books, held: Ledgered) -> None:
    """What is recorded of a sale is what the till asked for; of one that was captured later, what a capture did."""
    captured = _captures(books, held)
    for key, standing in held.payments.items():
        body = books.sales.get(key)
        if standing.state not in TAUGHT:
            books.violate("lost", f"{books.name(key)} is {standing.state}, of which this verdict knows nothing")
        if body is None or standing.state == "cancelled":
            continue
        card = card_of(body)
        if body.capture == "later" and standing.is_charged and standing.card in captured.get(key, ()):
            card = standing.card
        expected = (covers_of(body), _cash(body), card)
        if body.partial == "accepted" and 0 < standing.card < card:
            expected = (standing.card, 0, standing.card)
        if (standing.total, standing.cash, standing.card) != expected:
            books.violate("lost", f"{books.name(key)} was to be {expected}, and is recorded as {standing}")


def _captures(books: Books, held: Ledgered) -> dict[str, set[int]]:
    """What the provider was asked to capture of each payment, which is what a till asked for."""
    captured: dict[str, set[int]] = {}
    for entry, body in held.log:
        if entry.kind != entries.INTENT or body["operation"]["kind"] != OperationKind.CAPTURE:
            continue
        payment, amount = key_name(body["payment"]), body["operation"]["amount"]
        asked = books.captures.get(key_name(body["request"]) if body.get("request") else _asked(body))
        if asked is None or amount != (asked.amount_minor or card_of(books.sales[payment])):
            books.violate("lost", f"of {books.name(payment)} {amount} were to be captured, and asked was {asked}")
        captured.setdefault(payment, set()).add(amount)
    return captured


def _check_told(books: Books, held: Ledgered) -> None:
    """What a till was told is there, and changed only because somebody asked for it."""
    stood = [key for key, standing in held.payments.items() if standing.state not in FAILED]
    outlived = {earlier for key in stood for earlier in _line(books, key)[1:]}
    changed = books.undone | outlived | {capture.of for capture in books.captures.values()}
    changed |= {key for key, sale in books.sales.items() if sale.part_of in changed}
    by_payment: dict[str, list[Told]] = {}
    for told in books.told:
        by_payment.setdefault(told.payment, []).append(told)
    for payment, answers in by_payment.items():
        name, standing = books.name(payment), held.payments.get(payment)
        if standing is None:
            books.violate("lost", f"{name} was told {answers[0].state}, and is not in the ledger")
            continue
        answers.sort(key=lambda told: told.seq)
        states = [told.state for told in answers] + [standing.state]
        for before, after in pairwise(states):
            is_asked = before == after or payment in changed or (before, after) in BY_ITSELF
            if after not in AFTER[before] or not is_asked:
                harm: Harm = "falsely failed" if {before, after} & FAILED else "lost"
                books.violate(harm, f"{name} was told {before}, and then it is {after}")


def _check_given_back(books: Books, held: Ledgered) -> None:
    """What entries gave back is what the tables say, never more than was paid, and what the state means."""
    for payment, undos in _undos(held).items():
        name, standing = books.name(payment), held.payments.get(payment)
        given = tuple(sum(getattr(undo, what) for _, undo in undos) for what in ("cash", "card", "voucher"))
        if standing is None or given != (standing.cash_back, standing.card_back, standing.voucher_back):
            books.violate("lost", f"{name} is {standing}; given back: {given} in cash, by card, to vouchers")
        elif standing.cash_back > standing.cash or standing.card_back > standing.card:
            books.violate("doubled", f"{name} is {standing}: more was given back than was paid")
        if sum(kind == entries.REVERSAL for kind, _ in undos) > 1:
            books.violate("doubled", f"{name} was reversed more than once")
    for payment, standing in held.payments.items():
        match standing.state:
            case state if state in GIVEN_BACK:
                is_so = standing.back == standing.paid
            case "partly_refunded":
                is_so = 0 < standing.back < standing.paid
            case _:
                is_so = standing.back == 0
        if not is_so:
            books.violate("lost", f"{books.name(payment)} is {standing}, and given back {standing.back}")


def _check_refunds(books: Books, held: Ledgered) -> None:
    """Each refund gave, once, what its till asked for and was told; none was refused for an amount that was left."""
    given: dict[str, int] = {}
    returned: Counter[tuple[str, int]] = Counter()
    for payment, undos in _undos(held).items():
        for undo in (undo for kind, undo in undos if kind == entries.REFUND):
            key = key_name(undo.request or (undo.asked.key if undo.asked else b""))
            if key in given:
                books.violate("doubled", f"{books.name(key)} gave twice")
            given[key] = undo.cash + undo.card + undo.voucher
            sale = books.sales[payment].part_of or payment
            returned.update({(sale, line.index): line.quantity_thousandths for line in undo.lines})
    for (payment, index), quantity in returned.items():
        lines = books.sales[payment].lines
        if quantity > (lines[index].quantity_thousandths if lines else 1_000):
            books.violate("doubled", f"of {books.name(payment)} line {index} went back: {quantity} thousandths")
    for key, asked in books.refunds.items():
        amount = None if asked is None else asked.amount_minor
        # Cash goes back in the shop's steps.
        if amount is not None and key in given and abs(amount - given[key]) >= CASH_ROUNDING_MINOR:
            books.violate("lost", f"{books.name(key)} was to give {amount}, and gave {given[key]}")
        if key in books.above and asked is not None:
            standing = held.payments.get(asked.of)
            left = None if standing is None else standing.paid - standing.back
            if left is None or (amount is not None and amount <= left):
                books.violate("lost", f"{books.name(key)} was refused {amount}, and {left} are left")
    for told in (told for told in books.told if told.verb != "batch"):
        back = sum(minor for seq, minor in _backs(held, told.payment) if seq <= told.seq)
        if told.refunded_minor != back:
            books.violate("lost", f"{books.name(told.payment)} was told {told.refunded_minor} back, and it was {back}")
        if told.verb == "refund" and told.given_minor != given.get(told.key, 0):
            books.violate("lost", f"{books.name(told.key)} was told {told.given_minor}, and gave {given.get(told.key)}")


def _backs(held: Ledgered, payment: str) -> list[tuple[int, int]]:
    """What each entry gave back of a payment."""
    return [
        (entry.seq, body.get("cash", 0) + body.get("card", 0) + body.get("voucher", 0))
        for entry, body in held.log
        if entry.kind in (entries.REFUND, entries.REVERSAL) and key_name(body["payment"]) == payment
    ]


def _undos(held: Ledgered) -> dict[str, list[tuple[str, entries.UndoEntry]]]:
    """The refunds and reversals of each payment, in order."""
    undos: dict[str, list[tuple[str, entries.UndoEntry]]] = {}
    for entry, body in held.log:
        if entry.kind in (entries.REFUND, entries.REVERSAL):
            undo = msgspec.convert(body, entries.UndoEntry)
            undos.setdefault(key_name(undo.payment), []).append((entry.kind, undo))
    return undos


def _check_tries(books: Books, held: Ledgered) -> None:
    """Of all tries of one sale, at most one keeps money."""
    keepers: dict[str, list[str]] = {}
    for key, standing in held.payments.items():
        if standing.state in KEPT | HELD:
            keepers.setdefault(_first(books, key), []).append(key)
    for tries in keepers.values():
        if len(tries) > 1:
            books.violate("doubled", f"of one sale {', '.join(map(books.name, tries))} keep money")


def _line(books: Books, key: str) -> list[str]:
    """A try and those before it: what it names, and what those name."""
    line = [key]
    for each in line:
        sale = books.sales.get(each)
        line += [] if sale is None else [earlier for earlier in sale.retry_of if earlier not in line]
    return line


def _first(books: Books, key: str) -> str:
    """The first try of the same sale; every till names it last."""
    sale = books.sales.get(key)
    return sale.retry_of[-1] if sale is not None and sale.retry_of else key


def _check_cards(books: Books, held: Ledgered, charges: list[dict[str, Any]]) -> None:
    """At most one charge for each payment; what is kept is what the ledger says, in each and in all."""
    by_payment: dict[str, list[dict[str, Any]]] = {}
    for charge in charges:
        by_payment.setdefault(charge["metadata"]["tillstone_payment"], []).append(charge)
    for payment, taken in by_payment.items():
        name = books.name(payment)
        if len(taken) > 1:
            books.violate("doubled", f"{name} was charged {len(taken)} times")
        if payment not in held.payments:
            books.violate("lost", f"{name} was charged, and the ledger knows nothing of it")
    expected_sum = 0
    for payment, standing in held.payments.items():
        taken = by_payment.get(payment, [])
        kept = sum(charge["captured"] - charge["refunded"] for charge in taken)
        expected = standing.card - standing.card_back if standing.state in KEPT and standing.is_charged else 0
        expected_sum += expected
        bank = sum(charge["amount"] for charge in taken if not charge["captured"])
        if bank != (standing.card if standing.state in HELD else 0):
            books.violate("lost", f"{books.name(payment)} is {standing.state}, and the card's bank holds {bank}")
        if kept == expected:
            continue
        harm: Harm = "lost" if kept < expected else "falsely failed" if standing.state in FAILED else "doubled"
        books.violate(harm, f"{books.name(payment)} is {standing.state}: {expected} to be kept, {kept} are")
    kept_sum = sum(charge["captured"] - charge["refunded"] for charge in charges)
    if kept_sum != expected_sum and not books.violations:
        books.violate("lost", f"the provider keeps {kept_sum} in all, the ledger says {expected_sum}")


def _check_expired(books: Books, held: Ledgered, given_up: list[dict[str, Any]]) -> None:
    """What nobody captured was held for as long as the till was told, by the provider's clock."""
    for intent in given_up:
        payment = intent["metadata"]["tillstone_payment"]
        held_ms = (intent["canceled_at"] + 1 - intent["created"]) * 1_000
        standing = held.payments.get(payment)
        if standing is not None and standing.state == "expired" and held_ms < CAPTURE_WINDOW_MS:
            books.violate("lost", f"{books.name(payment)} was given up after {held_ms} ms")


async def _check_rebuild(books: Books, box: WorldBox) -> None:
    """The tables are a function of the log."""
    assert box.ledger is not None
    LIFE.set(box.life)  # the writer is made anew
    own = projections()
    before = await box.ledger.read(lambda connection: tables_digest(connection, own))
    await box.ledger.rebuild()
    if await box.ledger.read(lambda connection: tables_digest(connection, own)) != before:
        books.violate("lost", "rebuilding from the log gives other tables")


def _asked(body: dict[str, Any]) -> str:
    return key_name(body["asked"]["key"])


def _cash(body: PaymentBody) -> int:
    return sum(tender.amount_minor for tender in body.tenders if tender.kind == "cash") - body.change_minor
