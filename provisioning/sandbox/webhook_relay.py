"""A relay of webhooks, as a shop has one where providers reach it: bytes and signature go on to the box unchanged.

    python -m provisioning.sandbox.webhook_relay --port 0 --to http://127.0.0.1:9081/v1/webhooks/stripe

It prints one JSON line with the port it took. It knows no secret, reads nothing, and answers what the box answered, so
that the provider sends again what the box did not take. A real one listens with TLS on the internet; this one on
127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import web

BYTES_MAX: Final = 1 << 20
SECONDS_MAX: Final = 5.0
PASSED_ON: Final = (
    "Stripe-Signature",
    "PayPal-Transmission-Id",
    "PayPal-Transmission-Time",
    "PayPal-Transmission-Sig",
    "PayPal-Cert-Url",
    "PayPal-Auth-Algo",
    "X-Hook0-Signature",
    "X-Event-Id",
    "X-Event-Type",
    "Content-Type",
)


class Relay:
    """Passes POSTs on to one address."""

    def __init__(self, *, to: str, http: aiohttp.ClientSession) -> None:
        self._to = to
        self._http = http

    async def pass_on(self, request: web.Request) -> web.Response:
        """The box's own status; 502 while it does not answer."""
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        try:
            async with self._http.post(self._to, data=await request.read(), headers=headers) as answer:
                return web.Response(status=answer.status)
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(status=502)


async def serve(*, port: int, to: Mapping[str, str]) -> None:
    """Run until SIGTERM or SIGINT. Args: `to`, each provider's door."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS_MAX)) as http:
        application = web.Application(client_max_size=BYTES_MAX)
        for provider, door in to.items():
            application.router.add_post(f"/{provider}", Relay(to=door, http=http).pass_on)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
            await stop.wait()
        finally:
            await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="Passes webhooks on to a box, unchanged")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--to", required=True, help="the box's door for Stripe's webhooks")
    parser.add_argument("--paypal-to", default="", help="the box's door for PayPal's webhooks")
    parser.add_argument("--coinbase-to", default="", help="the box's door for Coinbase's webhooks")
    arguments = parser.parse_args()
    doors = {"stripe": arguments.to, "paypal": arguments.paypal_to, "coinbase": arguments.coinbase_to}
    asyncio.run(serve(port=arguments.port, to={provider: door for provider, door in doors.items() if door}))


if __name__ == "__main__":
    main()
