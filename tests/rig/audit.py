"""The box's log as an auditor outside holds it: read at the public door, verified whole, its tables made anew.

Owns what was read. Full bundles are kept and never asked for again: a box that had changed an entry would sign another
root.

Source: appliance/docs/formats/tiles.md.
"""

from __future__ import annotations

import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

from appliance.ledger.checkpoint import read_checkpoint, verify_head
from appliance.ledger.database import connect_writer
from appliance.ledger.entry import decode
from appliance.ledger.merkle import TILE_WIDTH
from appliance.ledger.opening import with_own
from appliance.ledger.rebuild import rebuild
from appliance.ledger.tlog import TilePath
from appliance.ledger.trust import load_trust
from appliance.ledger.verify import verify_log
from appliance.wiring.projections import projections
from tests.crash.invariants import Standing, Told, asked_keys, check_told, standing
from tests.rig.lan import BOX

PUBLIC: Final = f"http://{BOX}:9080"
_ANSWER_S_MAX: Final = 60


class Auditor:
    """Holds a token, and all entries that it ever saw."""

    def __init__(self, token: str, trust_file: bytes) -> None:
        self._token = token
        self._trust = load_trust(trust_file)
        self._bundles: list[bytes] = []

    def read_log(self) -> list[bytes]:
        """Every entry below the newest checkpoint, proven by its root and both signatures.

        Raises:
            AssertionError, TillstoneError: what the box shows does not hold together.
        """
        note = fetch("/checkpoint")
        ((log_id, statement),) = self._trust.logs.items()
        head = verify_head(note, origin=statement.origin, keys=self._trust.keys[log_id])
        assert head == read_checkpoint(note)
        full, rest = divmod(head.size, TILE_WIDTH)
        for number in range(len(self._bundles), full):
            self._bundles.append(self._bundle(number, TILE_WIDTH))
        last = [self._bundle(full, rest)] if rest else []
        entries = [entry for bundle in [*self._bundles[:full], *last] for entry in entries_of(bundle)]
        log = verify_log(entries, owner=self._trust.owner, check_bodies=True)
        assert (log.size, log.root) == (head.size, head.root), "the entries do not give the root that the box signed"
        return entries

    def _bundle(self, number: int, width: int) -> bytes:
        return fetch(f"/tile/{TilePath(level=None, number=number, width=width)}", self._token)


def fetch(path: str, token: str = "") -> bytes:
    """A page of the public door."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(
        urllib.request.Request(PUBLIC + path, headers=headers), timeout=_ANSWER_S_MAX
    ) as answer:
        body: bytes = answer.read()
    return body


def check(encoded: list[bytes], told: Iterable[Told], refused: Iterable[str]) -> dict[str, Standing]:
    """What the entries say, by tables made from them alone: each acknowledged request once. How every payment stands.

    `told` and `refused` were taken before `encoded`. Raises AssertionError.
    """
    with tempfile.TemporaryDirectory() as folder, closing(connect_writer(Path(folder))) as connection:
        rows = [(seq, decode(entry).kind, entry) for seq, entry in enumerate(encoded)]
        connection.executemany("INSERT INTO entries (seq, kind, entry) VALUES (?, ?, ?)", rows)
        rebuild(connection, with_own(projections()), None)
        payments = standing(connection)
    check_told(Counter(asked_keys(encoded)), payments, told, refused)
    return payments


def entries_of(bundle: bytes) -> list[bytes]:
    """Each behind its length in two bytes."""
    entries, at = list[bytes](), 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : end])
        at = end
    return entries
