"""A twin that answers JSON over REST: keys, faults and what strikes before and after anything is done.

Owns what such twins have in common; whose request it is, what it does and how the vendor says no is each twin's own.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from aiohttp import web

from provisioning.sandbox.stripe_twin_faults import BEFORE, Fault, FaultName, FaultScript, drop
from provisioning.sandbox.stripe_twin_store import SavedAnswer, TwinStore
from provisioning.sandbox.twin_control import TwinControl, is_allowed
from provisioning.sandbox.twin_process import Post, run_twin


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer and its status."""

    status: int
    body: dict[str, Any]


class TwinRefusal(Exception):
    """A typed error of the vendor's."""

    def __init__(self, answer: Answered) -> None:
        super().__init__(str(answer.body))
        self.answer = answer


class RestTwin(ABC):
    """Requests are executed one at a time, so money needs no further lock.

    Attributes:
        base: where it answers, once it listens.
        stranger: another account of the same provider.
    """

    key_age_max_ms: ClassVar[int]
    """When a key is new again."""
    key_header: str
    """The header of the vendor's idempotency key."""
    lies: ClassVar[Mapping[FaultName, tuple[tuple[str, str], ...]]]
    """What a lying answer has instead, as text of its JSON."""
    repeated_status: int | None = None
    """What a repeated request is answered with, where that is not the first answer's status."""

    def __init__(self, *, store: TwinStore, control_token: str) -> None:
        self.store = store
        self.stranger = TwinStore(Path(":memory:"), key_age_max_ms=self.key_age_max_ms)
        self.faults = FaultScript()
        self.base = ""
        self._control_token = control_token
        self._keys_in_use: set[tuple[TwinStore, str]] = set()

    @abstractmethod
    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register what this twin has beside the API."""

    @abstractmethod
    def happen(self) -> None:
        """Let everything happen whose time has come, but the sending of webhooks."""

    @abstractmethod
    async def deliver(self, post: Post) -> int:
        """Send the webhooks that are due; how many requests that took."""

    @abstractmethod
    def charges(self, store: TwinStore) -> list[dict[str, Any]]:
        """Every payment that took money."""

    @abstractmethod
    def account_of(self, request: web.Request) -> TwinStore:
        """Whose request it is. Raises TwinRefusal."""

    @abstractmethod
    def do(self, store: TwinStore, request: web.Request, body: dict[str, Any]) -> Answered:
        """Do what the API does, inside a transaction. Raises TwinRefusal."""

    @abstractmethod
    def failed(self, kind: str) -> Answered:
        """How the vendor says `key_in_use`, `key_reused`, `rate_limited` and `broken`."""

    def application(self) -> web.Application:
        """The door, with the control door below /_twin/."""
        application = web.Application(middlewares=[self._guard])
        router = application.router
        TwinControl(store=self.store, faults=self.faults, happen=self.happen, charges=self.charges).add_to(router)
        self.add_to(router)
        return application

    def close(self) -> None:
        self.stranger.close()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request to the API."""
        self.happen()
        fault = self.faults.take(request.method, request.path, self.store.now_ms())
        if fault is not None and fault.fault in BEFORE:
            return await self.fail_before(request, fault)
        store = self.account_of(request)
        octets = await request.read()
        key = request.headers.get(self.key_header, "") if request.method == "POST" else ""
        if key and (store, key) in self._keys_in_use:
            raise TwinRefusal(self.failed("key_in_use"))
        self._keys_in_use.add((store, key))
        try:
            await self.faults.keep_waiting(fault)
            answer = self._execute(store, request, octets, key)
        finally:
            self._keys_in_use.discard((store, key))
        return await self._reply(request, answer, fault)

    async def fail_before(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        """A fault that strikes before anything is done."""
        match fault.fault:
            case "error_then_success":
                return self.respond(self.failed("broken"))
            case "rate_limited":
                return self.respond(self.failed("rate_limited"))
            case "hang":
                await self.faults.hang()
            case _:
                pass
        return drop(request)

    def respond(self, answer: Answered) -> web.Response:
        """An answer with the twin's own date."""
        return web.json_response(answer.body, status=answer.status, headers=self._headers())

    def _execute(self, store: TwinStore, request: web.Request, octets: bytes, key: str) -> Answered:
        """Do it, and remember what was done under `key` in the same transaction. A refusal is not remembered."""
        digest = hashlib.sha256(request.path.encode() + b"\0" + octets).hexdigest()
        saved = store.saved_answer(key) if key else None
        if saved is not None and saved.digest != digest:
            raise TwinRefusal(self.failed("key_reused"))
        if saved is not None:
            return Answered(status=self.repeated_status or saved.status, body=json.loads(saved.body))
        with store.transaction():
            answer = self.do(store, request, json.loads(octets or b"{}"))
            if key:
                store.save_answer(key, SavedAnswer(digest=digest, status=answer.status, body=json.dumps(answer.body)))
        return answer

    async def _reply(self, request: web.Request, answer: Answered, fault: Fault | None) -> web.StreamResponse:
        text = json.dumps(answer.body)
        match fault.fault if fault is not None else "":
            case "drop_reply":
                return drop(request)
            case "hang_after_processing":
                await self.faults.hang()
                return drop(request)
            case "error_after_processing":
                return self.respond(self.failed("broken"))
            case "truncated_json":
                half = text[: len(text) // 2]
                return web.Response(text=half, headers=self._headers(), content_type="application/json")
            case "wrong_amount" | "wrong_account" | "wrong_payment" as lie:
                for true, false in self.lies.get(lie, ()):
                    text = text.replace(true, false)
                return self.respond(Answered(status=answer.status, body=json.loads(text)))
            case _:
                return self.respond(answer)

    def _headers(self) -> dict[str, str]:
        return {"Date": email.utils.formatdate(self.store.now_ms() / 1000, usegmt=True)}

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not is_allowed(request, self._control_token):
            return self.respond(Answered(status=401, body={"name": "control token expected"}))
        try:
            return await handler(request)
        except TwinRefusal as refusal:
            return self.respond(refusal.answer)


def run_rest_twin(description: str, twin: type[RestTwin]) -> None:
    """Its command line; runs until SIGTERM or SIGINT."""
    run_twin(
        description,
        lambda state: TwinStore(state, key_age_max_ms=twin.key_age_max_ms),
        lambda store, token: twin(store=store, control_token=token),
    )
