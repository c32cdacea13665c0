"""A token without Ed25519 and AES-GCM: checkpoints have a key in an envelope, and nobody outside sees a difference."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.crypto import cose, signature
from appliance.evidence.cosignature import WitnessKey, WitnessPolicy, require_quorum
from appliance.ledger.checkpoint import verify_checkpoint
from appliance.ledger.log_keys import KeyPeriod
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected
from provisioning.box import keep_box, make_box
from provisioning.token import TokenKeys
from tests.fakes.signer import FakeSigner
from tests.integration.box import RunningBox, refused_with, running_box
from tests.integration.test_succession import BEFORE, owner, succession, switched_off, switched_on
from tests.integration.till import CASH, paired_till
from tests.postgres import running_postgres
from tests.upstream import WitnessProcess

SMALL_TOKEN: Final = ("CKM_EDDSA", "CKM_EC_EDWARDS_KEY_PAIR_GEN", "CKM_AES_GCM")
WAIT_S: Final = 30.0


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    with small_box(tmp_path_factory.mktemp("kept")) as box:
        yield box


@pytest.fixture
def stopped(kept: RunningBox) -> Iterator[RunningBox]:
    """The same box for tests that change one file of it, which is put back."""
    file = kept.box.folder / "note.envelope"
    whole = file.read_bytes()
    yield kept
    kept.kill()
    kept.log_file.write_bytes(b"")
    kept._more_settings = ""
    file.write_bytes(whole)


@contextmanager
def small_box(folder: Path) -> Iterator[RunningBox]:
    with running_box(folder, without=SMALL_TOKEN, starts=False) as box:
        assert box.box.keys.classical_algorithm == cose.ESP384
        assert box.box.keys.wrapping_public is not None, "the key over envelopes is an ECDH key"
        yield box


def go_note_open(note: bytes, name: str, spki: bytes) -> str:
    """The text of a note, checked as golang.org/x/mod/sumdb/note does it, with nothing of ours."""
    key = spki[-32:]
    key_hash = hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]
    text, signatures = note.decode().rsplit("\n\n", 1)
    for line in signatures.splitlines():
        mark, signer, encoded = line.split(" ")
        raw = base64.b64decode(encoded, validate=True)
        if (mark, signer, raw[:4]) == ("\u2014", name, key_hash):
            Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], f"{text}\n".encode())
            return text
    raise AssertionError(f"no line of {name} with this key")


def trust_of(box: RunningBox) -> tuple[Trust, KeyPeriod]:
    trust = load_trust(box.public("/trust.json")[1])
    (keys,) = trust.keys.values()
    return trust, keys.newest


def checked(box: RunningBox, period: KeyPeriod) -> int:
    """The size of the served checkpoint, once both keys of `period` are found to have signed it."""
    status, note = box.public("/checkpoint")
    assert status == 200
    assert go_note_open(note, box.audience, period.note_key).startswith(f"{box.audience}\n")
    return verify_checkpoint(
        note, origin=box.audience, note_key=period.note_key, post_quantum=period.keys.post_quantum
    ).size


def until(box: RunningBox, path: str, is_enough: Callable[[int, bytes], bool]) -> bytes:
    ends_at = time.monotonic() + WAIT_S
    while not is_enough(*(got := box.public(path))):
        assert time.monotonic() < ends_at, (got, box.said())
        time.sleep(0.05)
    return got[1]


def test_strangers_and_a_witness_believe_its_checkpoints_from_the_owner_alone(tmp_path: Path) -> None:
    with running_postgres() as postgres, small_box(tmp_path) as box:
        witness = WitnessProcess(tmp_path / "witness", postgres.new_database(), trust=box.box.trust.read_bytes())
        try:
            named = " ".join((witness.url, *(key.vkey for key in witness.keys)))
            box._more_settings = f'\n[witnesses]\nnamed = ["{named}"]\nneeded = 1\nevery_ms = 1000\n'
            box.start()
            seq = paired_till(box, tmp_path, "till-1").ask("payment", CASH).body["seq"]
            _, period = trust_of(box)
            assert period.keys.classical.algorithm == cose.ESP384
            assert checked(box, period) > seq
            cosigned = until(box, f"/proof/witnessed/{seq}", lambda status, _: status == 200)
            text, _, lines = cosigned[cosigned.index(box.audience.encode()) :].partition(b"\n\n")
            assert require_quorum(text + b"\n", lines, WitnessPolicy(keys=witness.keys, needed=1))
            homes = {key["purpose"]: key for key in json.loads(box.public("/integrity")[1])["keys"]}
            assert bytes.fromhex(homes["log_note"]["public_key"]) == period.note_key
            assert homes["log_note"]["home"] == "envelope"
        finally:
            witness.kill()


@pytest.mark.parametrize("at", [0, 3, 20, 120, -1])
def test_a_flipped_byte_in_the_envelope_is_refused_by_name(stopped: RunningBox, at: int) -> None:
    file = stopped.box.folder / "note.envelope"
    envelope = bytearray(file.read_bytes())
    envelope[at] ^= 1
    file.write_bytes(bytes(envelope))
    assert refused_with(stopped) in {"hsm_blob_refused", "envelope_malformed", "envelope_purpose_wrong"}


def test_the_envelope_of_the_other_key_is_refused_by_name(stopped: RunningBox) -> None:
    (stopped.box.folder / "note.envelope").write_bytes((stopped.box.folder / "ml-dsa.envelope").read_bytes())
    assert refused_with(stopped) == "envelope_purpose_wrong"


def test_settings_that_name_no_envelope_are_refused_by_name(stopped: RunningBox) -> None:
    made = stopped.box
    stopped.box = replace(made, keys=msgspec.structs.replace(made.keys, note=None))
    try:
        assert refused_with(stopped) == "note_key_missing"
    finally:
        stopped.box = made


def test_a_key_of_this_token_that_the_owner_did_not_name_is_refused(stopped: RunningBox) -> None:
    stopped.start()  # writes the settings that the next command reads
    stopped.power_off()
    succession(stopped, "next-keys")
    stopped.power_cycle()
    made = msgspec.json.decode((stopped.box.folder / "next-keys.json").read_bytes(), type=TokenKeys)
    assert made.note is not None
    (stopped.box.folder / "note.envelope").write_bytes(made.note.envelope)
    assert refused_with(stopped) == "note_key_foreign"


def test_rotation_brings_a_new_note_key_and_a_stolen_one_is_distrusted(tmp_path: Path) -> None:
    with small_box(tmp_path) as box:
        box.start()
        _, first = trust_of(box)
        size = checked(box, first)
        old = box.public("/checkpoint")[1]
        switched_off(box)
        assert "checkpoints: key" in succession(box, "next-keys")
        signed = owner(box, "rotate", tmp_path / "signed") / "rotation.cbor"
        assert "note.envelope" in succession(box, "rotate", signed)
        switched_on(box)
        trust, second = trust_of(box)
        assert first.note_key != second.note_key
        assert checked(box, second) > size
        with pytest.raises(Rejected, match="checkpoint_signature_missing"):
            verify_checkpoint(old, origin=box.audience, note_key=second.note_key, post_quantum=second.keys.post_quantum)
        (keys,) = trust.keys.values()
        assert keys.at(size) == first
        switched_off(box)
        named = ("--log", keys.log_id.hex(), "--key", signature.key_id(first.note_key).hex())
        distrusted = owner(box, "distrust", tmp_path / "distrust", *named, "--after", size - 1, "--before", BEFORE)
        (after,) = load_trust((distrusted / "trust.json").read_bytes()).keys.values()
        after.require_trusted(size - 1, bytes(32), ())
        with pytest.raises(Rejected, match="log_key_distrusted"):
            after.require_trusted(size, bytes(32), ())


def test_a_box_of_before_starts_says_what_it_lacks_and_gets_it_with_its_next_keys(tmp_path: Path) -> None:
    with small_box(tmp_path) as box:
        for name in ("genesis.cbor", "trust.json", "note.envelope"):
            (box.box.folder / name).unlink()
        keep_box(replace(box.box, keys=msgspec.structs.replace(box.box.keys, note=None)))
        box.box = make_box(box.box.folder, tcti=box.tcti)
        public = FakeSigner(cose.ED25519).public_key
        vkey = WitnessKey(name="witness.example", algorithm=cose.ED25519, public_key=public).vkey
        box._more_settings = f'\n[witnesses]\nnamed = ["http://127.0.0.1:9 {vkey}"]\n'
        box.start()
        till = paired_till(box, tmp_path, "till-1")
        assert till.ask("payment", CASH).status == 200
        assert box.public("/checkpoint")[0] == 404
        assert "no key for checkpoints" in json.dumps(box.local.status())
        switched_off(box)
        succession(box, "next-keys")
        succession(box, "rotate", owner(box, "rotate", tmp_path / "signed") / "rotation.cbor")
        switched_on(box)
        _, period = trust_of(box)
        assert checked(box, period) > 0
        assert till.ask("payment", CASH).status == 200
