"""What a slip says, and that it says no more than is proven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from appliance.model.payment import PaymentState
from appliance.ports.printer import Code, Row
from appliance.slip.layout import WORDS, lay_out
from appliance.slip.paper_text import amount, columns, zone_of
from appliance.slip.plain import plain_text
from appliance.slip.slip import ShopFace, Standing
from appliance.wire.requests import LineBody, TenderBody
from tests.unit.slip.shop import CARD, NO_PROOF, PROOF, SHOP, SLIPS, slip, text_of

GOLDEN = Path(__file__).parent / "golden"
PAID_WORDS = ("PAID", "Change")


@pytest.mark.parametrize("name", SLIPS)
def test_slip_is_what_a_person_has_looked_at(name: str) -> None:
    """After a change of words: look at the new text, then save it as the golden file."""
    assert text_of(name) == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("width", [32, 42, 48, 64])
@pytest.mark.parametrize("name", SLIPS)
def test_no_row_is_wider_than_the_paper(name: str, width: int) -> None:
    rows = [part for part in lay_out(SLIPS[name], SHOP, PROOF, width=width) if isinstance(part, Row)]
    assert max(columns(row.text) for row in rows) <= width


@pytest.mark.parametrize("standing", set(Standing) - {Standing.PAID})
def test_only_what_is_paid_reads_as_paid(standing: Standing) -> None:
    text = plain_text(lay_out(slip(standing), SHOP, NO_PROOF), width=42)
    assert not any(word in text for word in PAID_WORDS)
    assert WORDS[standing][0] in text


@pytest.mark.parametrize(
    "standing",
    [Standing.AUTHORISED, Standing.ACCEPTED_OFFLINE, Standing.CHECKING, Standing.DECLINED, Standing.NOT_CHARGED],
)
def test_tender_that_took_no_money_is_called_asked_for(standing: Standing) -> None:
    assert "Card, asked for" in plain_text(lay_out(slip(standing), SHOP, NO_PROOF), width=42)


def test_cash_beside_a_card_that_was_lost_after_handover_stays_paid() -> None:
    tenders = (TenderBody(kind="cash", amount_minor=1_000), TenderBody(kind="pin_pad", amount_minor=990))
    lost = slip(Standing.DECLINED_AFTER_HANDOVER, msgspec.structs.replace(CARD, tenders=tenders, change=500))
    text = plain_text(lay_out(lost, SHOP, NO_PROOF), width=42)
    assert "Card, asked for" in text
    assert "Cash, asked for" not in text
    assert "Change" in text


def test_every_state_of_a_payment_has_a_standing() -> None:
    assert {state.value for state in PaymentState} - {"approved"} <= {standing.value for standing in Standing}


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1250, "EUR", "12.50"), (-5, "EUR", "-0.05"), (450, "JPY", "450"), (1250, "KWD", "1.250"), (7, "ISK", "7")],
)
def test_amounts_have_the_digits_of_their_currency(minor: int, currency: str, text: str) -> None:
    assert amount(minor, currency) == text


def test_text_of_a_till_cannot_steer_a_printer_or_a_screen() -> None:
    line = LineBody(sku="Beer\x1bp\x00\x19\x19\n\u202e\u200bmilk\x9b2J", unit_price_minor=1)
    nasty = replace(
        slip(Standing.PAID, msgspec.structs.replace(CARD, lines=(line,))),
        terminal="till-\x1b@1",
        personal=(("cashier", "A\x10\x04\x01da"),),
    )
    page = lay_out(nasty, ShopFace(name="Shop\x1b@", address="A\r\nB"), NO_PROOF)
    assert all(part.text.isprintable() for part in page if isinstance(part, Row))


def test_copy_says_so_on_top() -> None:
    first, *rest = lay_out(slip(Standing.PAID), SHOP, PROOF, is_copy=True)
    assert isinstance(first, Row)
    assert first.text.strip() == "*** COPY ***"
    assert tuple(rest) == lay_out(slip(Standing.PAID), SHOP, PROOF)


def test_code_is_drawn_where_it_fits_and_else_left_as_a_link() -> None:
    page = (Code("https://a.example/"),)
    assert "▄" in plain_text(page, width=42)
    assert plain_text(page, width=20) == "https://a.example/\n"


def test_unknown_zone_is_utc() -> None:
    text = plain_text(lay_out(slip(Standing.PAID), replace(SHOP, zone=zone_of("Mars/Olympus")), NO_PROOF), width=42)
    assert "2026-09-21 14:13:20 +00:00" in text
