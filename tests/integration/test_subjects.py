"""A person's data at a real box: handed out with proofs, erased from every byte, also when power goes in between."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from appliance.identity.authenticate import payload_hash
from appliance.ledger.database import connect_writer
from appliance.ledger.disclosures import ErasedKeys
from appliance.ledger.projection import tables_digest
from appliance.ledger.rebuild import rebuild
from appliance.model.errors import Rejected
from appliance.wire.requests import PaymentBody
from appliance.wiring.projections import projections
from provisioning.cli import main
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox
from tests.integration.till import CASH, Till, new_key, verified

CUSTOMER: Final = "Quirinella Zyxmoor"
CASHIER: Final = "Wolfhardt Vexlbaum"
BOTH: Final[dict[str, Any]] = CASH | {"customer": CUSTOMER, "cashier": CASHIER}


def subject(box: RunningBox, *words: str) -> int:
    return main(["subject", *words, "--dir", str(box.box.data)])


def guess() -> bytes:
    """What anybody can compute who guesses the whole request of `BOTH`."""
    return payload_hash("payment", "till-1", msgspec.convert(BOTH, PaymentBody))


def traces(folder: Path, name: str) -> list[str]:
    """Files of `folder` that show a part of `name`: as text, as UTF-16, or inside base64 (a JWS) at any offset.

    Also files that would tell who guesses the whole request that the guess is right: they hold the hash of its payload.
    """
    needles = [guess(), guess().hex().encode()] if name == CUSTOMER else []
    for part in name.split():
        needles += [part.encode(), part.upper().encode(), part.encode("utf-16-le")]
        for offset in range(3):
            # Without the characters at both ends, which share bits with their neighbours.
            first, last = -(-offset * 4 // 3), (offset + len(part)) * 4 // 3
            needles.append(base64.urlsafe_b64encode(bytes(offset) + part.encode())[first:last])
    assert all(len(needle) >= 7 for needle in needles), "shorter ones stand in signatures by chance"
    files = [file for file in folder.rglob("*") if file.is_file()]
    return sorted(file.name for file in files if any(needle in file.read_bytes() for needle in needles))


def sell(till: Till, body: dict[str, Any], encoding: Encoding = Encoding.COSE) -> str:
    key = new_key()
    reply = till.ask("payment", body, key, encoding=encoding)
    assert reply.status == 200, reply.body
    return key


def exported(box: RunningBox, who: str, file: Path) -> dict[str, Any]:
    assert subject(box, "export", who, "-o", str(file)) == 0
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


def kinds(box: RunningBox, kind: str) -> list[bytes]:
    with closing(sqlite3.connect(f"file:{box.box.data / 'ledger.db'}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT entry FROM entries WHERE kind = ? ORDER BY seq", (kind,))
        return [bytes(entry) for (entry,) in rows]


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    for at, content in enumerate((CUSTOMER.encode(), base64.urlsafe_b64encode(b"x" + CUSTOMER.encode()))):
        (tmp_path / str(at)).write_bytes(b"...." + content)
    (tmp_path / "2").write_bytes(b"...." + guess())
    assert traces(tmp_path, CUSTOMER) == ["0", "1", "2"]


def test_an_export_is_readable_genuine_and_stands_in_the_log(box: RunningBox, till: Till, tmp_path: Path) -> None:
    alone = sell(till, CASH | {"customer": "C-4711"}, Encoding.JWS)
    refunded = sell(till, CASH | {"customer": "C-4711"})
    assert till.ask("refund", {"of": refunded, "reason": "returned"}).status == 200
    document = exported(box, "customer:C-4711", tmp_path / "person.json")

    assert document["about"] == "customer:C-4711"
    sales, others = document["entries"][:2], document["entries"][2:]
    assert [line["values"] for line in sales] == [{"customer": "C-4711"}] * 2
    assert [line["request"]["key"] for line in sales] == [alone, refunded]
    assert [line["says"].split()[0] for line in others] == ["refund"], "what became of the person's sales"
    assert stat.S_IMODE((tmp_path / "person.json").stat().st_mode) == 0o600
    trust = str(box.box.trust)
    assert main(["subject", "check", str(tmp_path / "person.json"), "--trust", trust]) == 0
    (entry,) = [each for each in kinds(box, "exported") if b"operator" in each][-1:]
    assert b"C-4711" not in entry


def test_what_a_cashier_did_to_a_drawer_is_handed_out_too(box: RunningBox, till: Till, tmp_path: Path) -> None:
    act = new_key()
    assert till.ask("drawer", {"act": "float", "amount_minor": 5_000, "cashier": "Ada"}, act).status == 200
    document = exported(box, "cashier:Ada", tmp_path / "person.json")

    (line,) = document["entries"]
    assert (line["values"], line["request"]["key"]) == ({"cashier": "Ada"}, act)
    assert main(["subject", "check", str(tmp_path / "person.json"), "--trust", str(box.box.trust)]) == 0


def test_a_changed_word_in_an_export_is_found(box: RunningBox, till: Till, tmp_path: Path) -> None:
    sell(till, CASH | {"customer": "C-99"})
    file = tmp_path / "person.json"
    document = exported(box, "customer:C-99", file)
    trust = str(box.box.trust)
    changes: tuple[dict[str, Any], ...] = (
        {"entries": [{**document["entries"][0], "values": {"customer": "C-98"}}]},
        {"entries": []},
        {"receipts": [document["receipts"][0][:-8] + "AAAAAAA="]},
        {"receipts": ["%"]},
        {"tillstone_subject": 2},
        {"about": "customer:C-98"},
        {"about": "cashier:C-99"},
        {"shop": "corner-shop.example/SANDBOX-2/1"},
        {"exported_by_entry": document["exported_by_entry"] - 1},
        {"exported": document["receipts"][0]},
        {"read_me": ["nothing is held"]},
        {"note": "a member that nobody checks"},
        {"receipts": [], "entries": []},
    )
    for changed in changes:
        file.write_text(json.dumps(document | changed))
        assert main(["subject", "check", str(file), "--trust", trust]) == 1
    twice = json.dumps(document).replace('{"tillstone_subject"', '{"about": "customer:C-98", "tillstone_subject"', 1)
    file.write_text(twice)
    assert main(["subject", "check", str(file), "--trust", trust]) == 1
    file.write_text(json.dumps(document))
    assert main(["subject", "check", str(file), "--trust", trust]) == 0
    file.write_text("{")
    assert main(["subject", "check", str(file), "--trust", trust]) == 1


def test_another_person_never_leaves_with_an_export(box: RunningBox, till: Till, tmp_path: Path) -> None:
    sell(till, CASH | {"customer": "C-1 Ottilie", "cashier": "Bartholo"})
    document = exported(box, "customer:C-1 Ottilie", tmp_path / "person.json")
    assert "request" not in document["entries"][0]
    assert traces(tmp_path, "Bartholo") == []


def test_many_entries_come_under_a_receipt_for_each_page(box: RunningBox, till: Till, tmp_path: Path) -> None:
    items = [{"key": new_key(), "payment": CASH | {"cashier": "Masso"}} for _ in range(120)]
    assert till.ask("batch", {"items": items}).status == 200
    document = exported(box, "cashier:Masso", tmp_path / "person.json")
    assert len(document["receipts"]) == 3
    assert [line["request"]["key"] for line in document["entries"]] == [item["key"] for item in items]
    assert main(["subject", "check", str(tmp_path / "person.json"), "--trust", str(box.box.trust)]) == 0


def test_an_erased_person_is_in_no_byte_and_every_proof_stays(box: RunningBox, till: Till, tmp_path: Path) -> None:
    keys = [sell(till, BOTH, encoding) for encoding in (Encoding.COSE, Encoding.JWS)]
    backup = tmp_path / "backup"
    shutil.copytree(box.box.data, backup, ignore=shutil.ignore_patterns("*.sock"))
    assert main(["export", "log", "--dir", str(box.box.data), "-o", str(tmp_path / "log.bin")]) == 0

    assert subject(box, "erase", f"customer:{CUSTOMER}", "--yes", "--json") == 0

    for folder in (box.box.folder, tmp_path, box.log_file.parent):
        assert traces(folder, CUSTOMER) == []
    (entry,) = kinds(box, "erased")
    assert b"operator" in entry
    for key in keys:
        assert verified(box, till.ask("status", {"of": key})).entries, "the sale is provable as before"
        size, again = box.log_size(), till.ask("payment", BOTH, key)
        assert (again.status, again.body["state"]) == (200, "approved"), "the recorded result, and no second sale"
        assert box.log_size() == size
    assert main(["verify", "log", str(box.box.data), "--trust", str(box.box.trust)]) == 0
    with pytest.raises(Rejected, match="subject_unknown"):
        box.local.held_about(f"customer:{CUSTOMER}")
    # The cashier of the same sales stays, but not the requests, which named both: erasing either erases them.
    document = exported(box, f"cashier:{CASHIER}", tmp_path / "cashier.json")
    assert [line["values"] for line in document["entries"]] == [{"cashier": CASHIER}] * 2
    assert not any("request" in line for line in document["entries"])
    assert traces(tmp_path, CUSTOMER) == []


def test_power_lost_between_the_entry_and_the_keys_ends_as_an_erasure(
    box: RunningBox, till: Till, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    who = "customer:Halfwaynina Grubmeier"
    sell(till, CASH | {"customer": who.partition(":")[2]})
    erased = len(kinds(box, "erased"))
    box.stop()
    box.start(program=("-m", "tests.integration.dying_box"))
    assert subject(box, "erase", who, "--yes") == 2, "nobody knows yet"
    box.kill()
    assert len(kinds(box, "erased")) == erased + 1, "the entry was durable first"
    assert keys_left(box) == 1
    box.start()
    assert keys_left(box) == 0
    assert traces(box.box.folder, who.partition(":")[2]) == []
    capsys.readouterr()
    assert subject(box, "erase", who, "--yes") == 0
    assert "erased already" in capsys.readouterr().out
    assert len(kinds(box, "erased")) == erased + 1
    box.kill()
    copy = tmp_path / "copy"
    shutil.copytree(box.box.data, copy, ignore=shutil.ignore_patterns("*.sock"))
    box.start()
    assert rebuilt_alike(copy)


def keys_left(box: RunningBox) -> int:
    """Keys that an `erased` entry names and that are still there."""
    data = box.box.data
    with closing(sqlite3.connect(f"file:{data / 'ledger.db'}?mode=ro", uri=True)) as connection:
        erased = {row[0] for row in connection.execute("SELECT key_id FROM erased_keys")}
    with closing(sqlite3.connect(f"file:{data / 'keys.db'}?mode=ro", uri=True)) as connection:
        return len(erased & {row[0] for row in connection.execute("SELECT id FROM keys")})


def rebuilt_alike(folder: Path) -> bool:
    """Tables made anew from the entries are the tables that stood there."""
    every = (ErasedKeys(), *projections())
    with closing(connect_writer(folder)) as connection:
        before = tables_digest(connection, every)
        rebuild(connection, every, None)
        return tables_digest(connection, every) == before


@pytest.mark.parametrize("who", ["Quirinella", "customer:", ":x", "owner:me", "day:20000", "customer:" + "x" * 201])
def test_what_is_no_person_is_refused(box: RunningBox, who: str) -> None:
    for ask in (box.local.held_about, box.local.erase_subject, lambda who: next(box.local.export_subject(who))):
        with pytest.raises(Rejected) as caught:
            ask(who)
        assert caught.value.code == "subject_malformed"


def test_a_misspelt_name_is_not_called_erased(box: RunningBox, till: Till, tmp_path: Path) -> None:
    sell(till, CASH | {"customer": "Spelt Right"})
    size = box.log_size()
    for ask in (box.local.erase_subject, lambda who: next(box.local.export_subject(who))):
        with pytest.raises(Rejected, match="subject_unknown"):
            ask("customer:Spelt right")
    assert subject(box, "export", "customer:Spelt right", "-o", str(tmp_path / "none.json")) == 2
    assert not list(tmp_path.iterdir())
    assert box.log_size() == size
    assert "Spelt" not in box.said()


def test_without_yes_and_nobody_to_ask_nothing_is_erased(
    box: RunningBox, till: Till, capsys: pytest.CaptureFixture[str]
) -> None:
    sell(till, CASH | {"customer": "Careful"})
    assert subject(box, "erase", "customer:Careful") == 2
    assert "1 entries" in capsys.readouterr().out
    assert box.local.held_about("customer:Careful")["entries"] == 1
