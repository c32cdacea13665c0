"""A quote is believed only when every aspect of it holds: real quotes from swtpm, and lies signed by a software key."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2B_SENSITIVE_CREATE, TPML_DIGEST_VALUES, TPMT_HA, TPMT_PUBLIC, TPMU_HA

from drivers.tpm.context import TpmContext
from drivers.tpm.objects import Curve, ak_template, ensure_ak, ensure_srk
from drivers.tpm.quote import Quote, quote, read_pcrs
from drivers.tpm.quote_check import BootCounts, QuoteExpectation, QuoteRefused, VerifiedQuote, object_name, verify_quote
from tests.fakes.sealer import AK_ATTRIBUTES, SoftwareAttestationKey
from tests.swtpm import PCRS, ProvisionedTpm, make_template, plugged_tpm

NONCE = b"nonce of the asker, channel bound"
VALUES = {7: hashlib.sha256(b"a").digest(), 11: hashlib.sha256(b"b").digest()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def box(template: Path, tmp_path: Path) -> Iterator[ProvisionedTpm]:
    with plugged_tpm(template, tmp_path / "tpm") as plugged:
        yield ProvisionedTpm(plugged, ec.generate_private_key(ec.SECP256R1()))


def real_quote(box: ProvisionedTpm, pcrs: tuple[int, ...] = PCRS) -> tuple[Quote, dict[int, bytes]]:
    with closing(TpmContext(box.tcti)) as tpm:
        return quote(tpm, ak_handle=box.bundle.ak_handle, pcrs=pcrs, nonce=NONCE), read_pcrs(tpm, pcrs)


def judged(box: ProvisionedTpm, made: Quote, values: dict[int, bytes], previous: BootCounts | None) -> VerifiedQuote:
    expected = QuoteExpectation(ak_name=box.bundle.ak_name, nonce=NONCE, pcr_values=values, previous=previous)
    return verify_quote(made.attest, made.signature, box.bundle.ak_public, expected)


def test_real_quote_verifies_and_reset_count_is_the_true_one(box: ProvisionedTpm) -> None:
    made, values = real_quote(box)
    first = judged(box, made, values, None).counts
    box.plugged.power_cycle()
    made, values = real_quote(box)
    # A key outside the endorsement hierarchy would give numbers obfuscated by a secret, far from these.
    assert judged(box, made, values, first).counts == BootCounts(reset=first.reset + 1, restart=0)
    assert first.reset < 100


def test_real_quote_of_a_p384_key_verifies(template: Path, tmp_path: Path) -> None:
    with plugged_tpm(template, tmp_path / "tpm") as plugged, closing(TpmContext(plugged.tcti)) as tpm:
        ak = ensure_ak(tpm, curve=Curve.P384)
        made = quote(tpm, ak_handle=ak.handle, pcrs=PCRS, nonce=NONCE)
        expected = QuoteExpectation(ak_name=ak.name, nonce=NONCE, pcr_values=read_pcrs(tpm, PCRS), previous=None)
        verify_quote(made.attest, made.signature, ak.public, expected)


def test_every_changed_byte_of_a_real_quote_is_refused(box: ProvisionedTpm) -> None:
    made, values = real_quote(box)
    judged(box, made, values, None)
    for at in range(len(made.attest)):
        with pytest.raises(QuoteRefused):
            judged(box, dataclasses.replace(made, attest=flipped(made.attest, at)), values, None)
    for at in range(len(made.signature)):
        with pytest.raises(QuoteRefused):
            judged(box, dataclasses.replace(made, signature=flipped(made.signature, at)), values, None)
    for cut in (made.attest[:-1], made.attest + b"\x00", b""):
        with pytest.raises(QuoteRefused):
            judged(box, dataclasses.replace(made, attest=cut), values, None)
    for cut in (made.signature[:-1], made.signature + b"\x00", b""):
        with pytest.raises(QuoteRefused, match="signature_form"):
            judged(box, dataclasses.replace(made, signature=cut), values, None)


def test_extended_pcr_is_refused_against_the_old_values(box: ProvisionedTpm) -> None:
    _, values = real_quote(box)
    digest = TPML_DIGEST_VALUES(digests=[TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=b"e" * 32))])
    with closing(TpmContext(box.tcti)) as tpm, tpm.commands() as esapi:
        esapi.pcr_extend(ESYS_TR.PCR7, digest)
    made, _ = real_quote(box)
    with pytest.raises(QuoteRefused, match="pcr_digest"):
        judged(box, made, values, None)


@pytest.mark.parametrize("pcrs", [(0, 7), (0, 7, 11, 12), (0, 7, 12)])
def test_real_quote_over_another_selection_is_refused(box: ProvisionedTpm, pcrs: tuple[int, ...]) -> None:
    _, values = real_quote(box)
    made, _ = real_quote(box, pcrs)
    with pytest.raises(QuoteRefused, match="pcr_selection"):
        judged(box, made, values, None)


def test_real_key_in_the_owner_hierarchy_is_refused(box: ProvisionedTpm) -> None:
    """The same attributes, and yet its qualified name gives the hierarchy away."""
    with closing(TpmContext(box.tcti)) as tpm:
        with tpm.commands() as esapi:
            handle, public, _, _, _ = esapi.create_primary(
                TPM2B_SENSITIVE_CREATE(), ak_template(Curve.P256), ESYS_TR.OWNER
            )
            persisted = 0x81000030
            esapi.evict_control(ESYS_TR.OWNER, handle, persisted)
            esapi.flush_context(handle)
        made = quote(tpm, ak_handle=persisted, pcrs=PCRS, nonce=NONCE)
        values = read_pcrs(tpm, PCRS)
    encoded = bytes(public.publicArea.marshal())
    expected = QuoteExpectation(ak_name=object_name(encoded), nonce=NONCE, pcr_values=values, previous=None)
    with pytest.raises(QuoteRefused, match="signer"):
        verify_quote(made.attest, made.signature, encoded, expected)


def test_real_storage_key_is_no_attestation_key(box: ProvisionedTpm) -> None:
    made, values = real_quote(box)
    with closing(TpmContext(box.tcti)) as tpm:
        srk = ensure_srk(tpm)
    expected = QuoteExpectation(ak_name=srk.name, nonce=NONCE, pcr_values=values, previous=None)
    with pytest.raises(QuoteRefused, match="ak_attributes"):
        verify_quote(made.attest, made.signature, srk.public, expected)


@pytest.mark.parametrize(
    ("aspect", "lie"),
    [
        ("magic", {"magic": 0xFF544348}),
        ("type", {"kind": 0x8017}),
        ("type", {"kind": 0x801A}),
        ("attest_form", {"tail": b"\x00"}),
        ("nonce", {"nonce": b"another nonce"}),
        ("nonce", {"nonce": b""}),
        ("nonce", {"nonce": NONCE + b"x"}),
        ("signer", {"hierarchy": 0x40000001}),
        ("pcr_selection", {"octets": b"\x80\x00\x00"}),
        ("pcr_selection", {"octets": b"\x80\x08"}),
        ("pcr_selection", {"octets": b"\x80\x08\x00\x00"}),
        ("pcr_selection", {"octets": b"\x00\x00\x00"}),
        ("pcr_selection", {"bank": 0x04}),
        ("pcr_selection", {"selection_count": 2}),
        ("pcr_selection", {"selection_count": 0}),
        ("attest_form", {"selection_count": 17}),
        ("pcr_digest", {"digest": bytes(32)}),
        ("pcr_digest", {"digest": b""}),
        ("reset_count", {"reset": 4}),
        ("restart_count", {"reset": 5, "restart": 2}),
        ("safe", {"safe": 2}),
        ("firmware", {"firmware": 8}),
    ],
)
def test_each_lie_under_a_good_signature_is_refused_by_its_name(aspect: str, lie: dict[str, Any]) -> None:
    key = SoftwareAttestationKey()
    attest = key.attest(**{"nonce": NONCE, "pcr_values": VALUES, "restart": 3, **lie})
    with pytest.raises(QuoteRefused) as refusal:
        verify_quote(attest, key.sign(attest), key.public, expectation(key))
    assert refusal.value.aspect == aspect


@pytest.mark.parametrize(("reset", "restart"), [(5, 3), (5, 4), (6, 0)])
def test_counts_that_stay_or_grow_are_accepted(reset: int, restart: int) -> None:
    key = SoftwareAttestationKey()
    attest = key.attest(nonce=NONCE, pcr_values=VALUES, safe=0, reset=reset, restart=restart)
    seen = verify_quote(attest, key.sign(attest), key.public, expectation(key))
    assert seen.counts == BootCounts(reset=reset, restart=restart)
    assert not seen.is_clock_safe


@pytest.mark.parametrize("bit", [1, 2, 4, 5, 7, 10, 16, 17, 18])
def test_attestation_key_with_any_other_attributes_is_refused(bit: int) -> None:
    key = SoftwareAttestationKey(attributes=AK_ATTRIBUTES ^ (1 << bit))
    attest = key.attest(nonce=NONCE, pcr_values=VALUES)
    with pytest.raises(QuoteRefused, match="ak_attributes"):
        verify_quote(attest, key.sign(attest), key.public, expectation(key))


@pytest.mark.parametrize("key", [SoftwareAttestationKey(curve_id=5), SoftwareAttestationKey(scheme=0x1C)])
def test_algorithms_other_than_the_pinned_ones_are_refused(key: SoftwareAttestationKey) -> None:
    attest = key.attest(nonce=NONCE, pcr_values=VALUES)
    with pytest.raises(QuoteRefused, match="ak_algorithm"):
        verify_quote(attest, key.sign(attest), key.public, expectation(key))


def test_signature_that_names_another_hash_is_refused() -> None:
    key = SoftwareAttestationKey()
    attest = key.attest(nonce=NONCE, pcr_values=VALUES)
    for head in (b"\x00\x18\x00\x0c", b"\x00\x14\x00\x0b"):
        with pytest.raises(QuoteRefused, match="signature_algorithm"):
            verify_quote(attest, head + key.sign(attest)[4:], key.public, expectation(key))


def test_key_that_is_not_the_pinned_one_is_refused() -> None:
    key, pinned = SoftwareAttestationKey(), SoftwareAttestationKey()
    attest = key.attest(nonce=NONCE, pcr_values=VALUES)
    with pytest.raises(QuoteRefused, match="ak_name"):
        verify_quote(attest, key.sign(attest), key.public, expectation(pinned))


def test_verifier_without_nonce_or_pcrs_is_told_so() -> None:
    key = SoftwareAttestationKey()
    attest = key.attest(nonce=b"", pcr_values=VALUES)
    with pytest.raises(QuoteRefused, match="nonce"):
        verify_quote(attest, key.sign(attest), key.public, dataclasses.replace(expectation(key), nonce=b""))
    with pytest.raises(QuoteRefused, match="pcr_selection"):
        verify_quote(attest, key.sign(attest), key.public, dataclasses.replace(expectation(key), pcr_values={}))


def test_software_key_and_tpm_marshal_public_areas_alike() -> None:
    public = SoftwareAttestationKey().public
    decoded, used = TPMT_PUBLIC.unmarshal(public)
    assert used == len(public)
    assert bytes(decoded.marshal()) == public


def expectation(key: SoftwareAttestationKey) -> QuoteExpectation:
    return QuoteExpectation(
        ak_name=key.name,
        nonce=NONCE,
        pcr_values=VALUES,
        previous=BootCounts(reset=5, restart=3),
        firmware_allowed=frozenset({7}),
    )


def flipped(encoded: bytes, at: int) -> bytes:
    return encoded[:at] + bytes([encoded[at] ^ 0x40]) + encoded[at + 1 :]
