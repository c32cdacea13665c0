"""The sales that are sent: ordinary ones, and the signed requests around them.

A sale has two lines, one tax, one cash tender and a reference of the till. Owns making and signing; sends nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.crypto.signing_key import TerminalKey
from appliance.model.ids import new_request_key
from appliance.runtime.clock import SystemClock
from appliance.wire.requests import (
    BatchBody,
    BatchItem,
    Claims,
    LineBody,
    PaymentBody,
    StatusBody,
    TaxBody,
    TenderBody,
    Verb,
    Wire,
)
from provisioning.terminal import key_file
from provisioning.terminal.home import Memory, Profile, TerminalHome
from provisioning.terminal.signing import sign_cose


def sale_body(number: int) -> PaymentBody:
    """An ordinary sale of 7.48."""
    return PaymentBody(
        currency="EUR",
        lines=(
            LineBody(
                sku="4006381333931",
                unit_price_minor=249,
                quantity_thousandths=2000,
                tax_code="standard",
                tax_rate_basis_points=1900,
            ),
            LineBody(sku="4311501043271", unit_price_minor=250, tax_code="standard", tax_rate_basis_points=1900),
        ),
        taxes=(TaxBody(tax_code="standard", rate_basis_points=1900, net_minor=629, tax_minor=119),),
        total_minor=748,
        tenders=(TenderBody(kind="cash", amount_minor=1000),),
        change_minor=252,
        reference=f"receipt-{number}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """A paired terminal that signs ahead of time; it carries the highest head it has verified, as a real one does."""

    profile: Profile
    key: TerminalKey
    memory: Memory

    @classmethod
    def load(cls, folder: Path) -> Till:
        home = TerminalHome(folder=folder)
        return cls(profile=home.profile(), key=key_file.load(home.key_file), memory=home.memory())

    def payment(self, number: int) -> bytes:
        """A whole HTTP request with a new sale."""
        return self._request("payment", sale_body(number), self._new_key())

    def card(self, number: int, source: str) -> tuple[bytes, bytes]:
        """The same sale by card, and the question for its status."""
        key = self._new_key()
        tender = TenderBody(kind="card", amount_minor=748, source=source)
        sale = msgspec.structs.replace(sale_body(number), tenders=(tender,), change_minor=0)
        return self._request("payment", sale, key), self._request("status", StatusBody(of=key), self._new_key())

    def batch(self, size: int) -> bytes:
        """A whole HTTP request with `size` new sales."""
        items = tuple(BatchItem(key=self._new_key(), payment=sale_body(number)) for number in range(size))
        return self._request("batch", BatchBody(items=items), self._new_key())

    def _new_key(self) -> str:
        return str(new_request_key(SystemClock().now_ms(), os.urandom(10)))

    def _request(self, verb: Verb, body: Wire, key: str) -> bytes:
        claims = Claims(
            v=1,
            verb=verb,
            audience=self.profile.audience,
            terminal=self.profile.terminal,
            key=key,
            signed_at_ms=SystemClock().now_ms(),
            body=msgspec.to_builtins(body),
            seen=self.memory.seen,
        )
        content = sign_cose(self.key, claims)
        head = (
            f"POST /v1/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cose\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content
