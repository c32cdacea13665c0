"""What a terminal may say. One data model for both encodings: COSE carries it as CBOR, JWS as JSON.

Only text, integers, lists and maps: so the canonical payload of a request is the same in both.
Members stand in the order of their CBOR keys, see `Wire`.
Source: docs/formats/terminal-protocol.md, version 1.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from appliance.model import limits
from appliance.model.provider_token import TOKEN_CHARACTERS_MAX

Text = Annotated[str, msgspec.Meta(max_length=limits.TEXT_CHARACTERS_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=limits.AMOUNT_MINOR_MAX)]
SignedAmount = Annotated[int, msgspec.Meta(ge=-limits.AMOUNT_MINOR_MAX, le=limits.AMOUNT_MINOR_MAX)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**48 - 1)]
Currency = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{3}\Z")]
KeyText = Annotated[str, msgspec.Meta(min_length=36, max_length=36)]
Sha256Hex = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=limits.TAX_RATE_BASIS_POINTS_MAX)]

_ONE_PIECE: Final = 1000
_TAX_UNSTATED: Final = "unstated"


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every shape at a door: unknown members are refused, defaults are left out.

    Members are declared in the order of deterministic CBOR (shorter names first, then by bytes): what `to_builtins`
    gives is in order already, and the fast codec may write it (`cbor.encode_ordered`). A test holds every shape to it.
    """


class LineBody(Wire, frozen=True, kw_only=True):
    """One line of a sale."""

    sku: Text
    tax_code: Name = _TAX_UNSTATED
    discount_minor: Amount = 0
    unit_price_minor: Amount
    quantity_thousandths: Annotated[int, msgspec.Meta(ge=1, le=limits.QUANTITY_THOUSANDTHS_MAX)] = _ONE_PIECE
    tax_rate_basis_points: BasisPoints = 0

    def __post_init__(self) -> None:
        # `omit_defaults` leaves out what *is* the default object: an equal value from the wire would stay, and a sale
        # whose retry writes a default out would count as another sale.
        if self.quantity_thousandths == _ONE_PIECE:
            msgspec.structs.force_setattr(self, "quantity_thousandths", _ONE_PIECE)
        if self.tax_code == _TAX_UNSTATED:
            msgspec.structs.force_setattr(self, "tax_code", _TAX_UNSTATED)


class TaxBody(Wire, frozen=True, kw_only=True):
    """The till's total for one tax code and rate."""

    tax_code: Name
    net_minor: Amount
    tax_minor: Amount
    rate_basis_points: BasisPoints


TenderName = Literal["cash", "card", "paypal", "usdc", "pin_pad", "voucher", "card_stated"]
"""`model/sale.py` `TenderKind` on the wire; a test holds them equal."""


class TenderBody(Wire, frozen=True, kw_only=True):
    """One way a sale is paid; `source` names where a card is read (a reader or a provider's payment method), of a
    `card_stated` what the stand-alone terminal's slip is called, of a `voucher` its code (in an entry: its id).
    """

    kind: TenderName
    source: Name | None = None
    amount_minor: Amount


class PaymentBody(Wire, frozen=True, kw_only=True):
    """A sale and its tenders: `lines`, or an `amount_minor` alone.

    `retry_of` names the tries of the same sale so far, the newest first: of all of them one keeps its money.
    `remaining_minor` is left to later parts of the sale; such a part names the first as `part_of`, and `amount_minor`
    is what it covers. With `partial` the provider may take less than it is asked for.
    """

    lines: Annotated[tuple[LineBody, ...], msgspec.Meta(max_length=limits.LINES_MAX)] = ()
    taxes: Annotated[tuple[TaxBody, ...], msgspec.Meta(max_length=32)] = ()
    prices: Literal["tax_included", "tax_added"] = "tax_included"
    capture: Literal["at_once", "later"] = "at_once"
    cashier: Text | None = None
    part_of: KeyText | None = None
    partial: Literal["refused", "accepted"] = "refused"
    tenders: Annotated[tuple[TenderBody, ...], msgspec.Meta(min_length=1, max_length=limits.TENDERS_MAX)]
    currency: Currency
    customer: Text | None = None
    retry_of: Annotated[tuple[KeyText, ...], msgspec.Meta(max_length=limits.SALE_TRIES_MAX)] = ()
    reference: Text = ""
    tip_minor: Amount = 0
    sold_at_ms: Milliseconds | None = None
    total_minor: Amount | None = None
    amount_minor: Amount | None = None
    change_minor: Amount = 0
    rounding_minor: SignedAmount = 0
    remaining_minor: Amount = 0


