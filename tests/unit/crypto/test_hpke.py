"""HPKE: the published key form, one recipient, one purpose."""

from __future__ import annotations

import hashlib

import pytest

from appliance.crypto import hpke
from appliance.model.errors import Rejected

SEED = bytes(range(32))
KEY = hpke.Recipient(hpke.public_key_of(SEED))


def test_a_seed_expands_to_the_public_key_of_the_draft() -> None:
    # draft-ietf-hpke-pq test vectors, KEM 0x0051: skRm, and SHA-256 of pkRm.
    seed = bytes.fromhex("dbdae0423ba0e5db3d6322601b8dc302d3051d4677142079c7bdf441f4c448dd")
    public_key = hpke.public_key_of(seed)
    assert hashlib.sha256(public_key).hexdigest() == "5d0b42c6f1471a72045ec087a4c2e61875541f4550b513672f2d858eb1a133c3"


def test_what_is_sealed_opens_with_the_seed_and_the_purpose_alone() -> None:
    sealed = KEY.seal(b"secret", b"purpose")
    assert len(sealed) == len(b"secret") + hpke.OVERHEAD_BYTES
    assert hpke.open_sealed(SEED, sealed, b"purpose") == b"secret"
    for seed, changed, info in (
        (bytes(32), sealed, b"purpose"),
        (SEED, sealed, b"another purpose"),
        (SEED, sealed[:-1], b"purpose"),
        (SEED, bytes((sealed[0] ^ 1,)) + sealed[1:], b"purpose"),
        (SEED, sealed[:-1] + bytes((sealed[-1] ^ 1,)), b"purpose"),
        (SEED, b"", b"purpose"),
    ):
        with pytest.raises(Rejected) as refusal:
            hpke.open_sealed(seed, changed, info)
        assert refusal.value.code == "seal_refused"


def test_the_same_message_is_sealed_differently_each_time() -> None:
    assert KEY.seal(b"secret", b"") != KEY.seal(b"secret", b"")


@pytest.mark.parametrize(
    "key",
    [
        b"",
        SEED,
        KEY.public_key[:-1],
        KEY.public_key + b"\x00",
        b"\xff" * 1568 + KEY.public_key[1568:],
        KEY.public_key[:1568] + b"\x04" + bytes(96),
        KEY.public_key[:1568] + b"\x03" + KEY.public_key[1569:1617],
    ],
    ids=["empty", "a seed", "short", "long", "no lattice key", "no point", "compressed"],
)
def test_a_malformed_public_key_is_refused(key: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        hpke.Recipient(key)
    assert refusal.value.code == "recipient_key_malformed"
