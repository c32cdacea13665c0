"""The log through the public door of a real box: strangers' tools, auditors, histories, verification."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.crypto import cbor, cose
from appliance.crypto.hybrid import PinnedKey
from appliance.ledger.entry import decode
from appliance.ledger.merkle import is_consistent, leaf_hash, root_from_inclusion
from appliance.ledger.tlog import read_proof, verify_proof
from appliance.ledger.trust import load_trust
from appliance.model.errors import Rejected
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CARD, CASH, Till, new_key, paired_till

FOREVER: Final = "max-age=31536000, immutable"
GO_SOURCES: Final = Path("/usr/share/gocode")
WAIT_S: Final = 30.0


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    with running_box(tmp_path_factory.mktemp("shop"), has_cards=True) as running:
        yield running
        assert running.events("request.crashed") == []


@pytest.fixture(scope="module")
def till(box: RunningBox, tmp_path_factory: pytest.TempPathFactory) -> Till:
    till = paired_till(box, tmp_path_factory.mktemp("tills"), "till-1")
    for _ in range(3):
        assert till.ask("payment", CASH).status == 200
    return till


@pytest.fixture(scope="module")
def token(box: RunningBox) -> str:
    return str(box.local.admit_auditor("Tax office", 7)["token"])


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        return str(self.json["code"])


def get(box: RunningBox, path: str, token: str = "", *, method: str = "GET", **headers: str) -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", box.public_port, timeout=10)
    credential = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request(method, path, headers={**credential, **headers})
    answer = connection.getresponse()
    got = Got(answer.status, dict(answer.headers), answer.read())
    connection.close()
    return got


def size_of(box: RunningBox) -> int:
    return int(get(box, "/checkpoint").content.split(b"\n")[1])


def entries_of(bundle: bytes) -> list[bytes]:
    entries = []
    while bundle:
        end = 2 + int.from_bytes(bundle[:2], "big")
        entries.append(bundle[2:end])
        bundle = bundle[end:]
    return entries


def test_tile_of_the_checkpoint_is_there_for_anybody_and_for_ever(box: RunningBox, till: Till) -> None:
    size = size_of(box)
    got = get(box, f"/tile/0/000.p/{size}")
    assert (got.status, len(got.content)) == (200, 32 * size)
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Cache-Control"] == f"public, {FOREVER}"
    assert get(box, "/checkpoint").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/tile/0/001", 404, "tile_unknown"),
        ("/tile/0/000", 404, "tile_unknown"),
        ("/tile/1/000.p/1", 404, "tile_unknown"),
        ("/tile/0/0", 400, "tile_path_malformed"),
        ("/tile/0/%30%30%30.p/2", 400, "tile_path_malformed"),
        ("/tile/", 400, "tile_path_malformed"),
        ("/tile/64/000", 400, "tile_path_malformed"),
        ("/tile/entries/000.p/2", 401, "auditor_unknown"),
        ("/ledger/digest", 401, "auditor_unknown"),
        ("/ledger/history/x", 401, "auditor_unknown"),
        ("/proof/entry/999999", 404, "entry_unknown"),
        ("/proof/entry/-1", 400, "question_malformed"),
        ("/proof/inclusion?seq=0&size=999999", 404, "size_unknown"),
        ("/proof/inclusion?seq=0", 400, "question_malformed"),
        ("/proof/consistency?from=0&to=1", 404, "size_unknown"),
    ],
)
def test_what_is_not_there_is_refused_precisely(box: RunningBox, till: Till, path: str, status: int, code: str) -> None:
    got = get(box, path)
    assert (got.status, got.code) == (status, code)


def test_auditor_reads_entries_that_hash_to_the_tile(box: RunningBox, till: Till, token: str) -> None:
    size = size_of(box)
    got = get(box, f"/tile/entries/000.p/{size}", token)
    assert (got.status, got.headers["Cache-Control"]) == (200, f"private, {FOREVER}")
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries_of(got.content)]
    assert b"".join(leaves) == get(box, f"/tile/0/000.p/{size}").content
    compressed = get(box, f"/tile/entries/000.p/{size}", token, **{"Accept-Encoding": "gzip"})
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(compressed.content) == got.content


def test_credential_is_shown_once_and_kept_as_a_hash(box: RunningBox, token: str) -> None:
    assert token.encode() not in box.data_bytes()
    assert token not in box.said()
    assert hashlib.sha256(token.encode()).digest() in box.data_bytes()
    assert "token" not in box.local.auditors()[0]


@pytest.mark.parametrize("authorization", ["", "Bearer x", "Basic dHNhXw==", "Bearer tsa_" + "A" * 43, "tsa_"])
def test_any_other_credential_opens_nothing(box: RunningBox, token: str, authorization: str) -> None:
    got = get(box, "/tile/entries/000.p/2", Authorization=authorization)
    assert (got.status, got.code) == (401, "auditor_unknown")


def test_revoked_credential_opens_nothing_and_both_stand_in_the_log(box: RunningBox, till: Till, token: str) -> None:
    made = box.local.admit_auditor("Somebody", 1)
    assert get(box, "/tile/entries/000.p/2", made["token"]).status == 200
    seq = box.local.revoke_auditor(made["credential"], "left")["seq"]
    got = get(box, "/tile/entries/000.p/2", made["token"])
    assert (got.status, got.code) == (403, "auditor_revoked")
    entries = entries_of(get(box, f"/tile/entries/000.p/{seq + 1}", token).content)
    assert b"auditor_admitted" in entries[made["seq"]]
    assert b"auditor_revoked" in entries[seq]
    with pytest.raises(Rejected, match="was revoked before"):
        box.local.revoke_auditor(made["credential"], "again")


@pytest.mark.parametrize(("name", "days"), [("", 7), ("a\nb", 7), ("x" * 65, 7), ("Ok", 0), ("Ok", 367)])
def test_credential_without_end_or_name_is_not_made(box: RunningBox, name: str, days: int) -> None:
    with pytest.raises(Rejected, match=r"auditor_name_invalid|auditor_days_invalid"):
        box.local.admit_auditor(name, days)


def test_proof_file_proves_an_entry_to_who_has_the_trust_file(box: RunningBox, till: Till, token: str) -> None:
    seq = till.ask("payment", CASH).body["seq"]
    got = get(box, f"/proof/entry/{seq}")
    ends_at = time.monotonic() + WAIT_S
    while (got.status, time.monotonic() < ends_at) == (503, True):
        assert got.code == "checkpoint_pending"
        time.sleep(0.05)
        got = get(box, f"/proof/entry/{seq}")
    public = read_proof(got.content)
    assert public.extra == b""
    mine = read_proof(box.local.proof(seq, None))
    (statement,) = load_trust(box.box.trust.read_bytes()).logs.values()
    sizes = []
    for proof in (public, mine, read_proof(box.local.proof(seq, seq + 1))):
        checkpoint = verify_proof(
            proof,
            leaf_hash(mine.extra),
            origin=box.audience,
            note_key=statement.note_key,
            post_quantum=PinnedKey(algorithm=cose.ML_DSA_87, public_key=statement.keys.post_quantum.public_key),
        )
        sizes.append(checkpoint.size)
    assert min(sizes) == sizes[-1] == seq + 1


def test_inclusion_and_consistency_are_for_anybody_and_for_ever(box: RunningBox, till: Till) -> None:
    size = size_of(box)
    got = get(box, f"/proof/inclusion?seq=1&size={size}")
    assert got.headers["Cache-Control"] == f"public, {FOREVER}"
    body = got.json
    root, path = bytes.fromhex(body["root"]), [bytes.fromhex(node) for node in body["path"]]
    assert root_from_inclusion(bytes.fromhex(body["leaf"]), 1, size, path) == root
    old = bytes.fromhex(get(box, "/proof/inclusion?seq=0&size=2").json["root"])
    grown = get(box, f"/proof/consistency?from=2&to={size}").json
    assert is_consistent(2, old, size, root, [bytes.fromhex(node) for node in grown["path"]])


def test_history_of_a_card_payment_is_its_entries_in_order(box: RunningBox, till: Till, token: str) -> None:
    key, refund_key = new_key(), new_key()
    till.ask("payment", CARD, key)
    till.until_final(key)
    till.ask("refund", {"of": key}, refund_key)
    till.until_final(key)
    body = get(box, f"/ledger/history/{key}", token).json
    assert get(box, f"/ledger/history/{refund_key}", token).json == body
    assert body["payment"] == key
    assert [entry["kind"] for entry in body["entries"]] == ["intent", "outcome", "intent", "outcome", "refund"]
    seqs = [entry["seq"] for entry in body["entries"]]
    assert seqs == sorted(seqs)
    first = body["entries"][0]
    assert first["body"]["payment"] == key
    assert first["body"]["sale"]["total"] == 990
    assert leaf_hash(bytes.fromhex(first["entry"])).hex() == first["leaf"]
    assert box.local.history(key) == body


def test_history_of_a_cash_sale_and_of_nothing(box: RunningBox, till: Till, token: str) -> None:
    key = new_key()
    till.ask("payment", CASH, key)
    body = get(box, f"/ledger/history/{key}", token).json
    assert [entry["kind"] for entry in body["entries"]] == ["sale"]
    got = get(box, f"/ledger/history/{new_key()}", token)
    assert (got.status, got.code) == (404, "payment_unknown")
    got = get(box, "/ledger/history/nonsense", token)
    assert (got.status, got.code) == (400, "key_not_uuidv7")


def test_digest_at_a_time_is_the_head_that_a_proof_knows(box: RunningBox, till: Till, token: str) -> None:
    seq = till.ask("payment", CASH).body["seq"]
    now = get(box, "/ledger/digest", token).json
    assert now["size"] > seq
    last = now["last"]
    digest = get(box, f"/ledger/digest?at={last['time_ms']}", token).json
    assert digest["root"] == get(box, f"/proof/inclusion?seq=0&size={digest['size']}").json["root"]
    assert get(box, f"/ledger/digest?at={last['time']}", token).json["size"] == digest["size"]
    assert get(box, "/ledger/digest?at=0", token).json["size"] == 0
    assert get(box, "/ledger/digest?at=yesterday", token).code == "question_malformed"


def verified_now(box: RunningBox, token: str) -> dict[str, Any]:
    """Ask, and wait for the end."""
    ends_at = time.monotonic() + WAIT_S
    while (asked := get(box, "/integrity/verify", token, method="POST")).status != 202:
        assert asked.code in ("verified_just_now", "too_many_reads")
        return dict(get(box, "/integrity").json["last"])
    while True:
        report: dict[str, Any] = get(box, "/integrity").json
        if report["running"] is None:
            return dict(report["last"])
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def test_whole_log_is_verified_now_and_the_result_is_an_entry(box: RunningBox, till: Till, token: str) -> None:
    last = verified_now(box, token)
    assert (last["is_right"], last["code"]) == (True, "")
    again = get(box, "/integrity/verify", token, method="POST")
    assert (again.status, again.code) == (429, "verified_just_now")
    assert get(box, "/integrity/verify", method="POST").status == 401
    size = get(box, "/ledger/digest", token).json["size"]
    bundle = get(box, f"/tile/entries/000.p/{size}", token).content
    assert sum(b"hverified" in entry for entry in entries_of(bundle)) == 1


def test_integrity_says_where_each_key_lives_and_what_softhsm_is_worth(box: RunningBox) -> None:
    report = get(box, "/integrity").json
    (statement,) = load_trust(box.box.trust.read_bytes()).logs.values()
    keys = {key["purpose"]: key for key in report["keys"]}
    assert bytes.fromhex(keys["log_classical"]["public_key"]) == statement.keys.classical.public_key
    assert bytes.fromhex(keys["log_post_quantum"]["public_key"]) == statement.keys.post_quantum.public_key
    assert "CKA_EXTRACTABLE=false" in keys["log_classical"]["asserted"]
    assert (keys["log_post_quantum"]["home"], keys["log_post_quantum"]["asserted"]) == ("envelope", [])
    assert report["token"]["is_test_token"]
    assert "files" in report["token"]["sentence"]
    assert isinstance(report["followers"], list)


def test_one_credential_cannot_read_without_end(box: RunningBox, till: Till) -> None:
    token = box.local.admit_auditor("In a hurry", 1)["token"]
    answers = [get(box, "/tile/entries/000.p/1", token) for _ in range(260)]
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    assert {(answer.status, answer.code) for answer in refused} == {(429, "too_many_reads")}
    assert {answer.headers.get("Retry-After") for answer in refused} == {"1"}


def test_commands_say_the_same_for_eyes_and_for_programs(box: RunningBox, till: Till, tmp_path: Path) -> None:
    key = new_key()
    seq = till.ask("payment", CASH, key).body["seq"]
    said = command(box, "ledger", "history", key)
    assert f"payment {key}: 1 entry" in said
    assert "sale of 12.50 EUR, cash" in said
    assert json.loads(command(box, "ledger", "history", key, "--json"))["entries"][0]["seq"] == seq
    assert "entries" in command(box, "ledger", "digest")
    assert json.loads(command(box, "ledger", "digest", "--json", "--at", "2000-01-01T00:00:00Z"))["size"] == 0
    file = tmp_path / "a.tlog-proof"
    assert f"entry {seq} is in" in command(box, "ledger", "proof", str(seq), "--size", str(seq + 1), "-o", str(file))
    assert read_proof(file.read_bytes()).index == seq
    assert command(box, "ledger", "proof", str(seq)).startswith("c2sp.org/tlog-proof@v1\n")
    assert json.loads(command(box, "ledger", "proof", "1", "--json"))["seq"] == 1
    assert "extends" in command(box, "ledger", "consistency", "2", str(seq))
    assert "SoftHSM" in command(box, "ledger", "integrity") or "test token" in command(box, "ledger", "integrity")
    made = json.loads(command(box, "auditor", "admit", "Erika", "--json"))
    assert made["credential"] in command(box, "auditor", "list")
    assert "opens nothing" in command(box, "auditor", "revoke", made["credential"], "--reason", "done")


def command(box: RunningBox, *words: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "provisioning.cli", *words, "--dir", str(box.box.data)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_go_verifies_the_log_with_its_own_code(
    box: RunningBox, till: Till, token: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if shutil.which("go") is None or not (GO_SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("optional: packages golang-go and golang-golang-x-mod-dev are not installed")
    for at in range(4):
        sales = [{"key": new_key(), "payment": CASH} for _ in range(100)]
        assert till.ask("batch", {"items": sales}).status == 200, at
    folder = tmp_path_factory.mktemp("go")
    program = folder / "tlog_interop"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": ""}
    environment["GOCACHE"] = os.environ.get("GOCACHE", str(folder / "cache"))
    source = Path(__file__).parents[1] / "tools/tlog_interop"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=source, env=environment, check=True, timeout=300)
    (statement,) = load_trust(box.box.trust.read_bytes()).logs.values()
    raw = b"\x01" + statement.note_key[-32:]
    key_hash = hashlib.sha256(box.audience.encode() + b"\n" + raw).digest()[:4].hex()
    verifier = f"{box.audience}+{key_hash}+{base64.b64encode(raw).decode()}"
    run = subprocess.run(
        [str(program), f"http://127.0.0.1:{box.public_port}", verifier, token],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["size"] > 400
    assert said["unverified"] == 1  # the ML-DSA-87 line, whose type Go does not know
    assert said["tiles"] >= 3  # a full one, and the right edge on two levels


def test_changed_entry_is_found_and_named_and_the_box_sells_no_more(tmp_path: Path) -> None:
    with running_box(tmp_path / "shop") as box:
        till = paired_till(box, tmp_path, "till-1")
        seq = till.ask("payment", CASH).body["seq"]
        till.ask("payment", CASH)
        till.ask("payment", CASH)
        with closing(sqlite3.connect(box.box.data / "ledger.db")) as connection, connection:
            (entry,) = connection.execute("SELECT entry FROM entries WHERE seq = ?", (seq,)).fetchone()
            changed = entry.replace(b"\x19\x04\xe2", b"\x19\x04\xe3")  # 12.50 becomes 12.51
            assert changed != entry
            connection.execute("UPDATE entries SET entry = ? WHERE seq = ?", (changed, seq))
        run = subprocess.run(
            [sys.executable, "-m", "provisioning.cli", "ledger", "verify", "--dir", str(box.box.data)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (run.returncode, f"entry {seq}: it was changed" in run.stdout) == (1, True), run.stdout + run.stderr
        last = get(box, "/integrity").json["last"]
        assert (last["is_right"], last["code"], last["bad_entry"]) == (False, "entry_changed", seq)
        refused = till.ask("payment", CASH)
        assert (refused.status, refused.code) == (503, "quarantined")
        assert get(box, "/health").status == 503


def test_what_auditors_read_stands_in_the_log_after_an_orderly_stop(tmp_path: Path) -> None:
    with running_box(tmp_path / "shop") as box:
        made = box.local.admit_auditor("Tax office", 7)
        for width in (1, 2, 3):
            assert get(box, f"/tile/entries/000.p/{width}", made["token"]).status == 200
        box.stop()
        with closing(sqlite3.connect(box.box.data / "ledger.db")) as connection:
            rows = connection.execute("SELECT entry FROM entries WHERE kind = 'auditor_read'").fetchall()
        ((encoded,),) = rows
        body = cbor.decode(decode(encoded).body, size_max=1_000)
        assert body == {"credential": made["credential"], "first": 0, "last": 2, "entries": 6, "requests": 3}
        box.start()
        assert get(box, "/tile/entries/000.p/2", made["token"]).status == 200