class StatusBody(Wire, frozen=True, kw_only=True):
    """Which payment, refund or reversal is asked about."""

    of: KeyText


class ReversalBody(Wire, frozen=True, kw_only=True):
    """Undo a payment whose result the terminal never learnt, or that must not stand."""

    of: KeyText
    reason: Text = ""


class AbortBody(Wire, frozen=True, kw_only=True):
    """Stop a payment that has not been approved."""

    of: KeyText


class RefundLine(Wire, frozen=True, kw_only=True):
    """So much of a line of the sale, counted from 0 in the order sold."""

    index: Annotated[int, msgspec.Meta(ge=0, lt=limits.LINES_MAX)]
    quantity_thousandths: Annotated[int, msgspec.Meta(ge=1, le=limits.QUANTITY_THOUSANDTHS_MAX)]


class RefundBody(Wire, frozen=True, kw_only=True):
    """Give a payment back the way it came: an amount, or what lines cost; without either, all that is left.

    Of a sale paid in parts `lines` may come with an amount: so much of their worth this part gives back.
    """

    of: KeyText
    lines: Annotated[tuple[RefundLine, ...], msgspec.Meta(max_length=limits.LINES_MAX)] = ()
    reason: Text = ""
    amount_minor: Amount | None = None


class CaptureBody(Wire, frozen=True, kw_only=True):
    """Take money that a card's bank holds: all of it, or `amount_minor`, which is the sale's total and the tip."""

    of: KeyText
    amount_minor: Amount | None = None


class BatchItem(Wire, frozen=True, kw_only=True):
    """One stored sale of a batch, with the key it would have had alone."""

    key: KeyText
    payment: PaymentBody


class BatchBody(Wire, frozen=True, kw_only=True):
    """Cash sales stored by a terminal while it could not reach the box."""

    items: Annotated[tuple[BatchItem, ...], msgspec.Meta(min_length=1, max_length=limits.BATCH_SALES_MAX)]


class EventsBody(Wire, frozen=True, kw_only=True):
    """Leave to follow the terminal's own events; `after` is the last sequence number seen."""

    after: Annotated[int, msgspec.Meta(ge=-1, le=limits.LOG_ENTRIES_MAX)] = -1


class DrawerBody(Wire, frozen=True, kw_only=True):
    """What a cashier did to the drawer beside selling; `drawer` (a float only) says which one the terminal uses now."""

    act: Literal["float", "paid_in", "paid_out", "no_sale", "count"]
    drawer: Name | None = None
    reason: Text = ""
    cashier: Text | None = None
    amount_minor: Amount = 0


class ReportBody(Wire, frozen=True, kw_only=True):
    """`x` reads what the period came to so far, `z` ends it; of the terminal's drawer, or of the terminal itself."""

    kind: Literal["x", "z"]
    scope: Literal["drawer", "terminal"] = "drawer"
    cashier: Text | None = None


class VoucherBody(Wire, frozen=True, kw_only=True):
    """`issue` a voucher, sold with the payment `of` or given for a `reason`; `show` or `void` the one of `code`."""

    of: KeyText | None = None
    act: Literal["issue", "show", "void"]
    code: Name | None = None
    reason: Text = ""
    cashier: Text | None = None
    expires_ms: Milliseconds | None = None
    amount_minor: Amount = 0


