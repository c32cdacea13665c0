"""`tillstone verify` as a stranger runs it: exit codes, JSON, a machine with nothing but the files."""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.ledger.export import write_log
from provisioning.cli import main
from provisioning.verify.log_check import check_log
from provisioning.verify.progress import Unseen
from tests.fakes.log import shop_log, write_sales, write_shop_log

FORBIDDEN = ("aiohttp", "pkcs11", "tpm2_pytss", "stripe", "drivers", "uvloop", "oqs", "sqlite_utils", "zeroconf")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A receipt and its trust file."""
    receipt, trust = tmp_path / "receipt.cbor", tmp_path / "trust.json"
    receipt.write_bytes(shop_log().sale)
    trust.write_bytes(shop_log().trust)
    return receipt, trust


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The shop's log as an exported file."""
    file = tmp_path / "shop.log"
    with file.open("wb") as stream:
        write_log(stream, [proven.entry for proven in shop_log().whole.entries], shop_log().whole.head)
    return file


def test_a_receipt_is_verified_without_drivers_doors_or_vendors(files: tuple[Path, Path]) -> None:
    receipt, trust = files
    program = (
        "import sys; from provisioning.cli import main;"
        f"code = main(['verify', 'receipt', {str(receipt)!r}, '--trust', {str(trust)!r}]);"
        f"print('imported:', [name for name in {FORBIDDEN!r} if name in sys.modules]); sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.rstrip().endswith("imported: []")
    assert "sale of 12.50 EUR" in ran.stdout


def test_exit_codes_tell_genuine_false_and_unusable(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt, trust = files
    assert main(["verify", "receipt", str(receipt), "--trust", str(trust)]) == 0
    receipt.write_bytes(shop_log().sale[:-1])
    assert main(["verify", "receipt", str(receipt), "--trust", str(trust)]) == 1
    assert main(["verify", "receipt", str(tmp_path / "nothing"), "--trust", str(trust)]) == 2
    with pytest.raises(SystemExit) as usage:
        main(["verify", "receipt", str(receipt)])
    assert usage.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_json_is_one_object_for_programs(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    receipt, trust = files
    assert main(["verify", "receipt", str(receipt), "--trust", str(trust), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["code"]) == (True, None)
    assert answer["entries"][0]["body"]["sale"]["total"] == 1250
    receipt.write_bytes(b"")
    assert main(["verify", "receipt", str(receipt), "--trust", str(trust), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["code"]) == (False, "cbor_malformed")
    assert answer["steps"][-1]["ok"] is False


def test_a_second_opinion_without_liboqs_says_so_and_never_fetches_one(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)
    monkeypatch.delenv("OQS_INSTALL_PATH", raising=False)
    receipt, trust = files
    assert main(["verify", "receipt", str(receipt), "--trust", str(trust), "--second-opinion", "oqs"]) == 2
    assert "no liboqs" in capsys.readouterr().err
    assert "oqs" not in sys.modules


def test_an_exported_log_is_verified_with_its_signatures(
    exported: Path, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "log", str(exported), "--trust", str(files[1]), "--json", "--bodies"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["size"], answer["root"]) == (15, shop_log().whole.head.root.hex())
    assert [step["name"] for step in answer["steps"]] == ["trust file", "entries", "head", "signatures", "speed"]


@pytest.mark.parametrize(
    ("change", "code", "seq"),
    [
        (lambda data: data.replace(b"receipt-1", b"receipt-9"), "entry_changed", 4),
        (
            lambda data: data.replace(b"entry", b"entry").replace(b"\x64sale\x6f", b"\x64Sale\x6f", 1),
            "entry_malformed",
            4,
        ),
        (lambda data: data[:-5], "export_truncated", None),
        (lambda data: data + b"\x00", "export_malformed", None),
        (lambda data: b"x" + data, "export_malformed", None),
        (lambda data: data[:-20] + bytes(20), None, None),
    ],
)
def test_a_changed_log_fails_at_its_first_bad_entry(
    exported: Path, change: object, code: str | None, seq: int | None
) -> None:
    assert callable(change)
    before = exported.read_bytes()
    exported.write_bytes(change(before))
    assert exported.read_bytes() != before
    report = check_log(exported, shop_log().trust, Unseen())
    assert not report.ok
    assert report.hint
    if code is not None:
        assert (report.code, report.facts.get("first_bad_entry")) == (code, seq)


def test_a_byte_changed_in_the_last_entry_is_told_by_the_roots(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes().replace(b"lost", b"LOST", 1))
    report = check_log(exported, shop_log().trust, Unseen())
    assert report.code == "export_head_mismatch"
    assert f"root of 15 entries is {shop_log().whole.head.root.hex()[:16]}" in report.steps[-1].detail
    assert "perhaps the last" in report.steps[-1].detail


async def test_a_ledger_folder_is_verified_beside_its_box(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    story = await write_shop_log(folder)
    report = await asyncio.to_thread(check_log, folder, story.trust, Unseen())
    assert report.ok
    assert "folder holds none" in next(step.detail for step in report.steps if step.name == "signatures")
    assert "agrees" in report.verdict


async def test_a_byte_changed_in_a_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    await write_sales(folder, 600)
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute(
            "UPDATE entries SET entry = CAST(replace(entry, CAST('receipt-70' AS BLOB), 'receipt-71') AS BLOB)"
            " WHERE seq = 72"
        )
    connection.close()
    report = await asyncio.to_thread(check_log, folder, shop_log().trust, Unseen())
    assert (report.code, report.facts["first_bad_entry"]) == ("entry_changed", 72)


def test_a_whole_log_is_verified_in_constant_memory(tmp_path: Path) -> None:
    """Twenty times the entries do not take more memory."""
    peaks = []
    for count in (1_000, 20_000):
        folder = tmp_path / str(count)
        head = asyncio.run(write_sales(folder, count)).head
        file = tmp_path / f"{count}.log"
        with sqlite3.connect(folder / "ledger.db") as connection, file.open("wb") as stream:
            write_log(stream, (row[0] for row in connection.execute("SELECT entry FROM entries ORDER BY seq")), head)
        connection.close()
        peaks.append(peak_memory(file, tmp_path))
    assert peaks[1] < peaks[0] + 4 * 2**20


def peak_memory(file: Path, folder: Path) -> int:
    """Bytes at the peak of a process of its own that verifies `file`."""
    trust = folder / "trust.json"
    trust.write_bytes(shop_log().trust)
    program = (
        "from pathlib import Path; from provisioning.cli import main;"
        f"assert main(['verify', 'log', {str(file)!r}, '--trust', {str(trust)!r}]) == 0;"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=dict(os.environ)
    )
    return int(ran.stdout.split()[-1]) * 1024


def test_neither_file_nor_ledger_is_told_from_a_false_log(tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    trust.write_bytes(shop_log().trust)
    assert main(["verify", "log", str(tmp_path / "absent"), "--trust", str(trust)]) == 2
    assert main(["verify", "log", str(tmp_path), "--trust", str(trust)]) == 2

    (tmp_path / "text").write_bytes(b"hello")
    assert main(["verify", "log", str(tmp_path / "text"), "--trust", str(trust)]) == 1
