"""A terminal follows its log: to its next keys, or to the log that took over, without pairing anew.

Owns the decision whether a newer trust file is a continuation of the one that came with pairing. Must never take
another owner's, and never carries a sale from one log to the next: the new log does not know the old one's keys.

Source: docs/formats/succession.md.
"""

from __future__ import annotations

import msgspec

from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected
from provisioning.terminal.home import Memory, Profile, TerminalHome


def follow(home: TerminalHome, trust_file: bytes, *, waiting_count: int) -> Profile:
    """Take `trust_file` and address the newest log that it names behind the one known here; returns the profile.

    Args:
        waiting_count: stored sales that no answer came for; they belong to the old log.
    Raises:
        Rejected: `trust_owner_changed`: pair anew; `sales_are_waiting`: the log changes and a person must settle them
            first; the codes of `load_trust`, `TerminalHome.profile` and `TerminalHome.trust`.
    """
    known, newer = load_trust(home.trust()), load_trust(trust_file)
    if newer.owner != known.owner:
        raise Rejected("trust_owner_changed", f"the file pins owner {newer.owner.fingerprint}: pair this terminal anew")
    trust = known.learn(newer.evidence)
    profile = home.profile()
    audience = _newest_after(profile.audience, trust)
    if audience != profile.audience and waiting_count:
        raise Rejected(
            "sales_are_waiting", f"{waiting_count} stored sales are the old log's: settle them by hand first"
        )
    home.keep_trust(trust.encode().decode())
    if audience != profile.audience:
        # The head it saw is the old log's. Forgotten first: with the new audience it would look like a lost tail.
        home.keep_memory(Memory(clock_offset_ms=home.memory().clock_offset_ms))
        profile = msgspec.structs.replace(profile, audience=audience)
        home.keep_profile(profile)
    return profile


def _newest_after(audience: str, trust: Trust) -> str:
    """The origin at the end of the chain of logs, each naming the one before it, that begins with `audience`."""
    origins = {log_id: statement.origin for log_id, statement in trust.logs.items()}
    after = {
        origins[statement.previous.log_id]: statement.origin
        for statement in trust.logs.values()
        if statement.previous is not None and statement.previous.log_id in origins
    }
    for _ in trust.logs:
        audience = after.get(audience, audience)
    return audience
