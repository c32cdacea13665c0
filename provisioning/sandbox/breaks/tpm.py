"""The TPM dies: swtpm is killed, the shop goes on, a restart of the box must wait for it."""

from __future__ import annotations

from typing import Final

from provisioning.sandbox.breaks.scene import Scene

NOTICE_S_MAX: Final = 30.0
HEAL_S_MAX: Final = 60.0


def play(scene: Scene) -> None:
    """Sales need no TPM; its absence is seen and named; it comes back."""
    scene.act("The TPM dies: its process is killed")
    scene.control.kill("tpm")
    try:
        scene.promise(
            "sales go on: only a start needs the TPM, to open the HSM's PIN", scene.sell().state == "approved"
        )
        scene.wait("the shop notices", lambda: not scene.is_well(), seconds_max=NOTICE_S_MAX)
        scene.status()
    finally:
        scene.control.start("tpm")
    scene.act("The TPM is back; its counters and keys survived")
    scene.wait("the shop says that all is well", scene.is_well, seconds_max=HEAL_S_MAX)
    scene.status()
    scene.act("The box is restarted: only this TPM, in this state, gives the HSM's PIN back")
    scene.control.kill("appliance")
    scene.control.start("appliance")
    scene.promise("it started and sells", scene.sell().has_receipt)
