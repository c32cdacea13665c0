"""Find boxes on the local network by DNS-SD (RFC 6763), `_tillstone._tcp`.

Owns looking and reading what is announced. Must never trust it: anybody on the network can announce anything, and only
pairing tells a box from an impostor.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from appliance.runtime.deadline import Deadline

SERVICE_TYPE: Final = "_tillstone._tcp.local."
BOXES_MAX: Final = 64
_RESOLVE_MS: Final = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBox:
    """An announced box: nothing about it is proven."""

    name: str
    url: str
    properties: tuple[tuple[str, str], ...]


async def find_boxes(deadline: Deadline, *, interfaces: list[str] | None = None) -> tuple[FoundBox, ...]:
    """Every box that announces itself until the deadline, by name. `interfaces` are addresses; None means all."""
    names: asyncio.Queue[str] = asyncio.Queue(maxsize=BOXES_MAX)

    # zeroconf passes all four by keyword.
    def seen(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:  # noqa: ARG001
        if state_change is ServiceStateChange.Added and not names.full():
            names.put_nowait(name)

    network = AsyncZeroconf(ip_version=IPVersion.V4Only) if interfaces is None else AsyncZeroconf(interfaces=interfaces)
    found: dict[str, FoundBox] = {}
    try:
        browser = AsyncServiceBrowser(network.zeroconf, SERVICE_TYPE, handlers=[seen])
        try:
            async with deadline.scope():
                while len(found) < BOXES_MAX:
                    box = await _resolve(network, await names.get())
                    if box is not None:
                        found[box.name] = box
        except TimeoutError:
            pass  # the deadline is how looking ends
        finally:
            await browser.async_cancel()
    finally:
        await network.async_close()
    return tuple(found[name] for name in sorted(found))


async def _resolve(network: AsyncZeroconf, name: str) -> FoundBox | None:
    service = AsyncServiceInfo(SERVICE_TYPE, name)
    if not await service.async_request(network.zeroconf, _RESOLVE_MS) or service.port is None:
        return None
    addresses = service.parsed_addresses(IPVersion.V4Only)
    if not addresses:
        return None
    texts = {key: value for key, value in service.decoded_properties.items() if value is not None}
    return FoundBox(
        name=name.removesuffix("." + SERVICE_TYPE),
        url=f"https://{addresses[0]}:{service.port}",
        properties=tuple(sorted(texts.items())),
    )
