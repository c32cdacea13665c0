"""`build/trust.json` serves everything that was kept in `build/`, in whichever order it came."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.evidence.block import REGTEST
from appliance.evidence.cosignature import WitnessPolicy
from appliance.ledger.genesis import SignedGenesis
from appliance.ledger.trust import Evidence, encode_evidence, encode_trust, load_trust
from provisioning.box import make_box, make_owner
from provisioning.kept_trust import keep_trust
from tests.unit.evidence.test_cosignature import Witness
from tests.unit.ledger.shop import genesis, owner

WITNESS = Witness("w1.example")
POLICY = WitnessPolicy(keys=WITNESS.keys, needed=1)


def paid(*logs: SignedGenesis) -> bytes:
    """As `make pay` has it from the till: no witnesses, no test network."""
    return encode_trust(owner().public, logs)


def gathered(log: SignedGenesis) -> bytes:
    """As `make evidence` has it: another log of the same owner, with those who vouch for it."""
    return encode_evidence(owner().public, Evidence(logs=(log,)), POLICY, REGTEST)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (1, 0, 1)])
def test_one_file_serves_both_commands_in_either_order(order: tuple[int, ...], tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    kept = (paid(genesis(1)), gathered(genesis(2)))
    for number in order:
        keep_trust(file, kept[number])
    trust = load_trust(file.read_bytes())
    assert {statement.origin for statement in trust.logs.values()} == {"shop.example/SN-1/1", "shop.example/SN-1/2"}
    assert (trust.witnesses, trust.network) == (POLICY, REGTEST)


def test_logs_whose_evidence_was_written_over_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    keep_trust(file, gathered(genesis(1)))
    keep_trust(file, gathered(genesis(2)), without="shop.example/SN-1/1")
    assert [log.origin for log in load_trust(file.read_bytes()).logs.values()] == ["shop.example/SN-1/2"]


def test_another_owner_is_never_joined(tmp_path: Path) -> None:
    file = tmp_path / "trust.json"
    keep_trust(file, gathered(genesis(1)))
    other = encode_trust(OwnerKey.generate().public, [])
    keep_trust(file, other)
    assert file.read_bytes() == other
    file.write_bytes(b"no trust file")
    keep_trust(file, paid(genesis(1)))
    assert file.read_bytes() == paid(genesis(1))


def test_a_second_box_of_the_sandbox_has_its_owner(tmp_path: Path) -> None:
    """Also when the first box is made only later."""
    key = make_owner(tmp_path / "first")
    second = make_box(tmp_path / "second", owner_key=key)
    first = make_box(tmp_path / "first")
    trusts = [load_trust(box.trust.read_bytes()) for box in (first, second)]
    assert trusts[0].owner == trusts[1].owner
    assert (second.folder / "owner" / "owner-key").stat().st_mode & 0o077 == 0
