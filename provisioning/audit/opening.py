"""Publications as an auditor meets them: each checked against the owner, opened with his key, in order of the log.

Must never hand out an entry before its hash was found under a checkpoint that the log signed.

Source: docs/formats/publication.md, "Checking".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from appliance.evidence.car import read_car
from appliance.evidence.publication import Publication, open_content_key, read_publication
from appliance.ledger.checkpoint import Checkpoint
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.publication import verify_entries, verify_publication
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected
from appliance.model.ids import Cid


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPublication:
    """A publication whose tiles lead to a checkpoint that the log signed; `cid` is its root's address."""

    cid: Cid
    publication: Publication
    checkpoint: Checkpoint

    def entries(self, seed: bytes) -> Iterator[bytes]:
        """Every entry, each proven to be the log's.

        Raises:
            Rejected: `seal_refused`: sealed for another key; `publication_not_ours`, `publication_malformed`,
                `publication_entry_wrong`.
        """
        content_key = open_content_key(self.publication.root, seed)
        return verify_entries(self.publication, self.publication.entries(content_key))


def check(car: bytes, trust: Trust) -> CheckedPublication:
    """The publication in a CAR file.

    Raises:
        Rejected: every code of docs/formats/problems.md "of a publication" and "of a checkpoint";
            `publication_log_unknown`: about no log of the trust file; `log_key_distrusted`.
    """
    read = read_car(car)
    publication = read_publication(read)
    origin = publication.root.scope.origin
    keys = _keys_of(trust, origin)
    checkpoint = verify_publication(publication, origin=origin, keys=keys)
    # A publication proves no time, so after a theft of keys it cannot vouch for itself.
    keys.require_trusted(checkpoint.size, checkpoint.root, ())
    return CheckedPublication(cid=read.root, publication=publication, checkpoint=checkpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a publication ends, and how the next one names it."""

    origin: str
    end: int
    cid: Cid | None


def check_follows(last: Place | None, this: CheckedPublication) -> Place:
    """The place of `this`, which begins where `last` ended. Raises Rejected `publication_gap`."""
    scope = this.publication.root.scope
    named = Place(origin=scope.origin, end=scope.first, cid=this.publication.root.previous)
    if last is not None and last != named:
        raise Rejected("publication_gap", f"expected the publication behind entry {last.end - 1} of {last.origin}")
    return Place(origin=scope.origin, end=scope.end, cid=this.cid)


def _keys_of(trust: Trust, origin: str) -> LogKeys:
    for log_id, statement in trust.logs.items():
        if statement.origin == origin:
            return trust.keys[log_id]
    raise Rejected("publication_log_unknown", f"expected a log of the trust file, saw {origin[:80]!r}")
