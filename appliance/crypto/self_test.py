"""Known-answer self-tests: every algorithm gives a published answer before any key is touched.

Owns the list of tests. Must never skip one: the first wrong answer stops the start with its name. Each test makes its
output from fixed input and compares it with an answer that was made by somebody else; where keys are made at run time,
a sign and verify pair is added. All together take about 20 ms.

Sources: FIPS 180-4 examples ("abc"), RFC 4231 case 2, RFC 5869 case 1, Wycheproof aes_gcm 100, RFC 6979 A.2.5 and A.2.6
("sample"), RFC 8032 section 7.1 test 1, Wycheproof mldsa_87_sign_seed 1; SLH-DSA-SHA2-256s (seeds 00 01 .. 5f)
and ML-DSA-44 (seed 2a 2a ..) were signed by noble-post-quantum 0.7.1, deterministic; draft-ietf-hpke-pq, KEM 0x0051
with KDF 2 and AEAD 2. The three long signatures and the encapsulated key lie in `known_answers.bin`.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.crypto import cose, hpke, signature, signing_key
from appliance.model.errors import Corrupt

_ML_DSA_87_SIGNATURE_SIZE: Final = 4627
_SLH_DSA_SIGNATURE_END: Final = _ML_DSA_87_SIGNATURE_SIZE + 29_792
_ML_DSA_44_SIGNATURE_SIZE: Final = 2420
_KNOWN_ANSWERS_SHA256: Final = "5e7c94a030fe61e3b631a3889aba5c542e5b5f396d29b67cb3680c9ee1324ee2"
_PAIRWISE_MESSAGE: Final = b"tillstone self-test"


class _WrongAnswer(Exception):
    """An algorithm did not give its known answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """A test: `run` raises unless the algorithm gives what `answer()` returns."""

    name: str
    answer: Callable[[], bytes]
    run: Callable[[bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestResult:
    """A test that passed."""

    name: str
    took_us: int


def run_all(tests: Sequence[SelfTest] | None = None) -> list[SelfTestResult]:
    """Run every test, in order; raises Corrupt `self_test_failed` with the name of the first that fails."""
    return [_run_one(test) for test in (TESTS if tests is None else tests)]


def _run_one(test: SelfTest) -> SelfTestResult:
    started_ns = time.perf_counter_ns()
    try:
        test.run(test.answer())
    # Broad on purpose: whatever a broken library raises, this test has failed, and the start stops with its name.
    except Exception as cause:
        raise Corrupt("self_test_failed", f"{test.name} does not give its known answer") from cause
    return SelfTestResult(name=test.name, took_us=(time.perf_counter_ns() - started_ns) // 1000)


def _equal(seen: bytes, expected: bytes) -> None:
    if seen != expected:
        raise _WrongAnswer


def _true(condition: bool) -> None:
    if not condition:
        raise _WrongAnswer


def _sha256(answer: bytes) -> None:
    _equal(hashlib.sha256(b"abc").digest(), answer)


def _sha384(answer: bytes) -> None:
    _equal(hashlib.sha384(b"abc").digest(), answer)


def _hmac_sha256(answer: bytes) -> None:
    _equal(hmac.digest(b"Jefe", b"what do ya want for nothing?", "sha256"), answer)


def _hkdf_sha256(answer: bytes) -> None:
    derive = HKDF(algorithm=hashes.SHA256(), length=42, salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA)))
    _equal(derive.derive(b"\x0b" * 22), answer)


def _aes_256_gcm(answer: bytes) -> None:
    cipher = AESGCM(bytes.fromhex("b279f57e19c8f53f2f963f5f2519fdb7c1779be2ca2b3ae8e1128b7d6c627fc4"))
    nonce, aad = bytes.fromhex("98bc2c7438d5cd7665d76f6e"), b"\xc0"
    plaintext = bytes.fromhex("fcc515b294408c8645c9183e3f4ecee5127846d1")
    _equal(cipher.encrypt(nonce, plaintext, aad), answer)
    _equal(cipher.decrypt(nonce, answer, aad), plaintext)
    try:
        cipher.decrypt(nonce, answer[:-1] + bytes((answer[-1] ^ 1,)), aad)
    except InvalidTag:
        return
    raise _WrongAnswer


def _ecdsa_p256(answer: bytes) -> None:
    secret = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    _ecdsa(ec.derive_private_key(secret, ec.SECP256R1()), hashes.SHA256(), cose.ESP256, answer)


def _ecdsa_p384(answer: bytes) -> None:
    secret = 0x6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5
    _ecdsa(ec.derive_private_key(secret, ec.SECP384R1()), hashes.SHA384(), cose.ESP384, answer)


def _ecdsa(
    key: ec.EllipticCurvePrivateKey, digest: hashes.SHA256 | hashes.SHA384, algorithm: int, answer: bytes
) -> None:
    half = len(answer) // 2
    r, s = decode_dss_signature(key.sign(b"sample", ec.ECDSA(digest, deterministic_signing=True)))
    _equal(r.to_bytes(half, "big") + s.to_bytes(half, "big"), answer)
    public_key = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _verifies_only_this(algorithm, public_key, b"sample", answer)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _pairwise(signing_key.from_pem(algorithm, pem))


def _ed25519(answer: bytes) -> None:
    key = signing_key.ed25519_from_seed(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    _equal(key.sign(b""), answer)
    _verifies_only_this(cose.ED25519, key.public_key, b"", answer)


def _ml_dsa_87_key_from_seed(answer: bytes) -> None:
    _equal(signing_key.ml_dsa_87_from_seed(b"\x2a" * 32).key_id, answer)


def _ml_dsa_87(answer: bytes) -> None:
    # Signing is hedged in the library, so its known answer is verified and signing is tested in pairs.
    key = signing_key.ml_dsa_87_from_seed(b"\x2a" * 32)
    _verifies_only_this(cose.ML_DSA_87, key.public_key, b"Hello world", answer)
    _pairwise(key)


def _ml_dsa_44(answer: bytes) -> None:
    key = mldsa.MLDSA44PrivateKey.from_seed_bytes(b"\x2a" * 32)
    public_key = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _verifies_only_this(cose.ML_DSA_44, public_key, b"Hello world", answer)


def _slh_dsa_sha2_256s(answer: bytes) -> None:
    public_seed = bytes(range(64, 96))
    root = bytes.fromhex("da7163e601352515bc0f06f9f4f44be71a5a65ee9dca5575cf4a7b6d4a87d6e2")
    public_key = signature.slh_dsa_public_key(public_seed + root)
    _verifies_only_this(signature.SLH_DSA_SHA2_256S, public_key, b"tillstone known answer", answer)


def _hpke(answer: bytes) -> None:
    # The published messages carry AAD, which our one-shot form has not; under the published key (the answer's first 32
    # bytes) and nonce, a message without it is AES-256-GCM, which has passed by now.
    seed = bytes.fromhex("dbdae0423ba0e5db3d6322601b8dc302d3051d4677142079c7bdf441f4c448dd")
    encapsulated = _known_answers()[_SLH_DSA_SIGNATURE_END:-_ML_DSA_44_SIGNATURE_SIZE]
    ciphertext = AESGCM(answer[:32]).encrypt(answer[32:], _PAIRWISE_MESSAGE, None)
    info = b"4f6465206f6e2061204772656369616e2055726e"
    _equal(hpke.open_sealed(seed, encapsulated + ciphertext, info), _PAIRWISE_MESSAGE)
    sealed = hpke.Recipient(hpke.public_key_of(seed)).seal(_PAIRWISE_MESSAGE, info)
    _equal(hpke.open_sealed(seed, sealed, info), _PAIRWISE_MESSAGE)


def _verifies_only_this(algorithm: int, public_key: bytes, message: bytes, answer: bytes) -> None:
    _true(signature.verify(algorithm, public_key, message, answer))
    # A verifier that says yes to everything would pass the line above.
    _true(not signature.verify(algorithm, public_key, message + b"\x00", answer))


def _pairwise(key: signing_key.SigningKey) -> None:
    signed = key.sign(_PAIRWISE_MESSAGE)
    _true(signature.verify(key.algorithm, key.public_key, _PAIRWISE_MESSAGE, signed))


@lru_cache(maxsize=1)
def _known_answers() -> bytes:
    data = resources.files("appliance.crypto").joinpath("known_answers.bin").read_bytes()
    _equal(hashlib.sha256(data).digest(), bytes.fromhex(_KNOWN_ANSWERS_SHA256))
    return data


def _hex(text: str) -> Callable[[], bytes]:
    return lambda: bytes.fromhex(text)


# The hash comes first: later answers lean on it.
TESTS: Final = (
    SelfTest(
        name="SHA-256",
        answer=_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        run=_sha256,
    ),
    SelfTest(
        name="SHA-384",
        answer=_hex("cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"),
        run=_sha384,
    ),
    SelfTest(
        name="HMAC-SHA-256",
        answer=_hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        run=_hmac_sha256,
    ),
    SelfTest(
        name="HKDF-SHA-256",
        answer=_hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
        run=_hkdf_sha256,
    ),
    SelfTest(
        name="AES-256-GCM",
        answer=_hex("eb5500e3825952866d911253f8de860c00831c81ecb660e1fb0541ec41e8d68a64141b3a"),
        run=_aes_256_gcm,
    ),
    SelfTest(
        name="ECDSA P-256",
        answer=_hex(
            "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
            "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
        ),
        run=_ecdsa_p256,
    ),
    SelfTest(
        name="ECDSA P-384",
        answer=_hex(
            "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46"
            "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8"
        ),
        run=_ecdsa_p384,
    ),
    SelfTest(
        name="Ed25519",
        answer=_hex(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac"
            "c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
        run=_ed25519,
    ),
    SelfTest(
        name="ML-DSA-87 key from seed",
        answer=_hex("d0bc39564a0b58cac445901e7d02e9ab49ccc7b0a71b3e6ef89a27fe1cd88904"),
        run=_ml_dsa_87_key_from_seed,
    ),
    SelfTest(name="ML-DSA-87", answer=lambda: _known_answers()[:_ML_DSA_87_SIGNATURE_SIZE], run=_ml_dsa_87),
    SelfTest(name="ML-DSA-44", answer=lambda: _known_answers()[-_ML_DSA_44_SIGNATURE_SIZE:], run=_ml_dsa_44),
    SelfTest(
        name="SLH-DSA-SHA2-256s",
        answer=lambda: _known_answers()[_ML_DSA_87_SIGNATURE_SIZE:_SLH_DSA_SIGNATURE_END],
        run=_slh_dsa_sha2_256s,
    ),
    SelfTest(
        name="HPKE ML-KEM-1024 with P-384",
        answer=_hex("6f5b0a62d262c2cc2026a8f38b3879abea8042823ca193573e7154953d22dd64b057357da81f0102a835a35d"),
        run=_hpke,
    ),
)
