"""A C2SP tlog-witness: it remembers the largest head of each log it knows, and cosigns what extends it.

Owns the door's statuses and the order of its checks. A log's head is believed only with both signatures of the keys
that the owner vouched for; a cosignature leaves only after PostgreSQL has committed the head it is about.

Source: docs/formats/cosignature.md, "Asking a witness"; https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from appliance.evidence.add_checkpoint import BODY_BYTES_MAX, SIZE_TYPE, AddCheckpoint, encode_size, origin_hash
from appliance.ledger.checkpoint import Checkpoint, read_checkpoint, verify_head, without_strangers
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.merkle import is_consistent
from appliance.model.errors import Rejected, Unavailable
from provisioning.upstream.witness_keys import WitnessSigner
from provisioning.upstream.witness_store import LockedHead, WitnessStore

_BODY_S: Final = 10.0


class _Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, body: bytes = b"", content_type: str = "text/plain") -> None:
        super().__init__(status)
        self.response = web.Response(status=status, body=body, content_type=content_type)


class WitnessDoor:
    """`POST /add-checkpoint` and `GET /<origin hash>/checkpoint`, for the logs in `logs` (by origin)."""

    def __init__(
        self,
        *,
        signer: WitnessSigner,
        logs: Mapping[str, LogKeys],
        store: WitnessStore,
        now_s: Callable[[], int],
    ) -> None:
        self._signer = signer
        self._logs = logs
        self._origins = {origin_hash(origin): origin for origin in logs}
        self._store = store
        self._now_s = now_s

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_post("/add-checkpoint", self._add_checkpoint)
        application.router.add_get("/{origin_hash:[0-9a-f]{64}}/checkpoint", self._latest_checkpoint)
        return application

    async def _latest_checkpoint(self, request: web.Request) -> web.Response:
        origin = self._origins.get(request.match_info["origin_hash"])
        try:
            note = b"" if origin is None else await self._store.note(origin)
        except Unavailable:
            return web.Response(status=503)
        return web.Response(body=note, content_type="text/plain", charset="utf-8") if note else web.Response(status=404)

    async def _add_checkpoint(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_BODY_S):
                body = await request.read()
            asked = _read(body)
            checkpoint = self._verified(asked.note)
            if asked.old_size > checkpoint.size:
                raise _Refused(400, b"the old size is above the checkpoint's\n")
            return web.Response(body=await self._cosign(asked, checkpoint), content_type="text/plain")
        except _Refused as refusal:
            return refusal.response
        except TimeoutError:
            return web.Response(status=408)
        except Unavailable:
            return web.Response(status=503)

    def _verified(self, note: bytes) -> Checkpoint:
        try:
            said = read_checkpoint(note)
            log = self._logs.get(said.origin)
            if log is None:
                raise _Refused(404, b"this witness does not know that log\n")
            # What a thief of the keys signs after the owner's word is not vouched for.
            checkpoint = verify_head(note, origin=said.origin, keys=log)
        except Rejected as cause:
            status = 400 if cause.code == "checkpoint_malformed" else 403
            raise _Refused(status, f"{cause.detail}\n".encode()) from cause
        return checkpoint

    async def _cosign(self, asked: AddCheckpoint, checkpoint: Checkpoint) -> bytes:
        refusal: _Refused | None = None
        lines = b""
        async with self._store.locked(checkpoint.origin) as locked:
            refusal = await _judge(asked, checkpoint, locked)
            if refusal is None:
                # Under the lock: once another request has extended the head, this one is no longer the largest.
                lines = self._signer.cosign(checkpoint.text(), self._now_s())
                # Kept with both signatures of the log: shown, it proves to a box what a size alone does not.
                period = self._logs[checkpoint.origin].at(checkpoint.size)
                own = without_strangers(asked.note, origin=checkpoint.origin, period=period)
                await locked.advance(checkpoint.size, checkpoint.root, own + lines)
        # Committed: from here on this witness can never vouch for a head that does not extend this one.
        if refusal is not None:
            raise refusal
        return lines


async def _judge(asked: AddCheckpoint, checkpoint: Checkpoint, locked: LockedHead) -> _Refused | None:
    """Why the checkpoint cannot follow the newest head; None when it does."""
    newest = locked.head
    if asked.old_size != newest.size:
        return _Refused(409, encode_size(newest.size), SIZE_TYPE)
    if newest.size == 0:
        return _Refused(422, b"a first checkpoint has no proof\n") if asked.proof else None
    if checkpoint.size == newest.size and checkpoint.root != newest.root:
        await locked.keep_conflict(checkpoint.size, checkpoint.root, asked.note)
        return _Refused(409, encode_size(newest.size), SIZE_TYPE)
    if not is_consistent(newest.size, newest.root, checkpoint.size, checkpoint.root, asked.proof):
        await locked.keep_conflict(checkpoint.size, checkpoint.root, asked.note)
        return _Refused(422, b"the proof does not lead from the newest cosigned head to this one\n")
    return None


def _read(body: bytes) -> AddCheckpoint:
    try:
        return AddCheckpoint.decode(body)
    except Rejected as cause:
        raise _Refused(400, f"{cause.detail}\n".encode()) from cause
