"""The terminals' door: reads bytes, hands them to the pipeline, writes its answer. Decides nothing about money."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from appliance.api.encode import answer
from appliance.api.middleware import encoding_of
from appliance.api.pos.events import EventDoor
from appliance.api.pos.openapi import openapi_document
from appliance.device.attest import TerminalAttestation
from appliance.identity.authenticate import Authenticate
from appliance.identity.pairing import Pairing
from appliance.identity.refusals import Refusals
from appliance.identity.signed import Encoding, SignedRequest, decode_signed
from appliance.model.errors import Rejected
from appliance.model.limits import BATCH_BYTES_MAX, REQUEST_BYTES_MAX
from appliance.payment.batch import Batch
from appliance.payment.escrow import Escrow
from appliance.payment.pipeline import PaymentPipeline
from appliance.ports.clock import Clock
from appliance.till.drawers import Drawers
from appliance.till.reports import Reports
from appliance.till.tokens import Tokens
from appliance.till.vouchers import Vouchers
from appliance.wire.answers import (
    AttestAnswer,
    BatchAnswer,
    DrawerAnswer,
    EscrowAnswer,
    HeadAnswer,
    PairAnswer,
    PaymentAnswer,
    ReportAnswer,
    TokenAnswer,
    VoucherAnswer,
)

AnswerT = TypeVar("AnswerT")

BODY_S_MAX: Final = 30
"""How long a body may take to arrive: a caller that stops in the middle must not keep us waiting."""
_MEDIA_TYPES: Final = {encoding.value: encoding for encoding in Encoding}


class PosDoor:
    """Routes of the terminal protocol, version 1 (docs/formats/terminal-protocol.md)."""

    def __init__(
        self,
        *,
        pipeline: PaymentPipeline,
        batch: Batch,
        drawers: Drawers,
        vouchers: Vouchers,
        tokens: Tokens,
        escrow: Escrow,
        attestation: TerminalAttestation,
        reports: Reports,
        pairing: Pairing,
        authenticate: Authenticate,
        events: EventDoor,
        refusals: Refusals,
        clock: Clock,
        audience: str,
        currency: str,
        shop: str,
        version: str,
    ) -> None:
        self._pipeline = pipeline
        self._batch = batch
        self._drawers = drawers
        self._vouchers = vouchers
        self._tokens = tokens
        self._escrow = escrow
        self._attestation = attestation
        self._reports = reports
        self._pairing = pairing
        self._authenticate = authenticate
        self._events = events
        self._refusals = refusals
        self._clock = clock
        self._about = {"audience": audience, "currency": currency, "shop": shop, "version": version}
        self._openapi = msgspec.json.encode(openapi_document(version))

    def application(self, middleware: Middleware) -> web.Application:
        """The aiohttp application; one per process."""
        application = web.Application(middlewares=[middleware], client_max_size=BATCH_BYTES_MAX)
        verbs: dict[str, Callable[[SignedRequest], Awaitable[PaymentAnswer]]] = {
            "payment": self._pipeline.pay,
            "status": self._pipeline.status,
            "reversal": self._pipeline.reverse,
            "abort": self._pipeline.abort,
            "capture": self._pipeline.capture,
            "refund": self._pipeline.refund,
        }
        for verb, serve in verbs.items():
            application.router.add_post(f"/v1/{verb}", self._payment_handler(serve), name=verb)
        application.router.add_post("/v1/batch", self._serve_batch, name="batch")
        application.router.add_post("/v1/drawer", self._serve_drawer, name="drawer")
        application.router.add_post("/v1/voucher", self._serve_voucher, name="voucher")
        application.router.add_post("/v1/token", self._serve_token, name="token")
        application.router.add_post("/v1/escrow", self._serve_escrow, name="escrow")
        application.router.add_post("/v1/attest", self._serve_attest, name="attest")
        application.router.add_post("/v1/report", self._serve_report, name="report")
        application.router.add_post("/v1/pair", self._serve_pair, name="pair")
        application.router.add_post("/v1/head", self._serve_head, name="head")
        application.router.add_get("/v1/events", self._events.serve, name="events")
        application.router.add_get("/v1/info", self._serve_info, name="info")
        application.router.add_get("/v1/openapi.json", self._serve_openapi, name="openapi")
        application.on_shutdown.append(self._events.end_streams)
        return application

    def _payment_handler(
        self, serve: Callable[[SignedRequest], Awaitable[PaymentAnswer]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            signed = await read_signed(request, REQUEST_BYTES_MAX)
            result = await self._counted(signed, serve)
            # 202: the intent is durable, the provider is being asked. A status has done all it can: 200.
            is_being_asked = result.state == "being_checked" and signed.claims.verb != "status"
            return answer(result, signed.encoding, status=202 if is_being_asked else 200)

        return handle

    async def _counted(self, signed: SignedRequest, serve: Callable[[SignedRequest], Awaitable[AnswerT]]) -> AnswerT:
        try:
            return await serve(signed)
        except Rejected as refusal:
            self._refusals.count(signed.claims.terminal, refusal.code)
            raise

    async def _serve_batch(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, BATCH_BYTES_MAX)
        result: BatchAnswer = await self._counted(signed, self._batch.take)
        return answer(result, signed.encoding)

    async def _serve_drawer(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: DrawerAnswer = await self._counted(signed, self._drawers.act)
        return answer(result, signed.encoding)

    async def _serve_voucher(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: VoucherAnswer = await self._counted(signed, self._vouchers.act)
        return answer(result, signed.encoding)

    async def _serve_token(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: TokenAnswer = await self._counted(signed, self._tokens.act)
        return answer(result, signed.encoding)

    async def _serve_escrow(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: EscrowAnswer = await self._counted(signed, self._escrow.give)
        return answer(result, signed.encoding)

    async def _serve_attest(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: AttestAnswer = await self._counted(signed, self._attestation.attest)
        return answer(result, signed.encoding)

    async def _serve_report(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: ReportAnswer = await self._counted(signed, self._reports.report)
        return answer(result, signed.encoding)

    async def _serve_pair(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: PairAnswer = await self._pairing.pair(signed)
        return answer(result, signed.encoding)

    async def _serve_head(self, request: web.Request) -> web.Response:
        signed = await read_signed(request, REQUEST_BYTES_MAX)
        result: HeadAnswer = await self._counted(signed, self._authenticate.show_head)
        return answer(result, signed.encoding)

    async def _serve_info(self, _request: web.Request) -> web.Response:
        return web.json_response({**self._about, "now_ms": self._clock.now_ms()})

    async def _serve_openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")


async def read_signed(request: web.Request, size_max: int) -> SignedRequest:
    """The request's body, read no further than `size_max` bytes and taken apart strictly.

    Raises:
        Rejected: `media_type_unsupported`, `too_large`, `body_incomplete`, or what `decode_signed` refuses.
    """
    if request.content_type not in _MEDIA_TYPES:
        raise Rejected("media_type_unsupported", f"expected {' or '.join(_MEDIA_TYPES)}")
    if "Content-Encoding" in request.headers:
        raise Rejected("media_type_unsupported", "expected a body without Content-Encoding")
    if (request.content_length or 0) > size_max:
        raise Rejected("too_large", f"expected at most {size_max} bytes, saw {request.content_length}")
    try:
        if request.content.is_eof():  # it came with the head, as a sale does: no timer needed
            raw = await request.read()
        else:
            async with asyncio.timeout(BODY_S_MAX):
                raw = await request.read()
    except (ConnectionError, web.RequestPayloadError, TimeoutError):
        # What a caller does to its own request is no error of ours; mostly nobody is left to hear this.
        raise Rejected("body_incomplete", f"expected the whole body within {BODY_S_MAX} s") from None
    if len(raw) > size_max:
        raise Rejected("too_large", f"expected at most {size_max} bytes, saw {len(raw)}")
    return decode_signed(raw, encoding_of(request), size_max=size_max)
