"""The bytes of OpenTimestamps proofs: what is written is read, what is broken is refused by name."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.evidence.ots import (
    SHA256,
    Attestation,
    Foreign,
    InBlock,
    Promised,
    Proof,
    Step,
    Timestamp,
    append,
    grafted,
    merged,
    prepend,
    timestamp_through,
)
from appliance.evidence.ots_file import (
    DEPTH_MAX,
    PROOF_BYTES_MAX,
    decode_proof,
    decode_timestamp,
    encode_proof,
    encode_timestamp,
)
from appliance.model.errors import Rejected

DIGEST = hashlib.sha256(b"a head").digest()
URI = "http://127.0.0.1:14788"
# Written by python-opentimestamps 0.4.5: append 01 02, SHA-256, then block 700,000 and a calendar's promise.
REFERENCE = bytes.fromhex(
    "f0020102" "08" "ff" "00" "0588960d73d71901" "03" "e0dc2a"
    "00" "83dfe30d2ef90c8e" "17" "16" + URI.encode().hex()
)  # fmt: skip

steps = st.lists(
    st.one_of(
        st.just(SHA256), st.binary(min_size=1, max_size=40).map(append), st.binary(min_size=1, max_size=9).map(prepend)
    ),
    max_size=12,
)
attestations: st.SearchStrategy[Attestation] = st.one_of(
    st.integers(0, (1 << 62) - 1).map(lambda height: InBlock(height=height)),
    st.text("abcXYZ019-._/:", max_size=30).map(lambda uri: Promised(uri=uri)),
    st.binary(max_size=20).map(lambda payload: Foreign(tag=b"unknown!", payload=payload)),
)
timestamps = st.lists(st.tuples(steps, attestations), min_size=1, max_size=5).map(
    lambda paths: _joined([timestamp_through(DIGEST, *path) for path in paths])
)


def _joined(parts: list[Timestamp]) -> Timestamp:
    whole = parts[0]
    for part in parts[1:]:
        whole = merged(whole, part)
    return whole


@given(timestamps)
def test_every_proof_reads_back_as_it_was_written(timestamp: Timestamp) -> None:
    proof = Proof(timestamp=timestamp)
    assert decode_proof(encode_proof(proof)) == proof
    assert decode_timestamp(encode_timestamp(timestamp), DIGEST) == timestamp


@given(timestamps, st.data())
def test_no_cut_and_no_tail_goes_unseen(timestamp: Timestamp, data: st.DataObject) -> None:
    encoded = encode_proof(Proof(timestamp=timestamp))
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for damaged in (encoded[:cut], encoded + b"\x00"):
        with pytest.raises(Rejected) as refusal:
            decode_proof(damaged)
        assert refusal.value.code == "timestamp_malformed"


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(noise: bytes) -> None:
    with suppress(Rejected):
        decode_timestamp(noise, DIGEST)


def test_the_bytes_are_those_of_the_reference_implementation() -> None:
    message = hashlib.sha256(DIGEST + b"\x01\x02").digest()
    timestamp = decode_timestamp(REFERENCE, DIGEST)
    assert set(timestamp.claims()) == {(message, InBlock(height=700_000)), (message, Promised(uri=URI))}
    assert encode_timestamp(timestamp) == REFERENCE


def test_an_upgrade_is_grafted_where_the_promise_was() -> None:
    promised = timestamp_through(DIGEST, [append(b"1"), SHA256], Promised(uri=URI))
    commitment = next(message for message, _ in promised.claims())
    more = timestamp_through(commitment, [prepend(b"2"), SHA256], InBlock(height=7))
    whole = grafted(promised, more)
    assert {claim for _, claim in whole.claims()} == {Promised(uri=URI), InBlock(height=7)}
    assert grafted(whole, more) == whole
    unrelated = timestamp_through(b"else", [], InBlock(height=8))
    assert grafted(whole, unrelated) == whole


@pytest.mark.parametrize(
    ("encoded", "code"),
    [
        (b"\x02" + REFERENCE, "timestamp_unsupported"),  # SHA-1
        (b"\xf1\x00" + REFERENCE, "timestamp_malformed"),  # nothing to prepend
        (b"\xf1\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" + REFERENCE, "timestamp_malformed"),  # a length above 2^63
        (b"\xf1\x80\x40" + bytes(8192), "timestamp_malformed"),  # an operand of 8,192 bytes
        (b"\x08" * DEPTH_MAX + REFERENCE, "timestamp_malformed"),
        (b"\xff\x08" + REFERENCE + b"\x08" + REFERENCE, "timestamp_malformed"),  # the same step twice
        (b"\x00\x83\xdf\xe3\x0d\x2e\xf9\x0c\x8e\x02\x01?", "timestamp_malformed"),  # a character that no address has
        (b"\x00\x05\x88\x96\x0d\x73\xd7\x19\x01\x02\x07\x07", "timestamp_malformed"),  # a byte behind the height
        (bytes(PROOF_BYTES_MAX + 1), "timestamp_malformed"),
    ],
)
def test_what_a_calendar_must_not_send_is_refused_by_name(encoded: bytes, code: str) -> None:
    with pytest.raises(Rejected) as refusal:
        decode_timestamp(encoded, DIGEST)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("at", "code"), [(0, "timestamp_malformed"), (31, "timestamp_unsupported"), (32, "timestamp_unsupported")]
)
def test_another_header_version_or_file_hash_is_refused(at: int, code: str) -> None:
    encoded = bytearray(encode_proof(Proof(timestamp=timestamp_through(DIGEST, [], InBlock(height=1)))))
    encoded[at] ^= 2
    with pytest.raises(Rejected) as refusal:
        decode_proof(bytes(encoded))
    assert refusal.value.code == code


def test_messages_stay_short() -> None:
    long: list[Step] = [append(b"x" * 4000), append(b"x" * 4000)]
    encoded = encode_timestamp(timestamp_through(DIGEST, long, InBlock(height=1)))
    with pytest.raises(Rejected, match="longer than"):
        decode_timestamp(encoded, DIGEST)
