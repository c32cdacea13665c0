"""Proofs for anybody; histories and digests at a time for auditors. Source: docs/formats/tiles.md."""

from __future__ import annotations

import msgspec
from aiohttp import web

from appliance.api.ledger_answers import LedgerAnswers, whole_number
from appliance.api.public.access import Access
from appliance.api.public.tiles import FOREVER


class ProofPages:
    """`/proof/...` and `/ledger/...`."""

    def __init__(self, *, answers: LedgerAnswers, access: Access) -> None:
        self._answers = answers
        self._access = access

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/proof/entry/{seq}", self._proof_file, name="proof_entry")
        router.add_get("/proof/inclusion", self._inclusion, name="proof_inclusion")
        router.add_get("/proof/consistency", self._consistency, name="proof_consistency")
        router.add_get("/ledger/history/{key}", self._history, name="ledger_history")
        router.add_get("/ledger/digest", self._digest, name="ledger_digest")

    async def _proof_file(self, request: web.Request) -> web.Response:
        self._access.anybody()
        proof = await self._answers.proof_file(whole_number(request.match_info, "seq"))
        return web.Response(
            body=proof, content_type="text/plain", charset="utf-8", headers={"Cache-Control": "no-store"}
        )

    async def _inclusion(self, request: web.Request) -> web.Response:
        self._access.anybody()
        seq, size = whole_number(request.query, "seq"), whole_number(request.query, "size")
        return _json(await self._answers.inclusion(seq, size), FOREVER)

    async def _consistency(self, request: web.Request) -> web.Response:
        self._access.anybody()
        size1, size2 = whole_number(request.query, "from"), whole_number(request.query, "to")
        return _json(await self._answers.consistency(size1, size2), FOREVER)

    async def _history(self, request: web.Request) -> web.Response:
        auditor = self._access.auditor(request)
        history = await self._answers.history(request.match_info["key"])
        self._access.showed(auditor, history.seqs)
        return _json(history.body, "no-store")

    async def _digest(self, request: web.Request) -> web.Response:
        """How many entries there were when is the shop's turnover curve: not for strangers."""
        self._access.auditor(request)
        return _json(await self._answers.digest(request.query.get("at")), "no-store")


def _json(value: object, cache: str) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), content_type="application/json", headers={"Cache-Control": cache}
    )
