"""Mines regtest blocks in memory: two hashes a block, and the test decides what is inside.

Owns whole blocks with a BIP 34 height and the witness commitment of BIP 141, so that a real node and a consensus engine
accept them. Real nodes choose transactions by themselves; a test of a reorg or of a fee bump must choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.evidence.block import REGTEST, Header, decode_header, double_sha256, merkle_root
from appliance.model.errors import Rejected
from appliance.ports.chain import BlockHash, Coin, Outpoint, TransactionId

BITS = 0x207FFFFF
GENESIS_TIME_S = 1_296_688_602
SUBSIDY_SAT = 50 * 100_000_000
HALVING_BLOCKS = 150
_WITNESS_NONCE = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A block: what a node is given, and its parts."""

    height: int
    encoded: bytes
    header: bytes
    transaction_ids: tuple[TransactionId, ...]
    subsidy: Coin

    @property
    def decoded(self) -> Header:
        return decode_header(self.header)

    @property
    def block_hash(self) -> BlockHash:
        return self.decoded.block_hash


def mine(
    *,
    height: int,
    previous: BlockHash = REGTEST.genesis,
    transactions: Sequence[tuple[bytes, bytes]] = (),
    script: bytes = b"\x51",
    salt: int = 0,
    time_s: int | None = None,
) -> Mined:
    """A block at `height` with `transactions` as (raw, stripped); `script` gets the subsidy, `salt` makes a rival."""
    value_sat = SUBSIDY_SAT >> height // HALVING_BLOCKS
    raw_ids = [double_sha256(raw) for raw, _ in transactions]
    witness_root = merkle_root([TransactionId(each) for each in (bytes(32), *raw_ids)])
    commitment = b"\x6a\x24\xaa\x21\xa9\xed" + double_sha256(witness_root + _WITNESS_NONCE)
    raw, stripped = _coinbase(height, value_sat, script, commitment, salt)
    ids = tuple(TransactionId(double_sha256(each)) for each in (stripped, *(each for _, each in transactions)))
    time = GENESIS_TIME_S + height * 600 if time_s is None else time_s
    header = mined_header(previous, merkle_root(ids), time)
    encoded = header + bytes([1 + len(transactions)]) + raw + b"".join(each for each, _ in transactions)
    subsidy = Coin(outpoint=Outpoint(transaction_id=ids[0], index=0), value_sat=value_sat, script=script)
    return Mined(height=height, encoded=encoded, header=header, transaction_ids=ids, subsidy=subsidy)


def mined_header(previous: BlockHash, root: bytes, time_s: int) -> bytes:
    """A header whose hash meets the easiest target."""
    front = (0x20000000).to_bytes(4, "little") + previous + root + time_s.to_bytes(4, "little")
    for nonce in range(1_000):
        header = front + BITS.to_bytes(4, "little") + nonce.to_bytes(4, "little")
        try:
            decode_header(header)
        except Rejected:
            continue
        return header
    raise AssertionError("half of all hashes meet the regtest target")


def _coinbase(height: int, value_sat: int, script: bytes, commitment: bytes, salt: int) -> tuple[bytes, bytes]:
    number = height.to_bytes(height.bit_length() // 8 + 1, "little")
    pushed = bytes([0x50 + height]) if height <= 16 else bytes([len(number)]) + number
    unlocking = pushed + b"\x08" + salt.to_bytes(8, "little")
    outputs = b"".join(
        value.to_bytes(8, "little") + bytes([len(each)]) + each
        for value, each in ((value_sat, script), (0, commitment))
    )
    inputs = b"\x01" + bytes(32) + b"\xff" * 4 + bytes([len(unlocking)]) + unlocking + b"\xff" * 4
    body = inputs + b"\x02" + outputs
    version, end = (1).to_bytes(4, "little"), bytes(4)
    witness = b"\x01\x20" + _WITNESS_NONCE
    return version + b"\x00\x01" + body + witness + end, version + body + end
