"""A till becomes known to a box: found by DNS-SD, paired by a one-time code that never travels."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from appliance.crypto import jws
from appliance.identity import pairing as box_pairing
from appliance.identity.signed import Encoding as BoxEncoding
from appliance.identity.signed import decode_signed
from appliance.model.errors import Rejected
from appliance.model.ids import TerminalId
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PairAnswer
from provisioning.conform.identity import BoxIdentity, make_identity
from provisioning.terminal import pairing
from provisioning.terminal.discovery import SERVICE_TYPE, find_boxes
from provisioning.terminal.home import TerminalHome
from tests.fakes.clock import START_MS, SkippingClock

DEADLINE_MS = 20_000
CODE = "K3QF7M2Z9XH1"


@pytest.fixture(scope="module")
def identity() -> BoxIdentity:
    # Certificates are judged by the machine's clock, so these are dated by it; all else runs on the fake one.
    return make_identity(time.time_ns() // 1_000_000)


@asynccontextmanager
async def _pairing_box(identity: BoxIdentity, folder: Path, code: str) -> AsyncIterator[str]:
    """A door that pairs by the box's own proofs."""
    certificate = hashlib.sha256(identity.certificate_der).digest()

    async def info(_request: web.Request) -> web.Response:
        members = {"audience": identity.audience, "currency": "EUR", "shop": "s", "now_ms": START_MS, "version": "1"}
        return web.json_response(members)

    async def pair(request: web.Request) -> web.Response:
        signed = decode_signed(await request.read(), BoxEncoding.JOSE, size_max=65_536)
        public_key = jws.from_base64url(str(signed.claims.body["public_key"]).encode())
        assert signed.is_signed_by(public_key)
        proof = str(signed.claims.body["proof"])
        if not hmac.compare_digest(proof, box_pairing.request_proof(CODE, certificate, public_key)):
            problem = {"type": "about:blank", "title": "", "status": 403, "code": "pairing_refused", "detail": ""}
            return web.json_response({**problem, "now_ms": START_MS}, status=403)
        trust = identity.trust.decode()
        answer = PairAnswer(
            terminal=signed.claims.terminal,
            audience=identity.audience,
            currency="EUR",
            trust=trust,
            authority="",
            proof=box_pairing.answer_proof(code, public_key, trust),
            now_ms=START_MS + 5_000,
        )
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*await asyncio.to_thread(identity.write_tls, folder))
    application = web.Application()
    application.router.add_get("/v1/info", info)
    application.router.add_post("/v1/pair", pair)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_pairing_keeps_key_trust_clock_and_profile(identity: BoxIdentity, tmp_path: Path) -> None:
    home, clock = TerminalHome(folder=tmp_path), SkippingClock()
    async with _pairing_box(identity, tmp_path, CODE) as url:
        deadline = Deadline.after(clock, DEADLINE_MS)
        invitation = pairing.Invitation(url=url, code=CODE)
        profile = await pairing.pair(home, invitation, terminal=TerminalId("till-1"), clock=clock, deadline=deadline)
    assert profile == await asyncio.to_thread(home.profile)
    assert profile.certificate_sha256 == hashlib.sha256(identity.certificate_der).hexdigest()
    assert (await asyncio.to_thread(home.memory)).clock_offset_ms == 5_000
    assert await asyncio.to_thread(home.trust) == identity.trust


async def test_wrong_code_is_refused_and_the_key_is_kept_for_the_next_try(
    identity: BoxIdentity, tmp_path: Path
) -> None:
    home, clock = TerminalHome(folder=tmp_path), SkippingClock()
    async with _pairing_box(identity, tmp_path, CODE) as url:
        for code, expected in (("0" * 12, "pairing_refused"), ("1" * 12, "pairing_refused")):
            with pytest.raises(Rejected, match=expected):
                await pairing.pair(
                    home,
                    pairing.Invitation(url=url, code=code),
                    terminal=TerminalId("till-1"),
                    clock=clock,
                    deadline=Deadline.after(clock, DEADLINE_MS),
                )
    with pytest.raises(Rejected, match="profile_missing"):
        await asyncio.to_thread(home.profile)


async def test_impostor_who_does_not_know_the_code_leaves_nothing_behind(identity: BoxIdentity, tmp_path: Path) -> None:
    home, clock = TerminalHome(folder=tmp_path), SkippingClock()
    async with _pairing_box(identity, tmp_path, "0" * 12) as url:
        with pytest.raises(Rejected, match="box_not_proven"):
            await pairing.pair(
                home,
                pairing.Invitation(url=url, code=CODE),
                terminal=TerminalId("till-1"),
                clock=clock,
                deadline=Deadline.after(clock, DEADLINE_MS),
            )
    with pytest.raises(Rejected, match="trust_missing"):
        await asyncio.to_thread(home.trust)


async def test_box_is_found_by_dns_sd() -> None:
    service = ServiceInfo(
        SERVICE_TYPE,
        f"Corner Shop.{SERVICE_TYPE}",
        addresses=[bytes([127, 0, 0, 1])],
        port=8443,
        properties={"audience": "corner-shop.example/SANDBOX-1/1"},
    )
    network = AsyncZeroconf(interfaces=["127.0.0.1"])
    try:
        await (await network.async_register_service(service))
        boxes = await find_boxes(Deadline.after(SkippingClock(), 1_500), interfaces=["127.0.0.1"])
    finally:
        await network.async_unregister_all_services()
        await network.async_close()
    (box,) = boxes
    assert (box.name, box.url) == ("Corner Shop", "https://127.0.0.1:8443")
    assert dict(box.properties)["audience"] == "corner-shop.example/SANDBOX-1/1"
