"""Announces the box to the LAN by DNS-SD, so that a till finds it without an address. Says nothing secret.

Source: RFC 6763; the service is `_tillstone._tcp`, its TXT record names the audience and the shop.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

import ifaddr
from zeroconf import InterfaceChoice
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

SERVICE: Final = "_tillstone._tcp.local."


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What a till reads."""

    serial: str
    shop: str
    audience: str
    host: str
    port: int


class Announcer:
    """One registered service."""

    def __init__(self, zeroconf: AsyncZeroconf, service: AsyncServiceInfo) -> None:
        self._zeroconf = zeroconf
        self._service = service

    @classmethod
    async def open(cls, announcement: Announcement) -> Announcer:
        """Announce. A door on loopback is announced on loopback alone."""
        address = ipaddress.ip_address(announcement.host)
        everywhere = address.is_unspecified
        zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All if everywhere else [announcement.host])
        service = AsyncServiceInfo(
            SERVICE,
            f"{announcement.serial}.{SERVICE}",
            port=announcement.port,
            properties={"audience": announcement.audience, "shop": announcement.shop},
            server=f"{socket.gethostname()}.local.",
            parsed_addresses=None if everywhere else [announcement.host],
        )
        await (await zeroconf.async_register_service(service, allow_name_change=True))
        return cls(zeroconf, service)

    async def run(self) -> None:
        """Stay announced until cancelled, then say goodbye."""
        try:
            await asyncio.Event().wait()
        finally:
            await (await self._zeroconf.async_unregister_service(self._service))
            await self._zeroconf.async_close()


def own_addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Every address that this machine has now; blocks for a moment."""
    return [
        ipaddress.ip_address(each.ip if isinstance(each.ip, str) else each.ip[0])
        for adapter in ifaddr.get_adapters()
        for each in adapter.ips
    ]
