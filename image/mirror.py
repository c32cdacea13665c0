"""Where Debian packages come from: the machine's own apt configuration. Owns that question; names no host."""

from __future__ import annotations

import re
import subprocess

from image.definition import RELEASE


class MirrorUnknown(Exception):
    """The machine's apt knows no Debian mirror; the message says what to do."""


def sources() -> tuple[str, ...]:
    """Lines for apt: the release, its updates, and its security updates where the machine has a mirror of those."""
    listed = _run("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)|$(COMPONENT)", "Created-By: Packages")
    rows = {tuple(line.split("|")) for line in listed.splitlines()}
    main = sorted(uri for label, uri, component in rows if (label, component) == ("Debian", "main"))
    security = sorted(uri for label, uri, component in rows if (label, component) == ("Debian-Security", "main"))
    if not main:
        raise MirrorUnknown("apt knows no Debian mirror: run apt-get update, or add one to the machine's apt sources")
    lines = [f"deb {main[0]} {RELEASE} main", f"deb {main[0]} {RELEASE}-updates main"]
    return (*lines, *(f"deb {uri} {RELEASE}-security main" for uri in security[:1]))


def options() -> tuple[str, ...]:
    """apt options for a tree of its own: the machine's proxies, and no wish for fresh lists."""
    dumped = _run("apt-config", "dump", "--format", "%F %v%n", "Acquire")
    proxies = re.findall(r"^(Acquire::https?::Proxy(?:::\S+)?) (\S+)$", dumped, re.MULTILINE)
    # The lock says which versions: an old list from a mirror cannot bring older ones.
    return ('Acquire::Check-Valid-Until "false"', 'Acquire::Retries "3"', *(f'{name} "{url}"' for name, url in proxies))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
