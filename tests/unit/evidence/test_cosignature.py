"""Cosignatures: exact bytes, both types, unknown keys skipped, known ones never wrong, k of n."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.crypto import cose
from appliance.crypto.signing_key import SigningKey, generate
from appliance.evidence.cosignature import (
    WitnessKey,
    WitnessPolicy,
    cosign,
    require_quorum,
    verify_cosignatures,
)
from appliance.model.errors import Rejected

TEXT = b"shop.example/SN-1/1\n42\n" + base64.b64encode(b"r" * 32) + b"\n"
TIME_S = 1_790_000_000
VECTOR = json.loads((Path(__file__).parents[2] / "vectors/cosignature.json").read_text())


class Witness:
    """A witness with both keys in memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.signing: tuple[SigningKey, ...] = (generate(cose.ED25519), generate(cose.ML_DSA_44))

    @property
    def keys(self) -> tuple[WitnessKey, ...]:
        return tuple(WitnessKey(name=self.name, algorithm=k.algorithm, public_key=k.public_key) for k in self.signing)

    def lines(self, text: bytes = TEXT, time_s: int = TIME_S) -> bytes:
        pairs = zip(self.keys, self.signing, strict=True)
        return b"".join(cosign(text, key=key, sign=signing.sign, time_s=time_s) for key, signing in pairs)


@pytest.fixture(scope="module")
def witnesses() -> tuple[Witness, Witness, Witness]:
    return Witness("w1.example"), Witness("w2.example"), Witness("w3.example")


def policy_of(*witnesses: Witness, needed: int) -> WitnessPolicy:
    return WitnessPolicy(keys=tuple(key for witness in witnesses for key in witness.keys), needed=needed)


def signed_message(key: WitnessKey) -> bytes:
    """What `key` signs for TEXT at second 7."""
    seen: list[bytes] = []

    def sign(message: bytes) -> bytes:
        seen.append(message)
        return b"signature"

    cosign(TEXT, key=key, sign=sign, time_s=7)
    return seen[0]


def test_both_types_verify_and_say_when(witnesses: tuple[Witness, ...]) -> None:
    found = verify_cosignatures(TEXT, witnesses[0].lines(), witnesses[0].keys)
    assert [(each.key.algorithm, each.time_s) for each in found] == [(cose.ED25519, TIME_S), (cose.ML_DSA_44, TIME_S)]


def test_the_bytes_are_those_of_the_vector() -> None:
    keys = tuple(WitnessKey.from_vkey(text) for text in VECTOR["vkeys"])
    text, lines = VECTOR["text"].encode(), VECTOR["lines"].encode()
    assert [each.time_s for each in verify_cosignatures(text, lines, keys)] == [VECTOR["time_s"]] * 2
    assert [key.vkey for key in keys] == VECTOR["vkeys"]


def test_the_ed25519_message_is_the_text_under_two_lines(witnesses: tuple[Witness, ...]) -> None:
    assert signed_message(witnesses[0].keys[0]) == b"cosignature/v1\ntime 7\n" + TEXT


def test_the_ml_dsa_message_is_the_subtree_from_zero(witnesses: tuple[Witness, ...]) -> None:
    start, size = bytes(8), (42).to_bytes(8, "big")
    assert signed_message(witnesses[0].keys[1]) == (
        b"subtree/v1\n\0\x0aw1.example" + (7).to_bytes(8, "big") + b"\x13shop.example/SN-1/1" + start + size + b"r" * 32
    )


def test_a_key_hash_is_the_specifications(witnesses: tuple[Witness, ...]) -> None:
    key = witnesses[0].keys[0]
    assert key.key_hash == hashlib.sha256(b"w1.example\n\x04" + key.public_key[-32:]).digest()[:4]


def test_lines_of_unknown_keys_are_skipped(witnesses: tuple[Witness, ...]) -> None:
    lines = witnesses[1].lines() + witnesses[0].lines()
    assert {each.key.name for each in verify_cosignatures(TEXT, lines, witnesses[0].keys)} == {"w1.example"}


@pytest.mark.parametrize("which", [0, 1])
def test_a_known_key_with_a_wrong_signature_refuses_all(witnesses: tuple[Witness, ...], which: int) -> None:
    other = TEXT.replace(b"\n42\n", b"\n43\n")
    lines = witnesses[0].lines(other).splitlines(keepends=True)[which]
    with pytest.raises(Rejected, match="cosignature_wrong"):
        verify_cosignatures(TEXT, witnesses[1].lines() + lines, witnesses[0].keys)


