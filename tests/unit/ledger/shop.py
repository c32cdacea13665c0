"""A log to test with: owner, keys, genesis, one projection, and an opened ledger. Holds no test."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from appliance.crypto import cbor, cose, signing_key
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import OwnerKey
from appliance.ledger.draft import Disclosure, Draft, RecordedEntry
from appliance.ledger.genesis import STATEMENT_KIND, GenesisStatement, SignedGenesis
from appliance.ledger.head import LogSigners
from appliance.ledger.ledger import Ledger
from appliance.ledger.opening import Beginning
from appliance.ledger.projection import Projection
from appliance.ledger.room import Room
from tests.fakes.clock import START_MS, FakeClock
from tests.fakes.signer import FakeSigner

STORE_KEY = bytes(range(32))


@cache
def owner() -> OwnerKey:
    """Made once: the hash-based half takes its time."""
    return OwnerKey.generate()


@cache
def signers() -> LogSigners:
    """The same keys in each process: a test may stop one process and open its log in another."""
    return LogSigners(
        classical=SeededSigner(signing_key.ed25519_from_seed(bytes(32))),
        post_quantum=SeededSigner(signing_key.ml_dsa_87_from_seed(bytes(32))),
    )


class SeededSigner(FakeSigner):
    """The fake with a key of ours."""

    def __init__(self, key: signing_key.SigningKey) -> None:
        super().__init__(key.algorithm)
        self._key = key


@cache
def genesis(generation: int = 1) -> SignedGenesis:
    note = signing_key.ed25519_from_seed(bytes(31) + b"\x01")
    statement = GenesisStatement(
        origin=f"shop.example/SN-1/{generation}",
        created_ms=START_MS,
        keys=HybridPublic(
            classical=PinnedKey(algorithm=cose.ED25519, public_key=signers().classical.public_key),
            post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=signers().post_quantum.public_key),
        ),
        note_key=note.public_key,
    ).encode()
    return SignedGenesis(
        statement=statement, owner_signature=owner().sign_statement(STATEMENT_KIND, statement).encode()
    )


def beginning() -> Beginning:
    return Beginning(genesis=genesis(), created_ms=START_MS, first=draft("epoch", {"epoch": 1}))


def draft(kind: str, body: object, disclosures: tuple[Disclosure, ...] = ()) -> Draft:
    return Draft(kind=kind, actor="terminal:1", time_ms=START_MS + 5, body=cbor.encode(body), disclosures=disclosures)


def sale(key: str, amount: int = 1) -> Draft:
    return draft("sale", {"amount": amount, "key": key})


class Sales:
    """Sums and keys of sales, and the buyer's name while it may be known."""

    name = "sales"
    schema = (
        "CREATE TABLE sales (key TEXT PRIMARY KEY, seq INTEGER NOT NULL, amount INTEGER NOT NULL, buyer BLOB)",
        "CREATE TABLE sales_total (one INTEGER PRIMARY KEY, amount INTEGER NOT NULL)",
    )
    tables = ("sales", "sales_total")
    kinds = frozenset({"sale", "erased"})

    def apply(self, connection: sqlite3.Connection, entries: Sequence[RecordedEntry]) -> None:
        rows: list[tuple[str, int, int, bytes | None]] = []
        for entry in entries:
            if entry.kind == "erased":
                self._insert(connection, rows)
                rows = []
                connection.execute(
                    "UPDATE sales SET buyer = NULL WHERE seq NOT IN (SELECT seq FROM disclosures WHERE name = 'buyer')"
                )
                continue
            body = cbor.decode(entry.body, size_max=65_536)
            assert isinstance(body, dict)
            key, amount = body["key"], body["amount"]
            assert isinstance(key, str)
            assert isinstance(amount, int)
            if amount < 0:
                raise ValueError("a projection that cannot take a negative amount")
            buyer = next((item.value for item in entry.disclosures if item.name == "buyer"), None)
            rows.append((key, entry.seq, amount, buyer))
        self._insert(connection, rows)

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[tuple[str, int, int, bytes | None]]) -> None:
        connection.executemany("INSERT INTO sales (key, seq, amount, buyer) VALUES (?, ?, ?, ?)", rows)
        connection.execute(
            "INSERT INTO sales_total (one, amount) VALUES (1, ?) ON CONFLICT (one)"
            " DO UPDATE SET amount = amount + excluded.amount",
            (sum(row[2] for row in rows),),
        )


async def open_ledger(
    folder: Path,
    *,
    clock: FakeClock | None = None,
    keys: LogSigners | None = None,
    projections: Sequence[Projection] = (Sales(),),
    free_bytes_min: int = 0,
) -> Ledger:
    clock = clock or FakeClock()
    return await Ledger.open(
        folder,
        signers=keys or signers(),
        projections=projections,
        clock=clock,
        store_key=STORE_KEY,
        beginning=beginning(),
        room=Room(folder=folder, clock=clock, free_bytes_min=free_bytes_min),
    )


@asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[Ledger]:
    """The ledger with its signing service; closed at the end."""
    signing = asyncio.create_task(ledger.sign_heads())
    try:
        yield ledger
    finally:
        signing.cancel()
        await asyncio.wait([signing])
        await ledger.close()
