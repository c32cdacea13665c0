"""Owns the promises of the command line that need no box: fast help, errors with a next step, codes 0, 1 or 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provisioning.cli import main
from provisioning.commands.outcome import entries


def test_help_names_every_command_without_importing_any() -> None:
    script = (
        "import sys\nfrom provisioning import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'rich', 'aiohttp', 'cryptography', 'pkcs11'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )

    helped = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert helped.returncode == 0, helped.stderr
    for command in ("sandbox", "pay", "refund", "status", "terminal", "replay", "verify", "export", "conform"):
        assert f"    {command} " in helped.stdout


def test_an_unknown_command_is_code_two_and_names_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sel"])

    assert ended.value.code == 2
    assert "next: tillstone --help" in capsys.readouterr().err


def test_status_without_a_box_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["status", "--dir", str(tmp_path / "none")])

    assert code == 2
    assert "next: start one: tillstone sandbox" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_revoking_asks_for_the_reason_that_stays(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["terminal", "revoke", "till-1"])
    assert ended.value.code == 2
    assert "--reason" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["terminal", "revoke", "--help"])
    assert "goes into the log, for ever" in " ".join(capsys.readouterr().out.split())


def test_breaking_without_a_sandbox_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["sandbox", "break", "hsm", "--dir", str(tmp_path / "none")])

    assert code == 2
    assert "next: in another window: tillstone sandbox" in capsys.readouterr().err


def test_a_folder_of_other_files_is_never_made_into_a_box(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "thesis.txt").write_text("years of work")

    code = main(["sandbox", "--quiet", "--dir", str(tmp_path)])

    assert code == 2
    assert "holds other files" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "box").iterdir()) == ["thesis.txt"]


def test_a_purchase_that_cannot_be_read_names_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    purchases = tmp_path / "purchases.txt"
    purchases.write_text("customer date pieces price\n1 19970101 1 11.77\n1 yesterday 1 3.00\n")

    code = main(["replay", str(purchases), "--dir", str(tmp_path / "replay")])

    assert code == 2
    assert "row 2 cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence", "next_step"),
    [
        (["refund", "4711"], "'4711' is no payment's key", "pay prints the key"),
        (["refund", "01a0c450-6c00-7000-8000-000000000001", "--home", "none"], "pair first", "terminal pair --help"),
        (["refund", "01a0c450-6c00-7000-8000-000000000001", "--home", "none", "--line", "0:1"], "pair first", "pair"),
        (["pay", "--later"], "only a card's money is captured later", "or with --card in place"),
        (["pay", "--usdc", "--source", "x"], "this is a sale by usdc", "the same command without --source"),
        (["capture", "4711"], "'4711' is no payment's key", "pay prints the key"),
        (["reverse", "4711"], "'4711' is no payment's key", "pay prints the key"),
        (["pay", "--home", "none"], "pair first", "terminal pair --help"),
        (["terminal", "pair", "till-9", "K3QF"], "a code alone does not say where the box is", "--url https://"),
        (
            ["terminal", "pair", "till-9", "K3QF", "--url", "https://127.0.0.1:1"],
            "three groups of four",
            "invite till-9",
        ),
        (["terminal", "pair", "till-9", "tillstone:pair?url=x"], "pairing_qr_malformed", "terminal invite till-9"),
        (["terminal", "pair", "Till 9", "K3QF7M2Z9XHD", "--url", "https://127.0.0.1:1"], "inner hyphens", "invite"),
        (["terminal", "pair", "till-9", "K3QF7M2Z9XHD", "--url", "https://127.0.0.1:1"], "not paired", "running"),
    ],
)
def test_a_terminal_that_cannot_start_says_what_to_do(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    sentence: str,
    next_step: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    code = main(words)

    said, _, following = capsys.readouterr().err.partition("\n  next: ")
    assert code == 2
    assert sentence in said
    assert next_step in following


def test_one_option_names_the_folder_everywhere() -> None:
    for words in (
        ("sandbox",),
        ("sandbox", "break"),
        ("pay",),
        ("refund",),
        ("status",),
        ("terminal", "list"),
        ("terminal", "pair"),
        ("replay",),
        ("export", "log"),
        ("export", "sqlite"),
    ):
        helped = subprocess.run(
            [sys.executable, "-m", "provisioning.cli", *words, "--help"], capture_output=True, text=True, check=False
        )
        assert "--dir DIR" in helped.stdout, words
        assert "--data" not in helped.stdout + helped.stderr
        assert "--ledger" not in helped.stdout + helped.stderr


@pytest.mark.parametrize("words", [["pay"], ["ledger", "digest"], ["owner", "show"]])
def test_an_unknown_option_is_explained_by_the_command_that_was_meant(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--nope", "x"])
    assert ended.value.code == 2
    assert f"next: tillstone {' '.join(words)} --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "actions"),
    [("verify", ("receipt", "log", "bundle", "checkpoint", "proof", "fork")), ("audit", ("key", "open"))],
)
def test_help_lists_the_actions(command: str, actions: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert all(f"\n    {action}" in said for action in actions)


def test_a_wrong_argument_is_explained_by_its_command_and_not_by_the_box(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    (tmp_path / "auditor.pub").write_text("AA==")
    assert main(["verify", "bundle", str(empty), "--trust", str(empty), "--witness", "foo"]) == 2
    assert "next: tillstone verify bundle --help" in capsys.readouterr().err
    audit = ["audit", "open", str(empty), "--trust", str(empty), "--key", str(tmp_path / "auditor.pub")]
    assert main(audit) == 2
    assert "not its .pub" in capsys.readouterr().err
    assert main(["ledger", "consistency", "5", "3"]) == 2
    assert "next: tillstone ledger consistency 3 5" in capsys.readouterr().err


def test_counts_have_the_right_number() -> None:
    assert [entries(count) for count in (0, 1, 1_200)] == ["0 entries", "1 entry", "1,200 entries"]
