"""What comes to the door as PayPal's: genuine, forged, late, under a foreign certificate, another body with its CRC."""

from __future__ import annotations

import asyncio
import datetime
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509

from appliance.adapters.paypal_webhook import CERTIFICATE_BYTES_MAX, TOLERANCE_MS, PayPalCertificates, PayPalWebhooks
from appliance.model.errors import Rejected, Unavailable
from appliance.model.limits import DAY_MS
from appliance.ports.hint import Hint
from appliance.runtime.log import Log
from provisioning.sandbox.paypal_twin_events import (
    CERTIFICATE_NAME,
    CERTIFICATE_PATH,
    headers_for,
    make_chain,
    root_pem,
)
from tests.fakes.clock import FakeClock
from tests.integration.test_paypal import offer, offered, taking
from tests.paypal_twin_here import WEBHOOK_ID, PayPalHere


@dataclass
class Door:
    """The reader of a box that trusts the twin's root, and the service that fetches its certificates."""

    here: PayPalHere
    clock: FakeClock
    certificates: PayPalCertificates
    reader: PayPalWebhooks
    http: aiohttp.ClientSession

    def read(self, body: bytes, headers: dict[str, str]) -> Hint:
        return self.reader.read(body, {name.lower(): value for name, value in headers.items()})

    async def learnt(self, body: bytes, headers: dict[str, str]) -> Hint:
        """The first delivery is refused until the certificate is here."""
        with pytest.raises(Unavailable) as later:
            self.read(body, headers)
        assert later.value.code == "webhook_certificate_missing"
        await self.certificates.fetch_next(self.http)
        return self.read(body, headers)

    def signed(self, body: bytes) -> dict[str, str]:
        return headers_for(self.here.store, WEBHOOK_ID, "T-1", body, self.here.base)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    clock = FakeClock()
    async with PayPalHere(clock) as here, aiohttp.ClientSession() as http:
        certificates = PayPalCertificates(
            base=here.base,
            name=CERTIFICATE_NAME,
            roots=x509.load_pem_x509_certificates(root_pem(here.store).encode()),
            clock=clock,
            log=Log(sink=lambda _line: None, clock=clock),
        )
        reader = PayPalWebhooks(webhook_id=WEBHOOK_ID, certificates=certificates, clock=clock)
        yield Door(here, clock, certificates, reader, http)


FILLER = b"0" * 64
BODY = json.dumps({"id": "WH-1", "event_type": "CHECKOUT.ORDER.APPROVED", "resource": {"id": "5O1"}}).encode()


async def test_what_the_twin_sends_is_believed_and_names_our_payment(door: Door) -> None:
    operation = offer()
    of = await offered(door.here, operation)
    await door.here.provider().authorise(taking(operation, of))
    door.here.hook()
    assert await door.here.deliver() == 2
    (approved, headers), (captured, more) = door.here.received
    hint = await door.learnt(approved, headers)
    names = operation.reference
    assert (hint.reference, hint.log_origin, hint.operation) == (of, names.log_origin, names.operation_id)
    assert not hint.says_paid
    paid = door.read(captured, more)
    assert (paid.reference, paid.says_paid) == (of, True)


async def test_another_body_is_forged_and_one_with_the_same_crc_is_believed_as_a_hint_only(door: Door) -> None:
    headers = door.signed(BODY)
    await door.learnt(BODY, headers)
    with pytest.raises(Rejected, match="not by PayPal"):
        door.read(BODY.replace(b"5O1", b"5O2"), headers)
    # Why nothing follows from a body: a member that nobody reads makes any CRC that is wanted.
    forged = with_crc(BODY.replace(b'"5O1"', b'"5O2", "x": "%s"' % FILLER), zlib.crc32(BODY))
    hint = door.read(forged, headers)
    assert hint.reference == "5O2"


def with_crc(body: bytes, wanted: int) -> bytes:
    """`body` with each of its 64 zeros a 0 or a 1, so that its CRC32 is `wanted`."""
    at = body.index(FILLER)
    # CRC32 is affine over GF(2): each flipped digit adds a fixed pattern, and 64 of them span all 32 bits.
    plain, rows = zlib.crc32(body), list[tuple[int, int]]()
    for place in range(len(FILLER)):
        pattern = zlib.crc32(body[: at + place] + b"1" + body[at + place + 1 :]) ^ plain
        chosen = 1 << place
        for row, through in rows:
            if pattern ^ row < pattern:
                pattern, chosen = pattern ^ row, chosen ^ through
        if pattern:
            rows.append((pattern, chosen))
            rows.sort(reverse=True)
    left, chosen = plain ^ wanted, 0
    for row, through in rows:
        if left ^ row < left:
            left, chosen = left ^ row, chosen ^ through
    assert left == 0
    digits = bytes(ord("1") if chosen >> place & 1 else ord("0") for place in range(len(FILLER)))
    return body.replace(FILLER, digits)


