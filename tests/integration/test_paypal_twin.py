"""The PayPal twin is what PayPal publishes of itself; each test names the page that says so."""

from __future__ import annotations

import base64
import datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.fakes.clock import FakeClock
from tests.paypal_twin_here import CLIENT, SECRET, PayPalHere

ORDERS = "/v2/checkout/orders"
SEARCH = "/v1/reporting/transactions"
HOUR_MS = 3_600_000
WALLET = {"paypal": {"experience_context": {"user_action": "PAY_NOW"}}}


class Api:
    """Any client of PayPal's API."""

    def __init__(self, here: PayPalHere, http: aiohttp.ClientSession, token: str) -> None:
        self.here, self._http, self._token = here, http, token

    async def ask(self, method: str, path: str, body: Any = None, *, key: str = "") -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self._token}"} | ({"PayPal-Request-Id": key} if key else {})
        async with self._http.request(method, self.here.base + path, json=body, headers=headers) as answer:
            found: dict[str, Any] = await answer.json()
            return answer.status, found

    async def order(self, value: str = "12.50", currency: str = "EUR", **unit: str) -> dict[str, Any]:
        units = [{"amount": {"currency_code": currency, "value": value}, **unit}]
        body = {"intent": "CAPTURE", "purchase_units": units, "payment_source": WALLET}
        status, made = await self.ask("POST", ORDERS, body)
        assert status == 201, made
        return made

    async def taken(self, value: str = "12.50", **unit: str) -> dict[str, Any]:
        order = await self.order(value, **unit)
        self.here.agree(order["id"])
        _, done = await self.ask("POST", f"{ORDERS}/{order['id']}/capture", {})
        return done


