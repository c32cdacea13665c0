"""The transaction that carries a digest: address, size, signature. A consensus engine judges it elsewhere."""

from __future__ import annotations

import hashlib

import pytest

from appliance.evidence.block import MAINNET, REGTEST, double_sha256
from appliance.evidence.transaction import (
    DUST_SAT,
    AnchorKey,
    AnchorTransaction,
    anchor_transaction,
    steps_to_id,
    virtual_bytes,
)
from appliance.model.errors import Bug, Rejected
from appliance.ports.chain import Coin, Outpoint, TransactionId

KEY = AnchorKey((1).to_bytes(32, "big"))
DIGEST = hashlib.sha256(b"a tree of heads").digest()


def _coin(value_sat: int, index: int = 0, script: bytes = KEY.script) -> Coin:
    return Coin(
        outpoint=Outpoint(transaction_id=TransactionId(bytes(32)), index=index), value_sat=value_sat, script=script
    )


def _size(transaction: AnchorTransaction) -> int:
    return -(-(3 * len(transaction.stripped) + len(transaction.raw)) // 4)


def test_the_address_is_the_one_of_the_standard() -> None:
    # BIP 173, test vectors: the script <key of private key 1> CHECKSIG on mainnet.
    assert KEY.address(MAINNET) == "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3"
    assert KEY.address(REGTEST).startswith("bcrt1q")


@pytest.mark.parametrize("coins", [1, 2])
def test_its_size_is_known_before_it_is_signed(coins: int) -> None:
    for fee_sat in range(300, 320):  # each has other signatures, some a byte shorter
        transaction = anchor_transaction(DIGEST, [_coin(5_000, at) for at in range(coins)], fee_sat=fee_sat, key=KEY)
        assert virtual_bytes(coins) - 1 <= _size(transaction) <= virtual_bytes(coins)


def test_the_digest_leads_to_the_transaction_id() -> None:
    transaction = anchor_transaction(DIGEST, [_coin(5_000)], fee_sat=300, key=KEY)
    message = DIGEST
    for step in steps_to_id(transaction.stripped, DIGEST):
        message = step.apply(message)
    assert message == transaction.transaction_id == double_sha256(transaction.stripped)
    assert transaction.change.value_sat == 4_700


def test_the_same_intent_is_the_same_bytes() -> None:
    once, again = (anchor_transaction(DIGEST, [_coin(5_000)], fee_sat=300, key=KEY) for _ in range(2))
    assert once == again


def test_a_coin_without_change_worth_relaying_is_refused() -> None:
    anchor_transaction(DIGEST, [_coin(300 + DUST_SAT)], fee_sat=300, key=KEY)
    with pytest.raises(Rejected) as refusal:
        anchor_transaction(DIGEST, [_coin(299 + DUST_SAT)], fee_sat=300, key=KEY)
    assert refusal.value.code == "anchor_coin_too_small"


def test_a_strangers_coin_is_not_signed_for() -> None:
    with pytest.raises(Bug):
        anchor_transaction(DIGEST, [_coin(5_000, script=b"\x51")], fee_sat=300, key=KEY)


@pytest.mark.parametrize("private_key", [b"", bytes(32), b"\xff" * 32, bytes(31) + b"\x01\x00"])
def test_a_key_off_the_curve_is_refused(private_key: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        AnchorKey(private_key)
    assert refusal.value.code == "anchor_key_malformed"
