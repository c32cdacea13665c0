"""A faithful stand-in for Coinbase Business Checkouts in its own process, with faults on demand.

    python -m provisioning.sandbox.coinbase_twin --port 0 --state FILE --control FILE

It prints one JSON line with the port it took. The state file survives `kill -9`.

Faithful, each line pinned by `tests/integration/test_coinbase_twin.py`, which names the page:
- A token for each request, signed by a key that the control door made known, for two minutes, one method and one path.
- `X-Idempotency-Key` is a UUID v4: the same request gets the first answer, other parameters are refused; after 24 hours
  of the twin's time a key is new again.
- A checkout takes one payment, in USDC, and ends: paid, failed, expired by the twin's time, or withdrawn while ACTIVE.
- Refunds in parts, of paid checkouts only, never above what is left; they are under way first.
- Webhooks signed over headers and body (`coinbase_twin_events.py`).

Unfaithful, on purpose: no chain, one rate for ever, no limits of how often one may ask. That a payment which began in
time may arrive after the end (`late`), and that one may be too small or too large, is assumed: no page says what comes
of it, and a till must not depend on it.

Customers: GET /payment-links/pl_CHECKOUT is a page with two buttons. What customers do by themselves, and the rest of
the control door, with `Authorization: Bearer TOKEN`:

    what every twin has                     `twin_control.py`
    POST /_twin/key                         one `Key`: whose tokens are believed
    POST /_twin/customer                    one `Customer`: what payers do from now on
    POST /_twin/refunds                     one `Refunds`: how refunds go from now on
    POST /_twin/checkouts/CHECKOUT/pay      {"paying", "confirm_ms"}: this customer pays now
    POST /_twin/webhooks                    one `Hook`

Must never listen on anything but 127.0.0.1.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from contextlib import suppress
from typing import Any, ClassVar, Final, Literal

import msgspec
from aiohttp import web
from typing_extensions import override

from appliance.crypto import cose, signature
from appliance.crypto.jws import from_base64url
from appliance.model.errors import Rejected
from provisioning.sandbox.coinbase_twin_api import CoinbaseRefusal, Paying, charges, happen, pay, route
from provisioning.sandbox.coinbase_twin_events import Hook, deliver_due
from provisioning.sandbox.stripe_twin_store import Due, TwinStore
from provisioning.sandbox.twin_control import bearer, read_json
from provisioning.sandbox.twin_customers import CustomerTwin
from provisioning.sandbox.twin_process import Post
from provisioning.sandbox.twin_rest import Answered, run_rest_twin

KEY_AGE_MAX_MS: Final = 24 * 3_600_000
"""docs.cdp.coinbase.com/api-reference/v2/idempotency: "the first use of the key within the last 24 hours"."""
TOKEN_S: Final = 120
_PAY: Final = "pay"
_UUID4: Final = re.compile(r"\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
_ALGORITHMS: Final = {"ES256": cose.ES256, "EdDSA": cose.ED25519}


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key of the account, or of another one. Attributes: `public_key`, SubjectPublicKeyInfo in Base64."""

    name: str
    public_key: str
    is_stranger: bool = False


class Customer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer does by himself with a checkout, so much later."""

    does: Literal["pay", "wait"] = "wait"
    paying: Paying = "good"
    after_ms: int = 0
    confirm_ms: int = 0


class Refunds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long refunds are under way, and whether they come to nothing."""

    after_ms: int = 0
    fail: bool = False