class TokenBody(Wire, frozen=True, kw_only=True):
    """`keep` a provider's reusable token for `purposes`, from then on under a name; `show` or `forget` that of `name`.

    `customer` binds a kept token to that person: erasing the person erases it. Nothing gives the token back.
    """

    act: Literal["keep", "show", "forget"]
    name: Name | None = None
    token: Annotated[str, msgspec.Meta(min_length=1, max_length=TOKEN_CHARACTERS_MAX)] | None = None
    reason: Text = ""
    cashier: Text | None = None
    customer: Text | None = None
    purposes: Annotated[tuple[Literal["sale", "hold"], ...], msgspec.Meta(max_length=2)] = ()
    expires_ms: Milliseconds | None = None


class EscrowBody(Wire, frozen=True, kw_only=True):
    """Ask for the newest sealed parcel of payments whose money is not certain; `size` is that of the parcel kept."""

    size: Annotated[int, msgspec.Meta(ge=0, le=limits.LOG_ENTRIES_MAX)] = 0


class AttestBody(Wire, frozen=True, kw_only=True):
    """Ask what the TPM says of the machine; `nonce` is 32 random bytes of the asker's."""

    nonce: Sha256Hex


class PairBody(Wire, frozen=True, kw_only=True):
    """A new terminal's key, and proof that it knows the one-time code.

    `proof` is HMAC-SHA256(code, "tillstone/pair/v1" || SHA-256(TLS certificate, DER) || public key, SPKI DER), hex:
    the code itself never travels, and a man in the middle cannot use a proof made for his own certificate.
    """

    name: Name
    proof: Sha256Hex
    public_key: Annotated[str, msgspec.Meta(max_length=512)]  # SPKI DER, base64url without padding


class Seen(Wire, frozen=True, kw_only=True):
    """The highest head that the terminal has from a receipt it verified."""

    root: Sha256Hex
    size: Annotated[int, msgspec.Meta(ge=0, le=limits.LOG_ENTRIES_MAX)]


class HeadBody(Wire, frozen=True, kw_only=True):
    """The signed head that the terminal told as `seen`: both halves, as they stand in the receipt but without proofs.

    `classical` and `post_quantum` are COSE_Sign1 with the root detached, base64url without padding.
    """

    root: Sha256Hex
    classical: Annotated[str, msgspec.Meta(max_length=1_024)]
    post_quantum: Annotated[str, msgspec.Meta(max_length=10_240)]


Verb = Literal[
    "payment",
    "status",
    "reversal",
    "abort",
    "capture",
    "refund",
    "batch",
    "drawer",
    "report",
    "voucher",
    "token",
    "escrow",
    "attest",
    "events",
    "pair",
    "head",
]


class Claims(Wire, frozen=True, kw_only=True):
    """The signed claims around every body.

    Attributes:
        v: version of the protocol.
        verb: must equal the path that the request was posted to.
        audience: the log's origin, so that a request to one box is nothing to another.
        key: the caller's idempotency key, a UUIDv7.
        signed_at_ms: the terminal's clock; must be within five minutes of the box's.
    """

    v: Literal[1]
    key: KeyText
    body: dict[str, Any]
    seen: Seen | None = None
    verb: Verb
    audience: Name
    terminal: Name
    signed_at_ms: Milliseconds


BODIES: dict[str, type[Wire]] = {
    "payment": PaymentBody,
    "status": StatusBody,
    "reversal": ReversalBody,
    "abort": AbortBody,
    "capture": CaptureBody,
    "refund": RefundBody,
    "batch": BatchBody,
    "drawer": DrawerBody,
    "report": ReportBody,
    "voucher": VoucherBody,
    "token": TokenBody,
    "escrow": EscrowBody,
    "attest": AttestBody,
    "events": EventsBody,
    "pair": PairBody,
    "head": HeadBody,
}
"""The body of each verb; OpenAPI and the decoder both read this."""
