"""What the owner said since the last start becomes a fact of the log, so that it travels with every export."""

from __future__ import annotations

import hashlib

from appliance.crypto.owner import SignedStatement
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.genesis import ACTOR
from appliance.ledger.ledger import Ledger
from appliance.ledger.succession import DISTRUST
from appliance.ledger.trust import Evidence
from appliance.ports.clock import Clock


async def record_statements(*, ledger: Ledger, said: Evidence, clock: Clock) -> None:
    """Append each `distrust` of the trust file that the log does not hold yet; `said` is verified."""
    rows = await ledger.read(lambda connection: connection.execute("SELECT statement_hash FROM spoken").fetchall())
    known = {bytes(row[0]) for row in rows}
    drafts = [
        Draft(kind=DISTRUST, actor=ACTOR, time_ms=clock.now_ms(), body=signed.encode())
        for signed in said.distrusted
        if _hash(signed) not in known
    ]
    if drafts:
        await ledger.append(drafts, purpose=Purpose.OUTCOME)


def _hash(signed: SignedStatement) -> bytes:
    return hashlib.sha256(signed.statement).digest()
