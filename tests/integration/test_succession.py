"""Keys end on a real box: planned, lost, restored, stolen. What was proven stays proven with the first trust file."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from appliance.crypto import cose
from appliance.evidence.cosignature import WitnessKey, cosign
from appliance.ledger.export import verify_export
from appliance.ledger.log_keys import VouchedHead
from appliance.ledger.receipt import VerifiedReceipt, verify_receipt
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected
from provisioning.box import read_box
from provisioning.exports.log_file import export_log
from provisioning.exports.signed_head import newest_head
from provisioning.sandbox.layout import SandboxFolder
from provisioning.sandbox.tills import follow_log
from provisioning.verify.progress import Unseen
from tests.fakes.signer import FakeSigner
from tests.integration.box import RunningBox, StartFailed, running_box
from tests.integration.till import CASH, Till, paired_till

BEFORE = "2027-01-01T00:00:00+00:00"
BEFORE_MS = 1_798_761_600_000


@pytest.fixture
def box(tmp_path: Path) -> Iterator[RunningBox]:
    with running_box(tmp_path) as running:
        yield running


def command(*arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "provisioning.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code == 2 else done.stdout


def owner(box: RunningBox, action: str, output: Path, *arguments: object) -> Path:
    """The owner's computer: it sees the request and the trust file, and gives back a folder."""
    key = box.box.folder / "owner" / "owner-key"
    request = () if action == "distrust" else (box.box.folder / "owner.request",)
    known = ("--trust", box.box.trust, "--owner-key", key, "-o", output, "--yes")
    command("owner", action, *request, *arguments, *known)
    return output


def succession(box: RunningBox, action: str, *arguments: object, code: int = 0) -> str:
    """What a technician does at the stopped box."""
    said = command("succession", action, *arguments, "--dir", box.box.folder, code=code)
    box.box = read_box(box.box.folder)
    return said


def switched_off(box: RunningBox) -> None:
    box.stop()
    box.power_off()


def switched_on(box: RunningBox) -> None:
    box.power_cycle()
    box.start()


def kinds(box: RunningBox, folder: str = "data") -> list[str]:
    with closing(sqlite3.connect(f"file:{box.box.folder / folder / 'ledger.db'}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT kind FROM entries ORDER BY seq")]


def receipt_of(till: Till) -> bytes:
    receipt: bytes = till.ask("payment", CASH).body["receipt"]
    return receipt


def refused_sale(box: RunningBox, till: Till) -> str:
    """What `tillstone pay` says at a till that does not know the log's keys."""
    till.home.keep_profile(msgspec.structs.replace(till.home.profile(), url=box.url))
    return command("pay", "--home", till.home.folder, code=2)


def cosigned_checkpoint(box: RunningBox) -> tuple[bytes, str]:
    """The box's newest checkpoint with a witness's line, and the witness's key."""
    status, note = box.public("/checkpoint")
    assert status == 200
    witness = FakeSigner(cose.ED25519)
    key = WitnessKey(name="witness.example", algorithm=cose.ED25519, public_key=witness.public_key)
    text = note.partition(b"\n\n")[0] + b"\n"
    return note + cosign(text, key=key, sign=witness._made, time_s=1_790_000_000), key.vkey


def check(receipt: bytes, trust: Trust, *vouched: VouchedHead) -> VerifiedReceipt:
    return verify_receipt(receipt, trust.keys, vouched)


def test_planned_rotation(box: RunningBox, tmp_path: Path) -> None:
    first_day = load_trust(box.box.trust.read_bytes())
    till = paired_till(box, tmp_path, "till-1")
    old = receipt_of(till)
    for action in (("next-keys",), ("new-log", "--new-devices")):
        assert "the box runs; nothing was touched" in succession(box, *action, code=2)
    assert receipt_of(till), "what was refused cost the box neither its TPM nor its token"
    switched_off(box)
    assert "rotation 1 to new keys" in succession(box, "next-keys")
    assert succession(box, "next-keys"), "asking twice makes one pair of keys"
    signed = owner(box, "rotate", tmp_path / "signed")
    assert [path.name for path in signed.iterdir()] == ["rotation.cbor"], "no trust file before the entry stands"
    before = box.box.trust.read_bytes()
    succession(box, "rotate", signed / "rotation.cbor")
    after = box.box.trust.read_bytes()
    said = succession(box, "rotate", signed / "rotation.cbor")
    assert f"Already done: entry {kinds(box).index('rotation')}" in said, "no second rotation is asked for"
    box.box.trust.write_bytes(before)
    switched_on(box)
    assert box.box.trust.read_bytes() == after, "what the log says of its keys, the box takes from the log"
    assert kinds(box).count("rotation") == 1
    new = receipt_of(till)
    assert check(old, first_day).log_id == check(new, load_trust(box.box.trust.read_bytes())).log_id
    with pytest.raises(Rejected, match="classical_receipt_missing"):
        check(new, first_day)
    exported = tmp_path / "log"
    export_log(box.box.data, exported, lambda keys: newest_head(box.box.data, keys), Unseen())
    with exported.open("rb") as file:
        assert verify_export(file, first_day).log.log_id == check(old, first_day).log_id
    assert f"terminal follow {till.home.folder} --trust {box.box.trust}" in refused_sale(box, till)
    assert follow_log(SandboxFolder.at(tmp_path)) == []
    assert load_trust(till.home.trust()).evidence == load_trust(box.box.trust.read_bytes()).evidence
    # And once more, from the second keys to the third.
    switched_off(box)
    succession(box, "next-keys")
    succession(box, "rotate", owner(box, "rotate", tmp_path / "again") / "rotation.cbor")
    switched_on(box)
    trust = load_trust(box.box.trust.read_bytes())
    assert len({check(receipt, trust).log_id for receipt in (old, new, receipt_of(till))}) == 1


