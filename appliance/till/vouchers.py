"""Vouchers at a till: issued, looked at, taken back. Spending one is a tender of a sale (`payment/voucher_rows.py`).

Rules:
- A voucher is sold with a sale that was paid and stays so, and together they are never worth more than that sale; else
  it is given, and the reason stands in the log.
- The code goes to the till and into the store of erasable values, so that a lost answer can be told again. It is in no
  entry and in no log line: entries know its hash.
"""

from __future__ import annotations

from typing import Final

from appliance.crypto.random import random_piece
from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import SignedRequest
from appliance.ledger.attempts import look_again
from appliance.ledger.draft import Disclosure, Draft, Purpose
from appliance.ledger.guard import AllOf, Guard
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import request_key
from appliance.model.limits import AMOUNT_MINOR_MAX
from appliance.model.payment import AuthenticatedRequest, PaymentState
from appliance.model.voucher import SECRET_SIZE, VoucherId, code_of, voucher_of
from appliance.payment.drafts import ask, draft, persons
from appliance.payment.guards import PAYMENT_CHANGED, Unchanged, require_payment, unused
from appliance.payment.linked import NotOutlived
from appliance.payment.parts import find_sale
from appliance.payment.records import StandingPayment
from appliance.payment.respond import receipt_in_time
from appliance.payment.voucher_rows import StandingVoucher, require_voucher
from appliance.ports.admission import Admission
from appliance.ports.clock import Clock
from appliance.till.entries import read_voucher
from appliance.till.guards import VoucherUntouched
from appliance.till.repeats import once
from appliance.wire import till_entries
from appliance.wire.answers import VoucherAnswer, VoucherState
from appliance.wire.requests import VoucherBody

_CODE: Final = "code"
"""The disclosure that holds the code."""
_RACES_MAX: Final = 5


