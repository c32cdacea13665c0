"""Owns the judgement of a backup's age: nobody saw a longer log, or the operator knows what is missing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from appliance.crypto import signing_key
from appliance.evidence.cosignature import WitnessKey
from appliance.ledger.checkpoint import Checkpoint, sign_checkpoint
from appliance.ledger.head import Head
from appliance.model.errors import Rejected
from provisioning.restore.age import ShownHead, ask_witnesses, read_shown, require_newest
from provisioning.restore.unpack import Unpacked
from tests.unit.backup.made import taken_out, trust, whole
from tests.unit.ledger.shop import SeededSigner, genesis, signers


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    return taken_out(whole(), tmp_path_factory.mktemp("backup") / "out")


def shown(backup: Unpacked, head: Head) -> ShownHead:
    """As a witness shows it: signed by the log's own keys."""
    origin = genesis().read().origin
    note = SeededSigner(signing_key.ed25519_from_seed(bytes(31) + b"\x01"))
    checkpoint = Checkpoint(origin=origin, size=head.size, root=head.root)
    signed = asyncio.run(sign_checkpoint(checkpoint, note=note, post_quantum=signers().post_quantum))
    return read_shown(signed, by="w1.example", origin=origin, log_id=backup.header.log_id, trust=trust())


def test_a_log_that_nobody_saw_longer_is_the_newest(backup: Unpacked) -> None:
    header = backup.header
    require_newest(backup, [shown(backup, Head(size=header.size, root=header.root))], accepted_loss=0)
    require_newest(backup, [], accepted_loss=0)


def test_a_backup_older_than_a_witnessed_head_is_refused_with_what_is_missing(backup: Unpacked) -> None:
    seen = [shown(backup, Head(size=backup.header.size + 3, root=bytes(32)))]
    with pytest.raises(Rejected, match="3 are missing") as refused:
        require_newest(backup, seen, accepted_loss=2)
    assert refused.value.code == "backup_stale"
    require_newest(backup, seen, accepted_loss=3)


def test_a_head_of_another_log_under_this_name_is_a_fork(backup: Unpacked) -> None:
    seen = [shown(backup, Head(size=backup.header.size - 1, root=bytes(32)))]
    with pytest.raises(Rejected) as refused:
        require_newest(backup, seen, accepted_loss=1_000)
    assert refused.value.code == "backup_forked"


def test_a_head_that_the_log_did_not_sign_says_nothing(backup: Unpacked) -> None:
    note = shown(backup, Head(size=9, root=bytes(32))).note.replace(b"\n9\n", b"\n8\n")
    with pytest.raises(Rejected, match="checkpoint_signature_wrong"):
        read_shown(note, by="w1", origin=genesis().read().origin, log_id=backup.header.log_id, trust=trust())


def test_without_a_witness_the_age_is_not_known(backup: Unpacked) -> None:
    with pytest.raises(Rejected, match="name no witness") as refused:
        ask_witnesses(backup)
    assert refused.value.code == "backup_age_unknown"


def test_a_witness_that_is_away_is_named(backup: Unpacked) -> None:
    vkey = "w1.example+" + _vkey()
    settings = {**backup.settings, "witnesses": {"named": [f"http://127.0.0.1:1 {vkey}"], "needed": 1}}
    with pytest.raises(Rejected, match="w1") as refused:
        ask_witnesses(replace(backup, settings=settings))
    assert refused.value.code == "backup_age_unknown"


def _vkey() -> str:
    key = signing_key.ed25519_from_seed(bytes(32))
    return WitnessKey(name="w1.example", algorithm=key.algorithm, public_key=key.public_key).vkey.partition("+")[2]
