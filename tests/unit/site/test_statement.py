"""The box's request and the owner's answer: bytes that say one thing, files that one box opens."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from appliance.crypto import cbor, cose, hpke
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.model.errors import Rejected
from drivers.tpm.policy import SignedPolicy
from provisioning.site.request import BoxRequest, read_request
from provisioning.site.statement import answer, read_statement
from tests.fakes.signer import FakeSigner

SEED = bytes(range(32))
POLICY = SignedPolicy(pcrs=(0, 7, 11), version=1, approved=bytes(32), signature=b"s", public_key=b"k")


@pytest.fixture(scope="module")
def request_() -> BoxRequest:
    classical, post_quantum = FakeSigner(cose.ED25519), FakeSigner(cose.ML_DSA_87)
    return BoxRequest(
        serial="TS-1",
        keys=HybridPublic(
            classical=PinnedKey(algorithm=cose.ED25519, public_key=classical.public_key),
            post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=post_quantum.public_key),
        ),
        note_key=classical.public_key,
        box_key=hpke.public_key_of(SEED),
        ek_certificate=b"certificate",
        ek_public=b"endorsement key",
        ak_public=b"attestation key",
        pcrs={0: bytes(32), 7: bytes([7]) * 32},
        floor_name=b"floor",
        floor=1,
        version="0.1.0",
    )


def test_a_request_is_read_as_it_was_written(request_: BoxRequest) -> None:
    assert read_request(request_.encode()) == request_
    assert request_.fingerprint == hashlib.sha256(request_.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"serial": "TS 1"},
        {"serial": "TS-1\n"},
        {"pcrs": [[24, bytes(32)]]},
        {"pcrs": [[0, b""]]},
        {"more": 1},
    ],
    ids=repr,
)
def test_another_request_is_refused(request_: BoxRequest, change: dict[str | int, cbor.Value]) -> None:
    said = cbor.decode(request_.encode(), size_max=1 << 20)
    assert isinstance(said, dict)
    with pytest.raises(Rejected, match="expected"):
        read_request(cbor.encode({**said, **change}))


def test_files_open_for_the_box_that_asked_and_under_their_own_names(request_: BoxRequest) -> None:
    said = answer(request_, b"[shop]", {"a": b"one", "b": b"two"}, POLICY, b"word")
    read = read_statement(said.encode())
    assert read == said
    assert read.open_files(SEED) == {"a": b"one", "b": b"two"}
    assert b"one" not in said.encode()
    for changed in (
        dataclasses.replace(said, files={"a": said.files["b"], "b": said.files["a"]}),
        dataclasses.replace(said, request_sha256=bytes(32)),
    ):
        with pytest.raises(Rejected, match="sealed for another"):
            changed.open_files(SEED)
    with pytest.raises(Rejected, match="sealed for another"):
        said.open_files(bytes(32))


@pytest.mark.parametrize("name", ["", "../key", "a/b", ".hidden"])
def test_a_file_with_the_name_of_another_place_is_refused(request_: BoxRequest, name: str) -> None:
    said = dataclasses.replace(answer(request_, b"", {}, POLICY, b"word"), files={name: b""})
    with pytest.raises(Rejected, match="expected files"):
        read_statement(said.encode())
