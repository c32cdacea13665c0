"""The Coinbase twin is what Coinbase publishes of itself; each test names the page that says so.

Pages are below docs.cdp.coinbase.com. `reference/NAME` is api-reference/business-api/rest-api/checkouts/NAME.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from appliance.adapters.coinbase_session import CoinbaseSession, idempotency_key
from appliance.adapters.provider_http import Reply
from provisioning.sandbox.coinbase_twin_api import CoinbaseRefusal
from tests.coinbase_twin_here import NAME, CoinbaseHere
from tests.fakes.clock import FakeClock

CHECKOUTS = "/api/v1/checkouts"
HOUR_MS = 3_600_000


class Api:
    """Any client of the API."""

    def __init__(self, here: CoinbaseHere, session: CoinbaseSession) -> None:
        self.here, self._session = here, session

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, dict[str, Any]]:
        reply = await self._session.ask(method, path, body=body, **more)
        assert isinstance(reply, Reply), reply
        return reply.status, json.loads(reply.body)

    async def checkout(self, amount: str = "12.50", currency: str = "EUR", **more: Any) -> dict[str, Any]:
        status, made = await self.ask("POST", CHECKOUTS, {"amount": amount, "currency": currency, **more})
        assert status == 201, made
        return made

    async def paid(self, amount: str = "12.50", currency: str = "EUR") -> str:
        made = await self.checkout(amount, currency)
        self.here.pay(made["id"])
        return str(made["id"])

    async def status(self, name: str) -> str:
        return str((await self.ask("GET", f"{CHECKOUTS}/{name}"))[1]["status"])

    def forward(self, duration_ms: int) -> None:
        assert isinstance(self.here.clock, FakeClock)
        self.here.clock.pass_time(duration_ms)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with CoinbaseHere(FakeClock()) as here:
        session = here.session()
        yield Api(here, session)
        await session.close()


async def test_a_token_of_another_key_or_time_opens_nothing(api: Api) -> None:
    """get-started/authentication/jwt-authentication: "expires after 2 minutes, after which all are unauthenticated"."""
    other = api.here.session(seed=b"another seed of 32 bytes, public")
    early = api.here.session(clock=FakeClock(api.here.clock.now_ms() - 121_000))
    for session in (other, early):
        reply = await session.ask("GET", CHECKOUTS)
        await session.close()
        assert isinstance(reply, Reply)
        assert (reply.status, json.loads(reply.body)["errorType"]) == (401, "unauthorized")


async def test_a_token_is_for_one_method_and_path(api: Api) -> None:
    """get-started/authentication/jwt-authentication: the claim `uri` is method, host and path."""
    session = api.here.session()
    headers = {"Authorization": f"Bearer {session._token('GET', CHECKOUTS)}"}
    await session.close()
    async with aiohttp.ClientSession() as http:
        async with http.get(api.here.base + CHECKOUTS, headers=headers) as allowed:
            assert allowed.status == 200
        async with http.get(f"{api.here.base}{CHECKOUTS}/1", headers=headers) as elsewhere:
            assert elsewhere.status == 401
        async with http.post(api.here.base + CHECKOUTS, headers=headers, json={}) as otherwise:
            assert otherwise.status == 401
    assert NAME.startswith("organizations/")


async def test_a_checkout_in_a_currency_of_the_world_says_what_it_is_in_usdc(api: Api) -> None:
    """reference/create-checkout: the answer has `amount` in USDC beside `fiatAmount` and `fiatCurrency`."""
    made = await api.checkout("12.50", "EUR", metadata={"orderId": "1"})
    assert (made["amount"], made["currency"], made["status"]) == ("13.50", "USDC", "ACTIVE")
    assert (made["fiatAmount"], made["fiatCurrency"], made["metadata"]) == ("12.50", "EUR", {"orderId": "1"})
    assert len(made["id"]) == 24
    plain = await api.checkout("12.50", "USDC")
    assert (plain["amount"], "fiatAmount" in plain) == ("12.50", False)


@pytest.mark.parametrize(
    "body",
    [
        {"amount": "0.00", "currency": "EUR"},
        {"amount": "12.505", "currency": "EUR"},
        {"amount": "100000001", "currency": "EUR"},
        {"amount": 12.5, "currency": "EUR"},
        {"amount": "12.50", "currency": "XTS"},
        {"amount": "12.50", "currency": "EUR", "description": "x" * 501},
        {"amount": "12.50", "currency": "EUR", "metadata": {"a": "x" * 101}},
        {"amount": "12.50", "currency": "EUR", "metadata": {str(number): "" for number in range(21)}},
        {"amount": "12.50", "currency": "EUR", "expiresAt": "2020-01-01T00:00:00Z"},
    ],
)
async def test_a_checkout_out_of_bounds_is_refused(api: Api, body: dict[str, Any]) -> None:
    """reference/create-checkout: 0.01 to 100,000,000 with two decimals; 500 characters; a future time; 20 of 100."""
    status, refused = await api.ask("POST", CHECKOUTS, body)
    assert (status, refused["errorType"]) == (400, "invalid_request")
    assert api.here.checkouts() == []


async def test_a_repeated_request_gets_the_first_answer_and_another_body_is_refused(api: Api) -> None:
    """api-reference/v2/idempotency: the exact same response; an error for different parameters; 24 hours; a UUID v4."""
    body = {"amount": "12.50", "currency": "EUR"}
    first = await api.ask("POST", CHECKOUTS, body, key="one")
    api.here.pay(first[1]["id"])
    assert await api.ask("POST", CHECKOUTS, body, key="one") == first
    status, refused = await api.ask("POST", CHECKOUTS, {**body, "amount": "99.00"}, key="one")
    assert (status, refused["errorType"]) == (422, "idempotency_error")
    api.forward(24 * HOUR_MS - 1)
    assert (await api.ask("POST", CHECKOUTS, body, key="one"))[1]["id"] == first[1]["id"]
    api.forward(1)
    assert (await api.ask("POST", CHECKOUTS, body, key="one"))[1]["id"] != first[1]["id"]
    assert idempotency_key("one").split("-")[2].startswith("4")


async def test_a_key_that_is_no_uuid_of_version_4_is_refused(api: Api) -> None:
    """api-reference/v2/idempotency: "Any other format will be rejected"."""
    session = api.here.session()
    headers = {"Authorization": f"Bearer {session._token('POST', CHECKOUTS)}", "X-Idempotency-Key": "one"}
    await session.close()
    async with (
        aiohttp.ClientSession() as http,
        http.post(api.here.base + CHECKOUTS, headers=headers, json={"amount": "1.00", "currency": "EUR"}) as answer,
    ):
        assert answer.status == 400


async def test_a_checkout_takes_one_payment_and_ends(api: Api) -> None:
    """coinbase-business/checkout-apis/overview: single-use; .../migrate-from-commerce/api-schema-mapping: statuses."""
    made = await api.checkout()
    api.here.pay(made["id"], confirm_ms=5_000)
    assert await api.status(made["id"]) == "PROCESSING"
    assert api.here.charges() == []
    api.forward(5_000)
    _, done = await api.ask("GET", f"{CHECKOUTS}/{made['id']}")
    assert (done["status"], done["transactionHash"][:2]) == ("COMPLETED", "0x")
    assert done["settlement"] == {"totalAmount": "13.50", "feeAmount": "0.14", "netAmount": "13.36", "currency": "USDC"}
    with pytest.raises(CoinbaseRefusal, match="checkout_not_active"):
        api.here.pay(made["id"])
    assert api.here.kept_minor() == 1250


async def test_a_checkout_expires_by_itself(api: Api) -> None:
    """reference/create-checkout: "automatically expired and cannot accept new payments"; an hour by default."""
    at = "2026-09-21T14:14:20Z"
    made, usual = await api.checkout(expiresAt=at), await api.checkout()
    assert made["expiresAt"] == at
    api.forward(HOUR_MS)
    assert [await api.status(each["id"]) for each in (made, usual)] == ["EXPIRED", "EXPIRED"]
    with pytest.raises(CoinbaseRefusal, match="checkout_not_active"):
        api.here.pay(made["id"])


async def test_only_an_active_checkout_is_deactivated(api: Api) -> None:
    """reference/deactivate-checkout: "preventing it from accepting further payments. Only ACTIVE checkouts"."""
    made = await api.checkout()
    assert (await api.ask("POST", f"{CHECKOUTS}/{made['id']}/deactivate"))[1]["status"] == "DEACTIVATED"
    assert (await api.ask("POST", f"{CHECKOUTS}/{made['id']}/deactivate"))[0] == 400
    with pytest.raises(CoinbaseRefusal, match="checkout_not_active"):
        api.here.pay(made["id"])
    name = await api.paid()
    assert (await api.ask("POST", f"{CHECKOUTS}/{name}/deactivate"))[0] == 400
    assert await api.status(name) == "COMPLETED"


async def test_refunds_never_exceed_what_is_left(api: Api) -> None:
    """reference/refund-checkout: only COMPLETED or PARTIALLY_REFUNDED, not above the rest, in its own currency."""
    open_one = await api.checkout()
    assert (await api.ask("POST", f"{CHECKOUTS}/{open_one['id']}/refund", {"amount": "1.00"}))[0] == 400
    path = f"{CHECKOUTS}/{await api.paid('10.00')}/refund"
    assert (await api.ask("POST", path, {"amount": "7.00", "currency": "USD"}))[0] == 400
    status, first = await api.ask("POST", path, {"amount": "7.00", "reason": "one"})
    assert (status, first["checkout"]["status"]) == (200, "PARTIALLY_REFUNDED")
    given = first["refund"]
    assert (given["amount"], given["currency"], given["fiatAmount"], given["exchangeRate"]) == (
        "7.56",
        "USDC",
        "7.00",
        "1.08",
    )
    assert (await api.ask("POST", path, {"amount": "3.01"}))[0] == 400
    _, second = await api.ask("POST", path, {"amount": "3.00", "currency": "EUR"})
    assert (second["checkout"]["status"], second["checkout"]["refundedAmount"]) == ("REFUNDED", "10.80")
    assert (await api.ask("POST", path, {"amount": "0.01"}))[0] == 400
    assert api.here.kept_minor() == 0


async def test_a_refund_is_under_way_first_and_may_fail(api: Api) -> None:
    """reference/introduction: refunds are PENDING, COMPLETED or FAILED."""
    name = await api.paid()
    api.here.refunds(after_ms=5_000)
    _, asked = await api.ask("POST", f"{CHECKOUTS}/{name}/refund", {"amount": "12.50"})
    assert asked["refund"]["status"] == "PENDING"
    api.here.refunds(fail=True)
    api.forward(5_000)
    _, later = await api.ask("GET", f"{CHECKOUTS}/{name}")
    assert (later["refunds"][0]["status"], later["status"]) == ("FAILED", "COMPLETED")
    assert api.here.kept_minor() == 1250


async def test_checkouts_are_listed_by_pages_and_since_a_time(api: Api) -> None:
    """reference/list-checkouts: pageSize 1 to 100 (20), pageToken out of nextPageToken, "created at or after"."""
    names = [(await api.checkout())["id"] for _ in range(21)]
    _, page = await api.ask("GET", CHECKOUTS)
    assert len(page["checkouts"]) == 20
    _, rest = await api.ask("GET", CHECKOUTS, query={"pageToken": page["nextPageToken"]})
    assert sorted(each["id"] for each in page["checkouts"] + rest["checkouts"]) == sorted(names)
    assert "nextPageToken" not in rest
    for size in ("0", "101"):
        assert (await api.ask("GET", CHECKOUTS, query={"pageSize": size}))[0] == 400
    api.forward(2_000)
    new = await api.checkout()
    _, late = await api.ask("GET", CHECKOUTS, query={"startTime": new["createdAt"]})
    assert [each["id"] for each in late["checkouts"]] == [new["id"]]


async def test_a_customer_presses_the_button_on_the_page_that_the_checkout_names(api: Api) -> None:
    made = await api.checkout()
    async with aiohttp.ClientSession() as http:
        async with http.get(made["url"]) as page:
            assert "13.50 USDC, active" in await page.text()
        async with http.post(made["url"], data={"paying": "good"}) as pressed:
            assert pressed.status == 200
    assert await api.status(made["id"]) == "COMPLETED"
