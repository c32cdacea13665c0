"""A zone in which it is noon: no shop day ends by itself while a test with a real clock runs. Holds no test."""

from __future__ import annotations

import datetime


def zone_at_noon() -> str:
    """An IANA name; the signs of `Etc/GMT` are those of POSIX, west is positive."""
    return f"Etc/GMT{datetime.datetime.now(datetime.UTC).hour - 12:+d}"
