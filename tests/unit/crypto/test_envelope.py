"""Seed envelopes and erasable values: bound to their place, proven when opened."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.crypto import cbor, cose, disclosure, envelope, signature, signing_key
from appliance.model.errors import Bug, Corrupt

SEED = bytes(range(32))


class TokenKey:
    """AES-GCM as a token does it; a fixed nonce makes the vector of docs/formats/envelope.md."""

    def __init__(self, key: bytes = b"\x00" * 32) -> None:
        self._cipher = AESGCM(key)

    async def wrap(self, plaintext: bytes, aad: bytes) -> bytes:
        return b"\x00" * 12 + self._cipher.encrypt(b"\x00" * 12, plaintext, aad)

    async def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        return self._cipher.decrypt(blob[:12], blob[12:], aad)


class LyingToken(TokenKey):
    """Gives another seed back: a mixed-up key or a broken driver."""

    async def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        return bytes(32)


async def sealed(purpose: str = "log_post_quantum", algorithm: int = cose.ML_DSA_87) -> bytes:
    return await envelope.seal(TokenKey(), SEED, envelope.header_for(purpose, algorithm, SEED))


@pytest.mark.parametrize("algorithm", [cose.ML_DSA_87, cose.ED25519])
async def test_an_opened_envelope_is_the_key_its_header_names(algorithm: int) -> None:
    key = await envelope.open_envelope(TokenKey(), await sealed("note", algorithm), purpose="note")
    assert key.algorithm == algorithm
    assert signature.verify(algorithm, key.public_key, b"head", key.sign(b"head"))


async def test_the_bytes_are_those_of_the_format_page() -> None:
    data = await sealed()
    parts = cbor.decode(data, size_max=999)
    assert isinstance(parts, list)
    public_key = signing_key.ml_dsa_87_from_seed(SEED).public_key
    expected = [1, "log_post_quantum", -50, hashlib.sha256(public_key).digest(), hashlib.sha384(public_key).digest()]
    assert parts[0] == cbor.encode(expected)
    assert len(data) == 170
    assert hashlib.sha256(data).hexdigest() == "d56b38ea60c872dea1adcacedf67dc97717c78087298753db26697c9f3c521ed"


async def test_an_envelope_opens_for_its_purpose_only() -> None:
    with pytest.raises(Corrupt) as refusal:
        await envelope.open_envelope(TokenKey(), await sealed(), purpose="note")
    assert refusal.value.code == "envelope_purpose_wrong"


async def test_a_changed_header_does_not_open() -> None:
    data = bytearray(await sealed())
    data[data.index(b"log_post") + 1] ^= 2
    with pytest.raises(InvalidTag):
        await envelope.open_envelope(TokenKey(), bytes(data), purpose="lmg_post_quantum")


async def test_another_token_key_does_not_open() -> None:
    with pytest.raises(InvalidTag):
        await envelope.open_envelope(TokenKey(b"\x01" * 32), await sealed(), purpose="log_post_quantum")


async def test_a_token_that_gives_another_seed_is_caught() -> None:
    with pytest.raises(Corrupt) as refusal:
        await envelope.open_envelope(LyingToken(), await sealed(), purpose="log_post_quantum")
    assert refusal.value.code == "envelope_key_mismatch"
    with pytest.raises(Corrupt):
        await envelope.seal(LyingToken(), SEED, envelope.header_for("note", cose.ML_DSA_87, SEED))


@pytest.mark.parametrize("data", [b"", b"\x80", cbor.encode([b"", b""]), cbor.encode([cbor.encode([2]), b""])])
async def test_other_bytes_are_no_envelope(data: bytes) -> None:
    with pytest.raises(Corrupt) as refusal:
        await envelope.open_envelope(TokenKey(), data, purpose="note")
    assert refusal.value.code == "envelope_malformed"


def test_a_commitment_is_the_salted_hash() -> None:
    assert disclosure.commit(b"s" * 16, b"value") == hashlib.sha256(b"s" * 16 + b"value").digest()
    with pytest.raises(Bug):
        disclosure.commit(b"short", b"value")


def test_a_sealed_value_opens_with_its_key_in_its_place_only() -> None:
    data = disclosure.seal_value(b"k" * 32, b"entry 7 cashier", b"Anna")
    assert len(data) == 4 + disclosure.SEALED_OVERHEAD
    assert disclosure.open_value(b"k" * 32, b"entry 7 cashier", data) == b"Anna"
    assert disclosure.seal_value(b"k" * 32, b"entry 7 cashier", b"Anna") != data
    for key, aad, sealed_value in (
        (b"j" * 32, b"entry 7 cashier", data),
        (b"k" * 32, b"entry 8 cashier", data),
        (b"k" * 32, b"entry 7 cashier", data[:-1] + bytes((data[-1] ^ 1,))),
        (b"k" * 32, b"entry 7 cashier", data[:20]),
    ):
        with pytest.raises(Corrupt) as refusal:
            disclosure.open_value(key, aad, sealed_value)
        assert refusal.value.code == "disclosure_unreadable"
