"""Owns the promise that looking back finds what customers may still pay, however many cards were declined since."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from appliance.model.ids import ProviderName, new_request_key
from appliance.payment.contradictions import LOOKED_AT_MAX, ContradictionProjection, closed_since
from appliance.payment.projection import PaymentProjection

CARDS, USDC = ProviderName("stripe"), ProviderName("coinbase")


def close(connection: sqlite3.Connection, number: int, provider: ProviderName, at_ms: int) -> str:
    """An operation that ended unpaid, as the projections have it."""
    key = new_request_key(1_790_000_000_000, number.to_bytes(10))
    name = f"{key}/0"
    columns = "id, payment, kind, state, provider_key, amount, currency, terminal, prepared_ms, intent, held, provider"
    connection.execute(
        f"INSERT INTO operations ({columns}) VALUES (?, ?, 'authorise', 'rejected', ?, 100, 'EUR', 't', 0, ?, 0, ?)",
        (name, key.octets, name, number, provider),
    )
    connection.execute("INSERT INTO closed_unpaid VALUES (?, ?, ?)", (number, at_ms, name))
    return name


def test_declined_cards_hide_nothing_that_a_customer_may_still_pay() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in (*PaymentProjection.schema, *ContradictionProjection.schema):
            connection.execute(statement)
        close(connection, 1, USDC, at_ms=500)
        waits = close(connection, 2, USDC, at_ms=1_000)
        for number in range(LOOKED_AT_MAX + 1):
            close(connection, 3 + number, CARDS, at_ms=1_001)
        found = closed_since(connection, 1_000, {USDC})
        assert [each.operation.operation_id for each in found] == [waits]
        assert closed_since(connection, 1_000, set()) == ()
