"""`tillstone export`: the log for others, and the same as tables that an auditor can believe."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from appliance.ledger.database import database_file
from provisioning import local_door
from provisioning.cli import main
from tests.fakes.log import CASHIER, key, write_sales, write_shop_log
from tests.unit.ledger.shop import genesis


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with ledger/, receipt.cbor (of the newest entry) and trust.json."""
    story = asyncio.run(write_shop_log(tmp_path / "ledger"))
    (tmp_path / "receipt.cbor").write_bytes(story.whole.encode())
    (tmp_path / "trust.json").write_bytes(story.trust)
    return tmp_path


def export_log(shop: Path) -> int:
    ledger, receipt, output = (str(shop / name) for name in ("ledger", "receipt.cbor", "shop.log"))
    return main(["export", "log", "--dir", ledger, "--receipt", receipt, "-o", output])


def export_sqlite(shop: Path, *source: str) -> int:
    return main(["export", "sqlite", *source, "-o", str(shop / "auditor.sqlite")])


@contextmanager
def auditor(shop: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(shop / "auditor.sqlite")) as connection:
        yield connection


def test_an_exported_log_verifies_for_a_stranger(shop: Path) -> None:
    assert export_log(shop) == 0
    assert main(["verify", "log", str(shop / "shop.log"), "--trust", str(shop / "trust.json")]) == 0


def test_what_vouches_for_the_tables_is_said_on_the_screen_as_in_the_file(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_log(shop) == 0
    assert "the owner was not checked" in capsys.readouterr().out
    trust = ("--trust", str(shop / "trust.json"))
    for source, said in (
        (("--dir", str(shop / "ledger")), "the owner was not checked; no signed head"),
        (("--dir", str(shop / "ledger"), *trust), "no signed head"),
        (("--log", str(shop / "shop.log"), *trust), "signed by both keys of the log"),
    ):
        (shop / "auditor.sqlite").unlink(missing_ok=True)
        assert export_sqlite(shop, *source) == 0
        shown = capsys.readouterr().out
        with auditor(shop) as connection:
            (proof,) = connection.execute("SELECT value FROM readme WHERE item = 'proof'").fetchone()
        assert said in proof
        assert proof in shown


def test_an_export_never_replaces_a_file(shop: Path) -> None:
    (shop / "shop.log").write_bytes(b"mine")
    assert export_log(shop) == 2
    assert (shop / "shop.log").read_bytes() == b"mine"


def test_without_a_box_and_a_receipt_there_is_no_head_to_end_with(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "log", "--dir", str(shop / "ledger"), "-o", str(shop / "shop.log")]) == 2
    assert "--receipt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "box_unreachable"),
        (b"HTTP/1.1 503 -\r\nContent-Length: 23\r\n\r\n" + b'{"code":"signing_down"}', "signing_down"),
        (b"HTTP/1.1 200 -\r\nContent-Length: 9\r\n\r\nno answer", "answer_unreadable"),
    ],
    ids=["silent", "cannot_sign", "nonsense"],
)
def test_a_box_that_gives_no_head_in_time_leaves_no_file(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: bytes, code: str
) -> None:
    monkeypatch.setattr(local_door, "TIMEOUT_S", 0.05)
    with answering(shop / "ledger", answer):
        assert main(["export", "log", "--dir", str(shop / "ledger"), "-o", str(shop / "shop.log")]) == 2
    said = capsys.readouterr().err
    assert f"({code})" in said
    assert "--receipt FILE" in said
    assert sorted(path.name for path in shop.iterdir()) == ["ledger", "receipt.cbor", "trust.json"]


