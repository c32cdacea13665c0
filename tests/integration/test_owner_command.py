"""`tillstone owner` as a person uses it: a key in two shares, a genesis, keys that follow, a key that falls."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.crypto import cose
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.owner import SignedStatement
from appliance.evidence.cosignature import WitnessKey, cosign
from appliance.ledger.checkpoint import Checkpoint, sign_checkpoint
from appliance.ledger.genesis import GenesisStatement, read_body
from appliance.ledger.succession import ROTATION, RotationStatement
from appliance.ledger.trust import Trust, load_trust
from tests.fakes.signer import FakeSigner

NOTE, POST_QUANTUM = FakeSigner(cose.ED25519), FakeSigner(cose.ML_DSA_87)
KEYS = HybridPublic(
    classical=PinnedKey(algorithm=cose.ED25519, public_key=NOTE.public_key),
    post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=POST_QUANTUM.public_key),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    code: int
    said: str
    complained: str


def owner(*arguments: object, asks: str = "") -> Answer:
    done = subprocess.run(
        [sys.executable, "-m", "provisioning.cli", "owner", *map(str, arguments)],
        input=asks,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Answer(code=done.returncode, said=done.stdout, complained=done.stderr)


def request(generation: int = 1) -> bytes:
    statement = GenesisStatement(
        origin=f"shop.example/SN-7/{generation}", created_ms=1, keys=KEYS, note_key=NOTE.public_key
    )
    return statement.encode()


def trust_of(folder: Path) -> Trust:
    return load_trust((folder / "trust.json").read_bytes())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the key's shares and the genesis of a first log."""
    folder = tmp_path_factory.mktemp("owner")
    (folder / "passphrase").touch(mode=0o600)
    (folder / "passphrase").write_text("correct horse\n")
    new = owner("new", "-o", folder / "key", "--passphrase-file", folder / "passphrase")
    assert new.code == 0, new.complained
    assert trust_of(folder / "key").owner.fingerprint in new.said
    assert "soon guessed" not in new.complained
    (folder / "request").write_bytes(request())
    signed = sign("genesis", folder, "first", folder / "request", trust="key")
    assert signed.code == 0, signed.complained
    return folder


def sign(action: str, folder: Path, output: str, *more: object, trust: str = "first", yes: bool = True) -> Answer:
    shares = ("--share", folder / "key/share-2.txt", "--share", folder / "key/share-1.txt")
    rest = ("--passphrase-file", folder / "passphrase", *(("--yes", "--json") if yes else ()))
    return owner(action, *more, "--trust", folder / trust / "trust.json", *shares, "-o", folder / output, *rest)


def test_key_is_two_private_files_and_a_pin(made: Path) -> None:
    files = {path.name: path.stat().st_mode & 0o777 for path in (made / "key").iterdir()}
    assert files == {"share-1.txt": 0o600, "share-2.txt": 0o600, "trust.json": 0o600}
    assert (made / "key").stat().st_mode & 0o777 == 0o700
    assert trust_of(made / "key").logs == {}
    again = owner("new", "-o", made / "key")
    assert (again.code, "holds files already" in again.complained) == (2, True)
    shown = owner("show", made / "key/share-1.txt", made / "key/share-2.txt", "--passphrase-file", made / "passphrase")
    assert trust_of(made / "key").owner.fingerprint in shown.said
    alone = owner("show", made / "key/share-1.txt")
    assert (alone.code, "is share 1 of 2" in alone.complained, "name both" in alone.complained) == (2, True, True)
    locked = owner("show", made / "key/share-1.txt", made / "key/share-2.txt")
    assert (locked.code, "--passphrase-file FILE" in locked.complained) == (2, True)
    secrets = [line.split("  ")[1] for line in (made / "key/share-1.txt").read_text().splitlines()[2:-1]]
    assert not any(secret in shown.said + shown.complained for secret in secrets)


def test_genesis_is_believed_under_the_pin_of_the_first_day(made: Path) -> None:
    pin = trust_of(made / "key")
    signed = read_body((made / "first/genesis.cbor").read_bytes())
    assert signed.verify(pin.owner).origin == "shop.example/SN-7/1"
    assert trust_of(made / "first").owner == pin.owner
    shown = json.loads(owner("show", made / "first/trust.json", "--json").said)
    assert f"  log id {signed.log_id.hex()}" in shown["says"]


def test_nothing_is_signed_that_nobody_compared(made: Path) -> None:
    (made / "second").write_bytes(request(9))
    refused = sign("genesis", made, "uncompared", made / "second", yes=False)
    assert (refused.code, "nobody is here" in refused.complained) == (2, True)
    assert not (made / "uncompared").exists()


