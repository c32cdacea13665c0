"""A faithful stand-in for PayPal's Orders v2 in its own process, with faults on demand.

    python -m provisioning.sandbox.paypal_twin --port 0 --state FILE --control FILE

It prints one JSON line with the port it took. The state file survives `kill -9`.

Faithful, each line pinned by `tests/integration/test_paypal_twin.py`, which names the page:
- A bearer token for client id and secret, which expires; a client id that ends in `stranger` opens another account.
- `PayPal-Request-Id`: a repeated request gets the first result, other parameters are refused, also while the first
  runs; after 6 hours of the twin's time a key is new again.
- An order takes nothing until the payer approved it and it is captured, and is captured once; one invoice_id likewise.
- INSTRUMENT_DECLINED leaves the order approved. Refunds never exceed what is left.
- The transaction search is three hours late, gives 31 days and 10,000 transactions at most, and leaves out what waits
  for a review; a client id that ends in `no-search` may not ask for it.
- Webhooks: a certificate chain, and a signature over a CRC32 of the body only (`paypal_twin_events.py`).

Unfaithful, on purpose: no cards, authorisations or payer data; disputes are lines of the search only; orders expire
when they are told to; refunds succeed at once.

Customers: GET /checkoutnow?token=ORDER is a page with two buttons. What customers do by themselves, and the rest of the
control door, with `Authorization: Bearer TOKEN`:

    what every twin has                 `twin_control.py`
    POST /_twin/customer                one `Customer`: what payers do from now on
    POST /_twin/orders/ORDER/agree      {"funding"}: this payer approves now
    POST /_twin/orders/ORDER/decide     {"is_taken"}: the review of a capture that is pending ends
    POST /_twin/orders/ORDER/forget     PayPal knows this order no more, which nobody captured
    POST /_twin/report                  one `Plant`: the transaction search differs from what happened
    POST /_twin/report/lateness         {"late_ms"}: how late it lists, 3 hours before anybody says
    POST /_twin/webhooks                one `Hook`; GET /_twin/root the certificate to trust

Must never listen on anything but 127.0.0.1.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any, ClassVar, Final, Literal

import msgspec
from aiohttp import web
from typing_extensions import override

from provisioning.sandbox.paypal_twin_api import PayPalRefusal, agree, charges, decide, forget, route
from provisioning.sandbox.paypal_twin_events import (
    CERTIFICATE_PATH,
    Hook,
    certificate_pem,
    deliver_due,
    root_pem,
)
from provisioning.sandbox.paypal_twin_report import Lateness, Plant, plant, set_lateness
from provisioning.sandbox.stripe_twin_store import Due, TwinStore
from provisioning.sandbox.twin_control import bearer, read_json
from provisioning.sandbox.twin_customers import CustomerTwin
from provisioning.sandbox.twin_process import Post
from provisioning.sandbox.twin_rest import Answered, TwinRefusal, run_rest_twin

KEY_AGE_MAX_MS: Final = 6 * 3_600_000
"""developer.paypal.com/sdk/orders/v2/orders-capture: "The server stores keys for 6 hours"."""
TOKEN_S: Final = 32_400
_AGREE: Final = "agree"
_AUTHENTICATION_FAILED: Final = {"name": "AUTHENTICATION_FAILURE", "message": "no valid token"}


class Customer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a payer does by himself with an order, so much later."""

    does: Literal["agree", "wait"] = "wait"
    funding: Literal["good", "declined", "pending"] = "good"
    after_ms: int = 0