class Vouchers:
    """The verb `voucher`."""

    def __init__(
        self, *, authenticate: Authenticate, admission: Admission, ledger: Ledger, clock: Clock, currency: str
    ) -> None:
        self._authenticate = authenticate
        self._admission = admission
        self._ledger = ledger
        self._clock = clock
        self._currency = currency

    async def act(self, signed: SignedRequest) -> VoucherAnswer:
        """Issue, show or take back one. The same request again gets the same answer, with the same code.

        Raises:
            Rejected: what `_validate` and the guards refuse; nothing was written.
        """
        request = await self._authenticate(signed, VoucherBody)
        self._validate(request.body)
        if request.body.act == "show":
            return await self._shown(request, voucher_of(request.body.code or ""))
        write = self._issue if request.body.act == "issue" else self._void
        known = await once(self._ledger, self._admission, request.identity, lambda: write(request))
        return await self._recorded(request, known.seq)

    async def _issue(self, request: AuthenticatedRequest[VoucherBody]) -> None:
        self._admission.admit()  # a voucher is money: a box that may not sell makes none
        body, identity = request.body, request.identity
        code = code_of(random_piece()[:SECRET_SIZE])
        kept = Disclosure(name=_CODE, salt=random_piece(), value=code.encode())
        asked, disclosures = ask(identity, persons(cashier=body.cashier), also=(kept,))
        entry = till_entries.VoucherIssuedEntry(
            asked=asked,
            amount=body.amount_minor,
            reason=body.reason,
            expires=body.expires_ms,
            payment=None if body.of is None else request_key(body.of).octets,
            voucher=voucher_of(code),
            currency=self._currency,
        )
        now_ms = self._clock.now_ms()
        new = draft(till_entries.VOUCHER_ISSUED, identity.terminal, now_ms, entry, disclosures)

        async def attempt() -> None:
            await self._append(new, await self._issuable(request))

        busy = Unavailable("payment_busy", "the payment keeps changing; ask again")
        await look_again(attempt, after=PAYMENT_CHANGED, times_max=_RACES_MAX, busy=busy)

    async def _issuable(self, request: AuthenticatedRequest[VoucherBody]) -> Guard:
        fresh = unused(request.identity.key)
        if request.body.of is None:
            return fresh
        payment = request_key(request.body.of)
        standing = await self._ledger.read(lambda connection: require_payment(connection, payment))
        if await self._ledger.read(lambda connection: find_sale(connection, payment)) is not None:
            raise Rejected(
                "voucher_not_paid", "a sale that is paid in parts sells no vouchers; sell them by themselves"
            )
        _require_paid(standing, request.body.amount_minor)
        # Should a later try of the sale stand, this one is given back, and the voucher would be worth money twice.
        return AllOf(guards=(Unchanged(standing=standing, fresh=fresh), NotOutlived(payment=payment)))

    async def _void(self, request: AuthenticatedRequest[VoucherBody]) -> None:
        body, identity = request.body, request.identity
        voucher = voucher_of(body.code or "")
        standing = await self._ledger.read(lambda connection: require_voucher(connection, voucher))
        asked, disclosures = ask(identity, persons(cashier=body.cashier))
        entry = till_entries.VoucherVoidedEntry(
            asked=asked,
            amount=standing.amount_minor,
            reason=body.reason,
            payment=standing.payment,
            voucher=voucher,
            currency=standing.currency,
        )
        new = draft(till_entries.VOUCHER_VOIDED, identity.terminal, self._clock.now_ms(), entry, disclosures)
        await self._append(new, VoucherUntouched(fresh=unused(identity.key), voucher=voucher))

    async def _append(self, new: Draft, guard: Guard) -> None:
        await self._ledger.append([new], guard, purpose=Purpose.INTENT)

    async def _recorded(self, request: AuthenticatedRequest[VoucherBody], seq: int) -> VoucherAnswer:
        """What the entry `seq` did, with its receipt; of an issue the code, as long as it was not erased."""
        voucher = await self._ledger.read(lambda connection: read_voucher(connection, seq))
        disclosed = {each.name: each.value for each in await self._ledger.disclosures(seq)}
        receipt = await receipt_in_time(self._ledger, [seq])
        code = disclosed[_CODE].decode() if _CODE in disclosed else None
        return await self._shown(request, voucher, seq=seq, code=code, receipt=receipt)

    async def _shown(
        self,
        request: AuthenticatedRequest[VoucherBody],
        voucher: VoucherId,
        *,
        seq: int | None = None,
        code: str | None = None,
        receipt: bytes | None = None,
    ) -> VoucherAnswer:
        standing = await self._ledger.read(lambda connection: require_voucher(connection, voucher))
        now_ms = self._clock.now_ms()
        return VoucherAnswer(
            key=str(request.identity.key),
            act=request.body.act,
            seq=seq,
            code=code,
            state=_state(standing, now_ms),
            voucher=voucher.hex(),
            currency=standing.currency,
            amount_minor=standing.amount_minor,
            left_minor=standing.left_minor,
            expires_ms=standing.expires_ms,
            now_ms=now_ms,
            pending=seq is not None and receipt is None,
            receipt=receipt,
        )

    def _validate(self, body: VoucherBody) -> None:
        refuse_card_numbers((body.reason, body.cashier or ""))
        if body.act != "issue":
            voucher_of(body.code or "")
            return
        if body.code is not None:
            raise Rejected("voucher_code_invalid", "a voucher's code is made by the box when it is issued")
        if not 0 < body.amount_minor <= AMOUNT_MINOR_MAX:
            raise Rejected("amount_not_positive", f"a voucher has an amount above zero, saw {body.amount_minor}")
        if body.expires_ms is not None and body.expires_ms <= self._clock.now_ms():
            raise Rejected("voucher_expired", "a voucher ends in the future")
        if body.of is None and not body.reason.strip():
            raise Rejected("reason_missing", "a voucher that no sale paid for says why it is given")


def _require_paid(standing: StandingPayment, amount_minor: int) -> None:
    """The sale keeps its money, and is worth this voucher beside those that were sold with it before."""
    if standing.recorded.state is not PaymentState.APPROVED or standing.reversal is not None:
        raise Rejected(
            "voucher_not_paid", f"a voucher is sold with a payment that is approved, saw {standing.recorded.state}"
        )
    left = standing.recorded.total_minor - standing.vouchers_minor
    if amount_minor > left:
        raise Rejected(
            "voucher_not_paid", f"expected at most {left} minor units, which is what the sale has for vouchers"
        )


def _state(standing: StandingVoucher, now_ms: int) -> VoucherState:
    if standing.is_void:
        return "voided"
    if not standing.left_minor:
        return "spent"
    return "expired" if standing.has_expired(now_ms) else "open"
