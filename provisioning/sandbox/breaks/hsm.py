"""The HSM is pulled out: the token's store goes away and comes back."""

from __future__ import annotations

from typing import Final

from provisioning.sandbox.breaks.scene import Scene

HEAL_S_MAX: Final = 90.0


def play(scene: Scene) -> None:
    """Sell without a token; the receipt arrives when it is back."""
    store = scene.folder.box / "token" / "store"
    away = store.with_name("store.pulled-out")
    scene.act("First a sale with everything in place")
    scene.promise("sold, with a receipt", scene.sell().has_receipt)
    scene.act("The HSM is pulled out")
    store.rename(away)
    try:
        sold = scene.sell()
        if sold.state == "approved":
            scene.promise("recorded, and nobody got an unsigned receipt", not sold.has_receipt)
        else:
            scene.promise("refused: nothing was recorded and nobody paid", sold.state in ("not sold", "refused"))
        health = scene.status()
        scene.promise("the shop says that something is wrong", health is None or health["level"] != "ok")
    finally:
        away.rename(store)
    scene.act("The HSM is plugged in again")
    if sold.state == "approved":
        scene.wait("the receipt of that sale arrives", lambda: scene.has_receipt(sold.key), seconds_max=HEAL_S_MAX)
    scene.wait("the shop says that all is well", scene.is_well, seconds_max=HEAL_S_MAX)
    scene.status()
    scene.promise("the next sale has its receipt at once", scene.sell().has_receipt)
