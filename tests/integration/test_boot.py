"""The start of a real box: what it refuses to start with, and what puts it in quarantine."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from appliance.crypto.owner import OwnerKey
from appliance.crypto.tls_groups import CLASSIC, set_groups
from appliance.ledger.genesis import STATEMENT_KIND, SignedGenesis, read_body
from drivers.tpm.context import TpmContext
from tests.integration.box import RunningBox, StartFailed, refused_with, running_box
from tests.integration.till import CASH, Till, new_key, paired_till

FAILING_SELF_TEST = """
import dataclasses, sys
from appliance import __main__
from appliance.crypto import self_test
name = {name!r}
self_test.TESTS = tuple(
    dataclasses.replace(test, answer=lambda: bytes(64)) if test.name == name else test for test in self_test.TESTS
)
sys.exit(__main__.main())
"""

REQUIRING_POST_QUANTUM = """
import sys
from pathlib import Path
from appliance import __main__
settings = Path(sys.argv[-1])
settings.write_text(settings.read_text().replace("[pos]", "[pos]\\nis_post_quantum_required = true"))
sys.exit(__main__.main())
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RunningBox]:
    with running_box(tmp_path) as running:
        yield running


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[RunningBox]:
    with running_box(tmp_path, starts=False) as running:
        yield running


def assert_quarantined(box: RunningBox, till: Till) -> None:
    size = box.log_size()
    reply = till.ask("payment", CASH)
    assert (reply.status, reply.code) == (503, "quarantined")
    assert reply.headers["Retry-After"]
    status = box.local.status()
    assert status["level"] == "stopped"
    assert "Quarantined" in status["sentence"]
    code, page = box.public("/health")
    assert (code, json.loads(page)["level"]) == (503, "stopped")
    assert box.log_size() == size


def test_orderly_stop_leaves_with_zero_and_the_next_start_resumes(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    key = new_key()
    till.ask("payment", CASH, key)
    size = box.log_size()
    assert box.stop() == 0
    box.start()
    assert box.log_size() == size + 2  # the next epoch, the next boot
    assert till.ask("status", {"of": key}).body["state"] == "approved"


def test_older_copy_of_the_log_is_quarantined_at_the_start(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    till.ask("payment", CASH)
    box.stop()
    shutil.copytree(box.box.data, tmp_path / "older", ignore=shutil.ignore_patterns("*.sock"))
    box.start()
    till.ask("payment", CASH)
    box.stop()
    shutil.rmtree(box.box.data)
    (tmp_path / "older").rename(box.box.data)
    box.start()
    assert box.events("epoch.quarantined")
    assert_quarantined(box, till)


def test_power_cut_of_box_and_tpm_is_no_rollback(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    for _ in range(2):
        key = new_key()
        assert till.ask("payment", CASH, key).status == 200
        box.power_cycle()
        box.start()
        assert till.ask("status", {"of": key}).body["state"] == "approved"
    assert box.events("epoch.quarantined") == []


@pytest.mark.parametrize("name", ["SHA-256", "ML-DSA-87"])
def test_failed_self_test_stops_the_start_with_its_name(stopped: RunningBox, tmp_path: Path, name: str) -> None:
    script = tmp_path / "failing.py"
    script.write_text(FAILING_SELF_TEST.format(name=name))
    with pytest.raises(StartFailed):
        stopped.start(program=(str(script),))
    (line,) = stopped.events("start.failed")
    assert line["code"] == "self_test_failed"
    assert name in line["detail"]
    assert not (stopped.box.data / "ledger.db").exists(), "no log was touched before the tests passed"


def test_other_image_gets_no_pin(stopped: RunningBox) -> None:
    digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(32)))
    with closing(TpmContext(stopped.tcti)) as tpm, tpm.commands() as esapi:
        esapi.pcr_extend(ESYS_TR(11), TPML_DIGEST_VALUES(digests=[digest]))
    assert refused_with(stopped) == "tpm_policy_refused"


def test_genesis_of_other_keys_is_refused(stopped: RunningBox) -> None:
    file = stopped.box.folder / "genesis.cbor"
    owner = OwnerKey.load(stopped.box.folder / "owner" / "owner-key", None)
    signed = read_body(file.read_bytes())
    other = signed.statement.replace(stopped.box.keys.classical_public[-32:], bytes(range(32)))
    assert other != signed.statement
    signature = owner.sign_statement(STATEMENT_KIND, other).encode()
    file.write_bytes(SignedGenesis(statement=other, owner_signature=signature).encode_body())
    assert refused_with(stopped) == "log_keys_mismatch"
    assert not (stopped.box.data / "ledger.db").exists(), "no log was begun that nobody could sign"


def test_genesis_of_another_log_is_refused(box: RunningBox) -> None:
    box.stop()
    file = box.box.folder / "genesis.cbor"
    owner = OwnerKey.load(box.box.folder / "owner" / "owner-key", None)
    signed = read_body(file.read_bytes())
    origin = box.audience.encode()
    other = signed.statement.replace(origin, origin[:-1] + b"2")
    signature = owner.sign_statement(STATEMENT_KIND, other).encode()
    file.write_bytes(SignedGenesis(statement=other, owner_signature=signature).encode_body())
    assert refused_with(box) == "genesis_mismatch"


def test_changed_envelope_is_refused(stopped: RunningBox) -> None:
    file = stopped.box.folder / "ml-dsa.envelope"
    envelope = bytearray(file.read_bytes())
    envelope[-1] ^= 1
    file.write_bytes(bytes(envelope))
    assert refused_with(stopped) in {"hsm_blob_refused", "envelope_malformed"}


def test_changed_entry_on_disk_stops_the_start(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    till.ask("payment", CASH | {"reference": "a reference to find"})
    box.stop()
    file = box.box.data / "ledger.db"
    content = file.read_bytes()
    assert b"a reference to find" in content
    file.write_bytes(content.replace(b"a reference to find", b"a reference to lose"))
    assert refused_with(box) in {"head_mismatch", "tile_mismatch", "entry_malformed"}


def test_a_door_is_post_quantum_where_that_is_required_or_nothing_starts(stopped: RunningBox) -> None:
    program = ("-c", REQUIRING_POST_QUANTUM)
    if ssl.OPENSSL_VERSION_INFO < (3, 5):
        with pytest.raises(StartFailed):
            stopped.start(program=program)
        assert [line["code"] for line in stopped.events("start.failed")] == ["post_quantum_unavailable"]
        assert not (stopped.box.data / "ledger.db").exists()
        return
    stopped.start(program=program)
    stopped.connect().close()
    classic = stopped.tls()
    assert set_groups(classic, CLASSIC)
    with (
        socket.create_connection(("127.0.0.1", stopped.port), 10) as wire,
        pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"),
    ):
        classic.wrap_socket(wire, server_hostname="localhost")
