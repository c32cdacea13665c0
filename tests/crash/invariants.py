"""What must hold whenever the power goes: log, tables, tills and provider say the same. Holds no test."""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.crypto import cbor
from appliance.ledger.entry import ENTRY_BYTES_MAX, decode
from appliance.ledger.opening import open_folder
from appliance.ledger.projection import tables_digest
from appliance.ledger.rebuild import rebuild
from appliance.ledger.trust import load_trust
from appliance.ledger.verify import verify_log
from appliance.model.payment import PaymentState
from appliance.model.till import Scope
from appliance.till.records import read_period
from appliance.wire import entries
from appliance.wiring.projections import projections
from tests.crash.shop import CrashShop

PROJECTIONS = projections()
FINAL = frozenset(PaymentState) - {PaymentState.CHECKING}
AFTER: dict[str, frozenset[str]] = {
    "approved": frozenset({"approved", "being_checked", "partly_refunded", "refunded", "reversed"}),
    "authorised": FINAL - {"declined", "not_charged", "cancelled"} | {"being_checked"},
    "accepted_offline": FINAL - {"declined", "not_charged", "cancelled", "expired", "authorised"} | {"being_checked"},
    "declined_after_handover": frozenset({"declined_after_handover"}),
    "expired": frozenset({"expired"}),
    "partly_refunded": frozenset({"being_checked", "partly_refunded", "refunded", "reversed"}),
    "declined": frozenset({"declined"}),
    "not_charged": frozenset({"not_charged"}),
    "refunded": frozenset({"refunded"}),
    "reversed": frozenset({"reversed"}),
    "cancelled": frozenset({"cancelled"}),
}
"""What a till was told, and what may be true of that payment ever after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A final answer that a till believed: the state of `payment`, under the request's own `key`."""

    key: str
    payment: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A row of the table of payments; `card_left` was charged and not given back."""

    state: str
    card: int
    card_left: int


def check_log(shop: CrashShop, copy: Path, told: Iterable[Told], refused: Iterable[str] = ()) -> dict[str, Standing]:
    """What recovery makes of the folder, in `copy`: a whole log, equal tables, each acknowledged request once.

    The box must be down. Returns how every payment stands.
    """
    shutil.copytree(shop.data, copy, ignore=shutil.ignore_patterns("*.sock", "*.wrapped"))
    opened = open_folder(copy, projections=PROJECTIONS, store_key=shop.store_key, beginning=None)
    try:
        encoded = [row[0] for row in opened.connection.execute("SELECT entry FROM entries ORDER BY seq")]
        before = tables_digest(opened.connection, PROJECTIONS)
        rebuild(opened.connection, opened.projector.projections, opened.vault)
        assert tables_digest(opened.connection, PROJECTIONS) == before, "a rebuild gives other tables"
        payments = standing(opened.connection)
    finally:
        if opened.vault is not None:
            opened.vault.close()
        opened.reading.close()
        opened.connection.close()
        os.close(opened.lock)
    shutil.rmtree(copy)
    owner = load_trust((shop.folder.box / "trust.json").read_bytes()).owner
    assert verify_log(encoded, owner=owner, check_bodies=True).size == len(encoded)
    check_told(Counter(asked_keys(encoded)), payments, told, refused)
    return payments


def check_told(seen: Counter[str], payments: dict[str, Standing], told: Iterable[Told], refused: Iterable[str]) -> None:
    doubled = {key: count for key, count in seen.items() if count > 1}
    assert not doubled, f"recorded twice: {doubled}"
    for each in told:
        assert each.payment in payments, f"acknowledged and lost: {each}"
        # A reversal of what took no money leaves no entry of its own, and a tombstone is no payment.
        is_payment = each.key == each.payment and each.state != "cancelled"
        assert seen[each.key] == 1 or not is_payment, f"acknowledged and lost: {each}"
        now = payments[each.payment].state
        assert now in AFTER[each.state], f"told {each}, and now it is {now}"
    for key in refused:
        assert seen[key] == 0, f"{key} was refused, and is in the log"


def check_money(payments: dict[str, Standing], charges: list[dict[str, Any]]) -> None:
    """At most one charge for each payment; what the ledger calls final is what the provider has."""
    by_payment: dict[str, list[dict[str, Any]]] = {}
    for charge in charges:
        by_payment.setdefault(charge["metadata"]["tillstone_payment"], []).append(charge)
    for key, taken in by_payment.items():
        assert len(taken) == 1, f"{key} was charged {len(taken)} times"
        assert key in payments, f"{key} was charged and no intent is in the log"
        assert taken[0]["refunded"] <= taken[0]["captured"], f"{key} was given back more than once"
    for key, payment in payments.items():
        kept = sum(charge["captured"] - charge["refunded"] for charge in by_payment.get(key, ()))
        match payment.state:
            case "approved":
                assert kept == payment.card, f"{key} is approved, and {kept} of {payment.card} are charged"
            case "partly_refunded":
                assert kept == payment.card_left, f"{key}: {kept} of {payment.card} kept, not {payment.card_left}"
            case "authorised":
                assert kept == 0, f"{key} is only held, and was charged"
            case "declined" | "expired" | "not_charged" | "cancelled":
                assert key not in by_payment, f"{key} is called {payment.state}, and was charged"
            case "refunded" | "reversed":
                assert kept == 0, f"{key} is called {payment.state}, and {kept} are kept"
            case _:
                assert 0 <= kept <= payment.card


def standing(connection: sqlite3.Connection) -> dict[str, Standing]:
    over = connection.execute(
        "SELECT count(*) FROM payments"
        " WHERE cash_back > cash OR card_back > card OR stated_back > stated OR voucher_back > voucher"
    ).fetchone()[0]
    assert over == 0, "more was given back than was paid"
    wrong = connection.execute(
        "SELECT count(*) FROM vouchers WHERE remaining <> CASE WHEN is_void THEN 0 ELSE amount END"
        " - (SELECT coalesce(sum(amount - back), 0) FROM voucher_uses WHERE voucher = vouchers.id)"
    ).fetchone()[0]
    assert wrong == 0, "a voucher is worth what it was issued for, less what payments keep of it"
    kept = connection.execute(
        "SELECT count(*) FROM payments WHERE (CASE WHEN state IN ('declined', 'not_charged') THEN 0"
        " ELSE voucher - voucher_back END)"
        " <> (SELECT coalesce(sum(amount - back), 0) FROM voucher_uses WHERE payment = payments.key)"
    ).fetchone()[0]
    assert kept == 0, "a payment that took no money keeps nothing of a voucher, any other what it says"
    overdrawn = connection.execute(
        "SELECT count(*) FROM sales_in_parts WHERE total < (SELECT coalesce(sum(covers), 0) FROM sale_parts"
        " JOIN payments ON payments.key = payment WHERE sale = sales_in_parts.key"
        " AND state IN ('approved', 'partly_refunded', 'refunded'))"
    ).fetchone()[0]
    assert overdrawn == 0, "the parts of a sale took more than its total"
    read_period(connection, Scope.SHOP, "", "EUR")  # adds up, or raises
    rows = connection.execute("SELECT key, state, card, card - card_back FROM payments").fetchall()
    return {
        str(uuid.UUID(bytes=key)): Standing(state=state, card=card, card_left=left) for key, state, card, left in rows
    }


def asked_keys(encoded: Iterable[bytes]) -> Iterable[str]:
    """The key of each request that an entry answers."""
    asking = {
        entries.SALE,
        entries.INTENT,
        entries.REFUND,
        entries.REVERSAL,
        entries.TOMBSTONE,
        entries.REVERSAL_WANTED,
        entries.SALE_GIVEN_UP,
    }
    for each in encoded:
        entry = decode(each)
        if entry.kind in asking:
            body: Any = cbor.decode(entry.body, size_max=ENTRY_BYTES_MAX)
            asked = body.get("asked")
            if asked is not None:
                yield str(uuid.UUID(bytes=asked["key"]))
