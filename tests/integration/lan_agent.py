"""A computer on a test's own LAN: run inside its network namespace, it does with real sockets what it is told.

One JSON object a line comes in at standard input, its answer goes out as one line. Imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

WAIT_S = 0.6
MDNS_GROUP = "224.0.0.251"
held: list[socket.socket] = []
heard: list[int] = []


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        sys.stdout.write(json.dumps(ORDERS[order.pop("do")](**order)) + "\n")
        sys.stdout.flush()


def serve(tcp: list[int], udp: list[int], address: str) -> bool:
    """Echo on these ports, of IPv4 and IPv6; the one of mDNS also for its group, on the interface of this address."""
    for port in tcp:
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    for port in udp:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("", port))
        if port == 5353:
            membership = socket.inet_aton(MDNS_GROUP) + socket.inet_aton(address)
            server.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        threading.Thread(target=_answer, args=(server, port), daemon=True).start()
    return True


def reach(to: str, ports: list[int], uid: int = 0) -> list[int]:
    """Those TCP ports that let a user of this number in."""

    def is_open(port: int) -> bool:
        with contextlib.suppress(OSError), _as_user(uid):
            client = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_STREAM)
            with client:
                client.settimeout(WAIT_S)
                client.connect((to, port))
                return True
        return False

    if uid:
        return [port for port in ports if is_open(port)]
    with ThreadPoolExecutor(len(ports)) as pool:
        return [port for port, found in zip(ports, pool.map(is_open, ports), strict=True) if found]


def ask(to: str, ports: list[int]) -> list[int]:
    """Those UDP ports that answer."""

    def answers(port: int) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(WAIT_S)
            client.sendto(b"?", (to, port))
            return client.recv(16) == b"?"
        return False

    return [port for port in ports if answers(port)]


def tell(to: str, port: int, interface_address: str, source_port: int = 0) -> bool:
    """Send one datagram, out of this interface if it is multicast."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("", source_port))
        client.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface_address))
        client.sendto(b"?", (to, port))
    return True


def hears(port: int) -> bool:
    """Whether a datagram came to this port."""
    ends_at = time.monotonic() + WAIT_S
    while port not in heard and time.monotonic() < ends_at:
        time.sleep(0.01)
    return port in heard


def hold(to: str, port: int) -> bool:
    """Open a connection and keep it."""
    held.append(socket.create_connection((to, port), timeout=5))
    return True


def echo() -> bool:
    """Whether the held connection still carries bytes."""
    held[0].sendall(b"sale")
    return held[0].recv(16) == b"sale"


def flood(to: str, port: int, count: int, source: str) -> int:
    """How many of so many connections, begun at once from one address, are open before a SYN is sent again."""
    callers = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    for caller in callers:
        caller.setblocking(False)
        caller.bind((source, 0))
        caller.connect_ex((to, port))
    time.sleep(WAIT_S)
    poll = select.poll()
    for caller in callers:
        poll.register(caller, select.POLLOUT)
    is_open = [number for number, event in poll.poll(0) if event == select.POLLOUT]
    for caller in callers:
        caller.close()
    return len(is_open)


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_mirror, args=(connection,), daemon=True).start()


def _mirror(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while octets := connection.recv(64):
            connection.sendall(octets)


def _answer(server: socket.socket, port: int) -> None:
    while True:
        octets, address = server.recvfrom(64)
        heard.append(port)
        with contextlib.suppress(OSError):
            server.sendto(octets, address)


@contextlib.contextmanager
def _as_user(uid: int) -> Iterator[None]:
    """A socket belongs to who made it."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


ORDERS: dict[str, Callable[..., Any]] = {
    order.__name__: order for order in (serve, reach, ask, tell, hears, hold, echo, flood)
}

if __name__ == "__main__":
    main()
