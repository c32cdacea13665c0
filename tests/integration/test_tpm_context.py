"""Contexts, counters and power: what a TPM driver must survive, on a real swtpm."""

from __future__ import annotations

import gc
import hashlib
import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2B_SENSITIVE_CREATE, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from drivers.tpm.context import TpmContext
from drivers.tpm.counter import EPOCH_INDEX, ensure_counter, increment_counter, read_counter
from drivers.tpm.credential import answer_challenge, make_challenge
from drivers.tpm.errors import TpmAway, TpmForeign, TpmRefused
from drivers.tpm.objects import (
    AK_HANDLE,
    EK_HANDLE,
    SRK_HANDLE,
    Curve,
    ensure_ak,
    ensure_srk,
    key_facts,
    read_ek_certificate,
)
from drivers.tpm.quote import read_pcrs
from provisioning.swtpm import make_swtpm, start_swtpm
from provisioning.tpm import prove_attestation_key
from tests.swtpm import PluggedTpm, make_template, plugged_tpm

FIRST_TRANSIENT = 0x80000000
NODA = 1 << 10


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def plugged(template: Path, tmp_path: Path) -> Iterator[PluggedTpm]:
    with plugged_tpm(template, tmp_path / "tpm") as running:
        yield running


def test_stale_transient_objects_are_flushed_at_the_start(plugged: PluggedTpm) -> None:
    first = TpmContext(plugged.tcti)
    with first.commands() as esapi:
        for _ in range(3):  # all the slots, left behind as by a killed process
            esapi.create_primary(TPM2B_SENSITIVE_CREATE(), "ecc256")
        esapi.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, 1, "null", TPM2_ALG.SHA256)
    assert len(first.handles(FIRST_TRANSIENT)) == 3
    with closing(TpmContext(plugged.tcti)) as second:
        assert second.handles(FIRST_TRANSIENT) == []
        assert second.handles(0x02000000) == []
        ensure_srk(second)


def test_another_thread_is_refused_at_the_door(plugged: PluggedTpm) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm:
        seen: list[BaseException] = []

        def intrude() -> None:
            try:
                tpm.handles(FIRST_TRANSIENT)
            except TpmForeign as error:
                seen.append(error)

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
        assert len(seen) == 1
        assert tpm.handles(FIRST_TRANSIENT) == []


def test_context_is_dead_after_a_tcti_error_and_a_new_one_works(plugged: PluggedTpm) -> None:
    tpm = TpmContext(plugged.tcti)
    plugged.cut_power()
    with pytest.raises(TpmAway):
        tpm.handles(FIRST_TRANSIENT)
    assert tpm.is_dead
    with pytest.raises(TpmAway):
        TpmContext(plugged.tcti)
    plugged.restore_power()
    with pytest.raises(TpmAway, match="died earlier"):
        tpm.handles(FIRST_TRANSIENT)
    tpm.close()
    with closing(TpmContext(plugged.tcti)) as again:
        assert again.handles(FIRST_TRANSIENT) == []


def test_contexts_give_back_their_file_descriptors(plugged: PluggedTpm) -> None:
    def open_count() -> int:
        return len(os.listdir("/proc/self/fd"))

    TpmContext(plugged.tcti).close()
    before = open_count()
    for _ in range(20):
        TpmContext(plugged.tcti).close()
    plugged.cut_power()
    for _ in range(20):
        with pytest.raises(TpmAway):
            TpmContext(plugged.tcti)
    assert open_count() <= before


@pytest.mark.parametrize("curve", list(Curve))
def test_keys_are_noda_persisted_and_made_once(plugged: PluggedTpm, curve: Curve) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm:
        made = (ensure_srk(tpm, curve=curve), ensure_ak(tpm, curve=curve))
        for facts in made:
            assert int.from_bytes(facts.public[4:8], "big") & NODA
    plugged.power_cycle()
    with closing(TpmContext(plugged.tcti)) as tpm:
        assert (ensure_srk(tpm, curve=curve), ensure_ak(tpm, curve=curve)) == made
        assert tpm.handles(FIRST_TRANSIENT) == []


def test_handle_that_holds_something_else_is_refused_and_kept(plugged: PluggedTpm) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm:
        ensure_srk(tpm, curve=Curve.P384)
        before = key_facts(tpm, SRK_HANDLE)
        with pytest.raises(TpmForeign, match="0x81000020"):
            ensure_srk(tpm, curve=Curve.P256)
        assert key_facts(tpm, SRK_HANDLE) == before


def test_credential_activation_proves_the_attestation_key_and_no_other(plugged: PluggedTpm) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm:
        ak, ek, certificate = ensure_ak(tpm), key_facts(tpm, EK_HANDLE), read_ek_certificate(tpm)
        prove_attestation_key(tpm, ek=ek, ek_certificate=certificate, ak=ak)
        other = make_challenge(
            ek_public=ek.public, ek_certificate=certificate, ak_name=ensure_srk(tpm).name, secret=b"s" * 32
        )
        with pytest.raises(TpmRefused):
            answer_challenge(tpm, other, ek_handle=EK_HANDLE, ak_handle=AK_HANDLE)


