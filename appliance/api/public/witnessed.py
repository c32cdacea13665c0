"""What witnesses vouch for: the newest cosigned checkpoint, and proofs under it, for receipts that waited for it.

Source: docs/formats/cosignature.md, "At the public door".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from appliance.api.ledger_answers import whole_number
from appliance.api.public.access import Access
from appliance.ledger.archive import Archive
from appliance.ledger.tlog import TlogProof
from appliance.model.errors import Unavailable


class Cosigned(Protocol):
    """A head with enough cosignatures, as the follower gathered it."""

    @property
    def size(self) -> int:
        """Entries."""
        ...

    @property
    def note(self) -> bytes:
        """The signed note with the cosignature lines."""
        ...


class WitnessedPages:
    """`/checkpoint/witnessed` and `/proof/witnessed/{seq}`."""

    def __init__(
        self, *, newest: Callable[[int], Awaitable[Cosigned | None]], archive: Archive, access: Access
    ) -> None:
        self._newest = newest
        self._archive = archive
        self._access = access

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/checkpoint/witnessed", self._checkpoint, name="checkpoint_witnessed")
        router.add_get("/proof/witnessed/{seq}", self._proof, name="proof_witnessed")

    async def _checkpoint(self, _request: web.Request) -> web.Response:
        self._access.anybody()
        return _text((await self._cosigned(0)).note)

    async def _proof(self, request: web.Request) -> web.Response:
        """A receipt upgraded: the entry's hash under a head that others have seen."""
        self._access.anybody()
        seq = whole_number(request.match_info, "seq")
        cosigned = await self._cosigned(seq + 1)
        proof = await self._archive.inclusion(seq, cosigned.size)
        return _text(TlogProof(index=seq, path=proof.path, checkpoint=cosigned.note).encode())

    async def _cosigned(self, size_min: int) -> Cosigned:
        cosigned = await self._newest(size_min)
        if cosigned is None:
            raise Unavailable("witness_pending", f"no head of {size_min} entries or more has enough witnesses yet")
        return cosigned


def _text(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="text/plain", charset="utf-8", headers={"Cache-Control": "no-store"})
