"""Owns the promises of the image's firewall: doors answer, the rest is silent, a flood stops no sale.

The real nft loads the image's rules on a LAN of the test's own: two network namespaces and a cable, a box and a till.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from image.definition import DEFINITION

FIREWALL = DEFINITION / "root/etc/nftables.conf"
AGENT = Path(__file__).with_name("lan_agent.py")
PROGRAMS = {"nft": "nftables", "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BOX, TILL, OTHER_TILL = "10.77.0.1", "10.77.0.2", "10.77.0.3"
BOX_6, TILL_6 = "fd77::1", "fd77::2"
DOORS = [8443, 9080]
CLOSED = [22, 80, 443, 5432, 9081, 9443]
APPLIANCE_UID = 950
# From nftables.conf: what one address may begin at once.
BURST, RATE = 100, 50


class Computer:
    """A network namespace and the agent in it."""

    def __init__(self) -> None:
        command = ["unshare", "--net", sys.executable, "-I", str(AGENT)]
        self._agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._agent.pid

    def do(self, order: str, **arguments: Any) -> Any:
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        self._agent.stdin.write(json.dumps({"do": order, **arguments}) + "\n")
        self._agent.stdin.flush()
        return json.loads(self._agent.stdout.readline())

    def run(self, *command: str) -> None:
        subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", *command], check=True, capture_output=True, env={"PATH": PATH}
        )

    def close(self) -> None:
        self._agent.kill()
        self._agent.communicate()


class Lan:
    """The box and the till."""

    def __init__(self, box: Computer, till: Computer) -> None:
        self.box, self.till = box, till


@contextmanager
def cabled() -> Iterator[Lan]:
    with ExitStack() as stack:
        box, till = Computer(), Computer()
        for computer in (box, till):
            stack.callback(computer.close)
            computer.do("hears", port=0)  # its namespace is there
        box.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
        box.run("ip", "link", "set", "lan1", "netns", str(till.pid))
        for computer, device, addresses in ((box, "lan0", (BOX, BOX_6)), (till, "lan1", (TILL, OTHER_TILL, TILL_6))):
            for address in addresses:
                size, nodad = ("/64", ["nodad"]) if ":" in address else ("/24", [])
                computer.run("ip", "address", "add", address + size, "dev", device, *nodad)
            for name in ("lo", device):
                computer.run("ip", "link", "set", name, "up")
        box.run("nft", "--file", str(FIREWALL))
        yield Lan(box, till)


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    if missing := [package for name, package in PROGRAMS.items() if shutil.which(name, path=PATH) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], check=False).returncode != 0:
        pytest.skip("optional: root that may make network namespaces")
    with cabled() as made:
        made.box.do("serve", tcp=DOORS + CLOSED, udp=[53, 68, 123, 5353, 9999], address=BOX)
        made.till.do("serve", tcp=[443, 9100], udp=[53, 123, 1900], address=TILL)
        yield made


def test_the_doors_answer_and_nothing_else_does(lan: Lan) -> None:
    assert lan.till.do("reach", to=BOX, ports=DOORS + CLOSED) == DOORS


def test_the_doors_answer_by_ipv6_too(lan: Lan) -> None:
    assert lan.till.do("reach", to=BOX_6, ports=DOORS + CLOSED) == DOORS


def test_the_box_itself_reaches_all_its_own_ports(lan: Lan) -> None:
    # The witness that the closed ports above were closed by the firewall alone.
    assert lan.box.do("reach", to="127.0.0.1", ports=DOORS + CLOSED) == DOORS + CLOSED


def test_no_datagram_comes_in_unasked(lan: Lan) -> None:
    assert lan.till.do("ask", to=BOX, ports=[53, 68, 123, 9999]) == []
    assert not any(lan.box.do("hears", port=port) for port in (53, 68, 123, 9999))


def test_dhcp_answers_and_mdns_questions_come_in(lan: Lan) -> None:
    lan.till.do("tell", to=BOX, port=68, interface_address=TILL, source_port=67)
    assert lan.box.do("hears", port=68)
    lan.till.do("tell", to="224.0.0.251", port=5353, interface_address=TILL)
    assert lan.box.do("hears", port=5353)


def test_the_box_asks_for_names_and_the_time_and_nothing_else(lan: Lan) -> None:
    assert lan.box.do("ask", to=TILL, ports=[53, 123, 1900]) == [53, 123]


def test_only_the_appliance_calls_out(lan: Lan) -> None:
    assert lan.box.do("reach", to=TILL, ports=[443, 9100], uid=APPLIANCE_UID) == [443, 9100]
    assert lan.box.do("reach", to=TILL, ports=[443, 9100], uid=1000) == []
    assert lan.box.do("reach", to=TILL, ports=[443, 9100]) == []


def test_a_flood_from_one_address_stops_no_sale_and_no_other_till(lan: Lan) -> None:
    lan.till.do("hold", to=BOX, port=DOORS[0])
    began = time.monotonic()
    opened = lan.till.do("flood", to=BOX, port=DOORS[0], count=600, source=TILL)
    took_s = time.monotonic() - began
    assert BURST // 2 <= opened <= BURST + RATE * took_s
    assert lan.till.do("echo"), "the connection of a sale goes on"
    assert lan.till.do("flood", to=BOX, port=DOORS[0], count=5, source=OTHER_TILL) == 5
