"""A faithful stand-in for Stripe in its own process, with faults on demand.

    python -m provisioning.sandbox.stripe_twin --port 0 --state FILE --control FILE

It prints one JSON line with the port it took. The state file survives `kill -9`.

Faithful, each line pinned by `tests/integration/test_stripe_twin*.py`, which name the page:
- Idempotency keys: the first answer is repeated, also a 500 given after execution began; other parameters are a 400
  `idempotency_error`; a key in use is a 409; failed validation is not remembered; after 24 hours of the twin's time
  the same key makes a NEW charge.
- PaymentIntents: create, confirm, capture, cancel, retrieve, list with pages and `created`; test cards decide; what
  nobody captures lapses. Search shows how things stood a minute ago.
- Refunds never exceed what is left; typed declines are 402 `card_error` and carry the payment.
- Terminal readers, server-driven: process, cancel, display, test helper; one action at a time, offline, busy,
  unheard commands, broken lines, tips (`stripe_twin_readers.py`).
- Balance transactions: one for each charge, refund and planted dispute, with fee, net and the day it is available
  (`stripe_twin_balance.py`).
- Webhooks: signed, late, doubled, reordered, tried again (`stripe_twin_events.py`).
- Amounts of three-decimal currencies and of ISK follow docs.stripe.com/currencies.

Unfaithful, on purpose: no customers, payouts, answers to disputes, Connect, minimum amounts, `expand` but of a balance
transaction's source, API versions, test amounts, partial authorisation (not in the API version of the SDK) or two-step
collect and confirm; refunds succeed at once; a key is forgotten exactly at 24 hours, where Stripe says "at least".
Every test key opens the one account, but one that ends in `stranger`, which opens an empty one, and one that ends in
`revoked`; `blind` may not read the account.

Control, with `Authorization: Bearer TOKEN`: see `twin_control.py` and `stripe_twin_control.py`.
Must never listen on anything but 127.0.0.1, and never be reached by a live key.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from provisioning.sandbox.stripe_twin_api import charges
from provisioning.sandbox.stripe_twin_control import ControlDoor
from provisioning.sandbox.stripe_twin_events import deliver_due
from provisioning.sandbox.stripe_twin_faults import BEFORE, Fault, FaultScript, drop
from provisioning.sandbox.stripe_twin_form import Answered, InvalidRequest, Parameters, refusal
from provisioning.sandbox.stripe_twin_routes import route, run_due
from provisioning.sandbox.stripe_twin_store import SavedAnswer, TwinStore
from provisioning.sandbox.twin_control import TwinControl, bearer, is_allowed
from provisioning.sandbox.twin_process import Post, run_twin


class StripeTwin:
    """The HTTP face. Requests are executed one at a time, so money needs no further lock."""

    def __init__(self, *, store: TwinStore, control_token: str) -> None:
        self._store = store
        self._stranger = TwinStore(Path(":memory:"))
        self._control_token = control_token
        self.faults = FaultScript()
        self.base = ""
        self._keys_in_use: set[tuple[TwinStore, str]] = set()

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard])
        TwinControl(store=self._store, faults=self.faults, happen=self.happen, charges=charges).add_to(
            application.router
        )
        ControlDoor(store=self._store).add_to(application.router)
        application.router.add_route("*", "/v1/{rest:.*}", self._serve)
        return application

    def happen(self) -> None:
        """Let everything happen whose time has come, but the sending of webhooks."""
        with self._store.transaction():
            run_due(self._store)

    async def deliver(self, post: Post) -> int:
        """Send the webhooks that are due; how many requests that took."""
        return await deliver_due(self._store, post)

    def close(self) -> None:
        self._stranger.close()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given, is_control = bearer(request), request.path.startswith("/_twin/")
        if not is_allowed(request, self._control_token):
            return self._respond(401, {"error": {"message": "control token expected"}})
        if not is_control and (not given.startswith(("sk_test_", "rk_test_")) or given.endswith("revoked")):
            answer = refusal("Invalid API Key provided.", status=401)
            return self._respond(answer.status, answer.body)
        return await handler(request)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.happen()
        fault = self.faults.take(request.method, request.path, self._store.now_ms())
        if fault is not None and fault.fault in BEFORE:
            return await self._fail_before(request, fault)
        form = request.query if request.method == "GET" else await request.post()
        parameters = {name: str(value) for name, value in form.items()}
        store = self._stranger if bearer(request).endswith("stranger") else self._store
        key = request.headers.get("Idempotency-Key", "") if request.method == "POST" else ""
        if key and (store, key) in self._keys_in_use:
            conflict = refusal(
                "There is currently another in-progress request using this key.", kind="idempotency_error"
            )
            return self._respond(409, conflict.body)
        self._keys_in_use.add((store, key))
        try:
            await self.faults.keep_waiting(fault)
            answer = self._execute(store, request, parameters, key, fault)
        finally:
            self._keys_in_use.discard((store, key))
        return await self._reply(request, answer, fault)

    def _execute(
        self, store: TwinStore, request: web.Request, parameters: Parameters, key: str, fault: Fault | None
    ) -> Answered:
        """Do it, and remember the answer under `key` in the same transaction."""
        if request.path == "/v1/account" and bearer(request).endswith("blind"):
            return refusal("The provided key does not have the required permissions.", status=403)
        digest = hashlib.sha256(json.dumps([request.path, sorted(parameters.items())]).encode()).hexdigest()
        saved = store.saved_answer(key) if key else None
        if saved is not None:
            if saved.digest != digest:
                return refusal(
                    "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                    kind="idempotency_error",
                )
            return Answered(status=saved.status, body=json.loads(saved.body))
        try:
            with store.transaction():
                answer = route(store, request.method, request.path, parameters)
                if fault is not None and fault.fault == "error_after_processing":
                    answer = _server_error()
                if key and answer.is_remembered:
                    body = json.dumps(answer.body)
                    store.save_answer(key, SavedAnswer(digest=digest, status=answer.status, body=body))
        except InvalidRequest as error:
            return error.answer
        return answer

    async def _fail_before(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        match fault.fault:
            case "error_then_success":
                return self._respond(500, _server_error().body)
            case "rate_limited":
                limited = refusal("Too many requests hit the API too quickly.", code="rate_limit", status=429)
                return self._respond(429, limited.body)
            case "hang":
                await self.faults.hang()
            case _:
                pass
        return drop(request)

    async def _reply(self, request: web.Request, answer: Answered, fault: Fault | None) -> web.StreamResponse:
        match fault.fault if fault is not None else "":
            case "drop_reply":
                return drop(request)
            case "hang_after_processing":
                await self.faults.hang()
                return drop(request)
            case "truncated_json":
                text = json.dumps(answer.body)
                return web.Response(
                    text=text[: len(text) // 2], headers=self._headers(), content_type="application/json"
                )
            case "truncated_reply":
                return await self._cut(request, answer)
            case "wrong_amount":
                return self._respond(answer.status, {**answer.body, "amount": answer.body.get("amount", 0) + 1})
            case "wrong_account":
                other = {"id": self._store.new_id("pi"), "metadata": {"order": "6735"}}
                return self._respond(answer.status, {**answer.body, **other})
            case "wrong_payment":
                names = {**answer.body.get("metadata", {}), "tillstone_payment": self._store.new_id("key")}
                return self._respond(answer.status, {**answer.body, "id": self._store.new_id("pi"), "metadata": names})
            case _:
                return self._respond(answer.status, answer.body)

    def _respond(self, status: int, body: dict[str, Any]) -> web.Response:
        return web.json_response(body, status=status, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return {
            "Date": email.utils.formatdate(self._store.now_ms() / 1000, usegmt=True),
            "Request-Id": self._store.new_id("req"),
        }

    async def _cut(self, request: web.Request, answer: Answered) -> web.StreamResponse:
        body = json.dumps(answer.body).encode()
        response = web.StreamResponse(status=answer.status, headers=self._headers())
        response.content_length = len(body)
        response.content_type = "application/json"
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()  # unlike abort, after the first half was written
        return response


def _server_error() -> Answered:
    return refusal("An unknown error occurred.", kind="api_error", status=500)


if __name__ == "__main__":
    run_twin(
        "A stand-in for Stripe with faults on demand",
        TwinStore,
        lambda store, token: StripeTwin(store=store, control_token=token),
    )
