"""Slips to test with: every standing, several currencies, texts that do not fit. Holds no test."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from msgspec.structs import replace as replace_struct

from appliance.ledger.entry import EntryHash
from appliance.slip.layout import WIDTH_DEFAULT, Proof, lay_out
from appliance.slip.paper_text import zone_of
from appliance.slip.plain import plain_text
from appliance.slip.slip import GivenBack, OfSale, ShopFace, Slip, Standing
from appliance.wire.entries import SaleFacts
from appliance.wire.requests import LineBody, TaxBody, TenderBody

SHOP: Final = ShopFace(name="Corner Shop", address="Marktplatz 1, 12345 Beispielstadt", zone=zone_of("Europe/Berlin"))
KEY: Final = "01a0c450-6c00-7000-8000-000000000001"
SOLD_MS: Final = 1_790_000_000_000
PROOF: Final = Proof(log="corner-shop.example/TS-0001/1", link="https://corner-shop.example/check/#1." + "A" * 1300)
NO_PROOF: Final = Proof(log="corner-shop.example/TS-0001/1", missing="No page to check slips at is set up.")

COFFEE: Final = LineBody(
    sku="COFFEE-250", unit_price_minor=495, quantity_thousandths=2000, tax_code="B", tax_rate_basis_points=700
)
EUROS: Final = SaleFacts(
    currency="EUR",
    lines=(
        COFFEE,
        LineBody(
            sku="Wholemeal bread, sliced, from the baker next door",
            unit_price_minor=320,
            discount_minor=32,
            tax_code="B",
            tax_rate_basis_points=700,
        ),
        LineBody(
            sku="Cheese", unit_price_minor=1990, quantity_thousandths=345, tax_code="B", tax_rate_basis_points=700
        ),
        LineBody(sku="Bag", unit_price_minor=20, tax_code="A", tax_rate_basis_points=1900),
    ),
    taxes=(
        TaxBody(tax_code="A", rate_basis_points=1900, net_minor=17, tax_minor=3),
        TaxBody(tax_code="B", rate_basis_points=700, net_minor=1837, tax_minor=129),
    ),
    total=1986,
    tip=100,
    rounding=-1,
    tenders=(TenderBody(kind="cash", amount_minor=2500),),
    change=415,
    reference="4711",
    sold_at_ms=SOLD_MS,
)
CARD: Final = SaleFacts(
    currency="EUR",
    lines=(COFFEE,),
    total=990,
    tenders=(TenderBody(kind="card", amount_minor=990, source="tmr_1"),),
    sold_at_ms=SOLD_MS,
)
DOLLARS: Final = SaleFacts(
    currency="USD",
    prices="tax_added",
    lines=(LineBody(sku="T-shirt", unit_price_minor=2000, tax_code="CA", tax_rate_basis_points=725),),
    taxes=(TaxBody(tax_code="CA", rate_basis_points=725, net_minor=2000, tax_minor=145),),
    total=2145,
    tenders=(TenderBody(kind="cash", amount_minor=500), TenderBody(kind="card", amount_minor=1645)),
    sold_at_ms=SOLD_MS,
)
YEN: Final = SaleFacts(
    currency="JPY",
    lines=(
        LineBody(
            sku="緑茶 (ペットボトル) 500ml 国産茶葉使用 まとめ買い", unit_price_minor=150, quantity_thousandths=3000
        ),
    ),
    total=450,
    tenders=(TenderBody(kind="cash", amount_minor=500),),
    change=50,
    sold_at_ms=SOLD_MS,
)
DINARS: Final = SaleFacts(
    currency="KWD",
    lines=(LineBody(sku="", unit_price_minor=1250),),
    total=1250,
    tenders=(TenderBody(kind="cash", amount_minor=1250),),
    sold_at_ms=SOLD_MS,
)


def slip(standing: Standing, sale: SaleFacts | None = CARD, given_back: GivenBack | None = None) -> Slip:
    return Slip(
        key=KEY,
        standing=standing,
        proven=standing,
        terminal="till-1",
        sale=sale,
        given_back=given_back,
        entry_seq=4711,
        entry_hash=EntryHash(bytes(range(32))),
        time_ms=SOLD_MS + 86_400_000,
    )


STATED: Final = replace_struct(CARD, tenders=(TenderBody(kind="card_stated", amount_minor=990, source="slip 0042"),))


VOUCHER: Final = replace_struct(
    CARD,
    tenders=(TenderBody(kind="voucher", amount_minor=600, source="e8" * 32), TenderBody(kind="cash", amount_minor=390)),
)


_CARD_PART: Final = TenderBody(kind="card", amount_minor=590)

SLIPS: Final[dict[str, Slip]] = {
    "paid_cash": replace(slip(Standing.PAID, EUROS), personal=(("cashier", "Ada"), ("customer", "C-1001"))),
    "paid_stated": slip(Standing.PAID, STATED),
    "paid_voucher": slip(Standing.PAID, VOUCHER),
    "partly_refunded_voucher": slip(
        Standing.PARTLY_REFUNDED,
        VOUCHER,
        GivenBack(currency="EUR", cash_minor=50, card_minor=0, voucher_minor=600, left_minor=340),
    ),
    "refunded_stated": slip(
        Standing.REFUNDED, STATED, GivenBack(currency="EUR", cash_minor=0, card_minor=0, stated_minor=990)
    ),
    "paid_split": slip(Standing.PAID, DOLLARS),
    "part_first": replace(
        slip(Standing.PAID, replace_struct(CARD, remaining=590, tenders=(TenderBody(kind="card", amount_minor=400),))),
        of_sale=OfSale(key=KEY, number=1, covers_minor=400, paid_minor=400, total_minor=990),
    ),
    "part_later": replace(
        slip(Standing.PAID, replace_struct(CARD, lines=(), total=590, part_of=bytes(16), tenders=(_CARD_PART,))),
        of_sale=OfSale(
            key="01a0c450-6c00-7000-8000-000000000000", number=2, covers_minor=590, paid_minor=990, total_minor=990
        ),
    ),
    "part_approved_for_less": replace(
        slip(Standing.PAID, replace_struct(CARD, partial="accepted")),
        captured_minor=693,
        of_sale=OfSale(key=KEY, number=1, covers_minor=693, total_minor=990),
    ),
    "paid_yen": slip(Standing.PAID, YEN),
    "paid_dinars": slip(Standing.PAID, DINARS),
    "authorised": slip(Standing.AUTHORISED),
    "captured": replace(slip(Standing.PAID), captured_minor=950),
    "expired": slip(Standing.EXPIRED),
    "accepted_offline": slip(Standing.ACCEPTED_OFFLINE),
    "being_checked": slip(Standing.CHECKING),
    "declined": slip(Standing.DECLINED),
    "not_charged": slip(Standing.NOT_CHARGED),
    "partly_refunded": slip(
        Standing.PARTLY_REFUNDED, DOLLARS, GivenBack(currency="USD", cash_minor=0, card_minor=645, left_minor=1500)
    ),
    "refunded": slip(Standing.REFUNDED, DOLLARS, GivenBack(currency="USD", cash_minor=500, card_minor=1645)),
    "reversed": slip(Standing.REVERSED, CARD, GivenBack(currency="EUR", cash_minor=0, card_minor=990)),
    "cancelled": slip(Standing.CANCELLED, None),
    "not_given_back": slip(Standing.NOT_GIVEN_BACK),
}


def text_of(name: str, width: int = WIDTH_DEFAULT) -> str:
    """The slip `name` as text: the original has a link, a refund or reversal none; the refund is a copy."""
    found = SLIPS[name]
    page = lay_out(
        found, SHOP, PROOF if found.given_back is None else NO_PROOF, width=width, is_copy=name == "refunded"
    )
    return plain_text(page, width=width)