class Review(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How PayPal ends its review of a capture that it held."""

    is_taken: bool


class PayPalTwin(CustomerTwin):
    """The HTTP face."""

    vendor = "PayPal"
    page_path = "/checkoutnow"
    choice = "funding"
    buttons: ClassVar = {"good": "Agree and pay", "declined": "Agree, with an empty account"}
    customer_shape = Customer
    hook_shape = Hook
    key_age_max_ms = KEY_AGE_MAX_MS
    key_header = "PayPal-Request-Id"
    repeated_status = 200
    lies: ClassVar = {
        "wrong_amount": (('"value": "', '"value": "1'),),
        "wrong_account": (('"custom_id": "', '"custom_id": "other-'),),
    }

    @override
    def add_to(self, router: web.UrlDispatcher) -> None:
        super().add_to(router)
        router.add_post("/v1/oauth2/token", self._token)
        router.add_get(CERTIFICATE_PATH, self._certificate)
        router.add_get("/_twin/root", self._root)
        router.add_post("/_twin/orders/{order}/agree", self._agree)
        router.add_post("/_twin/orders/{order}/decide", self._decide)
        router.add_post("/_twin/orders/{order}/forget", self._forget)
        router.add_post("/_twin/report", self._plant)
        router.add_post("/_twin/report/lateness", self._lateness)
        router.add_route("*", "/v2/{rest:.*}", self.serve)
        router.add_get("/v1/reporting/transactions", self.serve)

    @override
    def happen(self) -> None:
        """Let payers do what they would have done by now."""
        with self.store.transaction():
            for due in self.store.take_due(_AGREE):
                order, funding = due.subject.split()
                with suppress(PayPalRefusal):
                    agree(self.store, order, funding)

    @override
    async def deliver(self, post: Post) -> int:
        return await deliver_due(self.store, post, self.base)

    @override
    def charges(self, store: TwinStore) -> list[dict[str, Any]]:
        return charges(store)

    @override
    def told(self, request: web.Request) -> str | None:
        order = self.store.get("order", request.query.get("token", ""))
        if order is None:
            return None
        amount = order["purchase_units"][0]["amount"]
        return f"{amount['value']} {amount['currency_code']}, {order['status'].lower().replace('_', ' ')}"

    @override
    def press(self, request: web.Request, choice: str) -> None:
        agree(self.store, request.query.get("token", ""), choice)

    @override
    def account_of(self, request: web.Request) -> TwinStore:
        token = self.store.note(f"token:{bearer(request)}")
        if token is None or token["ends_ms"] <= self.store.now_ms():
            raise TwinRefusal(Answered(status=401, body=_AUTHENTICATION_FAILED))
        if request.path.startswith("/v1/reporting/") and not token["is_reporting"]:
            raise TwinRefusal(
                Answered(status=403, body={"name": "NOT_AUTHORIZED", "message": "insufficient permissions"})
            )
        return self.stranger if token["is_stranger"] else self.store

    @override
    def do(self, store: TwinStore, request: web.Request, body: dict[str, Any]) -> Answered:
        asked = dict(request.query) if request.method == "GET" else body
        answer = route(store, request.method, request.path, asked, self.base)
        if request.method == "POST" and request.path == "/v2/checkout/orders":
            self._let_customer_act(store, answer.body["id"])
        return answer

    @override
    def failed(self, kind: str) -> Answered:
        match kind:
            case "key_in_use":
                return PayPalRefusal("PREVIOUS_REQUEST_IN_PROGRESS").answer
            case "key_reused":
                return PayPalRefusal("DUPLICATE_REQUEST_ID").answer
            case "rate_limited":
                return Answered(status=429, body={"name": "RATE_LIMIT_REACHED"})
            case _:
                return Answered(status=500, body={"name": "INTERNAL_SERVER_ERROR"})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.take(request.method, request.path, self.store.now_ms())
        if fault is not None:
            return await self.fail_before(request, fault)
        basic = request.headers.get("Authorization", "").removeprefix("Basic ")
        client, _, secret = base64.b64decode(basic).decode().partition(":")
        if not client or secret.endswith("revoked"):
            failed = {"error": "invalid_client", "error_description": "Client Authentication failed"}
            return self.respond(Answered(status=401, body=failed))
        token = self.store.new_id("A21")
        ends_ms = self.store.now_ms() + TOKEN_S * 1000
        kinds = {"is_stranger": client.endswith("stranger"), "is_reporting": not client.endswith("no-search")}
        self.store.keep_note(f"token:{token}", {"ends_ms": ends_ms, **kinds})
        return self.ok({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_S})

    def _let_customer_act(self, store: TwinStore, order: str) -> None:
        customer = msgspec.convert(store.note("customer") or {}, Customer)
        if customer.does == "agree":
            at_ms = store.now_ms() + customer.after_ms
            store.schedule(Due(at_ms=at_ms, what=_AGREE, subject=f"{order} {customer.funding}"))

    async def _certificate(self, _request: web.Request) -> web.Response:
        return web.Response(text=certificate_pem(self.store), content_type="application/x-pem-file")

    async def _root(self, _request: web.Request) -> web.Response:
        return self.ok({"root": root_pem(self.store)})

    async def _agree(self, request: web.Request) -> web.Response:
        customer = await read_json(request, Customer)
        with self.store.transaction():
            agree(self.store, request.match_info["order"], customer.funding)
        return self.ok()

    async def _decide(self, request: web.Request) -> web.Response:
        review = await read_json(request, Review)
        with self.store.transaction():
            decide(self.store, request.match_info["order"], is_taken=review.is_taken)
        return self.ok()

    async def _forget(self, request: web.Request) -> web.Response:
        with self.store.transaction():
            forget(self.store, request.match_info["order"])
        return self.ok()

    async def _plant(self, request: web.Request) -> web.Response:
        planted = await read_json(request, Plant)
        with self.store.transaction():
            plant(self.store, planted)
        return self.ok()

    async def _lateness(self, request: web.Request) -> web.Response:
        set_lateness(self.store, await read_json(request, Lateness))
        return self.ok()


if __name__ == "__main__":
    run_rest_twin("A stand-in for PayPal with faults on demand", PayPalTwin)
