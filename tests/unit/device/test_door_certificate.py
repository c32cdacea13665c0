"""The door's certificate over years, with real TLS between: no date, no name and no lost token keeps a till out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from appliance.crypto import cose
from appliance.device.door_certificate import RENEW_MS, DoorCertificate
from appliance.model.errors import Unavailable
from appliance.model.limits import DAY_MS, HOUR_MS
from provisioning.terminal.link import tls_context
from tests.fakes.clock import FakeClock
from tests.fakes.signer import FakeSigner
from tests.unit.runtime.lines import Lines

YEAR_MS = 365 * DAY_MS


class Door:
    """A door on loopback whose authority's key is `signer`'s; each one is a start of the process."""

    def __init__(self, folder: Path, signer: FakeSigner, clock: FakeClock) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.file = folder / "tls" / "authority.pem"
        self.made = DoorCertificate(
            context=self.context,
            signer=signer,
            authority_file=self.file,
            shop="Corner Shop",
            addresses=tuple,
            clock=clock,
            log=Lines().log,
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"open")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=self.context)
        async with server:
            yield server.sockets[0].getsockname()[1]


async def shown_to(till: ssl.SSLContext, port: int) -> bytes:
    """The certificate that the till believed, DER. Raises ssl.SSLCertVerificationError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=till, server_hostname="192.0.2.7")
    try:
        assert await reader.read() == b"open"
        seen: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return seen.getpeercert(binary_form=True) or b""
    finally:
        writer.close()
        await writer.wait_closed()


def till_of(authority: Path, folder: Path) -> ssl.SSLContext:
    """A till that got this authority at pairing, and keeps it."""
    kept = folder / "kept.pem"
    kept.write_bytes(authority.read_bytes())
    return tls_context(str(kept))


@pytest.fixture
def signer() -> FakeSigner:
    return FakeSigner(cose.ESP384)


async def test_a_box_that_was_off_for_years_opens_its_door_to_its_old_tills(tmp_path: Path, signer: FakeSigner) -> None:
    clock = FakeClock()
    door = Door(tmp_path, signer, clock)
    await door.made.renew()
    till = await asyncio.to_thread(till_of, door.file, tmp_path)
    for off_ms in (21 * DAY_MS, 12 * YEAR_MS):
        clock.pass_time(off_ms)
        door = Door(tmp_path, signer, clock)
        await door.made.renew()
        async with door.listening() as port:
            certificate = x509.load_der_x509_certificate(await shown_to(till, port))
            assert certificate.not_valid_after_utc.timestamp() * 1_000 > clock.now_ms()
    assert x509.load_pem_x509_certificate(door.made.authority.encode()).not_valid_after_utc.year > 2036


async def test_certificates_that_expire_while_the_token_is_away_still_sell(tmp_path: Path, signer: FakeSigner) -> None:
    clock = FakeClock(now_ms=FakeClock().now_ms() - 20 * YEAR_MS)  # authority and certificate ended ten years ago
    door = Door(tmp_path, signer, clock)
    await door.made.renew()
    first = door.made.sha256
    till = await asyncio.to_thread(till_of, door.file, tmp_path)
    signer.fault = "fail_before"
    service = asyncio.create_task(door.made.run())
    await clock.settle()
    await clock.advance(RENEW_MS + HOUR_MS)
    async with door.listening() as port:
        assert await shown_to(till, port)
        assert door.made.sha256 == first
        signer.fault = "none"
        while door.made.sha256 == first:
            await clock.advance(HOUR_MS)
        assert await shown_to(till, port)  # the same listener shows the new one
    service.cancel()
    await asyncio.wait([service])


async def test_another_authority_is_refused(tmp_path: Path, signer: FakeSigner) -> None:
    clock = FakeClock()
    door, other = Door(tmp_path, signer, clock), Door(tmp_path / "other", FakeSigner(cose.ESP384), clock)
    await door.made.renew()
    await other.made.renew()
    till = await asyncio.to_thread(till_of, door.file, tmp_path)
    async with other.listening() as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await shown_to(till, port)


async def test_authority_of_a_lost_token_makes_room_for_the_new_ones(tmp_path: Path, signer: FakeSigner) -> None:
    clock = FakeClock()
    await Door(tmp_path, FakeSigner(cose.ESP384), clock).made.renew()
    door = Door(tmp_path, signer, clock)
    await door.made.renew()
    till = await asyncio.to_thread(till_of, door.file, tmp_path)
    async with door.listening() as port:
        assert await shown_to(till, port)


async def test_door_stays_shut_while_the_token_never_signed(tmp_path: Path, signer: FakeSigner) -> None:
    signer.fault = "fail_before"
    with pytest.raises(Unavailable):
        await Door(tmp_path, signer, FakeClock()).made.renew()
    assert not (tmp_path / "tls").exists()
