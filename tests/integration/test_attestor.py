"""A machine that measured what it started: real TPM, real ledger, logs as firmware and systemd write them."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from appliance.adapters.tpm_sealer import TpmSealer
from appliance.device.attest import AttestationKey, Attestor, EventLogs
from appliance.evidence.release import ReleaseStatement
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected, Unavailable
from appliance.wire.attestation import Attestation
from drivers.tpm.context import TpmContext
from provisioning.attest.check import Demand, Steps, judge, read_release
from provisioning.attest.report import judged
from provisioning.owner.release import release_of
from provisioning.owner.statements import describe, sign
from tests.fakes.attested import (
    CODE,
    FIRMWARE_LOG,
    IMAGE,
    KERNEL,
    LOADER,
    NONCE,
    PHASES,
    POLICY,
    TLS,
    certificate,
    trust,
)
from tests.fakes.clock import FakeClock
from tests.fakes.measured import event, extended, userspace_log
from tests.swtpm import PluggedTpm, ProvisionedTpm, make_template, plugged_tpm
from tests.unit.ledger.shop import open_ledger, owner, running

MEASURED = ((0, CODE), (7, POLICY), (4, LOADER), (11, KERNEL), *((11, phase) for phase in PHASES))
MANIFEST: dict[str, Any] = {
    "format": "tillstone-image/1",
    "name": "tillstone",
    "version": "0.1.0",
    "profile": "release",
    "root_hash": "ab" * 32,
    "pcrs": {"sha256": {"11": {"enter-initrd": "00" * 32, "enter-initrd:ready": extended(KERNEL, *PHASES).hex()}}},
}


def measure(plugged: PluggedTpm, *measured: tuple[int, bytes]) -> None:
    """What firmware, boot loader and systemd do with a TPM."""
    with closing(TpmContext(plugged.tcti)) as tpm, tpm.commands() as esapi:
        for pcr, content in measured:
            digest = TPMU_HA(sha256=hashlib.sha256(content).digest())
            esapi.pcr_extend(
                getattr(ESYS_TR, f"PCR{pcr}"),
                TPML_DIGEST_VALUES(digests=[TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=digest)]),
            )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def machine(template: Path, tmp_path: Path) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        measure(plugged, *MEASURED)
        made = ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))
        made.bundle = msgspec.structs.replace(made.bundle, quote_pcrs=(0, 4, 7, 11))
        yield made


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with running(await open_ledger(tmp_path / "ledger", projections=())) as opened:
        yield opened


@pytest.fixture
async def sealer(machine: ProvisionedTpm) -> AsyncIterator[TpmSealer]:
    made = TpmSealer(tcti=machine.tcti, bundle=machine.bundle, deadline_ms=10_000)
    yield made
    await made.close()


@pytest.fixture
def logs(tmp_path: Path) -> EventLogs:
    firmware, userspace = tmp_path / "binary_bios_measurements", tmp_path / "tpm2-measure.log"
    firmware.write_bytes(FIRMWARE_LOG)
    userspace.write_bytes(userspace_log(*((11, phase) for phase in PHASES)))
    return EventLogs(firmware=firmware, userspace=userspace)


@pytest.fixture
def attestor(machine: ProvisionedTpm, sealer: TpmSealer, ledger: Ledger, logs: EventLogs) -> Attestor:
    bundle = machine.bundle
    word = certificate(bundle.ak_public, endorsement=bundle.ek_certificate)
    key = AttestationKey(public=bundle.ak_public, endorsement_certificate=bundle.ek_certificate, certificate=word)
    return Attestor(
        sealer=sealer,
        key=key,
        logs=logs,
        ledger=ledger,
        clock=FakeClock(),
        tls_sha256=lambda: TLS,
        version="0.1.0",
        image=IMAGE,
    )


async def release(folder: Path, measured: Attestation, **manifest: Any) -> ReleaseStatement:
    """What the owner would sign of the image, as one machine showed it; PCR 4 by its events."""

    def made() -> ReleaseStatement:
        (folder / "manifest.json").write_text(json.dumps({**MANIFEST, **manifest}))
        (folder / "measured.json").write_bytes(msgspec.json.encode(measured))
        return release_of(
            argparse.Namespace(
                manifest=folder / "manifest.json", model="test machine", measured=[folder / "measured.json"], events=[4]
            )
        )

    return await asyncio.to_thread(made)


async def test_machine_is_believed_against_the_release_that_a_reference_machine_showed(
    attestor: Attestor, tmp_path: Path
) -> None:
    released = await release(tmp_path, await attestor.attest(bytes(32)))
    assert (released.image, released.root_hash.hex()) == (IMAGE, "ab" * 32)
    assert released.values[11] == (extended(KERNEL, *PHASES),)
    assert released.events == {4: (hashlib.sha256(LOADER).digest(),)}
    assert any("root abab" in line for line in describe(released))
    signed = read_release(sign(owner(), released).file, trust())
    said = await attestor.attest(NONCE)
    wanted = Demand(trust=trust(), nonce=NONCE, tls_sha256=TLS, releases=(signed,))
    attested, report = judged(said, wanted)
    assert attested is not None, report.code
    assert report.absent == {}
    assert "runs tillstone 0.1.0 release on test machine" in report.sentences[0]


async def test_what_is_started_besides_is_seen(attestor: Attestor, machine: ProvisionedTpm, tmp_path: Path) -> None:
    released = await release(tmp_path, await attestor.attest(bytes(32)))
    wanted = Demand(trust=trust(), nonce=NONCE, releases=(released,))
    more = (4, b"a boot loader of somebody else")
    await asyncio.to_thread(machine.plugged.power_cycle)
    await asyncio.to_thread(measure, machine.plugged, *MEASURED, more)
    with pytest.raises(Rejected) as refused:
        judge(await attestor.attest(NONCE), wanted, Steps())
    assert refused.value.code == "event_log_differs"
    await asyncio.to_thread((tmp_path / "binary_bios_measurements").write_bytes, FIRMWARE_LOG + event(*more))
    with pytest.raises(Rejected) as refused:
        judge(await attestor.attest(NONCE), wanted, Steps())
    assert refused.value.code == "event_unknown"


async def test_log_that_cannot_be_read_is_said_to_be_absent(attestor: Attestor, tmp_path: Path) -> None:
    (tmp_path / "tpm2-measure.log").unlink()
    (tmp_path / "binary_bios_measurements").write_bytes(bytes(512 * 1024 + 1))
    said = await attestor.attest(NONCE)
    assert (said.event_log, said.userspace_log) == (None, None)
    assert "more than" in said.event_log_absent
    (tmp_path / "binary_bios_measurements").unlink()
    assert "No such file" in (await attestor.attest(NONCE)).event_log_absent


async def test_tpm_that_is_away_or_foreign_is_no_answer_and_no_stop(
    attestor: Attestor, machine: ProvisionedTpm
) -> None:
    await asyncio.to_thread(machine.plugged.cut_power)
    with pytest.raises(Unavailable) as trouble:
        await attestor.attest(NONCE)
    assert trouble.value.code == "tpm_away"


async def test_box_without_tpm_says_so_and_has_nothing_to_add_to_a_day(ledger: Ledger) -> None:
    bare = Attestor(
        sealer=None, key=None, logs=EventLogs(firmware=None, userspace=None), ledger=ledger, clock=FakeClock(),
        tls_sha256=lambda: TLS, version="0.1.0", image="",
    )  # fmt: skip
    with pytest.raises(Rejected) as refused:
        await bare.attest(NONCE)
    assert refused.value.code == "attestation_not_set_up"
    assert await bare.entry_of_day("2026-11-27") == ()


@pytest.mark.parametrize(
    ("manifest", "measured", "code"),
    [
        ({"version": "0.2.0"}, {}, "measured_refused"),
        ({"pcrs": {"sha256": {"11": {"ready": "11" * 32}}}}, {}, "measured_refused"),
        ({"pcrs": {"sha256": {}}}, {}, "image_manifest_malformed"),
        ({"root_hash": "short"}, {}, "image_manifest_malformed"),
        ({}, {"image": "tillstone 0.0.9 release"}, "measured_refused"),
        ({}, {"signature": b""}, "measured_refused"),
        ({}, {"nonce": bytes(32)}, "measured_refused"),
        ({}, {"event_log": FIRMWARE_LOG[:-1]}, "measured_refused"),
        ({}, {"event_log": None}, "measured_refused"),
    ],
)
async def test_release_is_of_what_the_reference_machines_ran_or_of_nothing(
    attestor: Attestor, tmp_path: Path, manifest: dict[str, Any], measured: dict[str, Any], code: str
) -> None:
    said = msgspec.structs.replace(await attestor.attest(NONCE), **measured)
    with pytest.raises(Rejected) as refused:
        await release(tmp_path, said, **manifest)
    assert refused.value.code == code
