"""What one entry adds to the totals of the till that caused it. Pure; the only place that says what counts as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from appliance.ledger.draft import RecordedEntry
from appliance.model.operation import OperationKind, OperationState
from appliance.model.till import Key, Sums, What, added, labelled
from appliance.payment.entry_body import body_of, given_minor
from appliance.wire import till_entries
from appliance.wire.entries import SaleFacts, UndoEntry

_SORTED: Final = msgspec.json.Encoder(order="sorted")
_SUMS: Final = msgspec.json.Decoder(dict[str, int])
_CASH: Final = "cash"
_CARD: Final = "card"
_STATED: Final = "card_stated"
_VOUCHER: Final = "voucher"
_OF_ACT: Final[Mapping[str, What]] = {
    till_entries.DRAWER_FLOAT: What.FLOATS,
    till_entries.DRAWER_PAID_IN: What.PAID_IN,
    till_entries.DRAWER_PAID_OUT: What.PAID_OUT,
}


def sale_sums(sale: SaleFacts) -> Sums:
    """An approved sale."""
    own = ((What.TIPS, sale.tip), (What.ROUNDING, sale.rounding))
    return added((sold_sums(sale), taken_sums(sale), {what: amount for what, amount in own if amount}))


def taken_sums(sale: SaleFacts) -> Sums:
    """What its tenders brought."""
    sums: Sums = {}
    for tender in sale.tenders:
        _add(sums, labelled(What.TAKEN, tender.kind), tender.amount_minor)
    if sale.change:  # from cash only
        _add(sums, labelled(What.TAKEN, _CASH), -sale.change)
    cash = sums.get(labelled(What.TAKEN, _CASH), 0)
    if cash:
        sums[What.CASH_SALES] = cash
    return sums


def sold_sums(sale: SaleFacts) -> Sums:
    """What was sold, whoever paid for it."""
    sums: Sums = {What.SALES: 1, What.SALES_TOTAL: sale.total}
    for line in sale.lines:
        minor = (line.quantity_thousandths * line.unit_price_minor + 500) // 1000 - line.discount_minor
        _add(sums, labelled(What.GROSS, line.tax_code, line.tax_rate_basis_points), minor)
    is_tax_added = sale.prices == "tax_added"
    for tax in sale.taxes:
        rate = (tax.tax_code, tax.rate_basis_points)
        _add(sums, labelled(What.NET, *rate), tax.net_minor)
        _add(sums, labelled(What.TAX, *rate), tax.tax_minor)
        if is_tax_added:
            _add(sums, labelled(What.GROSS, *rate), tax.tax_minor)
    return sums


def captured_sums(sums: Sums, more: int) -> Sums:
    """A sale whose card was captured with `more` than was authorised (less is negative): its tip is what differs."""
    if not more:
        return sums
    return added((sums, {What.TIPS: more, labelled(What.TAKEN, _CARD): more}))


def offline_sums(kind: OperationKind, state: OperationState, amount: int) -> Sums:
    """What a card adds that was accepted offline, or is known now."""
    match kind, state:
        case OperationKind.AUTHORISE, OperationState.ACCEPTED:
            return {What.OFFLINE: amount}
        case OperationKind.FORWARD, OperationState.CONFIRMED:
            return {What.FORWARDED: amount}
        case OperationKind.FORWARD, OperationState.REJECTED:
            return {What.LOST: amount, What.LOSSES: 1}
        case OperationKind.WITHDRAW, OperationState.CONFIRMED:
            return {What.WITHDRAWN: amount}
        case _:
            return {}


def less_taken(sums: Sums, amount: int, less: int) -> Sums:
    """A card alone that took `less` than the `amount` that it was asked for."""
    missing = less - amount
    return added((sums, {labelled(What.TAKEN, _CARD): missing, What.PARTS_TAKEN: missing}))


def undo_sums(undo: UndoEntry, *, is_refund: bool) -> Sums:
    """A payment that was given back, by whoever gave it back."""
    count, amount = (What.REFUNDS, What.REFUNDED) if is_refund else (What.REVERSALS, What.REVERSED)
    sums: Sums = {count: 1, amount: given_minor(undo)}
    if undo.cash:
        sums[labelled(What.RETURNED, _CASH)] = undo.cash
        sums[What.CASH_REFUNDS] = undo.cash
    for kind, minor in ((undo.tender or _CARD, undo.card), (_STATED, undo.stated), (_VOUCHER, undo.voucher)):
        if minor:
            sums[labelled(What.RETURNED, kind)] = minor
    for tax in undo.taxes:
        rate = (tax.tax_code, tax.rate_basis_points)
        _add(sums, labelled(What.GROSS_BACK, *rate), tax.gross)
        _add(sums, labelled(What.TAX_BACK, *rate), tax.tax)
    return sums


def voucher_sums(entry: RecordedEntry) -> Sums:
    """A voucher that was issued, or taken back."""
    if entry.kind == till_entries.VOUCHER_ISSUED:
        return {What.VOUCHERS: body_of(entry, till_entries.VoucherIssuedEntry).amount}
    return {What.VOUCHERS: -body_of(entry, till_entries.VoucherVoidedEntry).amount}


def act_sums(kind: str, act: till_entries.DrawerEntry) -> Sums:
    """What was done to a drawer; a count adds its difference, which is known only where the drawer's totals are."""
    if kind == till_entries.DRAWER_NO_SALE:
        return {What.NO_SALES: 1}
    what = _OF_ACT.get(kind)
    return {} if what is None else {what: act.amount}


def encode_sums(sums: Mapping[Key, int]) -> bytes:
    """For a table: the same sums give the same bytes."""
    return _SORTED.encode(sums)


def decode_sums(encoded: bytes) -> Sums:
    """The same back."""
    return _SUMS.decode(encoded)


def _add(sums: Sums, key: Key, amount: int) -> None:
    sums[key] = sums.get(key, 0) + amount
