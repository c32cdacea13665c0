"""`build/trust.json`: one trust file beside everything that was kept in `build/`, whichever command kept it.

Owns joining what an owner said at different times. Must never join two owners: the file pins one, and the later wins.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance.evidence.block import MAINNET
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected
from provisioning.terminal.durable import write_durably


def keep_trust(file: Path, trust_file: bytes, *, without: str | None = None) -> None:
    """Write `trust_file` as `file`, with what the file there says of the same owner's other logs.

    Args:
        without: logs there whose origin begins so are left out: what they vouched for is gone.
    Raises:
        Rejected: as `load_trust`, about `trust_file`.
    """
    trust = load_trust(trust_file)
    before = _before(file)
    if before is None or before.owner != trust.owner:
        write_durably(file, trust_file)
        return
    names_witnesses = bool(trust.witnesses.keys) or trust.network != MAINNET
    said = before if without is None else _without(before, without)
    joined = (said if not names_witnesses else replace(said, witnesses=trust.witnesses, network=trust.network)).learn(
        trust.evidence
    )
    write_durably(file, joined.encode())


def _before(file: Path) -> Trust | None:
    try:
        return load_trust(file.read_bytes())
    except (OSError, Rejected):
        return None  # nothing there, or nothing that anybody could believe


def _without(trust: Trust, origin: str) -> Trust:
    gone = {log_id for log_id, statement in trust.logs.items() if statement.origin.startswith(origin)}
    evidence = replace(
        trust.evidence,
        logs=tuple([log for log in trust.evidence.logs if log.log_id not in gone]),
        rotations=tuple([each for each in trust.evidence.rotations if each.log_id not in gone]),
    )
    return replace(trust, evidence=evidence)
