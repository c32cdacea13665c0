"""A till goes where its owner says the log goes, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.ledger.genesis import STATEMENT_KIND, PreviousHead, SignedGenesis
from appliance.ledger.trust import encode_trust, load_trust
from appliance.model.errors import Rejected
from appliance.wire.requests import Seen
from provisioning.terminal.home import Memory, Profile, TerminalHome
from provisioning.terminal.succession import follow
from tests.unit.ledger.shop import genesis, owner

SEEN = Memory(seen=Seen(size=9, root="00" * 32), clock_offset_ms=7)


@pytest.fixture
def home(tmp_path: Path) -> TerminalHome:
    home = TerminalHome(folder=tmp_path)
    home.keep_profile(Profile(url="https://box", terminal="till-1", audience=genesis().read().origin, currency="EUR"))
    home.keep_trust(encode_trust(owner().public, [genesis()]).decode())
    home.keep_memory(SEEN)
    return home


def successor(generation: int, before: SignedGenesis, by: OwnerKey | None = None) -> SignedGenesis:
    previous = PreviousHead(log_id=before.log_id, size=5, root=bytes(32))
    statement = replace(before.read(), origin=f"shop.example/SN-1/{generation}", previous=previous).encode()
    signature = (by or owner()).sign_statement(STATEMENT_KIND, statement)
    return SignedGenesis(statement=statement, owner_signature=signature.encode())


def test_till_follows_the_chain_of_logs_and_forgets_the_old_head(home: TerminalHome) -> None:
    second = successor(2, genesis())
    third = successor(3, second)
    newer = encode_trust(owner().public, [genesis(), second, third])
    with pytest.raises(Rejected, match="sales_are_waiting"):
        follow(home, newer, waiting_count=1)
    assert home.profile().audience == "shop.example/SN-1/1"
    assert follow(home, newer, waiting_count=0).audience == home.profile().audience == "shop.example/SN-1/3"
    assert home.memory() == Memory(clock_offset_ms=7)
    assert len(load_trust(home.trust()).logs) == 3, "receipts of the old log stay verifiable"


def test_same_log_keeps_its_head(home: TerminalHome) -> None:
    assert follow(home, encode_trust(owner().public, [genesis()]), waiting_count=3).audience == "shop.example/SN-1/1"
    assert home.memory() == SEEN


def test_logs_that_take_nothing_over_and_other_owners_are_not_followed(home: TerminalHome) -> None:
    beside = encode_trust(owner().public, [genesis(), genesis(2)])
    assert follow(home, beside, waiting_count=0).audience == "shop.example/SN-1/1"
    stranger = OwnerKey.generate()
    theirs = encode_trust(stranger.public, [successor(2, genesis(), stranger)])
    with pytest.raises(Rejected, match="trust_owner_changed"):
        follow(home, theirs, waiting_count=0)
