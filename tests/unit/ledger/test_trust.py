"""trust.json names witnesses beside the owner: an additive pin that older files lack."""

from __future__ import annotations

import base64
import hashlib
import json

import msgspec
import pytest

from appliance.crypto import cbor, cose
from appliance.crypto.signing_key import generate
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy
from appliance.ledger.trust import NO_WITNESSES, Evidence, encode_evidence, encode_trust, load_trust
from appliance.model.errors import Rejected
from tests.unit.ledger.shop import genesis, owner


def policy(needed: int = 1) -> WitnessPolicy:
    keys = [
        WitnessKey(name="w1.example", algorithm=key.algorithm, public_key=key.public_key)
        for key in (generate(cose.ED25519), generate(cose.ML_DSA_44))
    ]
    return WitnessPolicy(keys=tuple(keys), needed=needed)


def test_witnesses_are_read_as_they_were_written() -> None:
    pinned = policy()
    file = encode_evidence(owner().public, Evidence(logs=(genesis(),)), pinned)
    assert load_trust(file).witnesses == pinned


def test_learning_more_of_the_owner_forgets_no_witness() -> None:
    pinned = policy()
    trust = load_trust(encode_evidence(owner().public, Evidence(), pinned))
    assert trust.learn(Evidence(logs=(genesis(),))).witnesses == pinned


def test_a_file_without_witnesses_is_the_one_of_before() -> None:
    file = encode_trust(owner().public, [genesis()])
    assert b"witnesses" not in file
    assert load_trust(file).witnesses == NO_WITNESSES


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"witnesses_needed": 2}, "witness_policy_invalid"),
        ({"witnesses": ["nonsense"]}, "witness_key_malformed"),
        ({"witnesses_needed": -1}, "trust_malformed"),
        ({"witnesses": "w1"}, "trust_malformed"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(change: dict[str, object], code: str) -> None:
    file = msgspec.json.decode(encode_evidence(owner().public, Evidence(), policy()))
    with pytest.raises(Rejected, match=code):
        load_trust(msgspec.json.encode(file | change))


def test_the_owners_fingerprint_is_the_formula_of_the_documents() -> None:
    """docs/formats/genesis.md, "trust.json": SHA-256 of the CBOR array of both keys."""
    file = json.loads(encode_trust(owner().public, [genesis()]))
    keys = [base64.b64decode(file["owner"][name]) for name in ("classical", "post_quantum")]
    assert hashlib.sha256(cbor.encode(keys)).hexdigest() == owner().public.fingerprint