def test_rotation_that_lost_power_after_the_entry_is_finished_by_running_it_again(
    box: RunningBox, tmp_path: Path
) -> None:
    till = paired_till(box, tmp_path, "till-1")
    switched_off(box)
    succession(box, "next-keys")
    signed = owner(box, "rotate", tmp_path / "signed") / "rotation.cbor"
    files = {name: (box.box.folder / name).read_bytes() for name in ("box.json", "next-keys.json", "trust.json")}
    envelope = (box.box.folder / "ml-dsa.envelope").read_bytes()
    succession(box, "rotate", signed)
    for name, content in files.items():
        (box.box.folder / name).write_bytes(content)
    (box.box.folder / "ml-dsa.envelope").write_bytes(envelope)
    box.box = read_box(box.box.folder)
    box.power_cycle()
    with pytest.raises(StartFailed):
        box.start()
    (line,) = box.events("start.failed")
    assert line["code"] == "log_keys_mismatch", "the old keys sign nothing behind the rotation"
    assert f"since the rotation at entry {kinds(box).index('rotation')}" in line["detail"]
    box.power_off()
    succession(box, "rotate", signed)
    switched_on(box)
    assert kinds(box).count("rotation") == 1
    assert till.ask("payment", CASH).status == 200


def test_lost_token_begins_a_new_log_and_terminals_pair_nothing(box: RunningBox, tmp_path: Path) -> None:
    first_day = load_trust(box.box.trust.read_bytes())
    till = paired_till(box, tmp_path, "till-1")
    paired_till(box, tmp_path, "till-2")
    box.local.revoke("till-2", "stolen")
    old = receipt_of(till)
    head, vkey = cosigned_checkpoint(box)
    (tmp_path / "head").write_bytes(head)
    switched_off(box)
    shutil.rmtree(box.box.token)
    assert "SANDBOX-1/2 begins" in succession(box, "new-log", "--new-devices")
    signed = owner(box, "succeed", tmp_path / "signed", "--head", tmp_path / "head", "--witness", vkey)
    said = succession(box, "begin", signed)
    assert "till-1" in said
    assert "till-2" not in said
    assert "had begun already" in succession(box, "begin", signed), "a log begins once"
    switched_on(box)
    assert box.audience.endswith("/2")
    assert "terminal follow" in refused_sale(box, till), "the cure is named"
    followed = json.loads(command("terminal", "follow", till.home.folder, "--trust", box.box.trust, "--json"))
    assert followed == {"terminal": "till-1", "audience": box.audience}
    new = receipt_of(till)
    trust = load_trust(box.box.trust.read_bytes())
    assert trust.owner == first_day.owner
    assert check(old, first_day).log_id == check(old, trust).log_id != check(new, trust).log_id
    previous = trust.logs[check(new, trust).log_id].previous
    assert previous is not None
    assert previous.log_id == check(old, trust).log_id
    assert previous.size >= check(old, trust).size
    assert kinds(box)[:3] == ["genesis", "epoch", "terminal_paired"]
    assert kinds(box, "data-1")[0] == "genesis", "the old log stays for who wants to read it"


