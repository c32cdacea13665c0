"""Checkpoints: the note's bytes, both signatures, and a lazy maker."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.crypto import cose
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.ledger.checkpoint import (
    Checkpoint,
    CheckpointMaker,
    sign_checkpoint,
    verify_checkpoint,
    verify_head,
)
from appliance.ledger.genesis import LogId
from appliance.ledger.head import Head
from appliance.ledger.log_keys import Distrust, KeyPeriod, LogKeys
from appliance.model.errors import Rejected
from tests.fakes.clock import FakeClock
from tests.fakes.signer import FakeSigner

ORIGIN = "shop.example/SN-1/1"
NOTE, POST_QUANTUM = FakeSigner(cose.ED25519), FakeSigner(cose.ML_DSA_87)
CHECKPOINT = Checkpoint(origin=ORIGIN, size=42, root=hashlib.sha256(b"root").digest())


def verified(note: bytes) -> Checkpoint:
    pinned = PinnedKey(algorithm=cose.ML_DSA_87, public_key=POST_QUANTUM.public_key)
    return verify_checkpoint(note, origin=ORIGIN, note_key=NOTE.public_key, post_quantum=pinned)


async def signed() -> bytes:
    return await sign_checkpoint(CHECKPOINT, note=NOTE, post_quantum=POST_QUANTUM)


async def test_a_checkpoint_is_what_the_specification_says_byte_by_byte() -> None:
    lines = (await signed()).decode().split("\n")
    assert lines[:4] == [ORIGIN, "42", base64.b64encode(CHECKPOINT.root).decode(), ""]
    dash, name, encoded = lines[4].split(" ")
    raw, key = base64.b64decode(encoded), NOTE.public_key[-32:]
    assert (dash, name) == ("\u2014", ORIGIN)
    assert raw[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + key).digest()[:4]
    Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], "\n".join(lines[:3]).encode() + b"\n")


async def test_a_checkpoint_verifies_and_strangers_lines_are_skipped() -> None:
    note = await signed()
    assert verified(note) == CHECKPOINT
    assert verified(note + "\u2014 witness.example AAAAAAAA\n".encode()) == CHECKPOINT


async def test_a_head_is_the_keys_of_its_size_also_after_a_rotation() -> None:
    classical = PinnedKey(algorithm=cose.ED25519, public_key=NOTE.public_key)
    old, new = FakeSigner(cose.ML_DSA_87), POST_QUANTUM
    periods = [
        KeyPeriod(
            first_size=first_size,
            keys=HybridPublic(
                classical=classical, post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=key.public_key)
            ),
            note_key=NOTE.public_key,
        )
        for first_size, key in ((1, old), (43, new))
    ]
    keys = LogKeys(log_id=LogId(bytes(32)), periods=tuple(periods))
    by_old = await sign_checkpoint(CHECKPOINT, note=NOTE, post_quantum=old)
    assert verify_head(by_old, origin=ORIGIN, keys=keys) == CHECKPOINT
    for size, signer in ((42, new), (43, old)):
        by_other = await sign_checkpoint(replace(CHECKPOINT, size=size), note=NOTE, post_quantum=signer)
        with pytest.raises(Rejected, match="checkpoint_signature_missing"):
            verify_head(by_other, origin=ORIGIN, keys=keys)
    stolen = keys.without([Distrust(log_id=keys.log_id, key_id=old.key_id, size=41, before_ms=0)])
    with pytest.raises(Rejected, match="log_key_distrusted"):
        verify_head(by_old, origin=ORIGIN, keys=stolen)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"42", b"43", "checkpoint_signature_wrong"),
        (b"42", b"042", "checkpoint_malformed"),
        (b"SN-1", b"SN-2", "checkpoint_origin_unknown"),
        (b"\n\n", b"\nextension\n\n", "checkpoint_malformed"),
        ("\n\u2014".encode(), b"\n-", "checkpoint_malformed"),
    ],
)
async def test_a_changed_checkpoint_is_refused(old: bytes, new: bytes, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        verified((await signed()).replace(old, new))
    assert caught.value.code == code


async def test_a_checkpoint_without_the_post_quantum_line_is_refused() -> None:
    lines = (await signed()).splitlines(keepends=True)
    with pytest.raises(Rejected, match="checkpoint_signature_missing"):
        verified(b"".join(lines[:5]))


async def test_at_most_one_a_second_is_signed_unless_asked() -> None:
    heads, clock = [Head(size=5, root=bytes(32))], FakeClock()
    maker = CheckpointMaker(origin=ORIGIN, note=NOTE, post_quantum=POST_QUANTUM, newest=lambda: heads[-1], clock=clock)
    first = await maker.current()
    heads.append(Head(size=9, root=bytes(32)))
    assert await maker.current() == first
    clock.pass_time(1_000)
    assert verified(await maker.current()).size == 9
    heads.append(Head(size=10, root=bytes(32)))
    assert verified(await maker.now()).size == 10