def test_challenge_is_refused_for_a_certificate_of_another_tpm(plugged: PluggedTpm, tmp_path: Path) -> None:
    other = make_template(tmp_path / "other")
    with plugged_tpm(other, tmp_path / "stranger") as stranger, closing(TpmContext(stranger.tcti)) as tpm:
        foreign = read_ek_certificate(tpm)
    with closing(TpmContext(plugged.tcti)) as tpm:
        ek, ak = key_facts(tpm, EK_HANDLE), ensure_ak(tpm)
        with pytest.raises(TpmForeign, match="another key"):
            make_challenge(ek_public=ek.public, ek_certificate=foreign, ak_name=ak.name, secret=b"s" * 32)
        with pytest.raises(TpmForeign, match="no endorsement key"):
            make_challenge(ek_public=ak.public, ek_certificate=foreign, ak_name=ak.name, secret=b"s" * 32)


def test_counter_survives_power_cuts_and_never_goes_back(plugged: PluggedTpm) -> None:
    seen: list[int] = []
    for _ in range(5):
        with closing(TpmContext(plugged.tcti)) as tpm:
            seen.append(ensure_counter(tpm, EPOCH_INDEX))
            seen.append(increment_counter(tpm, EPOCH_INDEX))
            plugged.power_cycle()
    assert seen == sorted(seen)
    with closing(TpmContext(plugged.tcti)) as tpm:
        assert read_counter(tpm, EPOCH_INDEX) == seen[-1]


def test_redefined_counter_resumes_above_its_old_value(plugged: PluggedTpm) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm:
        ensure_counter(tpm, EPOCH_INDEX)
        old = max(increment_counter(tpm, EPOCH_INDEX) for _ in range(4))
        with tpm.commands() as esapi:
            esapi.nv_undefine_space(esapi.tr_from_tpmpublic(EPOCH_INDEX))
        with pytest.raises(TpmForeign):
            read_counter(tpm, EPOCH_INDEX)
        assert ensure_counter(tpm, EPOCH_INDEX) > old


def test_index_that_is_no_counter_of_ours_is_refused(plugged: PluggedTpm) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm, pytest.raises(TpmForeign, match="something else"):
        read_counter(tpm, 0x01C00016)


def test_all_pcrs_are_read_though_one_command_gives_eight(plugged: PluggedTpm) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm:
        assert list(read_pcrs(tpm, tuple(range(24)))) == list(range(24))


def test_pcr_that_changes_during_the_reading_starts_it_again(
    plugged: PluggedTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = TPML_DIGEST_VALUES(digests=[TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=b"e" * 32))])
    with closing(TpmContext(plugged.tcti)) as tpm, tpm.commands() as esapi:
        readings: list[int] = []
        real = esapi.pcr_read

        def read_then_extend(selection: object) -> object:
            answer = real(selection)
            readings.append(1)
            if len(readings) == 1:  # between the first eight and the next
                esapi.pcr_extend(ESYS_TR.PCR0, digest)
            return answer

        monkeypatch.setattr(esapi, "pcr_read", read_then_extend)
        values = read_pcrs(tpm, tuple(range(16)))
        assert values[0] == hashlib.sha256(bytes(32) + b"e" * 32).digest()
        assert len(readings) == 4


def test_capability_views_do_not_outlive_their_parent(plugged: PluggedTpm) -> None:
    with closing(TpmContext(plugged.tcti)) as tpm:
        expected = tpm.handles(0x81000000)
        for _ in range(50):
            listed = tpm.handles(0x81000000)
            gc.collect()
            assert listed == expected


def test_deep_folders_get_short_socket_paths(tmp_path: Path) -> None:
    make_template(tmp_path / "short")
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    make_swtpm(deep)
    running = start_swtpm(deep)
    try:
        TpmContext(running.tcti).close()
    finally:
        running.process.kill()
        running.process.wait()
        socket_path = Path(running.tcti.removeprefix("swtpm:path="))
        for left in socket_path.parent.iterdir():
            left.unlink()
        socket_path.parent.rmdir()


def test_interrupted_making_is_started_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "tpm" / "state.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "tpm2-00.permall").write_bytes(b"torn")
    make_swtpm(tmp_path / "tpm")
    with plugged_tpm(tmp_path / "tpm", tmp_path / "copy") as plugged, closing(TpmContext(plugged.tcti)) as tpm:
        assert read_ek_certificate(tpm)[:2] == b"\x30\x82"


def test_swtpm_ends_with_the_process_that_started_it(template: Path, tmp_path: Path) -> None:
    shutil.copytree(template, tmp_path / "tpm", ignore=shutil.ignore_patterns("socket*", ".lock"))
    program = (
        "import sys, os; from pathlib import Path; from provisioning.swtpm import start_swtpm\n"
        "print(start_swtpm(Path(sys.argv[1])).process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    starter = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tpm")], stdout=subprocess.PIPE, cwd=root, check=False
    )
    pid = int(starter.stdout)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # already gone
    try:
        assert select.select([descriptor], [], [], 10)[0], "swtpm outlived its starter"
    finally:
        os.close(descriptor)
