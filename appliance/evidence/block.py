"""Bitcoin headers and the Merkle tree below them: what a stranger can check of a block with eighty bytes.

A header proves work, not that its block is on the best chain: a verifier asks for enough work on enough headers in a
row that forging them costs more than the evidence is worth.

Source: docs/formats/timestamp.md section 4; Bitcoin Core, `primitives/block.h`, `arith_uint256.cpp` (`SetCompact`),
`kernel/chainparams.cpp`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.evidence.ots import SHA256, Step, append, prepend
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure
from appliance.ports.chain import BlockHash, TransactionId

HEADER_BYTES: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One chain.

    Attributes:
        genesis: hash of its first block; a node that has another is on another network.
        target_max: the easiest target that its rules allow; an easier header belongs to another network.
        work_min: expected hashes that a verifier demands of one header unless told otherwise.
        address_prefix: of bech32 addresses (BIP 173).
    """

    name: str
    genesis: BlockHash
    target_max: int
    work_min: int
    address_prefix: str


def _genesis(displayed: str) -> BlockHash:
    return BlockHash(bytes.fromhex(displayed)[::-1])


# 2^77 hashes a header is difficulty 2^45 = 35.18e12 (difficulty 1 takes 2^32). The retarget of block 772,128, in the
# middle of January 2023, brought mainnet above it: 10.26 % up, to 37.59e12 (crypto.news and others, 16 January 2023).
# Between blocks 784,000 and 886,157 a block took 2.19 times as much on average, by the chain work that Bitcoin Core
# states for them (kernel/chainparams.cpp: `nMinimumChainWork` beside `defaultAssumeValid`);
# tests/unit/evidence/test_work.py computes it. Forging six such headers costs what 2.7 average blocks of that time did.
MAINNET: Final = Network(
    name="mainnet",
    genesis=_genesis("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
    target_max=0xFFFF << 208,
    work_min=1 << 77,
    address_prefix="bc",
)
# Blocks of the test networks cost nothing: their timestamps prove that the machinery works, and no more.
TESTNET: Final = Network(
    name="testnet",
    genesis=_genesis("000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
    target_max=0xFFFF << 208,
    work_min=1 << 32,
    address_prefix="tb",
)
REGTEST: Final = Network(
    name="regtest",
    genesis=_genesis("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
    target_max=0x7FFFFF << 232,
    work_min=2,
    address_prefix="bcrt",
)
NETWORKS: Final = {network.name: network for network in (MAINNET, TESTNET, REGTEST)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A decoded header; `time_s` is the miner's clock, which the rules keep within about two hours of the truth."""

    block_hash: BlockHash
    previous: BlockHash
    merkle_root: bytes
    time_s: int
    target: int

    @property
    def work(self) -> int:
        """Expected hashes for a block of this target."""
        return (1 << 256) // (self.target + 1)


def decode_header(encoded: bytes) -> Header:
    """The header, if its hash meets the target it states.

    Raises:
        Rejected: `block_malformed`, `block_work_missing`.
    """
    if len(encoded) != HEADER_BYTES:
        raise Rejected("block_malformed", f"expected a header of {HEADER_BYTES} bytes, saw {len(encoded)}")
    header = Header(
        block_hash=BlockHash(double_sha256(encoded)),
        previous=BlockHash(encoded[4:36]),
        merkle_root=encoded[36:68],
        time_s=int.from_bytes(encoded[68:72], "little"),
        target=_target(int.from_bytes(encoded[72:76], "little")),
    )
    if int.from_bytes(header.block_hash, "little") > header.target:
        raise Rejected("block_work_missing", f"the hash {shown(header.block_hash)} is above its own target")
    return header


def check_work(headers: Sequence[Header], network: Network, work_min: int) -> None:
    """Each header of the network, with enough work, on top of the one before.

    Raises:
        Rejected: `block_other_network`, `block_work_low`, `block_chain_broken`.
    """
    for before, header in zip((None, *headers), headers, strict=False):
        if header.target > network.target_max:
            raise Rejected(
                "block_other_network", f"{network.name} allows no block as easy as {shown(header.block_hash)}"
            )
        if header.work < work_min:
            raise Rejected(
                "block_work_low",
                f"expected 2^{work_min.bit_length() - 1} hashes or more, saw 2^{header.work.bit_length() - 1}",
            )
        if before is not None and header.previous != before.block_hash:
            raise Rejected(
                "block_chain_broken", f"{shown(header.block_hash)} does not follow {shown(before.block_hash)}"
            )


def merkle_root(transaction_ids: Sequence[TransactionId]) -> bytes:
    """The root over a block's transactions; one alone is its own root."""
    ensure(bool(transaction_ids), "a block has a transaction")
    level: list[bytes] = list(transaction_ids)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def merkle_steps(transaction_ids: Sequence[TransactionId], index: int) -> list[Step]:
    """The steps from the transaction at `index` up to the root."""
    steps: list[Step] = []
    level: list[bytes] = list(transaction_ids)
    while len(level) > 1:
        sibling = level[min(index ^ 1, len(level) - 1)]  # the last of an odd level is paired with itself
        steps += [prepend(sibling) if index % 2 else append(sibling), SHA256, SHA256]
        level, index = _above(level), index // 2
    return steps


def double_sha256(message: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(message).digest()).digest()


def shown(value: bytes) -> str:
    """A hash as people write it: hexadecimal, last byte first."""
    return value[::-1].hex()


def _above(level: Sequence[bytes]) -> list[bytes]:
    padded = [*level, level[-1]] if len(level) % 2 else level
    return [double_sha256(padded[at] + padded[at + 1]) for at in range(0, len(padded), 2)]


def _target(compact: int) -> int:
    """The target in a header's compact form: one byte of length, three of mantissa, whose top bit would be a sign."""
    size, mantissa = compact >> 24, compact & 0xFFFFFF
    target = mantissa << 8 * (size - 3) if size > 3 else mantissa >> 8 * (3 - size)
    if mantissa > 0x7FFFFF or not 0 < target < 1 << 256:
        raise Rejected("block_malformed", f"{compact:#010x} is no target")
    return target