@contextmanager
def answering(folder: Path, answer: bytes) -> Iterator[None]:
    """A local door that says `answer` to the first question, or nothing at all."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(folder, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{directory}/{local_door.SOCKET_NAME}")
    os.close(directory)
    listener.listen()
    held: list[socket.socket] = []

    def serve() -> None:
        connection, _ = listener.accept()
        held.append(connection)
        connection.recv(4096)
        connection.sendall(answer)

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield
    finally:
        server.join()
        for each in (*held, listener):
            each.close()
        (folder / local_door.SOCKET_NAME).unlink()


def test_a_damaged_ledger_is_not_exported(shop: Path) -> None:
    with closing(sqlite3.connect(database_file(shop / "ledger"))) as connection, connection:
        connection.execute("UPDATE entries SET entry = zeroblob(9) WHERE seq = 6")
    assert export_log(shop) == 1
    assert export_sqlite(shop, "--dir", str(shop / "ledger")) == 1
    assert sorted(path.name for path in shop.iterdir()) == ["ledger", "receipt.cbor", "trust.json"]


def test_tables_say_what_the_log_says(shop: Path) -> None:
    trust = str(shop / "trust.json")
    assert export_sqlite(shop, "--dir", str(shop / "ledger"), "--trust", trust) == 0
    with auditor(shop) as connection:
        readme = dict(connection.execute("SELECT item, value FROM readme"))
        assert (readme["log"], readme["size"]) == (genesis().log_id.hex(), "15")
        assert readme["root"] == shop_log_root(shop)
        states = connection.execute("SELECT payment, state, approved FROM sales ORDER BY seq").fetchall()
        assert states == [
            (str(key(1)), "approved", 1),
            (str(key(2)), "refunded", 1),
            (str(key(3)), "approved", 1),
            (str(key(4)), "declined", 0),
        ]
        assert connection.execute("SELECT * FROM days").fetchall() == [
            ("2026-09-21", "EUR", 3, 3550, 1550, 2000, 0, 0, 1, 300, 0, 0, 0, 0, 0, 0, 0, 0)
        ]
        assert connection.execute("SELECT state, reference, code FROM operations ORDER BY seq").fetchall() == [
            ("confirmed", "pi_123", None),
            ("rejected", "pi_124", "card_declined"),
        ]
        assert connection.execute("SELECT revoked, reason FROM terminals").fetchall() == [
            ("2026-09-21T14:13:20.000Z", "lost")
        ]
        assert connection.execute("SELECT count(*) FROM entries WHERE problem IS NOT NULL").fetchone() == (0,)
        assert connection.execute("SELECT typeof(total_minor), typeof(time) FROM sales").fetchone() == (
            "integer",
            "text",
        )


def shop_log_root(shop: Path) -> str:
    with closing(sqlite3.connect(database_file(shop / "ledger"))) as connection:
        return bytes(connection.execute("SELECT root FROM head").fetchone()[0]).hex()


def test_references_skus_and_codes_are_found_by_full_text(shop: Path) -> None:
    assert export_sqlite(shop, "--dir", str(shop / "ledger")) == 0
    with auditor(shop) as connection:
        for table, words, seq in (
            ("sales", '"receipt-2"', 5),
            ("lines", '"SKU-3"', 6),
            ("operations", "card_declined", 8),
        ):
            found = connection.execute(
                f"SELECT t.seq FROM [{table}] t JOIN [{table}_fts] f ON f.rowid = t.rowid WHERE [{table}_fts] MATCH ?",
                (words,),
            ).fetchall()
            assert found == [(seq,)], table


def test_an_exported_log_gives_the_same_tables_and_needs_an_owner(shop: Path) -> None:
    assert export_log(shop) == 0
    log, trust = str(shop / "shop.log"), str(shop / "trust.json")
    assert export_sqlite(shop, "--log", log) == 2
    assert export_sqlite(shop, "--log", log, "--trust", trust) == 0
    with auditor(shop) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (15,)
        (proof,) = connection.execute("SELECT value FROM readme WHERE item = 'proof'").fetchone()
        assert "signed by both keys" in proof


def test_programs_read_what_was_written_and_what_was_not(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = str(shop / "ledger")
    assert export_sqlite(shop, "--dir", ledger, "--json") == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["ok"], written["entries"], written["problems"]) == (True, 15, 0)
    assert (written["root"], written["log"]) == (shop_log_root(shop), genesis().log_id.hex())
    (shop / "auditor.sqlite").unlink()
    with closing(sqlite3.connect(database_file(shop / "ledger"))) as connection, connection:
        connection.execute("UPDATE entries SET entry = zeroblob(9) WHERE seq = 6")
    assert export_sqlite(shop, "--dir", ledger, "--json") == 1
    refused = json.loads(capsys.readouterr().out)
    assert (refused["ok"], refused["code"]) == (False, "entry_malformed")


def test_a_sandbox_is_found_by_its_own_folder(shop: Path) -> None:
    (shop / "sandbox" / "box").mkdir(parents=True)
    (shop / "ledger").rename(shop / "sandbox" / "box" / "data")
    assert export_sqlite(shop, "--dir", str(shop / "sandbox")) == 0


def test_disclosures_are_never_exported(shop: Path) -> None:
    assert export_log(shop) == 0
    assert export_sqlite(shop, "--dir", str(shop / "ledger")) == 0
    for name in ("shop.log", "auditor.sqlite"):
        assert CASHIER not in (shop / name).read_bytes()


def test_a_large_log_becomes_tables_in_bounded_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (2_000, 10_000):
        shop = tmp_path / str(count)
        shop.mkdir()
        asyncio.run(write_sales(shop / "ledger", count))
        peaks.append(peak_bytes(["export", "sqlite", "--dir", str(shop / "ledger"), "-o", f"{shop}/auditor.sqlite"]))
        with auditor(shop) as connection:
            total = sum(100 + number % 900 for number in range(count))
            assert connection.execute("SELECT sum(sales), sum(total_minor) FROM days").fetchone() == (count, total)
    assert peaks[1] < peaks[0] + 4 * 2**20


def peak_bytes(arguments: list[str]) -> int:
    """Most memory that a process of its own held while it ran the command."""
    program = (
        "from pathlib import Path; from provisioning.cli import main;"
        f"assert main({arguments!r}) == 0;"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return int(ran.stdout.split()[-1]) * 1024
