"""A twin as its own process, Stripe's unless told otherwise, and its control door."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from appliance.adapters.stripe import StripeProvider
from appliance.adapters.stripe_session import StripeSettings
from appliance.config.secret import Secret
from tests.fakes.clock import FakeClock

CONTROL: Final = "control-token-of-a-test"
KEY: Final = "sk_test_ofATest1"


class TwinProcess:
    """Start, kill and steer one twin. Its clock starts at the fake clock's."""

    def __init__(self, folder: Path, module: str = "provisioning.sandbox.stripe_twin") -> None:
        self._module = module
        self._state = folder / "twin.db"
        self._process: subprocess.Popen[str] | None = None
        self._http: aiohttp.ClientSession | None = None
        self.clock = FakeClock()
        self.base = ""

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession()
        self.start()
        await self.control("POST", "clock", {"now_ms": self.clock.now_ms()})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGTERM)
        if self._http is not None:
            await self._http.close()

    def start(self) -> None:
        token = self._state.with_name("control-token")
        token.write_text(CONTROL)
        command = [sys.executable, "-m", self._module, "--port", "0"]
        command += ["--state", str(self._state), "--control", str(token)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base = f"http://127.0.0.1:{json.loads(self._process.stdout.readline())['port']}"

    def kill(self) -> None:
        """End it as a power cut does; `start` brings it back on another port with the same state."""
        self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        assert self._process.stdout is not None
        self._process.send_signal(number)
        self._process.wait(10)
        self._process.stdout.close()
        self._process = None

    async def provider(self, key: str = KEY) -> StripeProvider:
        settings = StripeSettings(api_base=self.base, api_key=Secret(key.encode()))
        return await StripeProvider.open(settings=settings, clock=self.clock, jitter=random.Random(1))

    async def control(self, method: str, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        assert self._http is not None
        headers = {"Authorization": f"Bearer {CONTROL}"}
        async with self._http.request(method, f"{self.base}/_twin/{name}", json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def fault(self, name: str, **more: Any) -> None:
        await self.control("POST", "faults", {"fault": name, **more})

    async def charges(self) -> list[dict[str, Any]]:
        charges: list[dict[str, Any]] = (await self.control("GET", "charges"))["charges"]
        return charges

    async def advance(self, duration_ms: int) -> None:
        """Let the same time pass here and there."""
        self.clock.pass_time(duration_ms)
        await self.control("POST", "clock", {"advance_ms": duration_ms})

    async def post(
        self, path: str, form: dict[str, str], *, key: str = "", bearer: str = KEY
    ) -> tuple[int, dict[str, Any]]:
        """A raw API request, as any client would send it."""
        assert self._http is not None
        headers = {"Authorization": f"Bearer {bearer}"} | ({"Idempotency-Key": key} if key else {})
        async with self._http.post(f"{self.base}{path}", data=form, headers=headers) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str, query: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        assert self._http is not None
        headers = {"Authorization": f"Bearer {KEY}"}
        async with self._http.get(f"{self.base}{path}", params=query or {}, headers=headers) as answer:
            return answer.status, await answer.json()
