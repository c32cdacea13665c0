"""`tillstone owner update`, and that the PIN of a real TPM stays sealed across what it signs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from appliance.crypto.owner import OwnerKey
from appliance.evidence.update import POLICIES_MAX, Installed, require_update
from appliance.evidence.update_file import read_update
from appliance.ledger.trust import encode_trust
from appliance.wiring.updates import with_approvals
from drivers.tpm.bundle import TpmBundle, decode_bundle, encode_bundle
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import POLICY_FLOOR_INDEX, counter_name, read_counter, written_counter_name
from drivers.tpm.errors import TpmPolicyRefused
from drivers.tpm.quote import read_pcrs
from drivers.tpm.seal import unseal
from provisioning.owner.update import complete
from provisioning.tpm import revoke_policies_below
from tests.swtpm import PCRS, PIN, ProvisionedTpm, make_template, plugged_tpm
from tests.update_kit import MODEL, NEW, OLD, image, statement_of, update_file


@pytest.fixture(scope="module")
def tpm_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("tpm"))


@pytest.fixture
def box(tpm_template: Path, tmp_path: Path) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(tpm_template, tmp_path / "tpm") as plugged:
        yield ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))


def measure_another_image(tpm: TpmContext) -> dict[int, bytes]:
    """PCR 11 as another kernel image leaves it; the values then."""
    digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=b"another image".ljust(32)))
    with tpm.commands() as esapi:
        esapi.pcr_extend(ESYS_TR(11), TPML_DIGEST_VALUES(digests=[digest]))
    return read_pcrs(tpm, PCRS)


def pin(tpm: TpmContext, bundle: TpmBundle) -> bytes:
    return unseal(tpm, bundle.sealed, srk_handle=bundle.srk_handle, srk_name=bundle.srk_name, policies=bundle.policies)


def test_the_name_of_the_floor_is_known_without_its_tpm(box: ProvisionedTpm) -> None:
    with closing(TpmContext(box.tcti)) as tpm:
        assert counter_name(tpm, POLICY_FLOOR_INDEX) == written_counter_name(POLICY_FLOOR_INDEX)


def test_pin_opens_for_both_images_until_the_new_one_is_confirmed(box: ProvisionedTpm) -> None:
    with closing(TpmContext(box.tcti)) as tpm:
        floor = read_counter(tpm, POLICY_FLOOR_INDEX)
        values = measure_another_image(tpm)
        with pytest.raises(TpmPolicyRefused):
            pin(tpm, box.bundle)
    unsigned = statement_of(image(NEW), pcr11=values[11])
    states = [{0: values[0], 7: b"x" * 32}, {0: values[0], 7: values[7]}]
    signed = complete(unsigned, number=floor + 1, policy_key=box.policy_key, states=states)
    bundle = with_approvals(box.bundle, signed.policies, floor)
    with closing(TpmContext(box.tcti)) as tpm:
        assert pin(tpm, bundle) == PIN
    box.plugged.power_cycle()
    with closing(TpmContext(box.tcti)) as tpm:
        assert pin(tpm, bundle) == PIN  # the old image again, as after a fallback
        revoke_policies_below(tpm, signed.number)
        with pytest.raises(TpmPolicyRefused):
            pin(tpm, bundle)
        measure_another_image(tpm)
        assert pin(tpm, bundle) == PIN


def test_command_makes_the_file_that_boxes_take(tmp_path: Path) -> None:
    key = OwnerKey.generate()
    key.save(tmp_path / "owner-key", None)
    (tmp_path / "trust.json").write_bytes(encode_trust(key.public, []))
    (tmp_path / "update").write_bytes(update_file(image(NEW), None, statement_of(image(NEW), number=1)))
    policy_key = ec.generate_private_key(ec.SECP256R1())
    pem = policy_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "policy.pem").touch(mode=0o600)
    (tmp_path / "policy.pem").write_bytes(pem)
    asked = [tmp_path / "update", "--number", "7", "--policy-key", tmp_path / "policy.pem"]
    asked += ["--pcrs", f"0={'aa' * 32},7={'bb' * 32}", "--trust", tmp_path / "trust.json"]
    asked += ["--owner-key", tmp_path / "owner-key", "-o", tmp_path / "signed", "--yes", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "provisioning.cli", "owner", "update", *map(str, asked)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file = Path(json.loads(done.stdout)["signed"])
    assert file.name == f"tillstone-{NEW}.update"
    installed = Installed(model=MODEL, version=OLD, floor=6)
    statement = read_update(file, lambda signed: require_update(signed, key.public, installed))
    assert (statement.number, [policy.pcrs for policy in statement.policies]) == (7, [(0, 7, 11)])
    assert statement.policies[0].version == 7


def test_updates_that_never_came_to_anything_push_no_approval_of_the_running_image_out(box: ProvisionedTpm) -> None:
    with closing(TpmContext(box.tcti)) as tpm:
        floor = read_counter(tpm, POLICY_FLOOR_INDEX)
        bundle = box.bundle
        for number in range(floor + 1, floor + 5):
            states = [{0: bytes([number]) * 32, 7: bytes([state]) * 32} for state in range(POLICIES_MAX)]
            signed = complete(statement_of(image(NEW)), number=number, policy_key=box.policy_key, states=states)
            bundle = decode_bundle(encode_bundle(with_approvals(bundle, signed.policies, floor)))
            assert pin(tpm, bundle) == PIN
        assert len(bundle.policies) == POLICIES_MAX + 1