async def test_a_late_webhook_and_one_for_another_listener_are_refused(door: Door) -> None:
    headers = door.signed(BODY)
    await door.learnt(BODY, headers)
    with pytest.raises(Rejected) as forged:
        door.read(BODY, headers_for(door.here.store, "ANOTHER", "T-1", BODY, door.here.base))
    assert forged.value.code == "webhook_forged"
    door.clock.pass_time(TOLERANCE_MS + 1_000)
    with pytest.raises(Rejected) as late:
        door.read(BODY, headers)
    assert late.value.code == "webhook_late"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/v1/notifications/certs/CERT-1",
        "{base}.evil.example/v1/notifications/certs/CERT-1",
        "{base}@evil.example/v1/notifications/certs/CERT-1",
        "{base}/v1/notifications/certs/../../other",
        "{base}/checkoutnow",
        "",
    ],
)
async def test_a_certificate_from_elsewhere_is_never_fetched(door: Door, address: str) -> None:
    headers = door.signed(BODY) | {"PAYPAL-CERT-URL": address.replace("{base}", door.here.base)}
    with pytest.raises(Rejected) as forged:
        door.read(BODY, headers)
    assert forged.value.code == "webhook_forged"


@pytest.mark.parametrize("fault", ["root", "name"])
async def test_a_certificate_that_is_not_paypals_is_not_trusted(door: Door, fault: str) -> None:
    now = datetime.datetime.fromtimestamp(door.clock.now_ms() / 1000, datetime.UTC)
    mine = make_chain(now, CERTIFICATE_NAME if fault == "root" else "evil.example")
    if fault == "name":  # under the trusted root, but made out to somebody else
        door.certificates = PayPalCertificates(
            base=door.here.base,
            name=CERTIFICATE_NAME,
            roots=x509.load_pem_x509_certificates(mine["root"].encode()),
            clock=door.clock,
            log=Log(sink=lambda _line: None, clock=door.clock),
        )
        door.reader = PayPalWebhooks(webhook_id=WEBHOOK_ID, certificates=door.certificates, clock=door.clock)
    door.here.store.keep_note("chain", mine)
    with pytest.raises(Unavailable):
        await door.learnt(BODY, door.signed(BODY))
    with pytest.raises(Unavailable):
        door.read(BODY, door.signed(BODY))


@pytest.mark.parametrize(("filler", "is_trusted"), [(0, True), (CERTIFICATE_BYTES_MAX, False)])
async def test_a_certificate_that_comes_in_pieces_is_read_whole_and_a_huge_one_never(
    door: Door, filler: int, is_trusted: bool
) -> None:
    await door.learnt(BODY, door.signed(BODY))
    async with door.http.get(door.here.base + CERTIFICATE_PATH) as answer:
        pem = await answer.read() + b"\n" * filler

    async def in_pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(pem), 500):
            await response.write(pem[start : start + 500])
            await asyncio.sleep(0)
        return response

    application = web.Application()
    application.router.add_get(CERTIFICATE_PATH, in_pieces)
    async with TestServer(application) as server:
        base = str(server.make_url("")).rstrip("/")
        door.certificates = PayPalCertificates(
            base=base,
            name=CERTIFICATE_NAME,
            roots=x509.load_pem_x509_certificates(root_pem(door.here.store).encode()),
            clock=door.clock,
            log=Log(sink=lambda _line: None, clock=door.clock),
        )
        with pytest.raises(Unavailable):
            door.certificates.key(base + CERTIFICATE_PATH)
        await door.certificates.fetch_next(door.http)
        if is_trusted:
            assert door.certificates.key(base + CERTIFICATE_PATH).key_size >= 2048
        else:
            with pytest.raises(Unavailable):
                door.certificates.key(base + CERTIFICATE_PATH)


async def test_an_expired_certificate_is_fetched_anew(door: Door) -> None:
    await door.learnt(BODY, door.signed(BODY))
    door.clock.pass_time(3651 * DAY_MS)
    with pytest.raises(Unavailable):
        door.read(BODY, door.signed(BODY))


async def test_what_is_genuine_and_no_event_is_malformed(door: Door) -> None:
    await door.learnt(BODY, door.signed(BODY))
    with pytest.raises(Rejected) as malformed:
        door.read(b"[]", door.signed(b"[]"))
    assert malformed.value.code == "webhook_malformed"
    assert CERTIFICATE_PATH.startswith("/v1/notifications/certs/")


@pytest.mark.parametrize("name", ["transmission-id", "transmission-time", "transmission-sig", "cert-url"])
async def test_a_header_that_is_no_text_is_forged(door: Door, name: str) -> None:
    headers = {each.lower(): value for each, value in door.signed(BODY).items()}
    await door.learnt(BODY, headers)
    with pytest.raises(Rejected) as refused:
        door.read(BODY, {**headers, f"paypal-{name}": "\udcff"})
    assert refused.value.code == "webhook_forged"
