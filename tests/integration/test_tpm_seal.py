"""The PIN opens for approved images only, in one TPM only, and power cuts never lock it away: on a real swtpm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2B_PUBLIC, TPMA_OBJECT, TPML_DIGEST_VALUES, TPMT_HA, TPMU_HA

from drivers.tpm.bundle import decode_bundle, encode_bundle, with_policy
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import EPOCH_INDEX, POLICY_FLOOR_INDEX, counter_name, read_counter
from drivers.tpm.errors import TpmForeign, TpmPolicyRefused
from drivers.tpm.objects import ensure_srk
from drivers.tpm.policy import SignedPolicy, sign_policy
from drivers.tpm.seal import SealedSecret, seal, unseal
from provisioning.tpm import approve_present_state, provision_tpm, revoke_policies_below
from tests.swtpm import PCRS, PIN, ProvisionedTpm, make_template, plugged_tpm

TPM_PT_LOCKOUT_COUNTER = 0x20E
POWER_CUTS = int(os.environ.get("TPM_POWER_CUTS", "40"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(params=[ec.SECP256R1(), ec.SECP384R1()], ids=lambda curve: str(curve.name))
def box(template: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        yield ProvisionedTpm(plugged, ec.generate_private_key(request.param))


def opened(tpm: TpmContext, box: ProvisionedTpm, *policies: SignedPolicy, sealed: SealedSecret | None = None) -> bytes:
    bundle = box.bundle
    return unseal(
        tpm,
        sealed or bundle.sealed,
        srk_handle=bundle.srk_handle,
        srk_name=bundle.srk_name,
        policies=policies or bundle.policies,
    )


def extend(tpm: TpmContext, pcr: int) -> None:
    digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes([pcr]) * 32))
    with tpm.commands() as esapi:
        esapi.pcr_extend(ESYS_TR(pcr), TPML_DIGEST_VALUES(digests=[digest]))


def test_sealed_pin_opens_again_after_a_power_cycle(box: ProvisionedTpm) -> None:
    box.plugged.power_cycle()
    with closing(TpmContext(box.tcti)) as tpm:
        assert opened(tpm, box) == PIN


def test_extended_pcr_refuses_and_a_newly_signed_policy_opens_the_same_blob(box: ProvisionedTpm) -> None:
    with closing(TpmContext(box.tcti)) as tpm:
        extend(tpm, 11)
        with pytest.raises(TpmPolicyRefused):
            opened(tpm, box)
        version = box.bundle.policies[0].version
        updated = with_policy(box.bundle, approve_present_state(tpm, box.policy_key, PCRS, version=version))
        assert opened(tpm, box, *updated.policies) == PIN
        box.plugged.power_cycle()
    with closing(TpmContext(box.tcti)) as tpm:
        # Back on the old image: both approvals are in the bundle, the second one fits.
        assert opened(tpm, box, *updated.policies) == PIN


def test_pcr_outside_the_selection_does_not_matter(box: ProvisionedTpm) -> None:
    with closing(TpmContext(box.tcti)) as tpm:
        extend(tpm, 16)
        assert opened(tpm, box) == PIN


def test_policy_with_a_wrong_signature_is_refused(box: ProvisionedTpm) -> None:
    good = box.bundle.policies[0]
    forged = bytearray(good.signature)
    forged[-1] ^= 1
    with closing(TpmContext(box.tcti)) as tpm:
        with pytest.raises(TpmPolicyRefused):
            opened(tpm, box, msgspec.structs.replace(good, signature=bytes(forged)))
        with pytest.raises(TpmPolicyRefused):
            opened(tpm, box, msgspec.structs.replace(good, signature=b"no DER"))
        assert opened(tpm, box) == PIN


def test_policy_signed_by_another_key_is_refused(box: ProvisionedTpm) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    with closing(TpmContext(box.tcti)) as tpm, pytest.raises(TpmPolicyRefused):
        opened(tpm, box, approve_present_state(tpm, stranger, PCRS, version=box.bundle.policies[0].version))


def test_policy_whose_text_was_changed_after_signing_is_refused(box: ProvisionedTpm) -> None:
    good = box.bundle.policies[0]
    with closing(TpmContext(box.tcti)) as tpm:
        for changed in (
            msgspec.structs.replace(good, version=good.version + 1),
            msgspec.structs.replace(good, pcrs=(0, 7)),
            msgspec.structs.replace(good, approved=bytes(32)),
        ):
            with pytest.raises(TpmPolicyRefused):
                opened(tpm, box, changed)


def test_policy_for_other_pcr_values_is_refused(box: ProvisionedTpm) -> None:
    floor_name = _floor_name(box)
    other = sign_policy(box.policy_key, values=dict.fromkeys(PCRS, b"\x11" * 32), version=9, floor_name=floor_name)
    with closing(TpmContext(box.tcti)) as tpm, pytest.raises(TpmPolicyRefused):
        opened(tpm, box, other)


def test_raised_floor_revokes_old_policies_for_good(box: ProvisionedTpm) -> None:
    old = box.bundle.policies[0]
    with closing(TpmContext(box.tcti)) as tpm:
        assert revoke_policies_below(tpm, old.version + 2) == old.version + 2
        with pytest.raises(TpmPolicyRefused):
            opened(tpm, box)
        assert opened(tpm, box, approve_present_state(tpm, box.policy_key, PCRS, version=old.version + 2)) == PIN


def test_blob_of_another_tpm_or_damaged_blob_is_foreign(box: ProvisionedTpm, template: Path, tmp_path: Path) -> None:
    damaged = bytearray(box.bundle.sealed.private)
    damaged[-1] ^= 1
    with closing(TpmContext(box.tcti)) as tpm, pytest.raises(TpmForeign):
        opened(tpm, box, sealed=SealedSecret(public=box.bundle.sealed.public, private=bytes(damaged)))
    other = make_template(tmp_path / "other")
    with plugged_tpm(other, tmp_path / "stranger") as plugged:
        ProvisionedTpm(plugged, box.policy_key)
        with closing(TpmContext(plugged.tcti)) as tpm, pytest.raises(TpmForeign):
            opened(tpm, box)


def test_refusals_and_successes_leave_no_transient_object_behind(box: ProvisionedTpm) -> None:
    with closing(TpmContext(box.tcti)) as tpm:
        extend(tpm, 7)
        for _ in range(8):  # more than the three slots
            with pytest.raises(TpmPolicyRefused):
                opened(tpm, box)
        approved = approve_present_state(tpm, box.policy_key, PCRS, version=box.bundle.policies[0].version)
        for _ in range(8):
            assert opened(tpm, box, approved) == PIN
        assert tpm.handles(0x80000000) == []
        assert tpm.handles(0x02000000) == []


def test_power_cuts_with_the_right_pin_never_lock_the_tpm(template: Path, tmp_path: Path) -> None:
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        box = ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))
        for _ in range(POWER_CUTS):
            tpm = TpmContext(box.tcti)
            assert opened(tpm, box) == PIN
            plugged.power_cycle()  # no TPM2_Shutdown: the hard case
            tpm.close()
        with closing(TpmContext(box.tcti)) as tpm:
            assert tpm.property(TPM_PT_LOCKOUT_COUNTER) == 0
            assert opened(tpm, box) == PIN


def test_provisioning_twice_keeps_keys_and_counters_and_changes_the_pin(box: ProvisionedTpm) -> None:
    first = box.bundle
    with closing(TpmContext(box.tcti)) as tpm:
        epoch = read_counter(tpm, EPOCH_INDEX)
    second = provision_tpm(box.tcti, b"new pin", box.policy_key, PCRS)
    assert (second.ak_name, second.srk_name, second.ek_public) == (first.ak_name, first.srk_name, first.ek_public)
    with closing(TpmContext(box.tcti)) as tpm:
        assert read_counter(tpm, EPOCH_INDEX) == epoch
        assert opened(tpm, box, *second.policies, sealed=second.sealed) == b"new pin"


def test_provisioning_below_the_floor_is_refused(box: ProvisionedTpm) -> None:
    with closing(TpmContext(box.tcti)) as tpm:
        revoke_policies_below(tpm, 5)
    with pytest.raises(TpmForeign, match="below this TPM's floor 5"):
        provision_tpm(box.tcti, PIN, box.policy_key, PCRS, policy_version=4)


def test_bundle_file_round_trips_and_holds_no_secret_in_clear(box: ProvisionedTpm) -> None:
    encoded = encode_bundle(box.bundle)
    assert decode_bundle(encoded) == box.bundle
    assert PIN not in encoded
    assert PIN not in box.bundle.sealed.private + box.bundle.sealed.public
    with pytest.raises(ValueError, match="unknown field"):
        decode_bundle(encoded.replace(b'"format"', b'"extra": 1, "format"'))


def test_sealed_object_is_noda_and_has_no_password(box: ProvisionedTpm) -> None:
    public, _ = TPM2B_PUBLIC.unmarshal(box.bundle.sealed.public)
    wanted = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.NODA
    assert int(public.publicArea.objectAttributes) == int(wanted)


def test_blob_sealed_for_one_policy_key_does_not_open_for_another(box: ProvisionedTpm) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    with closing(TpmContext(box.tcti)) as tpm:
        policy = approve_present_state(tpm, stranger, PCRS, version=box.bundle.policies[0].version)
        sealed = seal(tpm, b"other", srk=ensure_srk(tpm), policy_key=policy.public_key)
        with pytest.raises(TpmPolicyRefused):
            opened(tpm, box, sealed=sealed)


def _floor_name(box: ProvisionedTpm) -> bytes:
    with closing(TpmContext(box.tcti)) as tpm:
        return counter_name(tpm, POLICY_FLOOR_INDEX)
