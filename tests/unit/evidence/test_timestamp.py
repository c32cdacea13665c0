"""The offline check: a digest, a proof and headers; every way to lie about one of them has its own code."""

from __future__ import annotations

import hashlib

import pytest

from appliance.evidence.block import MAINNET, REGTEST, TESTNET, Network, decode_header, merkle_root, merkle_steps, shown
from appliance.evidence.ots import SHA256, Foreign, InBlock, Promised, Proof, append, merged, prepend, timestamp_through
from appliance.evidence.ots_file import encode_proof
from appliance.evidence.timestamp import verify_timestamp
from appliance.model.errors import Rejected
from appliance.ports.chain import BlockHash, TransactionId
from tests.regtest import mined_header

DIGEST = hashlib.sha256(b"a note").digest()
STEPS = [append(b"salt"), SHA256, prepend(b"block"), SHA256, SHA256]
TIME_S = 1_790_000_000
HEIGHT = 812
GENESIS = bytes.fromhex(
    "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    "29ab5f49" "ffff001d" "1dac2b7c"
)  # fmt: skip


def _root() -> bytes:
    message = DIGEST
    for step in STEPS:
        message = step.apply(message)
    return message


def _headers(count: int = 6) -> list[bytes]:
    headers = [mined_header(BlockHash(bytes(32)), _root(), TIME_S)]
    while len(headers) < count:
        headers.append(mined_header(decode_header(headers[-1]).block_hash, bytes(32), TIME_S + 600 * len(headers)))
    return headers


def _proof() -> bytes:
    return encode_proof(Proof(timestamp=timestamp_through(DIGEST, STEPS, InBlock(height=HEIGHT))))


def test_a_true_proof_gives_the_block_and_its_time() -> None:
    attested = verify_timestamp(_proof(), DIGEST, _headers(), network=REGTEST)
    assert (attested.height, attested.time_s, attested.confirmations, attested.work) == (HEIGHT, TIME_S, 6, 12)
    assert attested.block_hash == decode_header(_headers()[0]).block_hash


def test_other_promises_beside_the_block_do_no_harm() -> None:
    beside = timestamp_through(DIGEST, [append(b"2"), SHA256], Promised(uri="http://calendar.example"))
    elsewhere = timestamp_through(DIGEST, [append(b"3"), SHA256], InBlock(height=9))
    whole = merged(merged(timestamp_through(DIGEST, STEPS, InBlock(height=HEIGHT)), beside), elsewhere)
    encoded = encode_proof(Proof(timestamp=whole))
    assert verify_timestamp(encoded, DIGEST, _headers(), network=REGTEST).height == HEIGHT


def _with(headers: list[bytes], at: int, header: bytes) -> list[bytes]:
    return [*headers[:at], header, *headers[at + 1 :]]


def _path_of(attestation: InBlock | Promised | Foreign, steps: int = len(STEPS)) -> bytes:
    return encode_proof(Proof(timestamp=timestamp_through(DIGEST, STEPS[:steps], attestation)))


def _worthless() -> bytes:
    header = bytearray(_headers()[0])
    header[72:76] = (0x1D00FFFF).to_bytes(4, "little")  # states work that was never done
    return bytes(header)


@pytest.mark.parametrize(
    ("encoded", "digest", "headers", "network", "work_min", "code"),
    [
        (_proof()[:-1], DIGEST, _headers(), REGTEST, None, "timestamp_malformed"),
        (_proof(), bytes(32), _headers(), REGTEST, None, "timestamp_of_another_digest"),
        (_path_of(Promised(uri="http://a.example")), DIGEST, _headers(), REGTEST, None, "timestamp_pending"),
        (_path_of(Foreign(tag=bytes(8), payload=b"")), DIGEST, _headers(), REGTEST, None, "timestamp_other_network"),
        (_path_of(InBlock(height=HEIGHT), 4), DIGEST, _headers(), REGTEST, None, "timestamp_block_mismatch"),
        (_proof(), DIGEST, _headers()[1:], REGTEST, None, "timestamp_block_mismatch"),
        (_proof(), DIGEST, [], REGTEST, None, "block_malformed"),
        (_proof(), DIGEST, [_headers()[0][:-1]], REGTEST, None, "block_malformed"),
        (_proof(), DIGEST, [_worthless()], REGTEST, None, "block_work_missing"),
        (_proof(), DIGEST, _headers(), MAINNET, None, "block_other_network"),
        (_proof(), DIGEST, _headers(), TESTNET, None, "block_other_network"),
        (_proof(), DIGEST, _headers(), REGTEST, 3, "block_work_low"),
        (_proof(), DIGEST, [GENESIS], MAINNET, None, "block_work_low"),
        (_proof(), DIGEST, _with(_headers(), 3, _headers()[4]), REGTEST, None, "block_chain_broken"),
    ],
)
def test_every_lie_has_its_own_code(
    encoded: bytes, digest: bytes, headers: list[bytes], network: Network, work_min: int | None, code: str
) -> None:
    with pytest.raises(Rejected) as refusal:
        verify_timestamp(encoded, digest, headers, network=network, work_min=work_min)
    assert refusal.value.code == code


def test_the_first_block_of_mainnet_reads_as_everybody_knows_it() -> None:
    header = decode_header(GENESIS)
    assert header.block_hash == MAINNET.genesis
    assert shown(header.merkle_root) == "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert header.target == MAINNET.target_max
    assert header.work == 0x100010001


@pytest.mark.parametrize("bits", [0x00000000, 0x1D80FFFF, 0x23000001, 0x02000000])
def test_a_compact_target_that_is_none_is_refused(bits: int) -> None:
    header = GENESIS[:72] + bits.to_bytes(4, "little") + GENESIS[76:]
    with pytest.raises(Rejected) as refusal:
        decode_header(header)
    assert refusal.value.code == "block_malformed"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_every_transaction_has_steps_to_the_root(count: int) -> None:
    ids = [TransactionId(hashlib.sha256(bytes([number])).digest()) for number in range(count)]
    for index, message in enumerate(ids):
        found: bytes = message
        for step in merkle_steps(ids, index):
            found = step.apply(found)
        assert found == merkle_root(ids)
