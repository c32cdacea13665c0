"""The operator's questions about the log, and the credentials of auditors, on the local socket."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import msgspec
from aiohttp import web

from appliance.anchor.gather import Gatherer
from appliance.api.integrity import Integrity
from appliance.api.ledger_answers import LedgerAnswers, whole_number
from appliance.api.local.exchange import json_answer, read_body
from appliance.identity.auditors import Auditors
from appliance.model.card_data import refuse_card_numbers
from appliance.wire.requests import Text, Wire


class _Admit(Wire, frozen=True, kw_only=True):
    days: int
    auditor: Text


class _Revoke(Wire, frozen=True, kw_only=True):
    reason: Annotated[Text, msgspec.Meta(min_length=1)]
    credential: Text


class LedgerRoutes:
    """`/ledger/...`, `/integrity...` and `/auditors...`."""

    def __init__(self, *, answers: LedgerAnswers, gatherer: Gatherer, integrity: Integrity, auditors: Auditors) -> None:
        self._answers = answers
        self._gatherer = gatherer
        self._integrity = integrity
        self._auditors = auditors

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""
        router.add_get("/ledger/history", self._history, name="local_history")
        router.add_get("/ledger/digest", self._digest, name="local_digest")
        router.add_get("/ledger/proof", self._proof, name="local_proof")
        router.add_get("/ledger/consistency", self._consistency, name="local_consistency")
        router.add_get("/ledger/evidence", self._evidence, name="local_evidence")
        router.add_get("/integrity", self._report, name="local_integrity")
        router.add_post("/integrity/verify", self._verify, name="local_verify")
        router.add_get("/auditors", self._list, name="local_auditors")
        router.add_post("/auditors/admit", self._admit, name="local_admit")
        router.add_post("/auditors/revoke", self._revoke, name="local_revoke_auditor")

    async def _history(self, request: web.Request) -> web.Response:
        history = await self._answers.history(request.query.get("key", ""))
        return json_answer(history.body)

    async def _digest(self, request: web.Request) -> web.Response:
        return json_answer(await self._answers.digest(request.query.get("at")))

    async def _proof(self, request: web.Request) -> web.Response:
        size = whole_number(request.query, "size") if "size" in request.query else None
        proof = await self._answers.operators_proof_file(whole_number(request.query, "seq"), size)
        return json_answer({"proof": proof.decode()})

    async def _evidence(self, request: web.Request) -> web.Response:
        """Of a payment by its key, or of the one entry `seq`."""
        if "seq" in request.query:
            seqs: tuple[int, ...] = (whole_number(request.query, "seq"),)
            await self._answers.require_entry(seqs[0])
        else:
            seqs = (await self._answers.history(request.query.get("key", ""))).seqs
        bundle = await self._gatherer.bundle(seqs)
        return json_answer({"bundle": bundle.encode(), "seqs": seqs})

    async def _consistency(self, request: web.Request) -> web.Response:
        size1, size2 = whole_number(request.query, "from"), whole_number(request.query, "to")
        return json_answer(await self._answers.consistency(size1, size2))

    async def _report(self, _request: web.Request) -> web.Response:
        return json_answer(self._integrity.report())

    async def _verify(self, _request: web.Request) -> web.Response:
        return json_answer(self._integrity.verify_now())

    async def _list(self, _request: web.Request) -> web.Response:
        return json_answer(
            [
                {
                    "credential": auditor.credential,
                    "auditor": auditor.name,
                    "expires_ms": auditor.expires_ms,
                    "is_revoked": auditor.is_revoked,
                }
                for auditor in sorted(self._auditors.all, key=lambda each: each.expires_ms)
            ]
        )

    async def _admit(self, request: web.Request) -> web.Response:
        admit = await read_body(request, _Admit)
        refuse_card_numbers((admit.auditor,))
        return json_answer(asdict(await self._auditors.admit(admit.auditor, admit.days)))

    async def _revoke(self, request: web.Request) -> web.Response:
        revoke = await read_body(request, _Revoke)
        refuse_card_numbers((revoke.reason,))
        return json_answer({"seq": await self._auditors.revoke(revoke.credential, revoke.reason)})
