"""Judges a TPM quote from bytes alone, on any computer: pure Python and `cryptography`, no TPM library.

A quote proves something only when every line of `verify_quote` holds; each refusal names its aspect. What is NOT judged
here: that the attestation key lives in a genuine TPM (credential activation and the endorsement certificate do that).

Source: TPM 2.0 part 2: 10.12.8 TPMS_ATTEST, 12.2.4 TPMT_PUBLIC, 11.3.4 TPMT_SIGNATURE; part 1: 16 names.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

NONCE_BYTES_MIN: Final = 8
_MAGIC: Final = 0xFF544347
_ATTEST_QUOTE: Final = 0x8018
_ALG_NULL, _ALG_ECC, _ALG_ECDSA, _ALG_SHA256, _ALG_SHA384 = 0x0010, 0x0023, 0x0018, 0x000B, 0x000C
_HIERARCHY_ENDORSEMENT: Final = bytes.fromhex("4000000b")
_FIXED_TPM, _FIXED_PARENT, _ORIGIN, _USER_WITH_AUTH, _NODA, _RESTRICTED, _SIGN = (
    1 << 1, 1 << 4, 1 << 5, 1 << 6, 1 << 10, 1 << 16, 1 << 18,
)  # fmt: skip
_AK_ATTRIBUTES: Final = _FIXED_TPM | _FIXED_PARENT | _ORIGIN | _USER_WITH_AUTH | _NODA | _RESTRICTED | _SIGN
# Curve id -> curve, coordinate width, the only hash allowed with it.
_CURVES: Final[Mapping[int, tuple[ec.EllipticCurve, int, int, hashes.HashAlgorithm]]] = {
    0x0003: (ec.SECP256R1(), 32, _ALG_SHA256, hashes.SHA256()),
    0x0004: (ec.SECP384R1(), 48, _ALG_SHA384, hashes.SHA384()),
}


class QuoteRefused(Exception):
    """The quote proves nothing.

    Attributes:
        aspect: stable, lower_snake: which check failed.
    """

    def __init__(self, aspect: str, sentence: str) -> None:
        super().__init__(f"{aspect}: {sentence}")
        self.aspect = aspect


@dataclass(frozen=True, slots=True, kw_only=True)
class BootCounts:
    """How often the TPM lost power (`reset`) and resumed (`restart`) in its life."""

    reset: int
    restart: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteExpectation:
    """What the verifier pinned or asked for.

    Attributes:
        ak_name: the attestation key's name, as bound by credential activation.
        nonce: what the verifier sent; at least 8 bytes.
        pcr_values: SHA-256 bank, index to value: exactly these PCRs must be quoted, with these values.
        previous: counts of the last accepted quote, None for the first one.
        firmware_allowed: firmware versions that may speak; None while no list exists.
    """

    ak_name: bytes
    nonce: bytes
    pcr_values: Mapping[int, bytes]
    previous: BootCounts | None
    firmware_allowed: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """What a quote that passed every check says; `is_clock_safe` False after a power cut is information, no fault."""

    counts: BootCounts
    clock_ms: int
    is_clock_safe: bool
    firmware: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attest:
    magic: int
    kind: int
    signer: bytes
    nonce: bytes
    clock_ms: int
    counts: BootCounts
    safe: int
    firmware: int
    selections: tuple[tuple[int, bytes], ...]
    pcr_digest: bytes


def verify_quote(attest: bytes, signature: bytes, ak_public: bytes, expected: QuoteExpectation) -> VerifiedQuote:
    """Accept the quote or say which aspect of it is wrong.

    Args:
        attest: TPMS_ATTEST as signed.
        signature: TPMT_SIGNATURE.
        ak_public: TPMT_PUBLIC of the attestation key; believed only if its name is `expected.ak_name`.
    Raises:
        QuoteRefused: with the aspect.
    """
    _refuse_unless(
        len(expected.nonce) >= NONCE_BYTES_MIN, "nonce", "the verifier's own nonce is too short to prove freshness"
    )
    _refuse_unless(bool(expected.pcr_values), "pcr_selection", "the verifier expects no PCR at all")
    key, hash_id, hash_algorithm = _attestation_key(ak_public, expected.ak_name)
    _check_signature(signature, attest, key, hash_id, hash_algorithm)
    quote = _parse_attest(attest)
    _refuse_unless(
        quote.magic == _MAGIC, "magic", f"expected 0x{_MAGIC:08x}, made inside a TPM, got 0x{quote.magic:08x}"
    )
    _refuse_unless(quote.kind == _ATTEST_QUOTE, "type", f"expected a quote (0x8018), got 0x{quote.kind:04x}")
    _check_signer(quote.signer, expected.ak_name)
    _refuse_unless(hmac.compare_digest(quote.nonce, expected.nonce), "nonce", "the quote answers another nonce")
    _check_pcrs(quote, expected.pcr_values, hash_algorithm)
    _check_counts(quote.counts, expected.previous)
    _refuse_unless(quote.safe in (0, 1), "safe", "the clock's safe flag is neither yes nor no")
    if expected.firmware_allowed is not None:
        is_allowed = quote.firmware in expected.firmware_allowed
        _refuse_unless(is_allowed, "firmware", f"firmware 0x{quote.firmware:016x} is not on the list")
    return VerifiedQuote(
        counts=quote.counts, clock_ms=quote.clock_ms, is_clock_safe=quote.safe == 1, firmware=quote.firmware
    )


def object_name(public: bytes) -> bytes:
    """The name of a TPMT_PUBLIC whose nameAlg is SHA-256: it binds key, curve, scheme and every attribute."""
    return _ALG_SHA256.to_bytes(2, "big") + hashlib.sha256(public).digest()


def read_attestation_key(public: bytes) -> ec.EllipticCurvePublicKey:
    """The key of this TPMT_PUBLIC, if it can do nothing but attest and never left its TPM. Raises QuoteRefused."""
    return _attestation_key(public, object_name(public))[0]


def _attestation_key(public: bytes, name: bytes) -> tuple[ec.EllipticCurvePublicKey, int, hashes.HashAlgorithm]:
    _refuse_unless(hmac.compare_digest(object_name(public), name), "ak_name", "the key is not the pinned one")
    read = _Reader(public, "ak_public")
    kind, name_algorithm, attributes, policy = read.u16(), read.u16(), read.u32(), read.sized()
    _refuse_unless((kind, name_algorithm) == (_ALG_ECC, _ALG_SHA256), "ak_algorithm", "expected ECC named by SHA-256")
    _refuse_unless(
        attributes == _AK_ATTRIBUTES,
        "ak_attributes",
        f"expected 0x{_AK_ATTRIBUTES:08x} (fixed, made inside, restricted to signing, noDA), got 0x{attributes:08x}",
    )
    _refuse_unless(policy == b"", "ak_attributes", "expected no policy on the attestation key")
    symmetric, scheme, scheme_hash, curve_id, kdf = read.u16(), read.u16(), read.u16(), read.u16(), read.u16()
    x, y = read.sized(), read.sized()
    read.end()
    _refuse_unless(curve_id in _CURVES, "ak_algorithm", f"curve 0x{curve_id:04x} is not P-256 or P-384")
    curve, width, hash_id, hash_algorithm = _CURVES[curve_id]
    pinned = (_ALG_NULL, _ALG_ECDSA, hash_id, _ALG_NULL)
    _refuse_unless(
        (symmetric, scheme, scheme_hash, kdf) == pinned, "ak_algorithm", "expected ECDSA with the curve's hash"
    )
    _refuse_unless(max(len(x), len(y)) <= width, "ak_algorithm", "a coordinate is longer than the curve's field")
    try:
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)
        return numbers.public_key(), hash_id, hash_algorithm
    except ValueError as error:
        raise QuoteRefused("ak_algorithm", "the key is not a point of its curve") from error


def _check_signature(
    signature: bytes, message: bytes, key: ec.EllipticCurvePublicKey, hash_id: int, hash_algorithm: hashes.HashAlgorithm
) -> None:
    read = _Reader(signature, "signature_form")
    algorithm, signature_hash, r, s = read.u16(), read.u16(), read.sized(), read.sized()
    read.end()
    _refuse_unless(
        (algorithm, signature_hash) == (_ALG_ECDSA, hash_id),
        "signature_algorithm",
        "expected ECDSA with the key's hash",
    )
    try:
        key.verify(
            encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big")), message, ec.ECDSA(hash_algorithm)
        )
    except InvalidSignature as error:
        raise QuoteRefused("signature", "the attestation key did not sign these bytes") from error


def _check_signer(signer: bytes, ak_name: bytes) -> None:
    # Qualified name of a primary key: H(hierarchy handle || name). It proves the endorsement hierarchy, and with it
    # that resetCount, restartCount and firmwareVersion are the true ones and not obfuscated (part 1, 36.7).
    qualified = _ALG_SHA256.to_bytes(2, "big") + hashlib.sha256(_HIERARCHY_ENDORSEMENT + ak_name).digest()
    _refuse_unless(
        hmac.compare_digest(signer, qualified),
        "signer",
        "the signer is not the pinned key in the endorsement hierarchy",
    )


def _check_pcrs(quote: _Attest, values: Mapping[int, bytes], hash_algorithm: hashes.HashAlgorithm) -> None:
    octets = sum(1 << index for index in values).to_bytes(3, "little")
    _refuse_unless(
        quote.selections == ((_ALG_SHA256, octets),),
        "pcr_selection",
        f"expected exactly PCRs {sorted(values)} of the SHA-256 bank",
    )
    _refuse_unless(all(len(value) == 32 for value in values.values()), "pcr_digest", "expected values have 32 bytes")
    # The values are of the SHA-256 bank; their digest is by the hash of the signature (part 3, 18.4.1).
    digest = hashes.Hash(hash_algorithm)
    digest.update(b"".join(values[index] for index in sorted(values)))
    _refuse_unless(
        hmac.compare_digest(quote.pcr_digest, digest.finalize()),
        "pcr_digest",
        "the PCRs hold other values than expected",
    )


def _check_counts(counts: BootCounts, previous: BootCounts | None) -> None:
    if previous is None:
        return
    # restartCount starts again at 0 with each reset, so it is compared only within one.
    _refuse_unless(
        counts.reset >= previous.reset,
        "reset_count",
        f"went back from {previous.reset} to {counts.reset}: another TPM?",
    )
    is_same_boot = counts.reset == previous.reset
    _refuse_unless(
        not is_same_boot or counts.restart >= previous.restart,
        "restart_count",
        f"went back from {previous.restart} to {counts.restart}",
    )


def _parse_attest(attest: bytes) -> _Attest:
    read = _Reader(attest, "attest_form")
    magic, kind, signer, nonce = read.u32(), read.u16(), read.sized(), read.sized()
    clock_ms, reset, restart, safe, firmware = read.u64(), read.u32(), read.u32(), read.u8(), read.u64()
    if magic != _MAGIC or kind != _ATTEST_QUOTE:
        selections: tuple[
            tuple[int, bytes], ...
        ] = ()  # another structure follows; the caller refuses by magic and type
        digest = b""
    else:
        count = read.u32()
        _refuse_unless(count <= 16, "attest_form", f"{count} PCR selections")
        selections = tuple((read.u16(), read.take(read.u8())) for _ in range(count))
        digest = read.sized()
        read.end()
    return _Attest(
        magic=magic, kind=kind, signer=signer, nonce=nonce, clock_ms=clock_ms,
        counts=BootCounts(reset=reset, restart=restart), safe=safe, firmware=firmware,
        selections=selections, pcr_digest=digest,
    )  # fmt: skip


def _refuse_unless(condition: bool, aspect: str, sentence: str) -> None:
    if not condition:
        raise QuoteRefused(aspect, sentence)


class _Reader:
    """Big-endian fields one after another; running out, or anything left over, is a refusal."""

    def __init__(self, encoded: bytes, aspect: str) -> None:
        self._encoded = encoded
        self._aspect = aspect
        self._at = 0

    def take(self, size: int) -> bytes:
        _refuse_unless(self._at + size <= len(self._encoded), self._aspect, "ends in the middle of a field")
        self._at += size
        return self._encoded[self._at - size : self._at]

    def u8(self) -> int:
        return int.from_bytes(self.take(1), "big")

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def sized(self) -> bytes:
        return self.take(self.u16())

    def end(self) -> None:
        left = len(self._encoded) - self._at
        _refuse_unless(left == 0, self._aspect, f"{left} trailing bytes")