def test_open_share_and_other_owner_are_refused(made: Path, tmp_path: Path) -> None:
    share = tmp_path / "share-1.txt"
    share.touch(mode=0o644)
    share.write_text((made / "key/share-1.txt").read_text())
    shown = owner("show", share, made / "key/share-2.txt")
    assert (shown.code, "chmod 0600" in shown.complained) == (2, True)
    assert owner("new", "-o", tmp_path / "other", "--json").code == 0
    (made / "third").write_bytes(request(8))
    other = sign("genesis", made, "of-another", made / "third", trust=f"../{tmp_path.name}/other")
    assert other.code == 2, "the trust file pins another owner than the shares give"
    assert not (made / "of-another").exists()


async def test_successor_names_the_last_cosigned_head(made: Path, tmp_path: Path) -> None:
    old = read_body((made / "first/genesis.cbor").read_bytes())
    witness = FakeSigner(cose.ED25519)
    key = WitnessKey(name="witness.example", algorithm=cose.ED25519, public_key=witness.public_key)
    checkpoint = Checkpoint(origin="shop.example/SN-7/1", size=42, root=bytes(range(32)))
    note = await sign_checkpoint(checkpoint, note=NOTE, post_quantum=POST_QUANTUM)
    signature = b""

    def keep(message: bytes) -> bytes:
        nonlocal signature
        signature = message
        return bytes(64)

    cosign(checkpoint.text(), key=key, sign=keep, time_s=1_790_000_000)
    made_by_witness = await witness.sign(signature)
    cosigned = note + cosign(checkpoint.text(), key=key, sign=lambda _: made_by_witness, time_s=1_790_000_000)
    (tmp_path / "request").write_bytes(request(2))
    for content, code in ((note, 2), (cosigned, 0)):
        head = tmp_path / "head"
        head.write_bytes(content)
        answer = sign("succeed", made, "successor", tmp_path / "request", "--head", head, "--witness", key.vkey)
        assert answer.code == code, answer.complained
    trust = trust_of(made / "successor")
    assert [statement.origin for statement in trust.logs.values()] == ["shop.example/SN-7/1", "shop.example/SN-7/2"]
    previous = list(trust.logs.values())[1].previous
    assert previous is not None
    assert (previous.log_id, previous.size, previous.root) == (old.log_id, 42, checkpoint.root)
    nobody = sign("succeed", made, "nobody", tmp_path / "request", "--head", tmp_path / "head")
    assert "no witness is named" in nobody.complained
    (tmp_path / "request").write_bytes(request(4))
    refused = sign("succeed", made, "gap", tmp_path / "request", "--head", tmp_path / "head", "--needed", 0)
    assert "owner_request_refused" in refused.complained


def test_next_keys_and_a_fallen_key_are_signed_as_what_they_are(made: Path, tmp_path: Path) -> None:
    log_id = read_body((made / "first/genesis.cbor").read_bytes()).log_id
    next_note, next_post_quantum = FakeSigner(cose.ED25519), FakeSigner(cose.ML_DSA_87)
    keys = HybridPublic(
        classical=PinnedKey(algorithm=cose.ED25519, public_key=next_note.public_key),
        post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=next_post_quantum.public_key),
    )
    for number, code in ((2, 2), (1, 0)):
        statement = RotationStatement(log_id=log_id, number=number, keys=keys, note_key=next_note.public_key)
        (tmp_path / "request").write_bytes(statement.encode())
        assert sign("rotate", made, "rotated", tmp_path / "request").code == code
    SignedStatement.decode((made / "rotated/rotation.cbor").read_bytes()).verify(trust_of(made / "key").owner, ROTATION)

    named = ("--log", log_id.hex(), "--key", NOTE.key_id.hex(), "--after", 41)
    for before, code in (("yesterday", 2), ("2026-11-24T12:00:00", 2), ("2026-11-24T12:00:00+00:00", 0)):
        answer = sign("distrust", made, "fallen", *named, "--before", before)
        assert answer.code == code, answer.complained
    (distrust,) = trust_of(made / "fallen").keys[log_id].distrusted
    assert (distrust.key_id, distrust.size, distrust.before_ms) == (NOTE.key_id, 41, 1_795_521_600_000)
    unknown = sign(
        "distrust",
        made,
        "stranger",
        "--log",
        log_id.hex(),
        "--key",
        "00" * 32,
        *named[4:],
        "--before",
        "2026-11-24T12:00:00+00:00",
    )
    assert "owner_request_refused" in unknown.complained


def test_a_short_passphrase_is_remarked_on(tmp_path: Path) -> None:
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text("1234\n")
    new = owner("new", "-o", tmp_path / "key", "--passphrase-file", tmp_path / "passphrase")
    assert (new.code, "soon guessed" in new.complained) == (0, True)
    assert "--passphrase-file FILE" in new.said, "the step that proves the shares works as it is printed"
