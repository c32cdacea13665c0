"""Where an auditor's tables come from: a ledger's folder or an exported log, verified on the way through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from appliance.ledger.export import read_entries, verify_export
from appliance.ledger.trust import Trust
from appliance.ledger.verify import VerifiedLog, verify_log
from appliance.model.errors import Corrupt
from provisioning.verify.ledger_folder import open_folder
from provisioning.verify.progress import Progress, counted, open_counted
from provisioning.verify.wording import short

Tap: TypeAlias = Callable[[Iterable[bytes]], Iterator[bytes]]
Source: TypeAlias = Callable[[Tap], VerifiedLog]
"""Reads a log, passes its entries through the tap and verifies what comes out of it."""


def from_folder(folder: Path, trust: Trust | None, progress: Progress) -> Source:
    """A ledger's folder; the box may be running on it."""

    def read(tap: Tap) -> VerifiedLog:
        with open_folder(folder) as ledger:
            progress.begin(ledger.head.size)
            log = verify_log(tap(counted(ledger.entries(), progress)), owner=None if trust is None else trust.owner)
            _require_root(log, ledger.head.root)
            return log

    return read


def from_file(path: Path, trust: Trust, progress: Progress) -> Source:
    """An exported log, read twice: its signed head stands at the end, and no row is made before it is believed."""

    def read(tap: Tap) -> VerifiedLog:
        with open_counted(path, progress) as file:
            root = verify_export(file, trust).log.root
        with open_counted(path, progress) as file:
            log = verify_log(tap(read_entries(file)), owner=trust.owner)
        _require_root(log, root)
        return log

    return read


def proof_of_folder(trust: Trust | None) -> str:
    """What vouches for tables made from a folder."""
    owner = "was not checked" if trust is None else f"is {trust.owner.fingerprint}"
    return f"made beside the box from its own folder; the owner {owner}; no signed head"


def proof_of_file(trust: Trust) -> str:
    """What vouches for tables made from an exported log."""
    return f"an exported log whose head is signed by both keys of the log; the owner is {trust.owner.fingerprint}"


def _require_root(log: VerifiedLog, root: bytes) -> None:
    if log.root != root:
        raise Corrupt("head_mismatch", f"expected root {short(root)}, saw {short(log.root)}")
