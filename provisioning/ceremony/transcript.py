"""The transcript of a ceremony: every step, signed by the log's two keys, for whoever asks how a box came to be.

Owns the bytes and their check. Must never be believed without the owner's word for the keys: the trust file.

Source: docs/formats/site.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from appliance.config.schema import Settings
from appliance.crypto import cbor, hybrid
from appliance.crypto.hybrid import Signed
from appliance.ledger.checkpoint import verify_checkpoint
from appliance.ledger.genesis import LogId
from appliance.ledger.head import LogSigners
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected
from appliance.runtime.clock import SystemClock
from appliance.wiring.trust import open_trust
from drivers.hsm.library import load as load_library
from provisioning.ceremony.record import Record

NAME: Final = "transcript.cbor"
TRANSCRIPT: Final = "provisioning"
RETIREMENT: Final = "retirement"
TRANSCRIPT_BYTES_MAX: Final = 256 << 10
_DOMAIN: Final = b"tillstone/transcript/v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was signed, read.

    Attributes:
        kind: `provisioning` or `retirement`.
        steps: as in `ceremony.json`.
    """

    kind: str
    log_id: LogId
    origin: str
    steps: list[dict[str, Any]]

    def facts(self, step: str) -> dict[str, Any]:
        """Of one step; empty where there is none."""
        return next((dict(found["facts"]) for found in self.steps if found.get("name") == step), {})


async def sign_transcript(settings: Settings, record: Record) -> bytes:
    """The record, signed; the devices are opened for it."""
    load_library(str(settings.hsm.module_path)).reinitialise()
    async with open_trust(settings, SystemClock()) as trust:
        return await sign_steps(
            TRANSCRIPT,
            msgspec.to_builtins(record.steps),
            signers=trust.signers,
            log_id=trust.genesis.log_id,
            origin=trust.statement.origin,
        )


async def sign_steps(kind: str, steps: object, *, signers: LogSigners, log_id: LogId, origin: str) -> bytes:
    """The file: a statement under both of the log's keys."""
    said = cbor.encode({"kind": kind, "log": log_id, "origin": origin, "steps": steps, "version": 1})
    return cbor.encode(
        {
            "classical": await signers.classical.sign(_DOMAIN + said),
            "post_quantum": await signers.post_quantum.sign(_DOMAIN + said),
            "statement": said,
        }
    )


def verify_transcript(encoded: bytes, trust: Trust) -> Transcript:
    """The transcript, if the newest keys that the owner vouches for signed it.

    Raises:
        Rejected: `transcript_malformed`, `transcript_of_another_log`, the codes of `hybrid.require_both`, and those of
            `verify_checkpoint` about a checkpoint in it.
    """
    match cbor.decode(encoded, size_max=TRANSCRIPT_BYTES_MAX):
        case {"statement": bytes(said), "classical": bytes(classical), "post_quantum": bytes(post_quantum), **rest} if (
            not rest
        ):
            pass
        case _:
            raise Rejected("transcript_malformed", "expected a statement with two signatures")
    read = _read(said)
    keys = trust.keys.get(read.log_id)
    if keys is None:
        raise Rejected("transcript_of_another_log", f"the trust file does not name the log of {read.origin}")
    period = keys.periods[0] if read.kind == TRANSCRIPT else keys.newest
    hybrid.require_both(
        period.keys,
        [
            Signed(key_id=key.key_id, algorithm=key.algorithm, to_be_signed=_DOMAIN + said, signature=signature)
            for key, signature in ((period.keys.classical, classical), (period.keys.post_quantum, post_quantum))
        ],
    )
    for note in [step["facts"]["checkpoint"] for step in read.steps if "checkpoint" in step["facts"]]:
        verify_checkpoint(
            str(note).encode(), origin=read.origin, note_key=period.note_key, post_quantum=period.keys.post_quantum
        )
    return read


def _read(said: bytes) -> Transcript:
    match cbor.decode(said, size_max=TRANSCRIPT_BYTES_MAX):
        case {
            "version": 1,
            "kind": str(kind),
            "log": bytes(log),
            "origin": str(origin),
            "steps": list(steps),
            **rest,
        } if not rest:
            read = [_step(step) for step in steps if isinstance(step, dict) and isinstance(step.get("facts"), dict)]
            if len(read) == len(steps):
                return Transcript(kind=kind, log_id=LogId(log), origin=origin, steps=read)
    raise Rejected("transcript_malformed", "expected a transcript of version 1")


def _step(step: dict[str | int, cbor.Value]) -> dict[str, Any]:
    return {str(name): value for name, value in step.items()}