def test_restored_box_goes_on_as_a_new_log_only(box: RunningBox, tmp_path: Path) -> None:
    first_day = load_trust(box.box.trust.read_bytes())
    till = paired_till(box, tmp_path, "till-1")
    old = receipt_of(till)
    box.stop()
    shutil.copytree(box.box.data, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
    box.start()
    lost = receipt_of(till)
    head, vkey = cosigned_checkpoint(box)
    (tmp_path / "head").write_bytes(head)
    box.stop()
    shutil.rmtree(box.box.data)
    (tmp_path / "backup").rename(box.box.data)
    box.start()
    assert till.ask("payment", CASH).code == "quarantined"
    switched_off(box)
    succession(box, "new-log")
    signed = owner(box, "succeed", tmp_path / "signed", "--head", tmp_path / "head", "--witness", vkey)
    assert "till-1" in succession(box, "begin", signed)
    switched_on(box)
    new = receipt_of(till)
    trust = load_trust(box.box.trust.read_bytes())
    assert check(old, first_day).log_id == check(lost, trust).log_id, "also what the backup never held is still proven"
    assert check(new, trust).log_id != check(old, trust).log_id


def test_changed_backup_gives_no_terminals(box: RunningBox, tmp_path: Path) -> None:
    paired_till(box, tmp_path, "till-1")
    head, vkey = cosigned_checkpoint(box)
    (tmp_path / "head").write_bytes(head)
    switched_off(box)
    succession(box, "new-log")
    signed = owner(box, "succeed", tmp_path / "signed", "--head", tmp_path / "head", "--witness", vkey)
    with closing(sqlite3.connect(box.box.data / "ledger.db")) as connection, connection:
        (entry,) = connection.execute("SELECT entry FROM entries WHERE kind = 'terminal_paired'").fetchone()
        changed = entry.replace(b"till-1", b"till-9")
        connection.execute("UPDATE entries SET entry = ? WHERE kind = 'terminal_paired'", (changed,))
    assert "not what its own head says" in succession(box, "begin", signed, code=2)


def test_stolen_key_is_distrusted_and_what_others_saw_in_time_stays(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "till-1")
    good, late = receipt_of(till), receipt_of(till)
    known = load_trust(box.box.trust.read_bytes())
    last = check(good, known)
    late_head = check(late, known)
    key_id = known.keys[last.log_id].newest.keys.classical.key_id
    switched_off(box)
    succession(box, "next-keys")
    succession(box, "rotate", owner(box, "rotate", tmp_path / "signed") / "rotation.cbor")
    named = ("--log", last.log_id.hex(), "--key", key_id.hex(), "--after", last.size, "--before", BEFORE)
    shutil.copy(owner(box, "distrust", tmp_path / "distrust", *named) / "trust.json", box.box.trust)
    switched_on(box)
    switched_off(box)
    switched_on(box)
    assert kinds(box).count("distrust") == 1, "what the owner said stands in the log, once"
    trust = load_trust(box.public("/trust.json")[1])
    assert check(good, trust).size == last.size
    with pytest.raises(Rejected, match="log_key_distrusted"):
        check(late, trust)
    seen = VouchedHead(log_id=late_head.log_id, size=late_head.size, root=late_head.root, time_ms=BEFORE_MS - 1)
    assert check(late, trust, seen).size == late_head.size
    assert check(receipt_of(till), trust).log_id == last.log_id, "the new keys are trusted"
    report = tmp_path / "late.cbor"
    report.write_bytes(late)
    found = json.loads(command("verify", "receipt", report, "--trust", box.box.trust, "--json", code=1))
    assert found["code"] == "log_key_distrusted"
    assert found["steps"][-1]["name"] == "distrust", "both signatures are right"
    assert f"before {BEFORE}" in found["steps"][-1]["detail"]
    assert "evidence bundle" in command("verify", "receipt", report, "--trust", box.box.trust, code=1)
    assert f"before {BEFORE}" in command("owner", "show", box.box.trust)


def test_new_box_from_owner_key_to_first_sale(tmp_path: Path) -> None:
    command("owner", "new", "-o", tmp_path / "key")
    asked = command("succession", "first-log", "--dir", tmp_path / "shop", "--name", "Bakery", "--serial", "BAKERY-7")
    assert "the log corner-shop.example/BAKERY-7/1 begins" in asked
    folder = tmp_path / "shop" / "box"
    assert not (folder / "owner" / "owner-key").exists(), "the owner's key is elsewhere"
    shares = [part for name in ("share-1.txt", "share-2.txt") for part in ("--share", tmp_path / "key" / name)]
    known = ("--trust", tmp_path / "key" / "trust.json", "-o", tmp_path / "signed", "--yes")
    command("owner", "genesis", folder / "owner.request", *known, *shares)
    for _ in range(2):
        command("succession", "begin", tmp_path / "signed", "--dir", tmp_path / "shop")
    with running_box(tmp_path / "shop") as box:
        assert box.audience == "corner-shop.example/BAKERY-7/1"
        receipt = receipt_of(paired_till(box, tmp_path, "till-1"))
        assert check(receipt, load_trust((tmp_path / "signed" / "trust.json").read_bytes())).size
        assert "has a log already" in command("succession", "first-log", "--dir", tmp_path / "shop", code=2)
        assert not (folder / "owner" / "owner-key").exists()