class CoinbaseTwin(CustomerTwin):
    """The HTTP face."""

    vendor = "Coinbase"
    page_path = "/payment-links/pl_{checkout}"
    choice = "paying"
    buttons: ClassVar = {"good": "Pay", "fails": "Pay, with an empty wallet"}
    customer_shape = Customer
    hook_shape = Hook
    key_age_max_ms = KEY_AGE_MAX_MS
    key_header = "X-Idempotency-Key"
    lies: ClassVar = {
        "wrong_amount": (('"fiatAmount": "', '"fiatAmount": "1'),),
        "wrong_account": (('"tillstone_log": "', '"tillstone_log": "other-'), ('"reason": "', '"reason": "other-')),
        "wrong_payment": (('"tillstone_operation": "', '"tillstone_operation": "other-'),),
    }

    @override
    def add_to(self, router: web.UrlDispatcher) -> None:
        super().add_to(router)
        router.add_post("/_twin/key", self._key)
        router.add_post("/_twin/refunds", self._refunds)
        router.add_post("/_twin/checkouts/{checkout}/pay", self._pay)
        router.add_route("*", "/api/v1/{rest:.*}", self.serve)

    @override
    def happen(self) -> None:
        """Let customers pay who would have by now, and checkouts expire."""
        with self.store.transaction():
            for due in self.store.take_due(_PAY):
                checkout, how, confirm_ms = due.subject.split()
                with suppress(CoinbaseRefusal):
                    pay(self.store, checkout, msgspec.convert(how, Paying), int(confirm_ms))
            happen(self.store)

    @override
    async def deliver(self, post: Post) -> int:
        return await deliver_due(self.store, post)

    @override
    def charges(self, store: TwinStore) -> list[dict[str, Any]]:
        return charges(store)

    @override
    def told(self, request: web.Request) -> str | None:
        checkout = self.store.get("checkout", request.match_info["checkout"])
        if checkout is None:
            return None
        return f"{checkout['amount']} {checkout['currency']}, {checkout['status'].lower()}"

    @override
    def press(self, request: web.Request, choice: str) -> None:
        pay(self.store, request.match_info["checkout"], msgspec.convert(choice, Paying))

    @override
    def account_of(self, request: web.Request) -> TwinStore:
        try:
            header, claims, signed, given = _taken_apart(bearer(request))
        except (Rejected, ValueError, KeyError, binascii.Error):
            raise CoinbaseRefusal("unauthorized", status=401) from None
        note = self.store.note(f"key:{header['kid']}") or {}
        now_s, place = self.store.now_ms() // 1000, self.base.partition("://")[2]
        is_good = (
            bool(note)
            and claims["iss"] == "cdp"
            and claims["sub"] == header["kid"]
            and claims["uri"] == f"{request.method} {place}{request.path}"
            and claims["nbf"] <= now_s <= claims["exp"] <= claims["nbf"] + TOKEN_S
            and signature.verify(_ALGORITHMS[header["alg"]], base64.b64decode(note["public_key"]), signed, given)
        )
        if not is_good:
            raise CoinbaseRefusal("unauthorized", status=401)
        return self.stranger if note["is_stranger"] else self.store

    @override
    def do(self, store: TwinStore, request: web.Request, body: dict[str, Any]) -> Answered:
        key = request.headers.get(self.key_header, "")
        if key and not _UUID4.match(key):
            raise CoinbaseRefusal("invalid_request")
        answer = route(store, request.method, request.path, request.query, body, self.base)
        if answer.status == 201:
            self._let_customer_act(store, answer.body["id"])
        return answer

    @override
    def failed(self, kind: str) -> Answered:
        match kind:
            case "key_in_use":
                return CoinbaseRefusal("already_exists", status=409).answer
            case "key_reused":
                return CoinbaseRefusal("idempotency_error", status=422).answer
            case "rate_limited":
                return CoinbaseRefusal("rate_limit_exceeded", status=429).answer
            case _:
                return CoinbaseRefusal("internal_server_error", status=500).answer

    def _let_customer_act(self, store: TwinStore, checkout: str) -> None:
        customer = msgspec.convert(store.note("customer") or {}, Customer)
        if customer.does == "pay":
            subject = f"{checkout} {customer.paying} {customer.confirm_ms}"
            store.schedule(Due(at_ms=store.now_ms() + customer.after_ms, what=_PAY, subject=subject))

    async def _key(self, request: web.Request) -> web.Response:
        key = await read_json(request, Key)
        self.store.keep_note(f"key:{key.name}", msgspec.to_builtins(key))
        return self.ok()

    async def _refunds(self, request: web.Request) -> web.Response:
        return await self.keep(request, "refunds", Refunds)

    async def _pay(self, request: web.Request) -> web.Response:
        customer = await read_json(request, Customer)
        with self.store.transaction():
            pay(self.store, request.match_info["checkout"], customer.paying, customer.confirm_ms)
        return self.ok()


def _taken_apart(token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    """Header, claims, what was signed, the signature."""
    header, claims, given = token.encode().split(b".")
    read = [json.loads(from_base64url(part)) for part in (header, claims)]
    return read[0], read[1], header + b"." + claims, from_base64url(given)


if __name__ == "__main__":
    run_rest_twin("A stand-in for Coinbase Business with faults on demand", CoinbaseTwin)
