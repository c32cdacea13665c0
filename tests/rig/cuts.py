"""Power cuts under load: machine and TPM are killed, start again, and must know everything that a till was told.

What the machine did not flush is QEMU's to lose; what it flushed is on the disk. A cut while the box starts is a cut.
"""

from __future__ import annotations

import random
import shutil
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tpm2_pytss import TPM2_CAP, TPM2_PT

from drivers.tpm.context import TpmContext
from provisioning.sandbox.children import kill_child
from provisioning.swtpm import start_swtpm
from tests.crash.invariants import Standing, check_money
from tests.rig.audit import Auditor, check
from tests.rig.box import START_S_MAX, Box, BoxFailed
from tests.rig.tills import SellingTills
from tests.rig.world import World

WHILE_STARTING: Final = 0.2
"""Of all cuts, these come before the box sells."""
LIFE_S: Final = 6.0
"""At most, from the first sale of a start to its cut."""
_FINISH_S_MAX: Final = 600.0
_LOOK_S: Final = 0.1


@dataclass(kw_only=True)
class Cuts:
    """What a campaign came to.

    Attributes:
        seconds: all of it, with the starts and looks between cuts.
        first_sale_s: from power-on, of each start that was let live.
        while_starting: how many of `count` came before the box sold.
    """

    count: int = 0
    seconds: float = 0.0
    first_sale_s: list[float] = field(default_factory=list)
    while_starting: int = 0
    lockout_max: int = 0
    told: int = 0
    entries: int = 0

    @property
    def each_s(self) -> float:
        """How long a cut takes with the start after it, on average."""
        return self.seconds / self.count if self.count else 0.0


class Campaign:
    """One box, its selling tills, and somebody at the switch."""

    def __init__(self, box: Box, tills: SellingTills, auditor: Auditor, randomness: random.Random) -> None:
        self._box = box
        self._tills = tills
        self._auditor = auditor
        self._random = randomness
        self.found = Cuts()

    def run(self, count: int) -> None:
        """Cut `count` times; the box is up and selling before and afterwards. Raises BoxFailed, AssertionError."""
        began = time.monotonic()
        while self.found.count < count:
            time.sleep(self._random.uniform(0, LIFE_S))
            self._cut()
            while self.found.count < count and self._random.random() < WHILE_STARTING:
                self._cut_while_starting()
            self._start_and_check()
            self.found.seconds = time.monotonic() - began

    def finish(self, world: World) -> dict[str, Standing]:
        """Let the tills end, then compare log, tills and provider. Raises BoxFailed, AssertionError."""
        heard = self._tills.finish(_FINISH_S_MAX)
        entries = self._auditor.read_log()
        payments = check(entries, heard.told, heard.refused)
        check_money(payments, world.charges())
        self.found.told, self.found.entries = len(heard.told), len(entries)
        return payments

    def _cut_while_starting(self) -> None:
        self._box.power_on()
        typical = self.found.first_sale_s[-1] if self.found.first_sale_s else 60.0
        time.sleep(self._random.uniform(0, typical))
        self._cut()
        self.found.while_starting += 1

    def _cut(self) -> None:
        self._box.cut_power()
        self.found.count += 1
        self.found.lockout_max = max(self.found.lockout_max, lockout_counter(self._box.folder))
        if self.found.lockout_max:
            raise BoxFailed(f"the TPM counts {self.found.lockout_max} failed tries towards its lockout")

    def _start_and_check(self) -> None:
        told = len(self._tills.heard().told)
        self._box.power_on()
        self._tills.wait_for_more(told, START_S_MAX)
        self.found.first_sale_s.append(self._box.up_s)
        # Taken before the log is read: what came since is in the next look.
        heard = self._tills.heard()
        told_now, refused = list(heard.told), set(heard.refused)
        check(self._auditor.read_log(), told_now, refused)


def lockout_counter(machine: Path) -> int:
    """Failed tries that the TPM of a machine that is off will count when it starts (TPM2_PT_LOCKOUT_COUNTER)."""
    copy = machine / "tpm-copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(machine / "tpm", copy, ignore=shutil.ignore_patterns("*.log", ".lock"))
    tpm = start_swtpm(copy)
    try:
        with closing(TpmContext(tpm.tcti)) as context, context.commands() as commands:
            _, capability = commands.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM2_PT.LOCKOUT_COUNTER, 1)
            (counter,) = [each.value for each in capability.data.tpmProperties]
            return int(counter)
    finally:
        kill_child(tpm.process)
        shutil.rmtree(copy)
