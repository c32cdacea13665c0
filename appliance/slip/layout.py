"""A slip as a page: rows for so many columns, for paper and screen alike.

Owns the words. Must never let an amount that was only asked for look like one that was paid: what stands below the
total depends on the standing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from appliance.model.sale import MOVED_BY_PROVIDERS, TenderKind
from appliance.ports.printer import Code, Page, Row, Weight
from appliance.slip.paper_text import amount, both_ends, centred, clean, local_time, thousandths, wrapped
from appliance.slip.slip import OfSale, ShopFace, Slip, Standing
from appliance.wire.entries import SaleFacts
from appliance.wire.requests import LineBody

WIDTH_DEFAULT: Final = 42
WIDTH_MIN: Final = 32

WORDS: Final[dict[Standing, tuple[str, str]]] = {
    Standing.PAID: ("PAID", ""),
    Standing.AUTHORISED: ("AUTHORISED, NOT YET CHARGED", "The card's bank holds the amount; it is charged later."),
    Standing.ACCEPTED_OFFLINE: (
        "ACCEPTED OFFLINE, NOT YET CONFIRMED",
        "The card's bank has not been asked yet. It may still say no.",
    ),
    Standing.DECLINED_AFTER_HANDOVER: (
        "DECLINED BY THE BANK",
        "The card was accepted offline, and its bank said no later. It was not charged.",
    ),
    Standing.CHECKING: (
        "BEING CHECKED",
        "Nobody knows yet whether the card was charged. Please ask before you pay again.",
    ),
    Standing.DECLINED: ("DECLINED", "Nothing was charged."),
    Standing.EXPIRED: ("EXPIRED", "Nothing was charged, and nothing is held any longer."),
    Standing.NOT_CHARGED: ("NOT CHARGED", "It is proven that the card was never charged."),
    Standing.PARTLY_REFUNDED: ("PARTLY REFUNDED", ""),
    Standing.REFUNDED: ("REFUNDED", ""),
    Standing.REVERSED: ("REVERSED", "The sale does not stand."),
    Standing.CANCELLED: ("CANCELLED", "No payment was taken, and none will be."),
    Standing.NOT_GIVEN_BACK: ("NOT GIVEN BACK", "A refund or reversal was refused: the payment stands as before."),
}
"""What each standing is called, and what it means where the word is not enough."""

_SETTLED: Final = frozenset(
    {Standing.PAID, Standing.PARTLY_REFUNDED, Standing.REFUNDED, Standing.REVERSED, Standing.NOT_GIVEN_BACK}
)
_TENDERS: Final = {
    "cash": "Cash",
    "card": "Card",
    "paypal": "PayPal",
    "usdc": "Crypto (USDC)",
    "pin_pad": "Card",
    "card_stated": "Card, stated by cashier",
    "voucher": "Voucher",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How a customer checks the slip: the log's name, and the content of the QR code (None: there is none)."""

    log: str = ""
    link: str | None = None
    missing: str = ""  # why there is no code


def lay_out(slip: Slip, shop: ShopFace, proof: Proof, *, width: int = WIDTH_DEFAULT, is_copy: bool = False) -> Page:
    """The page of `slip`, `width` columns wide."""
    return tuple(_Layout(slip, shop, proof, max(width, WIDTH_MIN), is_copy).rows())


