"""The follower that gathers cosignatures: enough witnesses vouch for the newest head, or the box learns that it forked.

Owns which head is asked of whom, and what an answer means. Must never delay a payment: it only reads the ledger.

* The head is stored before anybody is asked, an answer is stored before the next is asked. Killed anywhere, the next
  step asks again; a witness that had already cosigned says how far, and is asked from there.
* Three answers say that this log is not the one the witness knows: it cosigned more entries than we have, another
  root of the same size, or a head that ours does not extend. A word proves nothing, so it is asked for the checkpoint
  that it holds. One that both keys of this log signed and that the log does not contain quarantines the box. Without
  it the witness disagrees: an alarm, it counts for nothing and is asked more rarely, and the shop sells on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from appliance.anchor.disagreements import Disagreements
from appliance.anchor.follower import Progress
from appliance.anchor.fork_proof import ForkProof
from appliance.anchor.store import EvidenceStore, StoredCheckpoint, set_cursor
from appliance.evidence.cosignature import WitnessPolicy, verify_cosignatures
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ledger.ledger import Ledger
from appliance.model.errors import OutcomeUnknown, Rejected, Unavailable
from appliance.ports.clock import Clock
from appliance.ports.witness import Cosigned, NotConsistent, OtherHead, Witness
from appliance.runtime.log import Log
from appliance.runtime.metrics import Metrics

NAME: Final = "witness"
CHECKPOINTS_KEPT: Final = 64
"""Newest checkpoints that stay without a timestamp or a CAR; older ones are forgotten once a newer one is cosigned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignedCheckpoint:
    """A head with enough cosignatures; `note` is its signed note with their lines appended."""

    size: int
    note: bytes


