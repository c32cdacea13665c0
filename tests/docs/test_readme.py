"""Owns the promise that README tells the truth: what it tells people to type works, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.cli import main
from provisioning.sandbox.background import sandbox_for_a_while
from provisioning.sandbox.layout import SandboxFolder
from provisioning.swtpm import missing_programs
from tests.architecture.sources import PROJECT, project_files, text

README = text("README.md")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
URL = "https://127.0.0.1:8443"
SECONDS_MAX = 60.0
FIRST_SCREEN_LINES_MAX = 60


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder that looks like the checkout with the shop of `make run` open in it, and the address of its door."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("reader")
    (folder / "build").mkdir()
    (folder / "provisioning").symlink_to(PROJECT / "provisioning")
    (folder / ".venv" / "bin").mkdir(parents=True)
    command = folder / ".venv" / "bin" / "tillstone"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {sys.executable} -m provisioning.cli "$@"\n')
    command.chmod(0o755)
    shop = SandboxFolder.at(folder / ".sandbox")
    with sandbox_for_a_while(shop, "--ports-from", "0"):
        run = shop.read_run()
        assert run is not None
        paid = [str(command), "pay", "--json"]  # leaves the two files that README has people copy
        subprocess.run(paid, cwd=folder, capture_output=True, timeout=SECONDS_MAX, check=True)
        yield folder, run.pos_url


@pytest.mark.parametrize(
    ("mark", "shown"),
    [
        ("openssl asn1parse", "The receipt is genuine."),
        ("provisioning/terminal/sale.sh", '"state":"approved"'),
        ("verify receipt", "The receipt is genuine."),
    ],
    ids=["sale_by_hand", "sale_by_script", "verify"],
)
def test_what_readme_tells_people_to_paste_works(reader: tuple[Path, str], mark: str, shown: str) -> None:
    folder, url = reader
    block = next(block for block in BLOCKS if mark in block)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.replace(URL, url)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout


def test_a_refused_sale_by_hand_ends_with_the_reason(reader: tuple[Path, str]) -> None:
    folder, url = reader
    block = next(block for block in BLOCKS if "openssl asn1parse" in block).replace(URL, url)
    done = subprocess.run(
        ["bash", "-c", block.replace("SANDBOX-1/1", "SANDBOX-1/9")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert '"code":"wrong_audience"' in done.stdout
    assert "cannot be believed" not in done.stdout + done.stderr


def test_sale_script_says_how_it_is_called() -> None:
    script = PROJECT / "provisioning" / "terminal" / "sale.sh"
    done = subprocess.run([str(script)], capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert (done.returncode, done.stderr.splitlines()[0][:18]) == (3, "usage: sale.sh URL")


def test_sale_script_keeps_a_receipt_that_verifies(reader: tuple[Path, str]) -> None:
    folder, url = reader
    block = next(block for block in BLOCKS if "provisioning/terminal/sale.sh" in block).replace(URL, url)
    (folder / ".sandbox" / "till-1" / "receipt.cbor").unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "-c", block], cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=True
    )
    check = done.stderr.partition("check it: ")[2].strip()
    again = subprocess.run(
        ["bash", "-c", f".venv/bin/{check}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert "The receipt is genuine." in again.stdout, again.stderr


def test_every_block_to_paste_is_tried() -> None:
    assert len(BLOCKS) == 3


def test_every_make_target_in_readme_exists() -> None:
    rules = [text("Makefile"), *(part.read_text() for part in sorted((PROJECT / "make").glob("*.mk")))]
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", "\n".join(rules), re.MULTILINE))
    # A target stands in code: at the start of a span or of a line of a block.
    named = set(re.findall(r"(?:`|^ *)make ([a-z][a-z0-9-]*)", README, re.MULTILINE))
    assert named >= {"run", "test", "pay", "evidence", "world"}
    assert named <= targets


def test_every_command_in_readme_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    named = set(re.findall(r"`tillstone ([a-z-]+)", README))
    assert named >= {"pay", "refund", "terminal", "export", "verify"}
    assert named <= known


def test_the_sale_by_hand_shows_its_answer_without_a_screen_of_base64(reader: tuple[Path, str]) -> None:
    folder, url = reader
    block = next(block for block in BLOCKS if "openssl asn1parse" in block).replace(URL, url)
    done = subprocess.run(
        ["bash", "-c", block], cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=True
    )
    assert '"state":"approved"' in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 400


def test_first_screen_holds_picture_commands_sale_and_map() -> None:
    first, _, _ = README.partition("\n## ")
    assert first.count("\n") < FIRST_SCREEN_LINES_MAX
    for part in ("authenticate --> validate", "make run", "make test", "curl -sS", "| `appliance/` |"):
        assert part in first


@pytest.mark.parametrize("page", [name for name in project_files() if name.endswith(".md")])
def test_every_link_between_pages_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(page))
    missing = [target for target in targets if "://" not in target and not ((PROJECT / page).parent / target).exists()]
    assert not missing
