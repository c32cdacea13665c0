"""What this machine can do at most with the primitives a payment needs, and one HSM signature per payment.

Owns small loops over one primitive each, on one thread. Must never use code of ours where a library's call is meant:
a limit is what is left when all of our work is taken away.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from pkcs11 import Mechanism

from drivers.hsm.keys import Algorithm, KeyRef, Purpose, find_private_key, generate_signing_key
from tests.bench.part import serve_part
from tests.softhsm import SoftHsm

_KEY_ID = b"\x07"
_ENTRY_BYTES = 350
_GROUP_ROWS = 1_000


class MachineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where to put files, and how long each loop runs."""

    folder: str
    seconds: float


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Operations per second of one thread."""

    sha256: float
    es256_verify: float
    ml_dsa_87_sign: float
    sqlite_commit: float
    sqlite_rows: float
    hsm_sign: float
    hsm_per_payment: float


def measure(spec: MachineSpec) -> Machine:
    """Run every loop, one after the other."""
    folder = Path(spec.folder)
    entry = os.urandom(_ENTRY_BYTES)
    terminal = ec.generate_private_key(ec.SECP256R1())
    scheme = ec.ECDSA(hashes.SHA256())
    claimed, public = terminal.sign(entry, scheme), terminal.public_key()
    post_quantum = mldsa.MLDSA87PrivateKey.generate()
    hsm_sign = _hsm_signer(folder)

    def verify() -> None:
        public.verify(claimed, entry, scheme)

    def rate(action: Callable[[], object]) -> float:
        return _rate(action, spec.seconds)

    with closing(_database(folder / "commit.db")) as single, closing(_database(folder / "rows.db")) as grouped:

        def pay_as_others_do() -> None:
            verify()
            signature = hsm_sign(hashlib.sha256(entry).digest())
            _insert(single, [(entry + signature,)])

        return Machine(
            sha256=rate(lambda: hashlib.sha256(entry).digest()),
            es256_verify=rate(verify),
            ml_dsa_87_sign=rate(lambda: post_quantum.sign(entry)),
            sqlite_commit=rate(lambda: _insert(single, [(entry,)])),
            sqlite_rows=_GROUP_ROWS * rate(lambda: _insert(grouped, [(entry,)] * _GROUP_ROWS)),
            hsm_sign=rate(lambda: hsm_sign(secrets.token_bytes(32))),
            hsm_per_payment=rate(pay_as_others_do),
        )


def _rate(action: Callable[[], object], seconds: float) -> float:
    """Calls per second; the clock is read every tenth call at most, so that it costs nothing."""
    action()
    count, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        for _ in range(10):
            action()
        count += 10
    return count / took


def _database(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE entries (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL)")
    return database


def _insert(database: sqlite3.Connection, rows: list[tuple[bytes]]) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT INTO entries (entry) VALUES (?)", rows)
    database.execute("COMMIT")


def _hsm_signer(folder: Path) -> Callable[[bytes], bytes]:
    """A P-256 key in a SoftHSM of its own, asked without any of our checks around it."""
    hsm = SoftHsm(folder)
    os.environ["SOFTHSM2_CONF"] = str(hsm.configuration)
    hsm.make_token()
    session = hsm.open_session()
    public = generate_signing_key(session, Algorithm.P256, key_id=_KEY_ID, label="per payment")
    ref = KeyRef(key_id=_KEY_ID, public_sha256=hashlib.sha256(public).digest())
    handle = find_private_key(session, ref, Purpose.SIGN).handle
    return lambda digest: bytes(handle.sign(digest, mechanism=Mechanism.ECDSA))


if __name__ == "__main__":
    serve_part(measure, MachineSpec)
