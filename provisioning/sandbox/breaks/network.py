"""The internet is gone in the middle of a card sale: charged there, answer lost here."""

from __future__ import annotations

from typing import Final

from provisioning.commands.outcome import CannotDo
from provisioning.sandbox.breaks.scene import Scene
from provisioning.sandbox.twin_door import TwinDoor

RESOLVE_S_MAX: Final = 240.0
_REQUESTS: Final = 1_000_000
_AMOUNT_MINOR: Final = 4321


def play(scene: Scene) -> None:
    """A lost answer is being checked, cash sells, and in the end there is exactly one charge."""
    twin = _twin(scene)
    before = len(twin.charges())
    scene.act("The line to Stripe breaks: the charge gets through, its answer does not, and nothing after it")
    twin.control("POST", "faults", {"fault": "drop_reply", "path": "/v1/payment_intents", "method": "POST"})
    twin.control("POST", "faults", {"fault": "drop_request", "path": "/v1/", "times": _REQUESTS})
    try:
        sold = scene.sell("card", amount_minor=_AMOUNT_MINOR, seconds_max=12.0)
        scene.promise("being checked: neither failed nor sold", sold.state == "being_checked")
        scene.status()
        scene.promise("cash sells as if nothing had happened", scene.sell().state == "approved")
    finally:
        twin.control("DELETE", "faults")
    scene.act("The line is back; the box asks Stripe what became of it, and never charges again")

    def is_resolved() -> bool:
        answer = scene.ask(sold.key)
        return answer is not None and answer.state == "approved"

    scene.wait("the card sale is approved", is_resolved, seconds_max=RESOLVE_S_MAX)
    made = len(twin.charges()) - before
    scene.promise(f"Stripe's own books show {'one charge' if made == 1 else f'{made} charges'} for it", made == 1)


def _twin(scene: Scene) -> TwinDoor:
    run = scene.folder.read_run()
    if run is None:
        raise CannotDo("the sandbox has just ended", "tillstone sandbox")
    return TwinDoor(base=run.stripe_url, folder=scene.folder.stripe)
