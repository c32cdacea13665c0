"""Keys change and keys fall: what a receipt proves then, with the trust file of the first day."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from appliance.crypto import cose, signing_key
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import OwnerKey, SignedStatement
from appliance.crypto.signing_key import SigningKey
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.export import verify_export, write_log
from appliance.ledger.head import LogSigners
from appliance.ledger.ledger import Ledger
from appliance.ledger.log_keys import Distrust, LogKeys, VouchedHead
from appliance.ledger.receipt import ReceiptBundle, verify_receipt
from appliance.ledger.spoken import Spoken, statement_hash
from appliance.ledger.succession import (
    DISTRUST,
    ROTATION,
    Rotation,
    RotationStatement,
    distrust_statement,
    read_distrust,
    read_rotation,
    read_rotation_statement,
    rotation_to_be_signed,
)
from appliance.ledger.trust import Evidence, Trust, encode_evidence, encode_trust, load_trust
from appliance.model.errors import Corrupt, Rejected
from tests.fakes.clock import START_MS
from tests.unit.ledger.shop import SeededSigner, genesis, open_ledger, owner, running, sale, signers

LATER_MS = START_MS + 3_600_000


@cache
def new_keys(seed: int = 7) -> tuple[SigningKey, SigningKey]:
    raw = bytes([seed]) * 32
    return signing_key.ed25519_from_seed(raw), signing_key.ml_dsa_87_from_seed(raw)


def new_signers(seed: int = 7) -> LogSigners:
    classical, post_quantum = new_keys(seed)
    return LogSigners(classical=SeededSigner(classical), post_quantum=SeededSigner(post_quantum))


@cache
def by_owner(number: int = 1, seed: int = 7) -> SignedStatement:
    classical, post_quantum = new_keys(seed)
    statement = RotationStatement(
        log_id=genesis().log_id,
        number=number,
        keys=HybridPublic(
            classical=PinnedKey(algorithm=cose.ED25519, public_key=classical.public_key),
            post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=post_quantum.public_key),
        ),
        note_key=classical.public_key,
    )
    return owner().sign(ROTATION, statement.encode())


async def rotation_at(size: int, signed: SignedStatement, old: LogSigners) -> Rotation:
    to_be_signed = rotation_to_be_signed(signed.statement, size)
    return Rotation(
        by_owner=signed,
        size=size,
        classical=await old.classical.sign(to_be_signed),
        post_quantum=await old.post_quantum.sign(to_be_signed),
    )


@cache
def distrusted(key_id: bytes, size: int) -> SignedStatement:
    said = Distrust(log_id=genesis().log_id, key_id=key_id, size=size, before_ms=LATER_MS)
    assert read_distrust(distrust_statement(said)) == said
    return owner().sign(DISTRUST, distrust_statement(said))


def first_day() -> Trust:
    return load_trust(encode_trust(owner().public, [genesis()]))


async def sell(ledger: Ledger, key: str) -> ReceiptBundle:
    (recorded,) = await ledger.append([sale(key)], purpose=Purpose.OUTCOME)
    bundle = await ledger.receipts([recorded.seq], wait_ms=5_000)
    assert bundle is not None
    return bundle


async def rotate(ledger: Ledger, *, old: LogSigners, signed: SignedStatement) -> Rotation:
    rotation = await rotation_at(ledger.head.size, signed, old)
    draft = Draft(kind=ROTATION, actor="box", time_ms=START_MS, body=rotation.encode_body())
    await ledger.append([draft], purpose=Purpose.OUTCOME)
    return rotation


async def test_log_goes_on_under_new_keys_and_old_receipts_keep_their_worth(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        old = await sell(ledger, "before")
    ledger = await open_ledger(tmp_path)
    rotation = await rotate(ledger, old=signers(), signed=by_owner())
    await ledger.close()
    with pytest.raises(Corrupt, match="log_keys_mismatch"):
        await open_ledger(tmp_path)
    async with running(await open_ledger(tmp_path, keys=new_signers())) as ledger:
        await ledger.rebuild()
        new = await sell(ledger, "after")
        again = await ledger.receipts([2], wait_ms=5_000)
        assert again is not None
        rows = await ledger.read(lambda c: c.execute("SELECT entry FROM entries ORDER BY seq").fetchall())
    trust = first_day()
    assert verify_receipt(old.encode(), trust.keys).size == 3
    with pytest.raises(Rejected, match="classical_receipt_missing"):
        verify_receipt(new.encode(), trust.keys)  # whom the owner named meanwhile, this file cannot know
    learnt = trust.learn(Evidence(rotations=(rotation,)))
    assert verify_receipt(new.encode(), learnt.keys).size == 5
    assert verify_receipt(again.encode(), learnt.keys).entries[0].seq == 2
    assert verify_receipt(old.encode(), learnt.keys).size == 3
    assert load_trust(encode_evidence(owner().public, learnt.evidence)) == learnt

    file = io.BytesIO()
    write_log(file, (row[0] for row in rows[:5]), new.head)
    file.seek(0)
    assert verify_export(file, trust).log.size == 5  # the export brings the owner's words with it
    file.seek(0)
    pin_only = load_trust(encode_trust(owner().public, []))
    assert verify_export(file, pin_only).log.log_id == genesis().log_id


async def test_old_keys_sign_nothing_behind_the_rotation(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        rotation = await rotation_at(ledger.head.size, by_owner(), signers())
        late = await sell(ledger, "a head that the old keys should not have signed")
    with pytest.raises(Rejected, match="classical_receipt_missing"):
        verify_receipt(late.encode(), first_day().learn(Evidence(rotations=(rotation,))).keys)


async def test_rotation_needs_the_owner_and_both_old_keys() -> None:
    good = await rotation_at(3, by_owner(), signers())
    keys = LogKeys.of(genesis().log_id, genesis().read())
    assert good.extend(keys, owner().public).at(4).first_size == 4
    assert read_rotation(good.encode_body()) == good
    stranger = OwnerKey.generate()
    for rotation, code in (
        (replace(good, size=4), "classical_rotation_wrong"),
        (replace(good, classical=bytes(64)), "classical_rotation_wrong"),
        (replace(good, post_quantum=bytes(4627)), "post_quantum_rotation_wrong"),
        (
            await rotation_at(3, stranger.sign(ROTATION, good.by_owner.statement), signers()),
            "classical_signature_missing",
        ),
        (await rotation_at(3, by_owner(number=2), signers()), "rotation_out_of_order"),
        (await rotation_at(3, by_owner(), new_signers()), "classical_rotation_wrong"),
    ):
        with pytest.raises(Rejected) as refusal:
            rotation.extend(keys, owner().public)
        assert refusal.value.code == code
    with pytest.raises(Rejected, match="rotation_of_another_log"):
        good.extend(replace(keys, log_id=genesis(2).log_id), owner().public)


async def test_second_rotation_is_signed_by_the_keys_of_the_first() -> None:
    keys = LogKeys.of(genesis().log_id, genesis().read())
    first = await rotation_at(10, by_owner(), signers())
    second = await rotation_at(20, by_owner(number=2, seed=8), new_signers())
    both = second.extend(first.extend(keys, owner().public), owner().public)
    assert [both.at(size).first_size for size in (0, 1, 10, 11, 20, 21)] == [1, 1, 1, 11, 11, 21]
    again = await rotation_at(10, by_owner(number=2, seed=8), new_signers())
    with pytest.raises(Rejected, match="rotation_out_of_order"):
        again.extend(first.extend(keys, owner().public), owner().public)


@pytest.mark.parametrize("key_class", ["classical", "post_quantum"])
async def test_receipts_of_a_distrusted_key_count_up_to_the_size_or_when_others_saw_them(
    tmp_path: Path, key_class: str
) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        small = await sell(ledger, "while the key was good")
        large = await sell(ledger, "later")
        newer = await sell(ledger, "latest")
        (proven,) = (await ledger.receipts([3], wait_ms=5_000) or newer).entries
    key = signers().classical if key_class == "classical" else signers().post_quantum
    trust = first_day().learn(Evidence(distrusted=(distrusted(key.key_id, small.head.size),)))
    assert load_trust(encode_evidence(owner().public, trust.evidence)) == trust
    assert verify_receipt(small.encode(), trust.keys).size == small.head.size
    with pytest.raises(Rejected, match="log_key_distrusted"):
        verify_receipt(large.encode(), trust.keys)

    def saw(bundle: ReceiptBundle, time_ms: int, paths: tuple[tuple[bytes, ...], ...] = ()) -> VouchedHead:
        head = bundle.head
        return VouchedHead(log_id=head.log_id, size=head.size, root=head.root, time_ms=time_ms, paths=paths)

    in_time = saw(large, LATER_MS - 1)
    assert verify_receipt(large.encode(), trust.keys, [in_time]).size == large.head.size
    # Another head that others saw helps when the entry is shown to lie under it.
    covering = saw(newer, LATER_MS - 1, (proven.path,))
    assert verify_receipt(large.encode(), trust.keys, [covering]).size == large.head.size
    for useless in (
        saw(large, LATER_MS),
        replace(in_time, root=bytes(32)),
        replace(in_time, log_id=genesis(2).log_id),
        saw(newer, LATER_MS - 1),
        replace(covering, paths=((bytes(32),) * len(proven.path),)),
    ):
        with pytest.raises(Rejected, match="log_key_distrusted"):
            verify_receipt(large.encode(), trust.keys, [useless])


async def test_distrust_of_another_log_or_key_changes_nothing(tmp_path: Path) -> None:
    async with running(await open_ledger(tmp_path)) as ledger:
        bundle = await sell(ledger, "k")
    other = replace(
        read_distrust(distrusted(signers().classical.key_id, 0).statement), log_id=genesis(2).log_id, size=0
    )
    elsewhere = owner().sign(DISTRUST, distrust_statement(other))
    trust = first_day().learn(Evidence(distrusted=(elsewhere, distrusted(bytes(32), 0))))
    assert verify_receipt(bundle.encode(), trust.keys).size == bundle.head.size


async def test_an_export_says_itself_whom_the_owner_distrusts(tmp_path: Path) -> None:
    said = distrusted(signers().classical.key_id, 3)
    async with running(await open_ledger(tmp_path)) as ledger:
        body = said.encode()
        await ledger.append([Draft(kind=DISTRUST, actor="owner", time_ms=START_MS, body=body)], purpose=Purpose.OUTCOME)
        assert await ledger.read(lambda c: c.execute("SELECT statement_hash FROM spoken").fetchall()) == [
            (statement_hash(DISTRUST, body),)
        ]
        bundle = await sell(ledger, "k")
        rows = await ledger.read(lambda c: c.execute("SELECT entry FROM entries ORDER BY seq").fetchall())
    file = io.BytesIO()
    write_log(file, (row[0] for row in rows), bundle.head)
    file.seek(0)
    with pytest.raises(Rejected, match="log_key_distrusted"):
        verify_export(file, first_day())
    file.seek(0)
    head = bundle.head
    seen = VouchedHead(log_id=head.log_id, size=head.size, root=head.root, time_ms=LATER_MS - 1)
    assert verify_export(file, first_day(), vouched=[seen]).log.size == head.size


def test_statement_of_another_kind_is_refused_in_a_trust_file() -> None:
    as_distrust = SignedStatement(statement=genesis().statement, owner_signature=genesis().owner_signature)
    file = encode_evidence(owner().public, Evidence(logs=(genesis(),), distrusted=(as_distrust,)))
    with pytest.raises(Rejected, match="classical_signature_wrong"):
        load_trust(file)
    for read in (read_rotation, read_rotation_statement, read_distrust):
        with pytest.raises(Rejected, match="malformed"):
            read(genesis().statement)


def test_what_the_owner_said_is_kept_once() -> None:
    evidence = Evidence(logs=(genesis(),), distrusted=(distrusted(bytes(32), 0),))
    assert evidence + evidence == evidence
    assert Spoken().kinds == {ROTATION, DISTRUST}
