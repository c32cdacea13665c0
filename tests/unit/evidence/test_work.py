"""The work demanded of a mainnet header, against what Bitcoin Core and the protocol's arithmetic say of mainnet."""

from __future__ import annotations

from typing import Final

import pytest

from appliance.evidence.block import MAINNET, Header, check_work
from appliance.model.errors import Rejected
from appliance.ports.chain import BlockHash

DIFFICULTY_ONE: Final = 0xFFFF << 208
# Bitcoin Core, kernel/chainparams.cpp: `nMinimumChainWork`, all work up to the block of `defaultAssumeValid`.
CHAIN_WORK: Final = {784_000: 0x44A50FE819C39AD624021859, 886_157: 0xB1F3B93B65B16D035A82BE84}
# The retarget of block 772,128 in January 2023, as it was reported: 10.26 % up, to 37.59e12.
FROM_772_128: Final = 37_590_000_000_000
BEFORE_772_128: Final = FROM_772_128 * 10_000 // 11_026


def header(target: int) -> Header:
    return Header(
        block_hash=BlockHash(bytes(32)), previous=BlockHash(bytes(32)), merkle_root=bytes(32), time_s=0, target=target
    )


def of_difficulty(difficulty: int) -> Header:
    return header(DIFFICULTY_ONE // difficulty)


def test_an_average_block_of_mainnet_does_more_than_twice_the_work_demanded() -> None:
    (low, less), (high, more) = CHAIN_WORK.items()
    average = (more - less) // (high - low)
    assert 2 * MAINNET.work_min < average < 3 * MAINNET.work_min
    check_work([header((1 << 256) // average - 1)], MAINNET, MAINNET.work_min)


def test_blocks_are_hard_enough_since_the_retarget_of_january_2023() -> None:
    check_work([of_difficulty(FROM_772_128)], MAINNET, MAINNET.work_min)
    with pytest.raises(Rejected, match="block_work_low"):
        check_work([of_difficulty(BEFORE_772_128)], MAINNET, MAINNET.work_min)


def test_one_hash_less_than_demanded_is_refused() -> None:
    target = (1 << 256) // MAINNET.work_min - 1
    check_work([header(target)], MAINNET, MAINNET.work_min)
    with pytest.raises(Rejected, match="block_work_low"):
        check_work([header(target + (1 << 180))], MAINNET, MAINNET.work_min)
