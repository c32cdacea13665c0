"""The internet is gone in the middle of a card sale: charged there, answer lost here."""

from __future__ import annotations

import json
import urllib.request
from typing import Any, Final

from provisioning.commands.outcome import CannotDo
from provisioning.sandbox.breaks.scene import Scene

RESOLVE_S_MAX: Final = 240.0
_REQUESTS: Final = 1_000_000
_AMOUNT_MINOR: Final = 4321


def play(scene: Scene) -> None:
    """A lost answer is being checked, cash sells, and in the end there is exactly one charge."""
    twin = _Twin(scene)
    before = len(twin.charges())
    scene.act("The line to Stripe breaks: the charge gets through, its answer does not, and nothing after it")
    twin.fault(fault="drop_reply", path="/v1/payment_intents", method="POST", times=1)
    twin.fault(fault="drop_request", path="/v1/", times=_REQUESTS)
    try:
        sold = scene.sell("card", amount_minor=_AMOUNT_MINOR, seconds_max=12.0)
        scene.promise("being checked: neither failed nor sold", sold.state == "being_checked")
        scene.status()
        scene.promise("cash sells as if nothing had happened", scene.sell().state == "approved")
    finally:
        twin.clear()
    scene.act("The line is back; the box asks Stripe what became of it, and never charges again")

    def is_resolved() -> bool:
        answer = scene.ask(sold.key)
        return answer is not None and answer.state == "approved"

    scene.wait("the card sale is approved", is_resolved, seconds_max=RESOLVE_S_MAX)
    made = len(twin.charges()) - before
    scene.promise(f"Stripe's own books show {'one charge' if made == 1 else f'{made} charges'} for it", made == 1)


class _Twin:
    """The twin's control door."""

    def __init__(self, scene: Scene) -> None:
        run = scene.folder.read_run()
        if run is None:
            raise CannotDo("the sandbox has just ended", "tillstone sandbox")
        self._base = run.stripe_url
        self._token = (scene.folder.stripe / "control-token").read_text().strip()

    def charges(self) -> list[Any]:
        """What was really charged."""
        charges: list[Any] = self._ask("GET", "charges")["charges"]
        return charges

    def fault(self, **fault: str | int) -> None:
        self._ask("POST", "faults", fault)

    def clear(self) -> None:
        self._ask("DELETE", "faults")

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  # the twin of this sandbox, on 127.0.0.1
            f"{self._base}/_twin/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  # the twin, on 127.0.0.1
            answer: dict[str, Any] = json.load(response)
        return answer
