"""What must hold of vouchers: each cent is spent once, and what is owed is what the log says.

Owns that part of the verdict, which follows the log from its first entry to its last.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

from appliance.model.operation import SALES, OperationState
from appliance.wire import entries, till_entries
from tests.world.books import Books
from tests.world.box import WorldBox
from tests.world.invariants_till import Periods
from tests.world.ledgered import Ledgered, key_name


async def judge_vouchers(books: Books, held: Ledgered, periods: Periods, box: WorldBox) -> None:
    """Write every violation into the books."""
    assert box.ledger is not None
    left = _follow(books, held)
    table = dict(await box.ledger.read(_read))
    if table != left:
        books.violate("lost", f"vouchers are said to be worth {table}, and are worth {left}")
    _, shop = periods["shop", ""][-1]
    if shop.owed != sum(left.values()):
        books.violate("lost", f"the shop is said to owe {shop.owed}, and owes {sum(left.values())}")
    acts = {key_name(body["asked"]["key"]): body for entry, body in held.log if entry.kind in _ACTS}
    for key, told in books.vouchers.done.items():
        body = acts.get(key)
        if body is None or (body["voucher"].hex(), body["amount"]) != (told.voucher, told.amount_minor):
            books.violate("lost", f"{books.name(key)} was told as {told}, and is {body}")


_ACTS = (till_entries.VOUCHER_ISSUED, till_entries.VOUCHER_VOIDED)


def _read(connection: sqlite3.Connection) -> list[tuple[bytes, int]]:
    return connection.execute("SELECT id, remaining FROM vouchers").fetchall()


def _follow(books: Books, held: Ledgered) -> dict[bytes, int]:
    """What each voucher is worth by the log; none is ever worth less than nothing, or more than it was."""
    left: dict[bytes, int] = {}
    issued: Counter[bytes] = Counter()
    spent: dict[bytes, tuple[bytes, int]] = {}
    for entry, body in held.log:
        match entry.kind:
            case till_entries.VOUCHER_ISSUED:
                left[body["voucher"]] = issued[body["voucher"]] = body["amount"]
            case till_entries.VOUCHER_VOIDED:
                if left[body["voucher"]] != issued[body["voucher"]]:
                    books.violate("doubled", f"entry {entry.seq} takes back a voucher that was spent")
                left[body["voucher"]] = 0
            case entries.SALE:
                _spend(body["asked"]["key"], body["sale"], left, spent)
            case entries.INTENT if body.get("sale"):
                _spend(body["payment"], body["sale"], left, spent)
            case entries.OUTCOME if body["kind"] in SALES and body["state"] in _ENDED and body["payment"] in spent:
                voucher, amount = spent.pop(body["payment"])
                left[voucher] += amount
            case entries.REFUND | entries.REVERSAL if body["payment"] in spent:
                left[spent[body["payment"]][0]] += body.get("voucher", 0)
            case _:
                continue
        if any(not 0 <= minor <= issued[voucher] for voucher, minor in left.items()):
            books.violate("doubled", f"after entry {entry.seq} vouchers of {dict(issued)} are worth {left}")
    return left


_ENDED = (OperationState.REJECTED, OperationState.ABSENT)


def _spend(payment: bytes, sale: dict[str, Any], left: dict[bytes, int], spent: dict[bytes, tuple[bytes, int]]) -> None:
    for tender in sale["tenders"]:
        if tender["kind"] == "voucher":
            voucher = bytes.fromhex(tender["source"])
            left[voucher] -= tender["amount_minor"]
            spent[payment] = voucher, tender["amount_minor"]
