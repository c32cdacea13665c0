"""Owns what the running sandbox shows of sales: no entry of the log ends the shop's screen."""

from __future__ import annotations

import pytest

from provisioning.sandbox.screen import Screen


def show(**sale: object) -> None:
    screen = Screen(is_quiet=False)
    screen.sale({"seq": 12, "terminal": "till-1", "tender": "cash", "verb": "payment", "state": "approved", **sale})


def test_a_sale_is_a_line_with_its_amount(capsys: pytest.CaptureFixture[str]) -> None:
    show(total_minor=1250, currency="EUR")
    assert "12.50 EUR  cash" in capsys.readouterr().out


def test_a_payment_that_was_cancelled_before_it_came_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    show(total_minor=0, currency="", verb="reversal", state="cancelled")
    assert "never came" in capsys.readouterr().out
