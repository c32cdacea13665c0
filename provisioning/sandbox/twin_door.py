"""A provider's twin in a running sandbox, as other commands reach it: its control door, and Stripe's API with the key.

Must never be pointed at anything but the twin on 127.0.0.1.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

SECONDS_MAX: Final = 10


class TwinDoor:
    """Blocking, for the command line and for whoever starts the shop."""

    def __init__(self, *, base: str, folder: Path) -> None:
        self._base = base
        self._control = (folder / "control-token").read_text().strip()
        self._key = (folder / "api-key").read_text().strip()

    def charges(self) -> list[Any]:
        """What was really charged."""
        charges: list[Any] = self.control("GET", "charges")["charges"]
        return charges

    def control(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask the control door; `twin_control.py` and its users say what it has."""
        octets = None if body is None else json.dumps(body).encode()
        return self._ask(method, f"/_twin/{path}", octets, self._control, "application/json")

    def api(self, method: str, path: str, **form: str) -> dict[str, Any]:
        """Ask the API as the shop does."""
        octets = urllib.parse.urlencode(form).encode() if method == "POST" else None
        return self._ask(method, f"/v1/{path}", octets, self._key, "application/x-www-form-urlencoded")

    def readers(self) -> list[str]:
        """The readers' names, oldest first."""
        return [reader["id"] for reader in reversed(self.control("GET", "readers")["readers"])]

    def _ask(self, method: str, path: str, body: bytes | None, bearer: str, media_type: str) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  # the twin of this sandbox, on 127.0.0.1
            f"{self._base}{path}",
            method=method,
            data=body,
            headers={"Authorization": f"Bearer {bearer}", "Content-Type": media_type},
        )
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as response:  # noqa: S310  # the twin, on 127.0.0.1
            answer: dict[str, Any] = json.load(response)
        return answer
