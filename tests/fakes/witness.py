"""A witness in memory, with switches to be away, to hang, to lie and to forget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from appliance.crypto import cose
from appliance.crypto.hybrid import PinnedKey
from appliance.crypto.signing_key import generate
from appliance.evidence.cosignature import WitnessKey, cosign
from appliance.ledger.checkpoint import verify_checkpoint
from appliance.ledger.merkle import is_consistent
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.witness import Answer, Cosigned, NotConsistent, OtherHead
from tests.fakes.clock import START_MS

TIME_S: Final = START_MS // 1_000


class FakeWitness:
    """Satisfies `ports/witness.py` for one log."""

    def __init__(self, *, name: str, origin: str, note_key: bytes, post_quantum: PinnedKey) -> None:
        self.name = name
        self._origin = origin
        self._note_key = note_key
        self._post_quantum = post_quantum
        self._private = [generate(cose.ED25519), generate(cose.ML_DSA_44)]
        self.size = 0
        self.root = b""
        self.note = b""
        self.asked: list[int] = []
        """The old size of each question."""
        self.is_away = False
        self.hangs = False
        self.fails_after = False
        """Commits, then the answer is lost."""
        self.forged_answer: Answer | None = None
        self.forged_note: bytes | None = None
        """Shown instead of the checkpoint that it holds."""
        self.shows_nothing = False
        self.shown = 0
        """How often it was asked for it."""
        self.spoils_signature = False

    @property
    def keys(self) -> tuple[WitnessKey, ...]:
        """Its two verifier keys."""
        return tuple(
            WitnessKey(name=self.name, algorithm=key.algorithm, public_key=key.public_key) for key in self._private
        )

    async def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: bytes) -> Answer:
        self.asked.append(old_size)
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_away:
            raise Unavailable("witness_away", f"{self.name} is away")
        if self.forged_answer is not None:
            return self.forged_answer
        answer = self._judge(old_size, proof, note)
        if self.fails_after:
            raise Unavailable("witness_away", f"{self.name}: the answer was lost")
        return answer

    async def latest_checkpoint(self, origin: str) -> bytes:
        self.shown += 1
        if self.is_away or self.shows_nothing or origin != self._origin or not self.note:
            raise Unavailable("witness_away", f"{self.name} shows no checkpoint")
        return self.note if self.forged_note is None else self.forged_note

    def _judge(self, old_size: int, proof: Sequence[bytes], note: bytes) -> Answer:
        try:
            head = verify_checkpoint(
                note, origin=self._origin, note_key=self._note_key, post_quantum=self._post_quantum
            )
        except Rejected as cause:
            raise Rejected("witness_refused", cause.detail) from cause
        if old_size > head.size:
            raise Rejected("witness_refused", "the old size is above the checkpoint's")
        if old_size != self.size or (head.size == self.size and head.root != self.root):
            return OtherHead(size=self.size)
        if self.size and not is_consistent(self.size, self.root, head.size, head.root, proof):
            return NotConsistent()
        if not self.size and proof:
            return NotConsistent()
        self.size, self.root = head.size, head.root
        spoil = b"spoilt" if self.spoils_signature else b""
        lines = [
            cosign(head.text() if not spoil else spoil + head.text(), key=key, sign=private.sign, time_s=TIME_S)
            for key, private in zip(self.keys, self._private, strict=True)
        ]
        self.note = note + b"".join(lines)
        return Cosigned(lines=b"".join(lines))