def test_a_changed_time_does_not_verify(witnesses: tuple[Witness, ...]) -> None:
    for line in witnesses[0].lines().splitlines():
        mark, name, encoded = line.split(b" ")
        raw = bytearray(base64.b64decode(encoded))
        raw[11] ^= 1
        changed = b" ".join((mark, name, base64.b64encode(raw))) + b"\n"
        with pytest.raises(Rejected, match="cosignature_wrong"):
            verify_cosignatures(TEXT, changed, witnesses[0].keys)


def test_a_witness_counts_only_with_all_of_its_keys(witnesses: tuple[Witness, ...]) -> None:
    policy = policy_of(*witnesses, needed=2)
    half = witnesses[1].lines().splitlines(keepends=True)[1]
    with pytest.raises(Rejected, match=r"expected 2 of 3, saw w1\.example$"):
        require_quorum(TEXT, witnesses[0].lines() + half, policy)
    assert len(require_quorum(TEXT, witnesses[0].lines() + witnesses[2].lines(), policy)) == 4


def test_one_witness_twice_is_one(witnesses: tuple[Witness, ...]) -> None:
    with pytest.raises(Rejected, match="witness_quorum_missing"):
        require_quorum(TEXT, witnesses[0].lines() * 2, policy_of(*witnesses, needed=2))


def test_a_policy_that_cannot_be_met_is_refused(witnesses: tuple[Witness, ...]) -> None:
    with pytest.raises(Rejected, match="witness_policy_invalid"):
        policy_of(*witnesses, needed=4)
    with pytest.raises(Rejected, match="witness_policy_invalid"):
        policy_of(witnesses[0], witnesses[0], needed=1)


def test_a_verifier_key_survives_its_text_form(witnesses: tuple[Witness, ...]) -> None:
    for key in witnesses[0].keys:
        assert WitnessKey.from_vkey(key.vkey) == key


@pytest.mark.parametrize("change", ["name", "hash", "type", "short", "base64", "empty"])
def test_a_damaged_verifier_key_is_refused(witnesses: tuple[Witness, ...], change: str) -> None:
    name, hash_hex, encoded = witnesses[0].keys[0].vkey.split("+", 2)
    raw = base64.b64decode(encoded)
    damaged = {
        "name": f"other.example+{hash_hex}+{encoded}",
        "hash": f"{name}+00000000+{encoded}",
        "type": f"{name}+{hash_hex}+{base64.b64encode(bytes((1,)) + raw[1:]).decode()}",
        "short": f"{name}+{hash_hex}+{base64.b64encode(raw[:-1]).decode()}",
        "base64": f"{name}+{hash_hex}+{encoded}!",
        "empty": "",
    }[change]
    with pytest.raises(Rejected, match="witness_key_malformed"):
        WitnessKey.from_vkey(damaged)


@pytest.mark.parametrize(
    "lines",
    [
        "\u2014 w1.example AAAA",
        "- w1.example AAAAAAAAAAA=\n",
        "\u2014 w1.example AAAA\n",
        "\u2014 w1.example\n",
        "\u2014 w1.example AAAAAAAAAAB=\n",
        "\u2014 w1.example AAAAAAAAAAA=\n" * 33,
        "x" * 70_000,
    ],
)
def test_malformed_lines_are_refused(witnesses: tuple[Witness, ...], lines: str) -> None:
    with pytest.raises(Rejected, match="cosignature_malformed"):
        verify_cosignatures(TEXT, lines.encode(), witnesses[0].keys)


@pytest.mark.parametrize("size", [b"042", b"-1", b"x", b"9" * 20])
def test_a_malformed_checkpoint_cannot_be_cosigned(witnesses: tuple[Witness, ...], size: bytes) -> None:
    with pytest.raises(Rejected, match="cosignature_malformed"):
        witnesses[0].lines(TEXT.replace(b"42", size))


def test_two_keys_of_one_name_with_different_algorithms_are_two_keys(witnesses: tuple[Witness, ...]) -> None:
    ed25519, ml_dsa = witnesses[0].keys
    with pytest.raises(Rejected, match="witness_key_malformed"):
        replace(ed25519, public_key=ml_dsa.public_key)
