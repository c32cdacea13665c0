"""A real browser for tests: Debian's Chromium, headless, over its debugging protocol. Holds no test."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp

START_S_MAX: Final = 60
ANSWER_S_MAX: Final = 60
# Without these the browser asks its maker's servers at each start; the machine has no way there.
_QUIET: Final = (
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--disable-gpu",
    "--no-sandbox",
)


def find_chromium() -> str | None:
    return shutil.which("chromium")


class Tab:
    """One page; `requests` are the addresses it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            told = json.loads((await self._socket.receive(timeout=ANSWER_S_MAX)).data)
            if told.get("method") == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(json.dumps(told["params"]))
            if told.get("id") == number:
                assert "error" not in told, told["error"]
                result: dict[str, Any] = told["result"]
                return result

    async def evaluate(self, expression: str) -> Any:
        """Its value, once a promise is kept."""
        told = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def open(self, url: str) -> None:
        """Go there; the page has loaded on return."""
        self.requests.clear()
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)
        await self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def wait_for(self, expression: str) -> Any:
        """The first true value."""
        ends_at = time.monotonic() + ANSWER_S_MAX
        while not (value := await self.evaluate(expression)):
            assert time.monotonic() < ends_at, f"not within {ANSWER_S_MAX} s: {expression}"
            await asyncio.sleep(0.02)
        return value

    async def screenshot(self, file: Path) -> None:
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shot["data"]))


@asynccontextmanager
async def phone(folder: Path, *, is_dark: bool = False) -> AsyncIterator[Tab]:
    """A tab of 390 x 844 points; the browser ends with it."""
    command = [str(find_chromium()), "--headless", *_QUIET, f"--user-data-dir={folder}", "--remote-debugging-port=0"]
    process = await asyncio.create_subprocess_exec(*command, "about:blank", stdout=DEVNULL, stderr=DEVNULL)
    try:
        async with aiohttp.ClientSession() as http:
            port = await asyncio.to_thread(_port, folder / "DevToolsActivePort")
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                (page,) = [each for each in await answer.json() if each["type"] == "page"]
            async with http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Network", "Log", "Runtime"):
                    await tab.call(f"{domain}.enable")
                await tab.call(
                    "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
                )
                scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
                await tab.call("Emulation.setEmulatedMedia", features=[scheme])
                yield tab
                await tab.call("Browser.close")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        await process.wait()


def _port(file: Path) -> int:
    ends_at = time.monotonic() + START_S_MAX
    while time.monotonic() < ends_at:
        if file.is_file() and (lines := file.read_text().split()):
            return int(lines[0])
        time.sleep(0.05)
    raise AssertionError(f"Chromium told no port within {START_S_MAX} s")
