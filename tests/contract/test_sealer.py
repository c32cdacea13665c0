"""One promise list for the fake and for a real TPM behind its owner thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.adapters.tpm_sealer import TpmSealer
from appliance.model.errors import Corrupt, Unavailable
from appliance.ports.platform import Counters
from appliance.ports.sealer import Sealer
from drivers.tpm.quote_check import QuoteExpectation, QuoteRefused, verify_quote
from tests.fakes.sealer import FakeSealer
from tests.swtpm import PIN, PluggedTpm, ProvisionedTpm, make_template, plugged_tpm


class SealerAndCounters(Sealer, Counters, Protocol):
    """Both ports, as one device serves them."""


class Rig(Protocol):
    """A sealer and the hands to hurt it."""

    ak_public: bytes
    ak_name: bytes

    @property
    def sealer(self) -> SealerAndCounters: ...
    async def unplug(self) -> None: ...
    async def plug_in(self) -> None: ...
    async def present_a_policy_nobody_signed(self) -> None: ...


class FakeRig:
    def __init__(self) -> None:
        self.sealer = FakeSealer(pin=PIN)
        self.ak_public = self.sealer.attestation_key.public
        self.ak_name = self.sealer.attestation_key.name

    async def unplug(self) -> None:
        self.sealer.is_away = True

    async def plug_in(self) -> None:
        self.sealer.is_away = False
        self.sealer.starts += 1

    async def present_a_policy_nobody_signed(self) -> None:
        self.sealer.is_refused = True

    async def close(self) -> None:
        return None


class TpmRig:
    def __init__(self, plugged: PluggedTpm) -> None:
        self._plugged = plugged
        self._box = ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))
        self.sealer = TpmSealer(tcti=plugged.tcti, bundle=self._box.bundle, deadline_ms=10_000)
        self.ak_public = self._box.bundle.ak_public
        self.ak_name = self._box.bundle.ak_name

    async def unplug(self) -> None:
        await asyncio.to_thread(self._plugged.cut_power)

    async def plug_in(self) -> None:
        await asyncio.to_thread(self._plugged.restore_power)

    async def present_a_policy_nobody_signed(self) -> None:
        await self.sealer.close()
        policy = msgspec.structs.replace(self._box.bundle.policies[0], approved=bytes(32))
        bundle = msgspec.structs.replace(self._box.bundle, policies=(policy,))
        self.sealer = TpmSealer(tcti=self._plugged.tcti, bundle=bundle, deadline_ms=10_000)

    async def close(self) -> None:
        await self.sealer.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template")


@pytest.fixture(params=["fake", "tpm"])
def open_rig(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> Iterator[FakeRig | TpmRig]:
    # Apart from `rig`, because starting processes blocks and the event loop must not.
    if request.param == "fake":
        yield FakeRig()
        return
    with plugged_tpm(make_template(template), tmp_path / "tpm") as plugged:
        yield TpmRig(plugged)


@pytest.fixture
async def rig(open_rig: FakeRig | TpmRig) -> AsyncIterator[Rig]:
    yield open_rig
    await open_rig.close()


async def test_unseals_what_was_sealed_every_time(rig: Rig) -> None:
    assert [await rig.sealer.unseal() for _ in range(3)] == [PIN, PIN, PIN]


async def test_policy_refusal_is_corrupt_and_reads_on(rig: Rig) -> None:
    await rig.present_a_policy_nobody_signed()
    with pytest.raises(Corrupt) as refusal:
        await rig.sealer.unseal()
    assert refusal.value.code == "tpm_policy_refused"
    assert PIN.decode() not in str(refusal.value)
    assert await rig.sealer.epoch() >= 1


async def test_epoch_advances_by_one_and_stays(rig: Rig) -> None:
    before = await rig.sealer.epoch()
    assert await rig.sealer.advance_epoch() == before + 1
    assert await rig.sealer.epoch() == before + 1


async def test_away_is_unavailable_for_every_verb_and_heals(rig: Rig) -> None:
    before = await rig.sealer.epoch()
    await rig.unplug()
    for verb in (rig.sealer.unseal, rig.sealer.epoch, rig.sealer.advance_epoch, rig.sealer.clock):
        with pytest.raises(Unavailable) as trouble:
            await verb()
        assert trouble.value.code == "tpm_away"
    with pytest.raises(Unavailable):
        await rig.sealer.quote(b"n" * 32)
    await rig.plug_in()
    assert await rig.sealer.epoch() == before
    assert await rig.sealer.unseal() == PIN


async def test_clock_goes_forward_and_counts_no_restart_by_itself(rig: Rig) -> None:
    first = await rig.sealer.clock()
    await asyncio.sleep(0.01)
    second = await rig.sealer.clock()
    assert second.powered_ms > first.powered_ms
    assert second.resets == first.resets


@pytest.mark.parametrize("size", [8, 32, 64])
async def test_quote_for_a_nonce_verifies_and_answers_no_other(rig: Rig, size: int) -> None:
    nonce = b"\x00" * (size - 1) + b"n"
    made = await rig.sealer.quote(nonce)
    expected = QuoteExpectation(ak_name=rig.ak_name, nonce=nonce, pcr_values=made.pcr_values, previous=None)
    verify_quote(made.attest, made.signature, rig.ak_public, expected)
    with pytest.raises(QuoteRefused, match="nonce"):
        verify_quote(made.attest, made.signature, rig.ak_public, replace(expected, nonce=b"other nonce"))


@pytest.mark.parametrize("size", [0, 7, 65])
async def test_quote_refuses_a_nonce_of_wrong_size(rig: Rig, size: int) -> None:
    with pytest.raises(ValueError, match="nonce"):
        await rig.sealer.quote(bytes(size))


async def test_floor_rises_to_a_number_and_never_falls(rig: Rig) -> None:
    before = await rig.sealer.floor()
    assert await rig.sealer.raise_floor(before + 3) == before + 3
    assert await rig.sealer.raise_floor(before + 1) == before + 3
    assert await rig.sealer.floor() == before + 3


async def test_each_start_from_cold_is_counted(rig: Rig) -> None:
    before = await rig.sealer.resets()
    assert await rig.sealer.resets() == before
    await rig.unplug()
    await rig.plug_in()
    assert await rig.sealer.resets() == before + 1
