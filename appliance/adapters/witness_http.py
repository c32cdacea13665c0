"""A C2SP tlog-witness over HTTP.

Owns its two requests, their deadline and their bounds. Never judges a cosignature or a checkpoint: the
follower does, with the pinned keys.

Source: docs/formats/cosignature.md, "Asking a witness"; https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import aiohttp

from appliance.evidence.add_checkpoint import AddCheckpoint, decode_size, origin_hash
from appliance.evidence.cosignature import LINES_BYTES_MAX
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.witness import Answer, Cosigned, NotConsistent, OtherHead

DEADLINE_MS: Final = 10_000


class HttpWitness:
    """One witness at one submission prefix; satisfies `ports/witness.py`."""

    def __init__(self, *, name: str, prefix: str, http: aiohttp.ClientSession, deadline_ms: int = DEADLINE_MS) -> None:
        self._name = name
        self._prefix = prefix.rstrip("/")
        self._http = http
        self._deadline_ms = deadline_ms

    @property
    def name(self) -> str:
        """As in its signature lines."""
        return self._name

    async def add_checkpoint(self, *, old_size: int, proof: Sequence[bytes], note: bytes) -> Answer:
        """Post once and read the answer by its status."""
        body = AddCheckpoint(old_size=old_size, proof=tuple(proof), note=note).encode()
        status, answer = await self._ask("POST", "add-checkpoint", body)
        match status:
            case 200:
                return Cosigned(lines=answer)
            case 409:
                return OtherHead(size=self._size(answer))
            case 422:
                return NotConsistent()
            case 400 | 401 | 403 | 404 | 413:
                raise Rejected(
                    "witness_refused", f"{self._name} answers {status}: it may not know this log or its keys"
                )
            case _:
                raise Unavailable("witness_away", f"{self._name} answers {status}")

    async def latest_checkpoint(self, origin: str) -> bytes:
        """Get once; anything but 200 is none."""
        status, answer = await self._ask("GET", f"{origin_hash(origin)}/checkpoint")
        if status != 200:
            raise Unavailable("witness_away", f"{self._name} answers {status} when asked for the checkpoint it holds")
        return answer

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(self._deadline_ms / 1_000),
                # A redirect would take the log's head to somebody whom nobody chose.
                self._http.request(method, f"{self._prefix}/{path}", data=body, allow_redirects=False) as response,
            ):
                answer = await response.content.read(LINES_BYTES_MAX + 1)
                while len(answer) <= LINES_BYTES_MAX and (more := await response.content.read(LINES_BYTES_MAX)):
                    answer += more
                status = response.status
        except TimeoutError as cause:
            raise Unavailable("witness_away", f"{self._name} did not answer within {self._deadline_ms} ms") from cause
        except (aiohttp.ClientError, OSError) as cause:
            raise Unavailable("witness_away", f"{self._name} cannot be asked: {type(cause).__name__}") from cause
        if len(answer) > LINES_BYTES_MAX:
            raise Unavailable("witness_away", f"{self._name} answers more than {LINES_BYTES_MAX} bytes")
        return status, answer

    def _size(self, answer: bytes) -> int:
        try:
            return decode_size(answer)
        except Rejected as cause:
            raise Unavailable("witness_away", f"{self._name} answers 409 without a size") from cause