class Witnesses:
    """One step of the follower `witness`, and what it has gathered."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        checkpoints: CheckpointMaker,
        witnesses: Sequence[Witness],
        policy: WitnessPolicy,
        store: EvidenceStore,
        proof: ForkProof,
        quarantine: Callable[[str], None],
        clock: Clock,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._witnesses = witnesses
        self._policy = policy
        self._store = store
        self._proof = proof
        self._quarantine = quarantine
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._disagreements = Disagreements(clock)
        self._asked_since_start: set[str] = set()

    async def step(self) -> Progress:
        """Ask every witness that has not cosigned the newest head.

        Raises:
            Unavailable: `witness_quorum_missing`: too few vouch for it; the reasons stand in the detail. `quarantined`.
        """
        await self.check_stored()
        target = await self._pick()
        reasons = []
        for witness in self._witnesses:
            if self._disagreements.waits(witness.name):
                reasons.append(self.disagreeing[witness.name])
                continue
            try:
                await self._ask(witness, target)
            except (Unavailable, Rejected, OutcomeUnknown) as failure:
                if failure.code == "quarantined":
                    raise
                reasons.append(failure.detail)
                self._log.info("witness.failed", witness=witness.name, error=failure)
        self._metrics.witnesses_disagreeing.set(len(self.disagreeing))
        names = await self._store.read(lambda connection: _names(connection, target.size))
        count = len(names.intersection(self._counting()))
        if count < self._policy.needed:
            raise Unavailable(
                "witness_quorum_missing",
                f"{count} of {self._policy.needed} witnesses vouch for {target.size} entries: {'; '.join(reasons)}",
            )
        await self._store.write(lambda connection: _finish(connection, target.size))
        return Progress(size=target.size)

    @property
    def disagreeing(self) -> Mapping[str, str]:
        """By the name of each witness that claims a fork and shows no proof: what it says."""
        return self._disagreements.sentences

    async def check_stored(self) -> None:
        """Judge the newest head that was ever cosigned; a log that lost it is quarantined, offline too.

        Raises:
            Unavailable: `quarantined`.
        """
        newest = await self._store.read(_newest_cosigned_note)
        found = await self._proof.contradiction(newest)
        if newest is not None and found is not None:
            await self._forked(f"witnesses vouched for another log: {found}", newest)

    async def newest(self, size_min: int = 0) -> CosignedCheckpoint | None:
        """The newest head of at least `size_min` entries that enough witnesses vouch for: what upgrades a receipt."""
        names, needed = self._counting(), max(1, self._policy.needed)
        return await self._store.read(lambda connection: _newest_cosigned(connection, names, size_min, needed))

    async def _pick(self) -> StoredCheckpoint:
        head, note = await self._checkpoints.current_head()
        return await self._store.add_checkpoint(
            StoredCheckpoint(size=head.size, root=head.root, note=note, made_ms=self._clock.now_ms())
        )

    async def _ask(self, witness: Witness, target: StoredCheckpoint) -> None:
        name = witness.name
        cosigned = await self._store.read(lambda connection: _last_size(connection, name))
        # After each start everybody is asked once, cosigned or not: only they know whether this disk is yesterday's.
        if cosigned == target.size and name in self._asked_since_start:
            return
        answer = await self._submit(witness, target, cosigned)
        if isinstance(answer, OtherHead) and self._is_behind(answer, target, cosigned):
            cosigned = answer.size
            answer = await self._submit(witness, target, cosigned)
        if not isinstance(answer, Cosigned):
            await self._demand_proof(witness, self._claim(name, answer, target, cosigned))
        await self._keep(name, target, answer.lines)
        self._asked_since_start.add(name)
        self._disagreements.end(name)

    def _claim(self, name: str, answer: OtherHead | NotConsistent, target: StoredCheckpoint, cosigned: int) -> str:
        match answer:
            case NotConsistent():
                return f"{cosigned} entries that this log does not extend"
            case OtherHead(size=size) if size > self._ledger.head.size:
                return f"{size} entries (this log has {self._ledger.head.size})"
            case OtherHead(size=size) if size == target.size == cosigned:
                return f"another head of {size} entries"
            case OtherHead(size=size):
                raise Unavailable("witness_away", f"{name} names {size} as its newest head, and does not stay with it")

    async def _demand_proof(self, witness: Witness, claim: str) -> NoReturn:
        name = witness.name
        try:
            note = await witness.latest_checkpoint(self._ledger.statement.origin)
            found = await self._proof.judge(note)
        except (Unavailable, Rejected) as failure:
            shown = failure.detail
        else:
            if found is not None:
                await self._forked(f"{name} shows a head that both keys of this log signed: {found}", note)
            shown = "it shows a head that this log contains"
        sentence = f"{name} says it vouched for {claim}, and shows no proof ({shown})"
        if self._disagreements.add(name, sentence):
            self._log.warning("witness.disagreed", witness=name, reason=sentence)
        raise Unavailable("witness_disagrees", sentence)

    def _counting(self) -> list[str]:
        """Whose cosignatures count at this moment."""
        return [name for name in self._policy.names if name not in self.disagreeing]

    def _is_behind(self, answer: OtherHead, target: StoredCheckpoint, assumed: int) -> bool:
        """Whether the witness knows a part of this log, only not the part that was assumed."""
        return answer.size <= target.size and answer.size != assumed

    async def _submit(
        self, witness: Witness, target: StoredCheckpoint, old_size: int
    ) -> Cosigned | OtherHead | NotConsistent:
        proof: tuple[bytes, ...] = ()
        if 0 < old_size < target.size:
            proof = await self._ledger.consistency(old_size, target.size)
        return await witness.add_checkpoint(old_size=old_size, proof=proof, note=target.note)

    async def _keep(self, name: str, target: StoredCheckpoint, lines: bytes) -> None:
        text = target.note.partition(b"\n\n")[0] + b"\n"
        keys = self._policy.keys_of(name)
        found = verify_cosignatures(text, lines, keys)
        if {cosignature.key for cosignature in found} != set(keys):
            raise Rejected("witness_cosignature_missing", f"{name} signed with {len(found)} of its {len(keys)} keys")
        row = target.size, name, b"".join(cosignature.line for cosignature in found), self._clock.now_ms()
        await self._store.write(
            lambda connection: connection.execute("INSERT OR REPLACE INTO cosignatures VALUES (?, ?, ?, ?)", row)
        )

    async def _forked(self, reason: str, note: bytes) -> NoReturn:
        self._log.error("witness.fork_proven", reason=reason)
        self._quarantine(reason)
        try:
            await self._proof.keep(note)
        except OSError as failure:  # a full disk: the next start hears it from the witness again
            self._log.error("witness.proof_not_kept", error=failure)
        raise Unavailable("quarantined", reason)


def _names(connection: sqlite3.Connection, size: int) -> set[str]:
    return {name for (name,) in connection.execute("SELECT witness FROM cosignatures WHERE size = ?", (size,))}


def _last_size(connection: sqlite3.Connection, name: str) -> int:
    (size,) = connection.execute("SELECT max(size) FROM cosignatures WHERE witness = ?", (name,)).fetchone()
    return size or 0


def _newest_cosigned_note(connection: sqlite3.Connection) -> bytes | None:
    row = connection.execute(
        "SELECT note FROM checkpoints WHERE size IN (SELECT size FROM cosignatures) ORDER BY size DESC LIMIT 1"
    ).fetchone()
    return None if row is None else bytes(row[0])


def _newest_cosigned(
    connection: sqlite3.Connection, names: Sequence[str], size_min: int, needed: int
) -> CosignedCheckpoint | None:
    found: set[str] = set()
    at = -1
    rows = connection.execute("SELECT size, witness FROM cosignatures WHERE size >= ? ORDER BY size DESC", (size_min,))
    for size, witness in rows:
        if size != at:
            at, found = size, set()
        found |= {witness}.intersection(names)
        if len(found) >= needed:
            return _joined(connection, size, names)
    return None


def _joined(connection: sqlite3.Connection, size: int, names: Sequence[str]) -> CosignedCheckpoint:
    (note,) = connection.execute("SELECT note FROM checkpoints WHERE size = ?", (size,)).fetchone()
    rows = connection.execute("SELECT witness, lines FROM cosignatures WHERE size = ?", (size,)).fetchall()
    signed = dict(rows)
    return CosignedCheckpoint(size=size, note=note + b"".join(signed[name] for name in names if name in signed))


def _finish(connection: sqlite3.Connection, size: int) -> None:
    """The head is witnessed; forget old ones that no other evidence rests on."""
    set_cursor(connection, NAME, size)
    old = (
        "SELECT size FROM checkpoints WHERE size < ? AND size NOT IN (SELECT size FROM timestamps)"
        " AND size NOT IN (SELECT size FROM cars) ORDER BY size DESC LIMIT -1 OFFSET ?"
    )
    connection.execute(f"DELETE FROM cosignatures WHERE size IN ({old})", (size, CHECKPOINTS_KEPT))  # noqa: S608 - a constant
    connection.execute(f"DELETE FROM checkpoints WHERE size IN ({old})", (size, CHECKPOINTS_KEPT))  # noqa: S608 - a constant
