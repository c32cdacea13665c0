"""Event logs are read strictly and replayed to what the TPM holds; whatever is cut, added or unknown is refused."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.tpm.event_log import EventLogRefused, parse_firmware_log, parse_userspace_log
from tests.fakes.measured import (
    EV_NO_ACTION,
    EV_SEPARATOR,
    SHA1,
    SHA256,
    event,
    extended,
    firmware_log,
    spec_event,
    userspace_log,
)

VECTOR = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "event_log.json").read_text())
OVMF = base64.b64decode(VECTOR["firmware_log"])
ONES = b"\xff" * 32


def test_log_of_a_real_firmware_replays_to_the_values_that_tpm2_tools_find() -> None:
    log = parse_firmware_log(OVMF)
    assert len(log.events) == VECTOR["events"]
    assert {str(pcr): value.hex() for pcr, value in log.replay(range(8)).items()} == VECTOR["pcrs"]


def test_tpm2_eventlog_reads_our_own_logs_alike(tmp_path: Path) -> None:
    if shutil.which("tpm2_eventlog") is None:
        pytest.skip("tpm2_eventlog (package tpm2-tools) is missing")
    encoded = firmware_log(
        event(0, b"code"), event(4, b"loader"), event(4, bytes(4), kind=EV_SEPARATOR), event(11, b"x")
    )
    (tmp_path / "log").write_bytes(encoded)
    told = subprocess.run(["tpm2_eventlog", str(tmp_path / "log")], capture_output=True, text=True, check=True).stdout
    theirs = dict(re.findall(r"^    (\d+) *: 0x([0-9a-f]{64})$", told, re.MULTILINE))
    assert {str(pcr): value.hex() for pcr, value in parse_firmware_log(encoded).replay((0, 4, 11)).items()} == theirs


def test_both_logs_lead_to_the_value_together() -> None:
    firmware = parse_firmware_log(firmware_log(event(11, b".linux")))
    log = firmware.then(parse_userspace_log(userspace_log((11, b"enter-initrd"), (15, b"machine"), (11, b"ready"))))
    assert log.replay((11,)) == {11: extended(b".linux", b"enter-initrd", b"ready")}
    assert len(log.digests(15)) == 1


def test_pcrs_begin_as_the_platform_profile_says() -> None:
    log = parse_firmware_log(firmware_log(event(0, b"StartupLocality\x00\x03", kind=EV_NO_ACTION), event(0, b"code")))
    assert log.replay((0, 1, 17, 22, 23)) == {
        0: extended(b"code", begins=bytes(31) + b"\x03"),
        1: bytes(32),
        17: ONES,
        22: ONES,
        23: bytes(32),
    }


def test_what_firmware_only_notes_is_not_extended() -> None:
    assert parse_firmware_log(firmware_log(event(0, b"SP800-155 Event", kind=EV_NO_ACTION))).events == ()


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        OVMF[:-1],
        OVMF + b"\x00",
        OVMF + bytes(8),
        spec_event(signature=b"Spec ID Event02\x00"),
        spec_event((SHA1,)),
        spec_event((SHA256, SHA256)),
        event(0, b"no header"),
        firmware_log(event(24, b"no such PCR")),
        firmware_log(event(0, b"one digest is missing", algorithms=(SHA256,))),
        firmware_log(event(0, b"twice the same", algorithms=(SHA256, SHA256))),
        firmware_log(event(0, b"longer than the log", size=1_000)),
        firmware_log(event(0, b"huge", size=0xFFFFFFFF)),
        firmware_log(event(0, b"StartupLocality\x00\x05", kind=EV_NO_ACTION)),
        firmware_log(event(0, b"code"), event(0, b"StartupLocality\x00\x03", kind=EV_NO_ACTION)),
        firmware_log(*[event(0, b"StartupLocality\x00\x03", kind=EV_NO_ACTION)] * 2),
        firmware_log(*[event(5, b"")] * 4_097),
        firmware_log(event(0, bytes(512 * 1024))),
    ],
)
def test_log_that_is_none_or_was_cut_is_refused(encoded: bytes) -> None:
    with pytest.raises(EventLogRefused):
        parse_firmware_log(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        b"x" + userspace_log((11, b"ready")),
        userspace_log((11, b"ready"))[:-1],
        userspace_log((24, b"no such PCR")),
        userspace_log((-1, b"no such PCR")),
        b'\x1e{"pcr":11}\n',
        b'\x1e{"pcr":11,"digests":[]}\n',
        b'\x1e{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"00"}]}\n',
        b'\x1e{"pcr":11,"digests":[{"hashAlg":"sha256","digest":"xy"}]}\n',
        userspace_log((11, b"ready")).replace(b"sha256", b"sha384"),
        b"\x1e\n",
        b"\x1e" * 5_000,
    ],
)
def test_record_that_is_no_measurement_is_refused(encoded: bytes) -> None:
    with pytest.raises(EventLogRefused):
        parse_userspace_log(encoded)


@given(at=st.integers(0, len(OVMF) - 1), bit=st.integers(0, 7))
def test_a_changed_bit_never_leads_to_the_same_values_by_another_digest(at: int, bit: int) -> None:
    """A flip is refused, shows in a PCR, or lies in bytes that nobody believes: types and texts of events."""
    changed = OVMF[:at] + bytes([OVMF[at] ^ 1 << bit]) + OVMF[at + 1 :]
    true = parse_firmware_log(OVMF)
    try:
        log = parse_firmware_log(changed)
    except EventLogRefused:
        return
    if log.replay(range(24)) == true.replay(range(24)):
        assert log.events == true.events


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(encoded: bytes) -> None:
    for parse in (parse_firmware_log, parse_userspace_log):
        try:
            parse(spec_event() + encoded if parse is parse_firmware_log else encoded)
        except EventLogRefused:
            continue
