"""The network of a shop: the section of `site.toml`, and what systemd-networkd is told.

Owns both. Must never carry a word from the file into a setting of another meaning: every value is an address or a name.

Source: systemd.network(5); the image's own file, which this is laid over, asks DHCP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Final

from msgspec import Meta

from appliance.config.load import Fault
from appliance.config.section import Section

FILE: Final = "10-site.conf"
_Address = Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f.:]{2,45}\Z")]


class Network(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the box is reached; everything may be left to DHCP."""

    address: Annotated[
        Annotated[str, Meta(pattern=r"\A[0-9A-Fa-f.:]{2,45}/[0-9]{1,3}\Z")] | None,
        Meta(description="Own address with its prefix, as 192.0.2.10/24; without it DHCP gives one."),
    ] = None
    gateway: Annotated[_Address | None, Meta(description="Next hop; needed with an address.")] = None
    dns: Annotated[
        tuple[_Address, ...], Meta(max_length=3, description="Name servers, beside or in place of DHCP's.")
    ] = ()
    ntp: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\A[0-9A-Za-z.:-]{1,253}\Z")], ...],
        Meta(max_length=4, description="Time servers, beside or in place of DHCP's."),
    ] = ()

    def faults(self) -> tuple[Fault, ...]:
        """What does not fit together."""
        found = [_fault("dns", value, ipaddress.ip_address) for value in self.dns]
        if self.gateway is not None:
            found.append(_fault("gateway", self.gateway, ipaddress.ip_address))
        if self.address is not None:
            found.append(_fault("address", self.address, ipaddress.ip_interface))
            if not self.dns:
                found.append(Fault(place="network.dns", reason="is needed with an address: nobody else names one"))
        if (self.address is None) != (self.gateway is None):
            found.append(Fault(place="network.gateway", reason="belongs to an address, and an address to a gateway"))
        faults = tuple(fault for fault in found if fault is not None)
        if faults or self.address is None or self.gateway is None:
            return faults
        own = ipaddress.ip_interface(self.address)
        if ipaddress.ip_address(self.gateway) not in own.network or self.gateway == str(own.ip):
            return (Fault(place="network.gateway", reason="is no other machine of the address's own network"),)
        return ()

    def networkd(self) -> bytes:
        """A drop-in of the image's `80-lan.network`; `faults` is empty."""
        lines = [f"DNS={value}" for value in self.dns] + [f"NTP={value}" for value in self.ntp]
        if self.address is not None:
            lines = ["DHCP=no", f"Address={self.address}", f"Gateway={self.gateway}", *lines]
        return ("\n".join(["# Of site.toml, as the owner signed it.", "[Network]", *lines]) + "\n").encode()


def _fault(name: str, value: str, read: Callable[[str], object]) -> Fault | None:
    try:
        read(value)
    except ValueError:
        return Fault(place=f"network.{name}", reason="is no address")
    return None
