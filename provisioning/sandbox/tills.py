"""The sandbox's tills: paired once through the real door, then opened like any till.

Owns pairing and pointing a till at the doors of this start. A till of the sandbox trusts the sandbox's authority
instead of one certificate, because the certificate is new at every start.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from appliance.model.errors import Rejected
from appliance.model.ids import terminal_id
from appliance.runtime.clock import SystemClock
from appliance.runtime.deadline import Deadline
from provisioning.certificate import DoorFiles, TokenDoor
from provisioning.local_door import LocalDoor
from provisioning.sandbox.layout import TILLS, SandboxFolder
from provisioning.terminal.client import TerminalClient, open_terminal
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import AUTHORITY_FILE, TerminalHome
from provisioning.terminal.ledger_receipts import LedgerReceipts
from provisioning.terminal.pairing import pair, read_qr
from provisioning.terminal.queue import SaleQueue
from provisioning.terminal.succession import follow

PAIR_MS_MAX: Final = 20_000


def ready_tills(folder: SandboxFolder, *, door: DoorFiles | TokenDoor, pos_url: str) -> list[str]:
    """Pair the tills that are not paired and point all of them at `pos_url`; returns the names of the new ones."""
    local = LocalDoor(folder.data)
    paired: list[str] = []
    for name in TILLS:
        home = folder.till(name)
        if not (home.folder / "terminal.json").exists():
            home.folder.mkdir(mode=0o700, exist_ok=True)
            pair_till(home, name, local)
            paired.append(name)
        write_durably(home.folder / AUTHORITY_FILE, door.authority.read_bytes())
        here = msgspec.structs.replace(home.profile(), url=pos_url, ca_file=AUTHORITY_FILE, certificate_sha256=None)
        if here != home.profile():
            home.keep_profile(here)
    return paired


def follow_log(folder: SandboxFolder) -> list[str]:
    """Let every terminal of the sandbox take the box's trust file: the log's next keys, or the next log.

    Returns a sentence for each that cannot.
    """
    newest = (folder.box / "trust.json").read_bytes()
    notes: list[str] = []
    for file in sorted(folder.path.glob("*/terminal.json")):
        home = TerminalHome(folder=file.parent)
        try:
            if home.trust() != newest:
                waiting = SaleQueue(path=home.queue_file).waiting_count() if home.queue_file.exists() else 0
                follow(home, newest, waiting_count=waiting)
        except Rejected as refusal:
            notes.append(f"{file.parent.name} does not follow the box's log: {refusal.detail} ({refusal.code})")
    return notes


def pair_till(home: TerminalHome, name: str, local: LocalDoor) -> None:
    """Invite `name` at the local door and pair it as a person with a QR reader does."""
    invitation = read_qr(local.invite(name)["qr"])
    clock = SystemClock()
    deadline = Deadline.after(clock, PAIR_MS_MAX)
    asyncio.run(pair(home, invitation, terminal=terminal_id(name), clock=clock, deadline=deadline))


@asynccontextmanager
async def open_till(home: TerminalHome) -> AsyncIterator[TerminalClient]:
    """The typed client of a paired till, with the ledger's own receipt verifier."""
    profile = home.profile()
    verifier = LedgerReceipts.from_file(home.trust_file.read_bytes(), profile.audience)
    async with open_terminal(home, verifier=verifier, clock=SystemClock()) as client:
        yield client
