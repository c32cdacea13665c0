"""The Stripe adapter through the real SDK: each fault becomes the one right value, and the money oracle agrees."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from appliance.adapters import stripe_session
from appliance.adapters.stripe import StripeProvider
from appliance.adapters.stripe_session import StripeSettings
from appliance.config.secret import Secret
from appliance.model.errors import Rejected
from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import HOUR_MS
from appliance.ports.provider import Absent, Authorise, Cancel, Confirmed, Declined, Found, Refused, Unknown
from tests.contract.test_provider import SINCE_MS, authorisation, capture_of, refund_of, reservation
from tests.fakes.clock import FakeClock
from tests.stripe_twin import KEY, TwinProcess


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[TwinProcess]:
    async with TwinProcess(tmp_path) as process:
        yield process


@pytest.fixture
async def provider(twin: TwinProcess) -> AsyncIterator[StripeProvider]:
    opened = await twin.provider()
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("fault", "reason", "is_charged"),
    [
        ("drop_request", "connection_lost", False),
        ("drop_reply", "connection_lost", True),
        ("error_then_success", "provider_failed", False),
        ("error_after_processing", "provider_failed", True),
        ("truncated_json", "answer_unreadable", True),
        ("truncated_reply", "answer_cut_short", True),
        ("rate_limited", "rate_limited", False),
        ("wrong_amount", "amount_differs", True),
        ("wrong_account", "reference_differs", True),
    ],
)
async def test_each_fault_is_unknown_and_reading_settles_it(
    twin: TwinProcess, provider: StripeProvider, fault: str, reason: str, is_charged: bool
) -> None:
    operation = authorisation()
    await twin.fault(fault, method="POST")
    assert await provider.authorise(operation) == Unknown(reason=reason)
    assert len(await twin.charges()) == int(is_charged)
    found = await provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found if is_charged else Absent)


async def test_a_slow_provider_is_waited_for(twin: TwinProcess, provider: StripeProvider) -> None:
    await twin.fault("delay", delay_ms=50)
    assert isinstance(await provider.authorise(authorisation()), Confirmed)


async def test_a_key_in_use_is_unknown(twin: TwinProcess, provider: StripeProvider) -> None:
    operation = authorisation()
    await twin.fault("hold")
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(provider.authorise(operation)) for _ in range(2)]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        await twin.control("DELETE", "faults")
    answers = [task.result() for task in both]
    assert Unknown(reason="key_in_use") in answers
    assert any(isinstance(answer, Confirmed) for answer in answers)
    assert len(await twin.charges()) == 1


async def test_an_outage_ends_when_it_is_cleared(twin: TwinProcess, provider: StripeProvider) -> None:
    operation = authorisation()
    await twin.control("POST", "outage", {"is_on": True})
    assert await provider.authorise(operation) == Unknown(reason="connection_lost")
    assert await provider.find(operation, since_ms=SINCE_MS) == Unknown(reason="connection_lost")
    await twin.control("DELETE", "faults")
    assert isinstance(await provider.find(operation, since_ms=SINCE_MS), Absent)


async def test_a_key_past_24_hours_charges_anew_and_both_charges_are_seen(
    twin: TwinProcess, provider: StripeProvider
) -> None:
    """Why a key is sent once, ever: docs.stripe.com/api/idempotent_requests."""
    operation = authorisation()
    await provider.authorise(operation)
    await twin.advance(25 * HOUR_MS)
    assert isinstance(await provider.authorise(operation), Confirmed)
    assert len(await twin.charges()) == 2
    assert await provider.find(operation, since_ms=SINCE_MS) == Unknown(reason="found_more_than_once")


async def test_a_listing_reads_every_page(
    twin: TwinProcess, provider: StripeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_session, "PAGE_SIZE", 2)
    wanted = authorisation()
    await provider.authorise(wanted)
    for _ in range(4):
        await provider.authorise(authorisation())
    assert isinstance(await provider.find(wanted, since_ms=SINCE_MS), Found)
    assert isinstance(await provider.find(authorisation(), since_ms=SINCE_MS), Absent)


async def test_a_listing_that_is_too_long_or_breaks_off_proves_nothing(
    twin: TwinProcess, provider: StripeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_session, "PAGE_SIZE", 1)
    for _ in range(3):
        await provider.authorise(authorisation())
    await twin.fault("truncated_json", method="GET")
    assert await provider.find(authorisation(), since_ms=SINCE_MS) == Unknown(reason="answer_unreadable")
    monkeypatch.setattr(stripe_session, "PAGES_MAX", 2)
    assert await provider.find(authorisation(), since_ms=SINCE_MS) == Unknown(reason="listing_incomplete")


async def test_a_clock_that_disagrees_with_the_providers_proves_no_absence(
    twin: TwinProcess, provider: StripeProvider
) -> None:
    twin.clock.step(48 * HOUR_MS)
    found = await provider.find(authorisation(), since_ms=twin.clock.now_ms())
    assert found == Unknown(reason="clock_disagrees")


async def test_a_known_name_is_read_and_compared(twin: TwinProcess, provider: StripeProvider) -> None:
    operation = authorisation()
    answer = await provider.authorise(operation)
    assert isinstance(answer, Confirmed)
    known = answer.provider_reference
    assert await provider.find(operation, since_ms=SINCE_MS, known=known) == Found(answer=answer)
    stranger = await provider.find(authorisation(), since_ms=SINCE_MS, known=known)
    assert stranger == Unknown(reason="reference_differs", provider_reference=known)
    missing = ProviderReference("pi_" + "0" * 24)
    lost = await provider.find(operation, since_ms=SINCE_MS, known=missing)
    assert lost == Unknown(reason="resource_missing", provider_reference=missing)


async def test_a_malformed_name_never_becomes_a_path(provider: StripeProvider) -> None:
    name = ProviderReference("../../v1/customers")
    refused = await provider.refund(refund_of(name, 100))
    assert isinstance(refused, Refused)
    assert refused.code == "reference_malformed"
    found = await provider.find(authorisation(), since_ms=SINCE_MS, known=name)
    assert found == Unknown(reason="reference_malformed")


async def test_a_payment_that_took_no_money_is_cancelled(twin: TwinProcess, provider: StripeProvider) -> None:
    attempt = authorisation(source="pm_card_visa_chargeDeclined")
    declined = await provider.authorise(attempt)
    assert isinstance(declined, Declined)
    assert declined.provider_reference is not None
    operation = Cancel(
        provider_key=ProviderKey(f"{attempt.reference.operation_id}/2"),
        reference=attempt.reference,
        amount=attempt.amount,
        of=declined.provider_reference,
    )
    await twin.fault("drop_reply", method="POST")
    assert await provider.cancel(operation) == Unknown(reason="connection_lost")
    found = await provider.find(operation, since_ms=SINCE_MS)
    assert isinstance(found, Found)
    assert isinstance(found.answer, Confirmed)
    assert await provider.cancel(operation) == found.answer


async def test_an_answer_that_bears_another_payments_names_is_unknown(provider: StripeProvider) -> None:
    held = await provider.authorise(reservation())
    assert isinstance(held, Confirmed)
    of, differs = held.provider_reference, Unknown(reason="reference_differs")
    assert await provider.capture(capture_of(reservation(), of, 800)) == differs
    found = await provider.find(capture_of(reservation(), of, 800), since_ms=SINCE_MS)
    assert found == replace(differs, provider_reference=of)


async def test_a_revoked_key_is_refused_and_never_shown(twin: TwinProcess) -> None:
    provider = await twin.provider("sk_test_1revoked")
    answer = await provider.authorise(authorisation())
    await provider.close()
    assert isinstance(answer, Refused)
    assert answer.code == "credentials_refused"
    assert "sk_test" not in repr(answer)
    assert await twin.charges() == []


async def test_an_unknown_card_source_is_refused(twin: TwinProcess, provider: StripeProvider) -> None:
    answer = await provider.authorise(authorisation(source="pm_card_of_nobody"))
    assert isinstance(answer, Refused)
    assert answer.code == "source_unknown"
    assert "source" in answer.detail
    assert await twin.charges() == []


@pytest.mark.parametrize("key", ["pk_test_1", "", "sk_test_1\n"])
async def test_only_a_secret_key_opens_a_provider(key: str) -> None:
    settings = StripeSettings(api_base="https://api.stripe.com", api_key=Secret(key.encode()))
    with pytest.raises(Rejected, match="provider_key_invalid"):
        await StripeProvider.open(settings=settings, clock=FakeClock(), jitter=random.Random(1))


async def test_money_is_not_sent_over_plain_http_to_another_machine() -> None:
    settings = StripeSettings(api_base="http://192.0.2.1", api_key=Secret(KEY.encode()))
    with pytest.raises(Rejected, match="provider_address_insecure"):
        await StripeProvider.open(settings=settings, clock=FakeClock(), jitter=random.Random(1))


ODD_ANSWERS = [
    (200, "[]", "answer_unreadable"),
    (200, "3", "answer_unreadable"),
    (200, "", "answer_unreadable"),
    (200, "[" * 100_000, "answer_unreadable"),
    (400, '{"error": 5}', "answer_unreadable"),
    (402, '{"error": {"type": "api_error"}}', "answer_untyped"),
    (402, "declined", "answer_unreadable"),
    (400, '{"error": {"type": "invalid_request_error", "code": "lock_timeout"}}', "answer_untyped"),
    (418, '{"error": {"type": "invalid_request_error"}}', "answer_untyped"),
    (307, "", "connection_lost"),
    (503, "<html>", "provider_failed"),
]


@pytest.mark.parametrize(("status", "body", "reason"), ODD_ANSWERS)
async def test_whatever_is_not_understood_is_unknown_and_asked_once(status: int, body: str, reason: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Idempotency-Key"])
        return web.Response(status=status, text=body, headers={"Location": "/elsewhere"} if status == 307 else {})

    async with _server(answer) as base:
        operation = authorisation()
        assert await _ask(base, operation) == Unknown(reason=reason)
    assert asked == [operation.provider_key]


async def test_a_decline_that_carries_taken_money_is_unknown() -> None:
    operation = authorisation(100)
    names = operation.reference
    metadata = {
        "tillstone_log": names.log_origin,
        "tillstone_payment": str(names.payment_key),
        "tillstone_operation": names.operation_id,
        "tillstone_terminal": names.terminal_id,
        "tillstone_key": operation.provider_key,
    }
    payment = {"id": "pi_1", "amount": 100, "amount_received": 100, "currency": "eur", "status": "succeeded"}
    payment |= {"livemode": False, "created": 1, "metadata": metadata}
    error = {"type": "card_error", "code": "card_declined", "payment_intent": payment}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"error": error}, status=402)

    async with _server(answer) as base:
        reference = ProviderReference("pi_1")
        unknown = Unknown(reason="decline_contradicts_itself", provider_reference=reference)
        assert await _ask(base, operation) == unknown


@pytest.mark.parametrize("is_packed", [False, True])
async def test_answer_without_an_end_is_not_read_into_memory(is_packed: bool) -> None:
    """The server sends until it is hung up on: only a reader with a bound comes to an answer."""
    chunk = b" " * (1 << 20)
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if is_packed:
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        with suppress(ConnectionError):
            while sent < 256 << 20:
                await response.write(chunk)
                sent += len(chunk)
        return response

    async with _server(answer) as base:
        assert await _ask(base, authorisation()) == Unknown(reason="answer_cut_short")
    assert sent < 256 << 20


async def test_what_is_sent_names_its_version_and_no_identity_of_ours() -> None:
    seen: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        seen.update(request.headers)
        return web.Response(status=500)

    async with _server(answer) as base:
        await _ask(base, authorisation())
    assert seen["Stripe-Version"] == stripe_session.API_VERSION
    assert "telemetry_id" not in seen["X-Stripe-Client-User-Agent"]
    assert "X-Stripe-Client-Telemetry" not in seen


def test_importing_the_adapter_does_not_import_the_sdk() -> None:
    program = "import sys, appliance.adapters.stripe; sys.exit('stripe' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@asynccontextmanager
async def _server(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def _ask(base: str, operation: Authorise) -> object:
    settings = StripeSettings(api_base=base, api_key=Secret(KEY.encode()))
    provider = await StripeProvider.open(settings=settings, clock=FakeClock(), jitter=random.Random(1))
    try:
        return await provider.authorise(operation)
    finally:
        await provider.close()