@dataclass(frozen=True, slots=True)
class _Layout:
    slip: Slip
    shop: ShopFace
    proof: Proof
    width: int
    is_copy: bool

    def rows(self) -> Iterator[Row | Code]:
        yield from self._head()
        if self.slip.sale is not None:
            yield self._rule()
            yield from _rows(_lines(self.slip.sale, self.width))
            yield self._rule()
            yield from self._sums(self.slip.sale)
        yield self._rule()
        yield from self._standing()
        yield self._rule()
        yield from self._proof()

    def _head(self) -> Iterator[Row]:
        if self.is_copy:
            yield from _rows(centred("*** COPY ***", self.width), Weight.BOLD)
        yield from _rows(centred(self.shop.name, self.width), Weight.TALL)
        yield from _rows(centred(self.shop.address, self.width))
        yield Row("")
        sale = self.slip.sale
        sold_at_ms = self.slip.time_ms if sale is None else sale.sold_at_ms
        yield from _rows(both_ends(local_time(sold_at_ms, self.shop.zone), clean(self.slip.terminal), self.width))
        if sale is not None and sale.reference:
            yield from _rows(both_ends("Reference", clean(sale.reference), self.width))
        for name, value in self.slip.personal:
            yield from _rows(both_ends(name.capitalize(), clean(value), self.width))

    def _sums(self, sale: SaleFacts) -> Iterator[Row]:
        def line(name: str, minor: int) -> list[str]:
            return both_ends(name, amount(minor, sale.currency), self.width)

        added_minor = sum(tax.tax_minor for tax in sale.taxes) if sale.prices == "tax_added" else 0
        if added_minor:
            yield from _rows(line("Subtotal", sale.total - added_minor))
        for tax in sale.taxes:
            on = amount(tax.net_minor, sale.currency)
            name = f"{'Tax' if added_minor else 'incl. tax'} {tax.tax_code} {_percent(tax.rate_basis_points)} of {on}"
            yield from _rows(line(name, tax.tax_minor))
        name = "TOTAL" if sale.part_of is None else "THIS PART"
        yield from _rows(line(f"{name} {sale.currency}", sale.total), Weight.TALL)
        if sale.tip:
            yield from _rows(line("Tip", sale.tip))
        if sale.rounding:
            yield from _rows(line("Cash rounding", sale.rounding))
        yield from self._tenders(sale)

    def _tenders(self, sale: SaleFacts) -> Iterator[Row]:
        is_settled = self.slip.standing in _SETTLED
        is_card_lost = self.slip.standing is Standing.DECLINED_AFTER_HANDOVER  # what was paid beside it stays paid
        for tender in sale.tenders:
            name = _TENDERS.get(tender.kind, tender.kind.capitalize())
            is_paid = is_settled or (is_card_lost and tender.kind not in MOVED_BY_PROVIDERS)
            said = name if is_paid else f"{name}, asked for"
            yield from _rows(both_ends(said, amount(tender.amount_minor, sale.currency), self.width))
            if tender.kind == "card_stated" and tender.source:
                yield from _rows(_indented("Reference", clean(tender.source), self.width))
        if self.slip.captured_minor is not None and is_settled:
            yield from _rows(both_ends("Charged", amount(self.slip.captured_minor, sale.currency), self.width))
        if sale.change and (is_settled or is_card_lost):
            yield from _rows(both_ends("Change", amount(-sale.change, sale.currency), self.width))

    def _standing(self) -> Iterator[Row]:
        word, meaning = WORDS[self.slip.standing]
        if self.slip.of_sale is not None:
            yield from self._part(self.slip.of_sale)
            word = f"THIS PART: {word}"
        yield from _rows(centred(word, self.width), Weight.TALL)
        yield from _rows(wrapped(meaning, self.width))
        back = self.slip.given_back
        if back is not None:
            yield from _rows(both_ends("Given back", back.currency, self.width))
            for name, minor in (
                (_TENDERS["cash"], back.cash_minor),
                (_TENDERS[self._moved()], back.card_minor),
                (_TENDERS["card_stated"], back.stated_minor),
                (_TENDERS["voucher"], back.voucher_minor),
                ("Before that", back.earlier_minor),
            ):
                if minor:
                    yield from _rows(_indented(name, amount(minor, back.currency), self.width))
            if back.left_minor:
                yield from _rows(both_ends("Still paid", amount(back.left_minor, back.currency), self.width))
            yield from _rows(both_ends("On", local_time(self.slip.time_ms, self.shop.zone), self.width))

    def _part(self, of: OfSale) -> Iterator[Row]:
        """Above the word, which speaks of this part alone, not of the total."""
        currency = "" if self.slip.sale is None else self.slip.sale.currency
        name = "A part of a sale" if of.number is None else f"Part {of.number} of a sale"
        worth = amount(of.covers_minor, currency)
        if of.total_minor is not None:
            worth += f" of {amount(of.total_minor, currency)}"
        yield from _rows(both_ends(name, worth, self.width), Weight.BOLD)
        if of.paid_minor is not None and of.total_minor is not None:
            paid = f"{amount(of.paid_minor, currency)} of {amount(of.total_minor, currency)}"
            yield from _rows(both_ends("All parts, paid", paid, self.width))
        if of.key != self.slip.key:
            yield from _rows(wrapped(f"First part: {of.key}", self.width))

    def _moved(self) -> str:
        """The tender that a provider took."""
        kinds = [] if self.slip.sale is None else [tender.kind for tender in self.slip.sale.tenders]
        return next((kind for kind in kinds if kind in MOVED_BY_PROVIDERS), TenderKind.CARD)

    def _proof(self) -> Iterator[Row | Code]:
        yield from _rows(wrapped(f"Entry {self.slip.entry_seq} of the log", self.width))
        yield from _rows(wrapped(self.proof.log, self.width))
        yield from _rows(wrapped("SHA-256 of the entry:", self.width))
        mark = self.slip.entry_hash.hex()
        yield from _rows([mark[:32], mark[32:]])
        if self.proof.link is None:
            yield from _rows(wrapped(self.proof.missing, self.width))
        else:
            yield from _rows(wrapped("Scan to check this slip without asking us:", self.width))
            yield Code(self.proof.link)

    def _rule(self) -> Row:
        return Row("-" * self.width)


def _lines(sale: SaleFacts, width: int) -> Iterator[str]:
    yield from both_ends("", sale.currency, width)
    for line in sale.lines:
        yield from _line(line, sale.currency, width)


def _line(line: LineBody, currency: str, width: int) -> Iterator[str]:
    gross_minor = (line.quantity_thousandths * line.unit_price_minor + 500) // 1000
    name = clean(line.sku) or "Amount"
    if line.quantity_thousandths == 1000:
        yield from both_ends(name, amount(gross_minor, currency), width)
    else:
        yield from wrapped(name, width)
        count = f"{thousandths(line.quantity_thousandths)} x {amount(line.unit_price_minor, currency)}"
        yield from _indented(count, amount(gross_minor, currency), width)
    if line.discount_minor:
        yield from _indented("Discount", amount(-line.discount_minor, currency), width)


def _indented(left: str, right: str, width: int) -> list[str]:
    """`both_ends`, two columns to the right."""
    return ["  " + row for row in both_ends(left, right, width - 2)]


def _percent(basis_points: int) -> str:
    return f"{basis_points // 100}.{basis_points % 100:02d} %"


def _rows(texts: list[str] | Iterator[str], weight: Weight = Weight.PLAIN) -> Iterator[Row]:
    return (Row(text, weight) for text in texts)
