"""The box with a real SoftHSM that goes away, comes back, hangs, lies and refuses its PIN."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from appliance.adapters.breaker import BackOff
from appliance.adapters.hsm_link import HsmAddress, HsmLink, HsmSession
from appliance.adapters.hsm_signer import EnvelopedSigner, HsmCipher, HsmSigner, PinnedHsmKey, PinnedKek
from appliance.crypto import cose, envelope, signature, signing_key
from appliance.model.errors import Corrupt, OutcomeUnknown, Unavailable
from drivers.hsm.cipher import RUNG_ECDH, RUNG_GCM
from drivers.hsm.keys import Algorithm, generate_aes_key, generate_derive_key, generate_signing_key
from drivers.hsm.signing import SigningKey
from drivers.hsm.token import Pin
from tests.fakes.clock import FakeClock
from tests.softhsm import LABEL, LIBRARY_PATH, SoftHsm, soft_hsm

DEADLINE_MS = 30_000  # of a shared machine, not of the product
BACK_OFF = BackOff(first_ms=100, cap_ms=10_000)
ADDRESS = HsmAddress(library_path=LIBRARY_PATH, token_label=LABEL, token_serial=None)
MESSAGE = b"a tree head"


class Shop:
    """A token with the keys of a box, and the link to it."""

    def __init__(self, hsm: SoftHsm, pin: Pin) -> None:
        session = hsm.open_session()
        public_key = generate_signing_key(session, Algorithm.ED25519, key_id=b"log", label="log")
        kek_public_key = generate_derive_key(session, key_id=b"ecdh", label="kek")
        self.kek_sha256 = signature.key_id(kek_public_key)
        generate_aes_key(session, key_id=b"aes", label="kek")
        hsm.library().reinitialise()
        self.hsm = hsm
        self.clock = FakeClock()
        self.link = HsmLink(
            address=ADDRESS, pin=pin, clock=self.clock, random=random.Random(7).random, back_off=BACK_OFF
        )
        self.key = PinnedHsmKey(token_key_id=b"log", algorithm=cose.ED25519, public_key=public_key)
        self.signer = HsmSigner(link=self.link, key=self.key, deadline_ms=DEADLINE_MS)

    def cipher(self, rung: int) -> HsmCipher:
        ecdh = PinnedKek(token_key_id=b"ecdh", rung=RUNG_ECDH, public_sha256=self.kek_sha256)
        aes = PinnedKek(token_key_id=b"aes", rung=RUNG_GCM, public_sha256=None)
        return HsmCipher(link=self.link, kek=aes if rung == RUNG_GCM else ecdh, deadline_ms=DEADLINE_MS)

    async def signs(self) -> bool:
        return signature.verify(cose.ED25519, self.key.public_key, MESSAGE, await self.signer.sign(MESSAGE))


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsm]:
    with soft_hsm(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
async def shop(hsm: SoftHsm) -> AsyncIterator[Shop]:
    made = Shop(hsm, hsm.pin)
    yield made
    await made.link.close()


async def test_token_that_goes_away_degrades_and_heals_without_a_restart(shop: Shop) -> None:
    assert await shop.signs()
    shop.hsm.unplug()
    with pytest.raises(Unavailable, match="hsm_away"):
        await shop.signer.sign(MESSAGE)
    assert shop.link.state.kind == "degraded"
    shop.hsm.plug_in()
    shop.clock.pass_time(BACK_OFF.first_ms)
    assert await shop.signs()
    assert shop.signer.state.kind == "ok"


async def test_token_that_stays_away_is_asked_ever_less_often(shop: Shop) -> None:
    shop.hsm.unplug()
    for failure_count in range(1, 6):
        with pytest.raises(Unavailable, match="hsm_away"):
            await shop.signer.sign(MESSAGE)
        shop.clock.pass_time(BACK_OFF.after(failure_count, 0.0) - 1)
        with pytest.raises(Unavailable, match="device_away"):
            await shop.signer.sign(MESSAGE)
        shop.clock.pass_time(BACK_OFF.after(failure_count, 1.0))
    shop.hsm.plug_in()
    assert await shop.signs()


async def test_probe_heals_too_and_never_raises(shop: Shop) -> None:
    shop.hsm.unplug()
    assert (await shop.link.probe()).kind == "degraded"
    shop.hsm.plug_in()
    shop.clock.pass_time(BACK_OFF.first_ms)
    assert (await shop.link.probe()).kind == "ok"


async def test_wrong_pin_is_presented_once_and_the_link_waits_for_a_person(hsm: SoftHsm) -> None:
    shop = Shop(hsm, Pin("0000000000000000"))
    with pytest.raises(Unavailable, match="hsm_pin_refused"):
        await shop.signer.sign(MESSAGE)
    shop.clock.pass_time(10 * BACK_OFF.cap_ms)
    with pytest.raises(Unavailable, match="device_away"):
        await shop.signer.sign(MESSAGE)
    assert shop.link.state.kind == "away"
    assert "PinIncorrect" in shop.link.state.reason
    await shop.link.close()


async def test_call_that_hangs_is_unknown_in_time_and_the_next_one_works(shop: Shop) -> None:
    comes_back = threading.Event()

    def hang(_opened: HsmSession) -> None:
        comes_back.wait()

    async with asyncio.timeout(5):
        with pytest.raises(OutcomeUnknown):
            await shop.link.call(hang, 200)
    assert await shop.signs()
    assert shop.link.state.kind == "degraded"
    assert "hang" in shop.link.state.reason
    comes_back.set()


async def test_lying_token_is_caught_and_connected_again(shop: Shop) -> None:
    assert await shop.signs()

    def swap_handles(opened: HsmSession) -> None:
        key = opened.once(shop.key, lambda session: SigningKey.open(session, shop.key.ref, Algorithm.ED25519))
        key._found = replace(key._found, handle=Liar())

    await shop.link.call(swap_handles, DEADLINE_MS)
    with pytest.raises(Unavailable, match="does not verify"):
        await shop.signer.sign(MESSAGE)
    shop.clock.pass_time(BACK_OFF.first_ms)
    assert await shop.signs()


async def test_another_key_than_the_pinned_one_stops_the_link(shop: Shop) -> None:
    pinned = replace(shop.key, public_key=signing_key.generate(cose.ED25519).public_key)
    with pytest.raises(Corrupt, match="hsm_key_refused"):
        await HsmSigner(link=shop.link, key=pinned, deadline_ms=DEADLINE_MS).sign(MESSAGE)
    assert shop.link.state.kind == "away"


async def test_signers_and_ciphers_share_one_login(shop: Shop) -> None:
    gcm, ecdh = shop.cipher(RUNG_GCM), shop.cipher(RUNG_ECDH)
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(shop.signs())
            group.create_task(gcm.wrap(b"seed", b"aad"))
            group.create_task(ecdh.wrap(b"seed", b"aad"))
    assert shop.link.state.kind == "ok"


@pytest.mark.parametrize("rung", [RUNG_GCM, RUNG_ECDH])
async def test_changed_blob_is_our_records_fault_and_never_the_tokens(shop: Shop, rung: int) -> None:
    cipher = shop.cipher(rung)
    blob = await cipher.wrap(b"seed", b"aad")
    for _ in range(5):
        with pytest.raises(Corrupt, match="hsm_blob_refused"):
            await cipher.unwrap(blob[:-1] + bytes([blob[-1] ^ 1]), b"aad")
    assert shop.link.state.kind == "ok"
    assert await cipher.unwrap(blob, b"aad") == b"seed"


@pytest.mark.parametrize("rung", [RUNG_GCM, RUNG_ECDH])
async def test_seed_in_an_envelope_signs_again_after_a_reconnect(shop: Shop, rung: int) -> None:
    seed = os.urandom(32)
    header = envelope.header_for("log_post_quantum", cose.ML_DSA_87, seed)
    sealed = await envelope.seal(shop.cipher(rung), seed, header)
    shop.hsm.library().reinitialise()
    with pytest.raises(Unavailable):
        await shop.signs()
    shop.clock.pass_time(BACK_OFF.first_ms)
    key = await envelope.open_envelope(shop.cipher(rung), sealed, purpose="log_post_quantum")
    signer = EnvelopedSigner(key=key, deadline_ms=DEADLINE_MS)
    assert sha256(signer.public_key).digest() == header.key_id
    assert signature.verify(cose.ML_DSA_87, signer.public_key, MESSAGE, await signer.sign(MESSAGE))
    await signer.close()


async def test_enveloped_signer_drops_a_signature_that_does_not_verify() -> None:
    good, other = signing_key.generate(cose.ED25519), signing_key.generate(cose.ED25519)
    signer = EnvelopedSigner(key=replace(good, _sign=other.sign), deadline_ms=DEADLINE_MS)
    with pytest.raises(Unavailable, match="signature_untrue"):
        await signer.sign(MESSAGE)
    await signer.close()


class Liar:
    """A key handle that answers with bytes of the right shape."""

    def sign(self, message: bytes, *, mechanism: int) -> bytes:
        return bytes(64)
