"""A real box and a printer on TCP: paper after the answer, and a silent printer that no sale waits for."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.cli import main
from provisioning.sandbox.printer_twin import PrinterTwin, on_tcp
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Till, new_key, paired_till

WAIT_S = 60


class Shop:
    def __init__(self, box: RunningBox, till: Till, twin: PrinterTwin, cuts: queue.Queue[None]) -> None:
        self.box, self.till, self.twin, self.cuts = box, till, twin, cuts
        self.kicks: queue.Queue[None] = queue.Queue()
        twin.on_kick = lambda: self.kicks.put(None)

    def paper(self) -> str:
        """The next page."""
        self.cuts.get(timeout=WAIT_S)
        text = "\n".join(self.twin.rows)
        self.twin.rows.clear()
        return text

    def printer_finding(self) -> str:
        return str(next(each["sentence"] for each in self.box.local.status()["findings"] if each["check"] == "printer"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    cuts: queue.Queue[None] = queue.Queue()
    twin = PrinterTwin(on_cut=lambda: cuts.put(None))
    with on_tcp(twin.take) as address:
        settings = (
            '\n[slip]\npage_url = "https://corner-shop.example/check/"\n'
            f'[printer]\naddress = "{address}"\nanswer_ms = 3000\n'
        )
        with running_box(tmp_path_factory.mktemp("shop"), settings=settings) as box:
            yield Shop(box, paired_till(box, tmp_path_factory.mktemp("tills"), "till-1"), twin, cuts)
            assert box.events("request.crashed") == []


def test_sale_comes_to_paper_with_its_proof_and_a_copy_says_copy(shop: Shop) -> None:
    key = new_key()
    assert shop.till.ask("payment", CASH, key).body["state"] == "approved"
    original = shop.paper()
    assert "PAID" in original
    assert "[QR https://corner-shop.example/check/#1." in original
    assert "COPY" not in original
    shop.kicks.get(timeout=WAIT_S)
    assert shop.twin.drawer_kicks == [2]
    assert shop.box.local.print_slip(key)["queued"] is True
    assert "*** COPY ***" in shop.paper()
    assert shop.twin.drawer_kicks == [2]
    assert shop.twin.unknown == []


def test_report_is_printed_line_by_line(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "z.txt"
    report.write_text("Z REPORT 7\n  EUR\x1bp   12.50\n")
    assert main(["print", str(report), "--dir", str(shop.box.box.data)]) == 0
    assert "waits for the printer" in capsys.readouterr().out
    assert shop.paper() == "Z REPORT 7\n  EUR p   12.50\n--- cut ---"


def test_report_of_the_day_fits_the_paper(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["close-day", "--dry-run", "--print", "--dir", str(shop.box.box.data)]) == 0
    assert "The day is open" in capsys.readouterr().out
    paper = shop.paper()
    assert "Shop day" in paper
    assert max(len(row) for row in paper.splitlines()) <= 42


def test_silent_printer_blocks_no_sale_and_never_reads_as_ready(shop: Shop) -> None:
    shop.twin.is_silent = True
    key = new_key()
    assert shop.till.ask("payment", CASH, key).body["state"] == "approved"
    assert shop.till.ask("payment", CASH).body["state"] == "approved"
    while shop.printer_finding().endswith("is ready."):
        pass
    assert shop.printer_finding() == "The receipt printer does not answer; sales go on."
    assert shop.box.local.status()["level"] == "coping"
    assert shop.twin.rows == []
    shop.twin.is_silent = False