async def token(here: PayPalHere, http: aiohttp.ClientSession, client: str = CLIENT, secret: str = SECRET) -> Any:
    basic = base64.b64encode(f"{client}:{secret}".encode()).decode()
    form, headers = {"grant_type": "client_credentials"}, {"Authorization": f"Basic {basic}"}
    async with http.post(f"{here.base}/v1/oauth2/token", data=form, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.fixture
async def api() -> Any:
    async with PayPalHere(FakeClock()) as here, aiohttp.ClientSession() as http:
        _, granted = await token(here, http)
        yield Api(here, http, granted["access_token"])


def issue(body: dict[str, Any]) -> str:
    return str(body["details"][0]["issue"])


async def test_a_token_opens_the_api_until_it_expires(api: Api) -> None:
    """developer.paypal.com/api/rest/authentication: a token for client id and secret, for `expires_in` seconds."""
    assert (await api.ask("GET", f"{ORDERS}/1"))[0] == 404
    api.here.store.move_clock(32_400_000)
    assert (await api.ask("GET", f"{ORDERS}/1"))[0] == 401
    async with aiohttp.ClientSession() as http:
        assert (await token(api.here, http, secret="revoked"))[0] == 401


async def test_an_order_is_captured_once_and_only_when_the_payer_approved_it(api: Api) -> None:
    """developer.paypal.com/sdk/orders/v2/orders-capture: the buyer must first approve the order."""
    order = await api.order()
    capture = f"{ORDERS}/{order['id']}/capture"
    assert order["status"] == "PAYER_ACTION_REQUIRED"
    assert [link["rel"] for link in order["links"]] == ["self", "payer-action"]
    assert issue((await api.ask("POST", capture, {}))[1]) == "ORDER_NOT_APPROVED"
    assert api.here.charges() == []
    api.here.agree(order["id"])
    assert (await api.ask("GET", f"{ORDERS}/{order['id']}"))[1]["status"] == "APPROVED"
    status, done = await api.ask("POST", capture, {})
    assert (status, done["status"]) == (201, "COMPLETED")
    assert done["purchase_units"][0]["payments"]["captures"][0]["amount"]["value"] == "12.50"
    assert issue((await api.ask("POST", capture, {}))[1]) == "ORDER_ALREADY_CAPTURED"
    assert api.here.kept_minor() == 1250


async def test_a_repeated_request_gets_the_first_result(api: Api) -> None:
    """developer.paypal.com/api/rest/reference/idempotency: the latest status of the previous request is returned."""
    order = await api.order()
    api.here.agree(order["id"])
    path = f"{ORDERS}/{order['id']}/capture"
    first = await api.ask("POST", path, {}, key="one")
    again = await api.ask("POST", path, {}, key="one")
    assert (first[0], again[0]) == (201, 200)
    assert again[1] == first[1]
    other = await api.order()
    status, refused = await api.ask("POST", f"{ORDERS}/{other['id']}/capture", {}, key="one")
    assert (status, issue(refused)) == (422, "DUPLICATE_REQUEST_ID")


async def test_a_key_is_forgotten_after_six_hours(api: Api) -> None:
    """developer.paypal.com/sdk/orders/v2/orders-capture: "The server stores keys for 6 hours"."""
    body = {"intent": "CAPTURE", "purchase_units": [{"amount": {"currency_code": "EUR", "value": "1.00"}}]}
    _, first = await api.ask("POST", ORDERS, body, key="one")
    api.here.store.move_clock(6 * 3_600_000 - 1)
    assert (await api.ask("POST", ORDERS, body, key="one"))[1]["id"] == first["id"]
    api.here.store.move_clock(1)
    async with aiohttp.ClientSession() as http:
        _, granted = await token(api.here, http)
        later = Api(api.here, http, granted["access_token"])
        assert (await later.ask("POST", ORDERS, body, key="one"))[1]["id"] != first["id"]


async def test_a_declined_instrument_leaves_the_order_approved(api: Api) -> None:
    """developer.paypal.com/platforms/checkout/standard/customize/handle-funding-failures: restart the payment."""
    order = await api.order()
    api.here.agree(order["id"], "declined")
    status, refused = await api.ask("POST", f"{ORDERS}/{order['id']}/capture", {})
    assert (status, issue(refused)) == (422, "INSTRUMENT_DECLINED")
    assert (await api.ask("GET", f"{ORDERS}/{order['id']}"))[1]["status"] == "APPROVED"
    assert api.here.charges() == []


async def test_one_invoice_is_captured_once(api: Api) -> None:
    """developer.paypal.com/api/payments/v2/errors/duplicate_invoice_id: previously captured."""
    await api.taken(invoice_id="sale-1")
    second = await api.order(invoice_id="sale-1")
    api.here.agree(second["id"])
    assert issue((await api.ask("POST", f"{ORDERS}/{second['id']}/capture", {}))[1]) == "DUPLICATE_INVOICE_ID"
    assert api.here.kept_minor() == 1250


async def test_refunds_never_exceed_what_is_left(api: Api) -> None:
    """developer.paypal.com/api/payments/v2/errors/refund_amount_exceeded, .../capture_fully_refunded."""
    done = await api.taken("10.00")
    path = f"/v2/payments/captures/{done['purchase_units'][0]['payments']['captures'][0]['id']}/refund"

    async def refund(value: str) -> tuple[int, dict[str, Any]]:
        return await api.ask("POST", path, {"amount": {"currency_code": "EUR", "value": value}})

    assert (await refund("7.00"))[0] == 201
    assert issue((await refund("3.01"))[1]) == "REFUND_AMOUNT_EXCEEDED"
    status, second = await refund("3.00")
    assert (status, second["status"]) == (201, "COMPLETED")
    assert issue((await refund("0.01"))[1]) == "CAPTURE_FULLY_REFUNDED"
    assert (await api.ask("GET", f"/v2/payments/refunds/{second['id']}"))[1] == second
    _, order = await api.ask("GET", f"{ORDERS}/{done['id']}")
    assert [each["amount"]["value"] for each in order["purchase_units"][0]["payments"]["refunds"]] == ["7.00", "3.00"]
    assert api.here.kept_minor() == 0


async def test_currencies_without_decimals_take_none(api: Api) -> None:
    """developer.paypal.com/api/rest/reference/currency-codes: HUF, JPY and TWD do not support decimals."""
    units = [{"amount": {"currency_code": "JPY", "value": "12.50"}}]
    status, refused = await api.ask("POST", ORDERS, {"intent": "CAPTURE", "purchase_units": units})
    assert (status, issue(refused)) == (422, "DECIMAL_PRECISION")
    assert (await api.order("1250", "JPY"))["purchase_units"][0]["amount"]["value"] == "1250"


async def test_a_payer_presses_the_button_on_the_page_that_the_order_names(api: Api) -> None:
    order = await api.order()
    async with aiohttp.ClientSession() as http:
        async with http.get(order["links"][1]["href"]) as page:
            assert "12.50 EUR" in await page.text()
        async with http.post(order["links"][1]["href"], data={"funding": "good"}) as pressed:
            assert pressed.status == 200
    assert (await api.ask("GET", f"{ORDERS}/{order['id']}"))[1]["status"] == "APPROVED"


async def test_an_order_that_nobody_captures_is_forgotten(api: Api) -> None:
    """developer.paypal.com/payment-methods/uncaptured-payments: after 3 hours, unless told otherwise."""
    order = await api.order()
    api.here.agree(order["id"])
    api.here.forget(order["id"])
    for method, path in (("GET", f"{ORDERS}/{order['id']}"), ("POST", f"{ORDERS}/{order['id']}/capture")):
        status, refused = await api.ask(method, path, {} if method == "POST" else None)
        assert (status, refused["name"]) == (404, "RESOURCE_NOT_FOUND")
    assert api.here.charges() == []


def window(here: PayPalHere, *, days: int = 1, **more: str) -> str:
    """The query of a search that ends an hour from now."""
    end = datetime.datetime.fromtimestamp(here.clock.now_ms() / 1000, datetime.UTC) + datetime.timedelta(hours=1)
    times = {"start_date": (end - datetime.timedelta(days=days)).isoformat(), "end_date": end.isoformat()}
    return f"{SEARCH}?{urlencode(times | more)}"


def infos(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["transaction_info"] for each in body["transaction_details"]]


async def test_the_search_lists_a_transaction_three_hours_late(api: Api) -> None:
    """developer.paypal.com/api/transaction-search/v1/search-get: "a maximum of three hours"."""
    done = await api.taken(custom_id="ours", invoice_id="sale-1")
    capture = done["purchase_units"][0]["payments"]["captures"][0]["id"]
    assert isinstance(api.here.clock, FakeClock)
    api.here.clock.pass_time(3 * HOUR_MS - 1)
    _, early = await api.ask("GET", window(api.here))
    assert infos(early) == []
    api.here.clock.pass_time(1)
    _, listed = await api.ask("GET", window(api.here))
    (info,) = infos(listed)
    assert (info["transaction_id"], info["transaction_event_code"]) == (capture, "T0006")
    assert (info["transaction_status"], info["custom_field"], info["invoice_id"]) == ("S", "ours", "sale-1")
    assert (info["transaction_amount"]["value"], info["fee_amount"]["value"]) == ("12.50", "-0.66")
    assert info["transaction_initiation_date"] == listed["last_refreshed_datetime"]


async def test_a_refund_is_a_line_of_its_own_and_names_the_capture(api: Api) -> None:
    """developer.paypal.com/docs/transaction-search/transaction-event-codes: T1107, a refund by the merchant."""
    api.here.list_after(0)
    done = await api.taken()
    capture = done["purchase_units"][0]["payments"]["captures"][0]["id"]
    body = {"amount": {"currency_code": "EUR", "value": "2.50"}}
    _, refund = await api.ask("POST", f"/v2/payments/captures/{capture}/refund", body)
    info = infos((await api.ask("GET", window(api.here)))[1])[-1]
    assert (info["transaction_id"], info["transaction_event_code"]) == (refund["id"], "T1107")
    assert (info["paypal_reference_id"], info["paypal_reference_id_type"]) == (capture, "TXN")
    assert (info["transaction_amount"]["value"], "fee_amount" in info) == ("-2.50", False)


async def test_what_waits_for_a_review_does_not_change_the_balance_yet(api: Api) -> None:
    """search-get: `balance_affecting_records_only` is Y unless asked otherwise; P becomes S, or D."""
    api.here.list_after(0)
    orders = [api.here.take("5.00", "ours", funding="pending")[0] for _ in range(2)]
    everything = window(api.here, balance_affecting_records_only="N")
    assert infos((await api.ask("GET", window(api.here)))[1]) == []
    assert [info["transaction_status"] for info in infos((await api.ask("GET", everything))[1])] == ["P", "P"]
    api.here.decide(orders[0], is_taken=True)
    api.here.decide(orders[1], is_taken=False)
    assert [info["transaction_status"] for info in infos((await api.ask("GET", window(api.here)))[1])] == ["S"]
    assert sorted(info["transaction_status"] for info in infos((await api.ask("GET", everything))[1])) == ["D", "S"]


async def test_a_search_spans_31_days_in_pages_of_500_at_most(api: Api) -> None:
    """search-get: "The maximum supported range is 31 days"; `page_size` up to 500; `page` counts from 1."""
    api.here.list_after(0)
    captures = [api.here.take("5.00", f"ours {number}")[1] for number in range(5)]
    assert (await api.ask("GET", window(api.here, days=31)))[0] == 200
    for query in (window(api.here, days=32), window(api.here, page_size="501"), window(api.here, page="0"), SEARCH):
        status, refused = await api.ask("GET", query)
        assert (status, refused["name"]) == (400, "INVALID_REQUEST")
    pages = [(await api.ask("GET", window(api.here, page_size="2", page=str(page))))[1] for page in (1, 2, 3)]
    assert [len(infos(page)) for page in pages] == [2, 2, 1]
    assert {(page["total_items"], page["total_pages"]) for page in pages} == {(5, 3)}
    assert sorted(info["transaction_id"] for page in pages for info in infos(page)) == sorted(captures)


async def test_too_many_transactions_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """developer.paypal.com/docs/transaction-search: RESULTSET_TOO_LARGE above 10,000."""
    monkeypatch.setattr("provisioning.sandbox.paypal_twin_report.RESULTS_MAX", 1)
    api.here.list_after(0)
    for _ in range(2):
        api.here.take("5.00", "ours")
    status, refused = await api.ask("GET", window(api.here))
    assert (status, refused["name"]) == (400, "RESULTSET_TOO_LARGE")


async def test_an_app_needs_a_right_of_its_own_to_search(api: Api) -> None:
    """developer.paypal.com/docs/transaction-search: until it is switched on, permission is denied."""
    async with aiohttp.ClientSession() as http:
        _, granted = await token(api.here, http, client="client-with-no-search")
        status, refused = await Api(api.here, http, granted["access_token"]).ask("GET", window(api.here))
        assert (status, refused["name"]) == (403, "NOT_AUTHORIZED")
