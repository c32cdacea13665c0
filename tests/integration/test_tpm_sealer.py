"""The sealer's faults on a real swtpm: deadlines, healing, lost answers, and one thread for one context."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from appliance.adapters.tpm_sealer import TpmSealer
from appliance.model.errors import Corrupt, OutcomeUnknown, Unavailable
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import increment_counter, read_counter
from drivers.tpm.errors import TpmUnsure
from drivers.tpm.quote_check import QuoteExpectation, verify_quote
from tests.swtpm import PIN, PluggedTpm, ProvisionedTpm, make_template, plugged_tpm

SHORT_MS = 300


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def box(template: Path, tmp_path: Path) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        yield ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def other_machine(tmp_path: Path) -> Iterator[PluggedTpm]:
    with plugged_tpm(make_template(tmp_path / "other"), tmp_path / "stranger") as plugged:
        yield plugged


@pytest.fixture
async def sealer(box: ProvisionedTpm) -> AsyncIterator[TpmSealer]:
    made = TpmSealer(tcti=box.tcti, bundle=box.bundle, deadline_ms=10_000)
    yield made
    await made.close()


@pytest.fixture
async def hasty(box: ProvisionedTpm) -> AsyncIterator[TpmSealer]:
    made = TpmSealer(tcti=box.tcti, bundle=box.bundle, deadline_ms=SHORT_MS)
    yield made
    await made.close()


async def test_killed_tpm_is_unavailable_and_restarted_one_heals_at_the_first_call(
    box: ProvisionedTpm, sealer: TpmSealer
) -> None:
    epoch = await sealer.epoch()
    await asyncio.to_thread(box.plugged.cut_power)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await sealer.unseal()
    assert sealer.state.kind == "away"
    await asyncio.to_thread(box.plugged.restore_power)
    assert await sealer.unseal() == PIN
    assert await sealer.advance_epoch() == epoch + 1
    assert (sealer.state.kind, sealer.state.reason) == ("ok", "")


async def test_restart_between_two_calls_is_not_even_noticed(box: ProvisionedTpm, sealer: TpmSealer) -> None:
    assert await sealer.unseal() == PIN
    await asyncio.to_thread(box.plugged.power_cycle)
    assert await sealer.unseal() == PIN


async def test_hanging_tpm_is_unavailable_for_reads_within_the_deadline(box: ProvisionedTpm, hasty: TpmSealer) -> None:
    assert await hasty.unseal() == PIN
    os.kill(box.plugged.pid, signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(Unavailable) as trouble:
        await hasty.unseal()
    assert trouble.value.code == "tpm_late"
    assert loop.time() - before < 10 * SHORT_MS / 1000  # a generous bound against a hang of minutes
    assert hasty.state.kind == "away"
    os.kill(box.plugged.pid, signal.SIGCONT)


async def test_increment_that_hangs_has_an_unknown_outcome_and_is_read_afterwards(
    box: ProvisionedTpm, hasty: TpmSealer, sealer: TpmSealer
) -> None:
    before = await hasty.epoch()
    os.kill(box.plugged.pid, signal.SIGSTOP)
    with pytest.raises(OutcomeUnknown):
        await hasty.advance_epoch()
    os.kill(box.plugged.pid, signal.SIGCONT)
    assert await sealer.epoch() in (before, before + 1)


async def test_power_cut_in_the_middle_of_an_increment_is_unsure_and_not_repeated(
    box: ProvisionedTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_at_the_increment() -> int:
        with closing(TpmContext(box.tcti)) as tpm:
            before = read_counter(tpm, box.bundle.epoch_index)
            with tpm.commands() as esapi:
                real = esapi.nv_increment

                def increment_and_lose_the_answer(*arguments: object, **named: object) -> None:
                    real(*arguments, **named)
                    box.plugged.cut_power()
                    esapi.get_random(8)  # meets the dead connection, as reading the answer would

                monkeypatch.setattr(esapi, "nv_increment", increment_and_lose_the_answer)
            with pytest.raises(TpmUnsure):
                increment_counter(tpm, box.bundle.epoch_index)
            return before

    before = await asyncio.to_thread(cut_at_the_increment)
    await asyncio.to_thread(box.plugged.restore_power)
    sealer = TpmSealer(tcti=box.tcti, bundle=box.bundle, deadline_ms=10_000)
    assert await sealer.epoch() == before + 1
    await sealer.close()


async def test_concurrent_callers_share_one_thread_and_never_a_context(
    sealer: TpmSealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_by: list[int] = []
    real = TpmContext.__init__

    def recorded(self: TpmContext, tcti: str) -> None:
        opened_by.append(threading.get_ident())
        real(self, tcti)

    monkeypatch.setattr(TpmContext, "__init__", recorded)
    async with asyncio.TaskGroup() as group:
        unsealing = [group.create_task(sealer.unseal()) for _ in range(6)]
        quoting = [group.create_task(sealer.quote(b"nonce %03d" % number)) for number in range(6)]
    assert [task.result() for task in unsealing] == [PIN] * 6
    assert len({task.result().attest for task in quoting}) == 6
    assert len(opened_by) == 1
    assert opened_by[0] != threading.get_ident()


async def test_another_machine_is_corrupt_and_degraded(box: ProvisionedTpm, other_machine: PluggedTpm) -> None:
    sealer = TpmSealer(tcti=other_machine.tcti, bundle=box.bundle, deadline_ms=10_000)
    with pytest.raises(Corrupt) as refusal:
        await sealer.unseal()
    assert refusal.value.code == "tpm_foreign"
    assert sealer.state.kind == "degraded"
    await sealer.close()


@pytest.mark.parametrize(("verb", "is_orderly"), [("unseal", True), ("advance_epoch", True), ("epoch", False)])
async def test_power_cut_after_the_last_use_is_an_orderly_one(
    box: ProvisionedTpm, sealer: TpmSealer, verb: str, is_orderly: bool
) -> None:
    def extend_and_leave() -> None:
        # An extended PCR is what makes the TPM's state unorderly; closing this context would settle it.
        digest = TPML_DIGEST_VALUES(digests=[TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=b"e" * 32))])
        with TpmContext(box.tcti).commands() as esapi:
            esapi.pcr_extend(ESYS_TR.PCR10, digest)

    await asyncio.to_thread(extend_and_leave)
    await getattr(sealer, verb)()
    await asyncio.to_thread(box.plugged.power_cycle)
    made = await sealer.quote(b"n" * 32)
    expected = QuoteExpectation(ak_name=box.bundle.ak_name, nonce=b"n" * 32, pcr_values=made.pcr_values, previous=None)
    assert verify_quote(made.attest, made.signature, box.bundle.ak_public, expected).is_clock_safe is is_orderly
