"""The tables of an auditor's database: columns, indexes, what may be searched.

Owns the schema only. Amounts are whole minor units beside their currency, times are ISO 8601 in UTC as text. Rows are
keyed by the entry they come from: a log that holds one key twice shows it twice.
"""

from __future__ import annotations

from typing import Final

import sqlite_utils

from provisioning.exports import days, reconcile_rows, till_rows

_SALE_KEY: Final = ("seq", "position")

TABLES: Final[dict[str, tuple[dict[str, type], str | tuple[str, ...]]]] = {
    "readme": ({"item": str, "value": str}, "item"),
    "entries": (
        {"seq": int, "time": str, "kind": str, "actor": str, "hash": str, "body": str, "problem": str},
        "seq",
    ),
    "sales": (
        {
            "seq": int,
            "time": str,
            "payment": str,
            "terminal": str,
            "sold_at": str,
            "reference": str,
            "currency": str,
            "total_minor": int,
            "remaining_minor": int,
            "part_of": str,
            "tip_minor": int,
            "rounding_minor": int,
            "change_minor": int,
            "cash_minor": int,
            "card_minor": int,
            "card_stated_minor": int,
            "voucher_minor": int,
            "prices": str,
            "state": str,
            "approved": int,
        },
        "seq",
    ),
    "lines": (
        {
            "seq": int,
            "position": int,
            "payment": str,
            "sku": str,
            "quantity_thousandths": int,
            "unit_price_minor": int,
            "discount_minor": int,
            "currency": str,
            "tax_code": str,
            "tax_rate_basis_points": int,
        },
        _SALE_KEY,
    ),
    "taxes": (
        {
            "seq": int,
            "position": int,
            "payment": str,
            "tax_code": str,
            "rate_basis_points": int,
            "net_minor": int,
            "tax_minor": int,
            "currency": str,
        },
        _SALE_KEY,
    ),
    "tenders": (
        {
            "seq": int,
            "position": int,
            "payment": str,
            "kind": str,
            "amount_minor": int,
            "currency": str,
            "source": str,
        },
        _SALE_KEY,
    ),
    "operations": (
        {
            "seq": int,
            "time": str,
            "id": str,
            "payment": str,
            "kind": str,
            "amount_minor": int,
            "currency": str,
            "terminal": str,
            "state": str,
            "outcome_seq": int,
            "outcome_time": str,
            "reference": str,
            "code": str,
        },
        "seq",
    ),
    "refunds": (
        {
            "seq": int,
            "time": str,
            "kind": str,
            "payment": str,
            "terminal": str,
            "cash_minor": int,
            "card_minor": int,
            "card_stated_minor": int,
            "voucher_minor": int,
            "left_minor": int,
            "currency": str,
            "operation": str,
            "reason": str,
        },
        "seq",
    ),
    "terminals": (
        {"seq": int, "paired": str, "terminal": str, "key_id": str, "revoked": str, "reason": str},
        "seq",
    ),
    "days": (days.TABLE, ("day", "currency")),
    **till_rows.TABLES,
    **reconcile_rows.TABLES,
}
SEARCHED: Final = {"sales": ("reference",), "lines": ("sku",), "operations": ("reference", "code")}
_INDEXED: Final = {
    "entries": ("kind", "time"),
    "sales": ("payment", "time", "terminal"),
    "lines": ("sku",),
    "operations": ("payment", "id"),
    "refunds": ("payment", "time"),
    "drawer_acts": ("drawer", "time"),
    "closings": ("scope", "day"),
    "vouchers": ("voucher",),
}
# Indexes that the updates need while the tables are filled; the others are cheaper to build at the end.
_INDEXED_EARLY: Final = {"sales": ("payment",), "operations": ("id",)}


def create(database: sqlite_utils.Database) -> None:
    """Make the empty tables."""
    for name, (columns, key) in TABLES.items():
        database.table(name).create(columns, pk=key, strict=True)
    for name, indexed in _INDEXED_EARLY.items():
        for column in indexed:
            database.table(name).create_index([column])


def finish(database: sqlite_utils.Database) -> None:
    """Build indexes and full-text search over what is in the tables."""
    for name, indexed in _INDEXED.items():
        for column in indexed:
            database.table(name).create_index([column], if_not_exists=True)
    for name, columns in SEARCHED.items():
        database.table(name).enable_fts(columns)
