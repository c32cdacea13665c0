"""Entries of the till, read back from the log: the answer to a request is what the log holds of it."""

from __future__ import annotations

import sqlite3
from typing import TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.ledger.entry import decode
from appliance.model.errors import Rejected
from appliance.model.provider_token import TokenName
from appliance.model.voucher import VoucherId
from appliance.wire.till_entries import (
    DayClosedEntry,
    DrawerEntry,
    PeriodClosedEntry,
)


class _VoucherEntry(msgspec.Struct):
    """What both kinds of a voucher's entry hold."""

    voucher: bytes


class _TokenEntry(msgspec.Struct):
    """What both kinds of a token's entry hold."""

    name: str


_ShapeT = TypeVar("_ShapeT", bound=msgspec.Struct)


def read_act(connection: sqlite3.Connection, seq: int) -> tuple[str, DrawerEntry]:
    """Kind and body of what was done to a drawer."""
    return _read(connection, seq, DrawerEntry)


def read_closed(connection: sqlite3.Connection, seq: int) -> PeriodClosedEntry:
    """A closed period of a drawer or terminal."""
    return _read(connection, seq, PeriodClosedEntry)[1]


def read_voucher(connection: sqlite3.Connection, seq: int) -> VoucherId:
    """The voucher that was issued or taken back."""
    return VoucherId(_read(connection, seq, _VoucherEntry)[1].voucher)


def read_token(connection: sqlite3.Connection, seq: int) -> TokenName:
    """The token that was kept or forgotten."""
    return TokenName(_read(connection, seq, _TokenEntry)[1].name)


def read_day(connection: sqlite3.Connection, seq: int) -> DayClosedEntry:
    """A closed day of the shop."""
    return _read(connection, seq, DayClosedEntry)[1]


def _read(connection: sqlite3.Connection, seq: int, shape: type[_ShapeT]) -> tuple[str, _ShapeT]:
    row = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
    if row is None or row[0] is None:
        raise Rejected("entry_pruned", f"the body of entry {seq} was removed; an export or a publication has it")
    entry = decode(row[0])
    try:
        return entry.kind, msgspec.convert(cbor.decode_ours(entry.body), shape)
    except msgspec.ValidationError:
        # After an erasure only key and terminal tell a repeated request: this one asks for something else.
        raise Rejected("key_reused", "this idempotency key was used with another payload; make a new key") from None
