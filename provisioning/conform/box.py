"""A small server that speaks the terminal protocol and misbehaves as scripted, on loopback.

Owns the wire and what was heard on it. Must never judge a client: that is `scenarios.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from appliance.crypto import cbor, jws
from appliance.identity.signed import Encoding, SignedRequest, decode_signed
from appliance.ledger.log_keys import LogKeys
from appliance.ledger.shown_head import verify_shown_head
from appliance.model.errors import Rejected
from appliance.model.limits import REQUEST_BYTES_MAX
from appliance.ports.clock import Clock
from appliance.wire.answers import BatchAnswer, BatchResult, HeadAnswer, PaymentAnswer, Problem
from appliance.wire.requests import BatchBody, Claims, HeadBody, PaymentBody, Seen, StatusBody, Wire
from provisioning.conform.identity import BoxIdentity
from provisioning.conform.sales import STRANGER_KEY, Sales
from provisioning.conform.script import Act, Script

CLOCK_SKEW_MS_MAX: Final = 300_000
_EVENTS_LOOK_MS: Final = 100
_HEARD_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A payment request whose signature verified. `payload` is what a retry must repeat."""

    claims: Claims
    payload: bytes
    at_ms: int
    box_now_ms: int


class ScriptedBox:
    """One box for one scenario."""

    def __init__(
        self, *, identity: BoxIdentity, sales: Sales, public_key: bytes, terminal: str, currency: str, clock: Clock
    ) -> None:
        self._identity = identity
        self._sales = sales
        self._public_key = public_key
        self._terminal = terminal
        self._currency = currency
        self._clock = clock
        self._script = Script()
        self._pending_left = 0
        self.heard: list[Heard] = []
        self.shown: list[Seen] = []
        self.faults: list[str] = []

    def begin(self, script: Script) -> None:
        """Follow `script` for the next sale; what was heard before is forgotten."""
        self._script = script
        self._pending_left = script.pending_answers
        self._sales.begin(script)
        self.heard, self.shown, self.faults = [], [], []

    @asynccontextmanager
    async def serve(self, tls_folder: Path) -> AsyncIterator[str]:
        """Listen on a free port of loopback; gives the URL."""
        context = await asyncio.to_thread(self._tls_context, tls_folder)
        application = web.Application(client_max_size=REQUEST_BYTES_MAX)
        application.router.add_get("/v1/info", self._info)
        application.router.add_get("/v1/events", self._events)
        application.router.add_post("/v1/{verb}", self._post)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            yield f"https://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    def _tls_context(self, folder: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(*self._identity.write_tls(folder))
        return context

    @property
    def _box_now_ms(self) -> int:
        return self._clock.now_ms() + self._script.clock_offset_ms

    async def _info(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "audience": self._identity.audience,
                "currency": self._currency,
                "shop": "a scripted box",
                "now_ms": self._box_now_ms,
                "version": "conform",
            }
        )

    async def _post(self, request: web.Request) -> web.StreamResponse:
        encoding = Encoding.COSE if request.content_type == Encoding.COSE.value else Encoding.JOSE
        try:
            signed = decode_signed(await request.read(), encoding, size_max=REQUEST_BYTES_MAX)
            self._authenticate(signed, request.match_info["verb"])
            if signed.claims.verb == "payment":
                return self._payment(request, signed, encoding)
            if signed.claims.verb == "status":
                return self._status(request, signed, encoding)
            if signed.claims.verb == "batch":
                return self._batch(signed.claims, encoding)
            if signed.claims.verb == "head":
                return self._head(signed.claims, encoding)
        except Rejected as refusal:
            if refusal.code not in ("clock_skew", "payment_unknown"):
                self.faults.append(refusal.code)
            return self._refuse(refusal, _STATUS.get(refusal.code, 400), encoding)
        return self._refuse(Rejected("not_scripted", "this box knows payment, status, batch and head"), 422, encoding)

    def _authenticate(self, signed: SignedRequest, verb: str) -> None:
        claims = signed.claims
        if signed.key_id != hashlib.sha256(self._public_key).digest():
            raise Rejected("terminal_unknown", "the key id is not the terminal's")
        if not signed.is_signed_by(self._public_key):
            raise Rejected("signature_wrong", "the signature does not verify")
        if claims.audience != self._identity.audience or claims.terminal != self._terminal or claims.verb != verb:
            raise Rejected("claims_wrong", "expected this audience, this terminal and the verb of the path")
        if claims.verb == "payment" and len(self.heard) < _HEARD_MAX:
            payload = cbor.encode([claims.verb, claims.body])
            now_ms = self._clock.monotonic_ms()
            self.heard.append(Heard(claims=claims, payload=payload, at_ms=now_ms, box_now_ms=self._box_now_ms))
        if abs(claims.signed_at_ms - self._box_now_ms) > CLOCK_SKEW_MS_MAX:
            raise Rejected("clock_skew", "the clocks differ by more than five minutes; use now_ms, keep the key")

    def _payment(self, request: web.Request, signed: SignedRequest, encoding: Encoding) -> web.StreamResponse:
        turn = len(self.heard) - 1
        act = self._script.acts[turn] if turn < len(self._script.acts) else self._script.then
        claims = signed.claims
        match act:
            case Act.DROP_BEFORE:
                return _hang_up(request)
            case Act.BUSY:
                busy = Rejected("busy", "the box is starting")
                return self._refuse(busy, 503, encoding, {"Retry-After": str(self._script.retry_after_s)})
            case Act.DOUBT_HEAD:
                return self._refuse(Rejected("head_evidence_needed", "scripted: show it signed"), 428, encoding)
            case Act.REFUSE:
                return self._refuse(Rejected("amount_not_positive", "scripted: no"), 422, encoding)
            case _:
                self._record(claims, hashlib.sha256(self.heard[-1].payload).digest())
        match act:
            case Act.DROP_AFTER:
                return _hang_up(request)
            case Act.ERROR_AFTER:
                return self._refuse(Rejected("internal", "scripted"), 500, encoding)
            case Act.GARBLE_AFTER:
                whole = self._answer(claims.key, encoding).body
                half = whole[: len(whole) // 2] if isinstance(whole, bytes) else b""
                return web.Response(body=half, content_type=_ANSWER_TYPE[encoding])
            case Act.ANSWER_OF_ANOTHER:
                return self._answer(STRANGER_KEY, encoding)
            case Act.RECEIPT_OF_ANOTHER:
                return self._answer(claims.key, encoding, receipt_of=STRANGER_KEY)
            case _:
                return self._answer(claims.key, encoding)

    def _record(self, claims: Claims, payload: bytes) -> None:
        try:
            body = msgspec.convert(claims.body, PaymentBody)
        except msgspec.ValidationError as fault:
            raise Rejected("body_invalid", str(fault)) from None
        known = self._sales.payload_of(claims.key)
        if known is not None and known != payload:
            raise Rejected("key_reused", "this key belongs to another sale")
        total_minor = sum(tender.amount_minor for tender in body.tenders) - body.change_minor
        self._sales.record(claims.key, payload, body.currency, total_minor)

    def _batch(self, claims: Claims, encoding: Encoding) -> web.Response:
        """Every sale is taken; a scripted batch has no other end."""
        try:
            items = msgspec.convert(claims.body, BatchBody).items
        except msgspec.ValidationError as fault:
            raise Rejected("body_invalid", str(fault)) from None
        for item in items:
            payload = hashlib.sha256(cbor.encode(msgspec.to_builtins(item.payment))).digest()
            total_minor = sum(tender.amount_minor for tender in item.payment.tenders)
            self._sales.record(item.key, payload, item.payment.currency, total_minor)
        answer = BatchAnswer(
            key=claims.key,
            results=tuple(BatchResult(key=item.key, state="approved", seq=0) for item in items),
            now_ms=self._box_now_ms,
            receipt=self._sales.receipt([item.key for item in items]),
        )
        return _encoded(answer, 200, _ANSWER_TYPE[encoding], encoding, {})

    def _head(self, claims: Claims, encoding: Encoding) -> web.Response:
        """A head that verifies is believed to lie in the log."""
        genesis = self._identity.log.genesis
        try:
            body = msgspec.convert(claims.body, HeadBody)
            halves = [jws.from_base64url(half.encode()) for half in (body.classical, body.post_quantum)]
            keys = LogKeys.of(genesis.log_id, genesis.read())
            size = verify_shown_head(halves, bytes.fromhex(body.root), keys)
        except (msgspec.ValidationError, Rejected) as fault:
            raise Rejected("head_evidence_refused", str(fault)) from None
        self.shown.append(Seen(size=size, root=body.root))
        answer = HeadAnswer(key=claims.key, size=size, now_ms=self._box_now_ms)
        return _encoded(answer, 200, _ANSWER_TYPE[encoding], encoding, {})

    def _status(self, request: web.Request, signed: SignedRequest, encoding: Encoding) -> web.StreamResponse:
        if self._script.is_deaf:
            return _hang_up(request)
        try:
            of = msgspec.convert(signed.claims.body, StatusBody).of
        except msgspec.ValidationError as fault:
            raise Rejected("body_invalid", str(fault)) from None
        if self._script.is_forgetful or self._sales.payload_of(of) is None:
            raise Rejected("payment_unknown", "nothing is recorded under this key")
        match self._script.then:
            case Act.ANSWER_OF_ANOTHER:
                return self._answer(STRANGER_KEY, encoding)
            case Act.RECEIPT_OF_ANOTHER:
                return self._answer(of, encoding, receipt_of=STRANGER_KEY)
            case _:
                return self._answer(of, encoding)

    def _answer(self, key: str, encoding: Encoding, *, receipt_of: str | None = None) -> web.Response:
        is_held_back = self._pending_left > 0
        self._pending_left -= is_held_back
        proof = None if is_held_back else self._script.forgery
        answer: PaymentAnswer = self._sales.answer(key, box_now_ms=self._box_now_ms, proof=proof, receipt_of=receipt_of)
        is_final = answer.state != "being_checked" and not answer.pending
        return _encoded(answer, 200 if is_final else 202, _ANSWER_TYPE[encoding], encoding, {})

    def _refuse(
        self, refusal: Rejected, status: int, encoding: Encoding, headers: dict[str, str] | None = None
    ) -> web.Response:
        problem = Problem(
            type="about:blank",
            title="Refused",
            status=status,
            code=refusal.code,
            detail=refusal.detail,
            now_ms=self._box_now_ms,
        )
        media_type = "application/cbor" if encoding is Encoding.COSE else "application/problem+json"
        return _encoded(problem, status, media_type, encoding, headers or {})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._script.is_deaf:
            return _hang_up(request)
        token = request.headers.get("Authorization", "").removeprefix("Tillstone ").encode()
        try:
            self._authenticate(decode_signed(token, Encoding.JOSE, size_max=REQUEST_BYTES_MAX), "events")
        except Rejected as refusal:
            return self._refuse(refusal, _STATUS.get(refusal.code, 400), Encoding.JOSE)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        after = int(request.query.get("after", "-1"))
        while request.transport is not None and not request.transport.is_closing():
            for event in self._sales.events(after):
                after = event.seq
                line = b"id: %d\nevent: payment\ndata: %s\n\n" % (event.seq, msgspec.json.encode(event))
                await response.write(line)
            await self._clock.sleep(_EVENTS_LOOK_MS)
        return response


_ANSWER_TYPE: Final = {Encoding.COSE: "application/cbor", Encoding.JOSE: "application/json"}
_STATUS: Final = {
    "signature_wrong": 401,
    "terminal_unknown": 401,
    "payment_unknown": 404,
    "key_reused": 409,
    "head_evidence_refused": 422,
}


def _encoded(body: Wire, status: int, media_type: str, encoding: Encoding, headers: dict[str, str]) -> web.Response:
    if encoding is Encoding.COSE:
        octets = cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,)))
    else:
        octets = msgspec.json.encode(body)
    return web.Response(status=status, body=octets, content_type=media_type, headers=headers)


def _hang_up(request: web.Request) -> web.Response:
    """Break the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
