"""The rig's story: a box is made, configured, sells, is looked at, loses its power, is tampered with. Owns the order.

The short form is the first part with a handful of cuts; the full form has all of it.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from image.build import open_tools
from image.keys import ImageKeys
from image.machine import prepare
from image.sizes import DISK_BYTES_MAX, MEGABYTE, UKI_BYTES_MAX
from image.tools import Tools
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import TerminalHome
from tests.rig import tamper
from tests.rig.audit import Auditor, fetch
from tests.rig.box import START_S_MAX, Box, BoxFailed
from tests.rig.cuts import Campaign
from tests.rig.lan import TILLS, Lan
from tests.rig.report import Report, StageFailed
from tests.rig.stick import become_owners
from tests.rig.tills import pair_till, sell_once, selling, verify_receipt
from tests.rig.world import World

FIRST_SALE_S_MAX: Final = 60.0
RESTART_S_MAX: Final = 3.0
RESIDENT_BYTES_MAX: Final = 250 * MEGABYTE
CUTS_ASKED: Final = 500
Form = Literal["short", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What a run is made of. `image` is the folder of `make image`; `out` gets the report, logs and the machine."""

    form: Form
    cuts: int
    seed: int
    image: Path
    out: Path
    keys: ImageKeys
    report: Report
    lan: Lan
    world: World

    @property
    def profile(self) -> Path:
        """The image that the box runs."""
        return self.image / "developer"

    def tools(self) -> Tools:
        tools = open_tools(self.image, self.keys.folder)
        return replace(tools, shared=(*tools.shared, self.out))

    def box(self, name: str = "machine") -> Box:
        logs = self.out / "logs" / name
        logs.mkdir(parents=True, exist_ok=True)
        return Box(self.out / name, self.lan, logs)


def run(rig: Rig, box: Box) -> None:
    """Everything of the form; the box is up afterwards. A stage that failed ends the story, but for the last part's."""
    auditor = _make(rig, box)
    _sell(rig, box)
    _look(rig, box)
    _cut(rig, box, auditor)
    if rig.form == "full":
        for attempt in (_changed_root, _changed_kernel, _other_tpm, _release):
            with suppress(StageFailed):  # it is in the report, and the others stand on their own
                attempt(rig)


def _make(rig: Rig, box: Box) -> Auditor:
    report = rig.report
    sizes = json.loads((rig.profile / "manifest.json").read_text())["sizes"]
    report.number("image", sizes["disk_bytes"] / MEGABYTE, "MB", DISK_BYTES_MAX / MEGABYTE)
    report.number("kernel image", sizes["uki_bytes"] / MEGABYTE, "MB", UKI_BYTES_MAX / MEGABYTE)
    with report.stage("first start: disk parted and encrypted, bench box made") as found:
        prepare(box.folder, image=rig.profile, tools=rig.tools(), keys=rig.keys)
        box.power_on()
        box.wait_for(r"bench: invitation \S+&cert=[0-9a-f]{64}", START_S_MAX)
        found.append(f"ready {box.up_s:.0f} s after power-on")
    with report.stage("provisioned: cards from outside, two tills paired over the LAN, an auditor admitted") as found:
        box.configure(rig.world.api_key)
        for name in TILLS:
            pair_till(TerminalHome(folder=rig.out / name), name, box.invite(name))
        auditor = Auditor(box.admit_auditor(), _trust(rig).read_bytes())
        found.append(", ".join(TILLS))
    return auditor


def _sell(rig: Rig, box: Box) -> None:
    with rig.report.stage("sold for cash and by card from both tills; receipts verified outside") as found:
        receipts = [
            sell_once(place, rig.out / name, tender)
            for name, place in rig.lan.tills.items()
            for tender in ("cash", "card")
        ]
        charged = len(rig.world.charges())
        if charged != len(TILLS):
            raise BoxFailed(f"{charged} cards were charged outside, {len(TILLS)} were sold by")
        for receipt in receipts:
            verify_receipt(receipt, _trust(rig))
        found.append(f"{len(receipts)} receipts, all genuine; {charged} charges outside")


def _look(rig: Rig, box: Box) -> None:
    report = rig.report
    with report.stage("looked at: failed units, kernel taint") as found:
        failed, taint = box.failed_units(), box.taint()
        if failed or taint:
            raise BoxFailed(f"failed units {failed}, kernel taint {taint}")
        found.append(box.start_parts())
    report.number("memory of the process, locked", box.resident_bytes() / MEGABYTE, "MB", RESIDENT_BYTES_MAX / MEGABYTE)
    with report.stage("the process restarted"):
        report.number("restart of the process to ready", box.restart_s(), "s", RESTART_S_MAX, of_machine=True)


def _cut(rig: Rig, box: Box, auditor: Auditor) -> None:
    report = rig.report
    with selling(rig.lan, rig.out, rig.seed) as tills:
        campaign = Campaign(box, tills, auditor, random.Random(rig.seed))
        with report.stage(f"{rig.cuts} power cuts under load, seed {rig.seed}") as found:
            tills.wait_for_more(0, START_S_MAX)
            campaign.run(rig.cuts)
            cuts = campaign.found
            found.append(f"{cuts.while_starting} of them while it started; TPM lockout counter {cuts.lockout_max}")
        with report.stage("nothing lost, nothing doubled: log, tables, tills and provider agree") as found:
            payments = campaign.finish(rig.world)
            found.append(
                f"{cuts.told} final answers, {len(payments)} payments, {cuts.entries} entries, 0 lost, 0 doubled"
            )
    if cuts.first_sale_s:
        value = statistics.median(cuts.first_sale_s)
        report.number("power-on to the first sale, median", value, "s", FIRST_SALE_S_MAX, of_machine=True)
        report.number("a cut and the start after it", cuts.each_s, "s")
        report.number(f"{CUTS_ASKED} cuts would take", cuts.each_s * CUTS_ASKED / 3600, "hours")
    with report.stage("the serial consoles of all starts") as found:
        box.cut_power()
        if box.suspicions:
            first = box.suspicions[0]
            raise BoxFailed(
                f"{len(box.suspicions)} lines, the first at start {first.start}, {first.at_s:.1f} s: {first.text}"
            )
        found.append(f"{box.starts} starts, no error, no trace, no failed unit")


def _changed_root(rig: Rig) -> None:
    with rig.report.stage("a root with flipped bits does not start") as found, _copy(rig, "changed-root") as box:
        count = tamper.flip_root(box.folder)
        found.append(f"{count} bits; {tamper.must_not_start(box, r'Kernel panic.*dm-verity.*')}")


def _changed_kernel(rig: Rig) -> None:
    name = "a kernel image with another command line does not start"
    with rig.report.stage(name) as found, _copy(rig, "changed-kernel") as box:
        tamper.weaken_command_line(box.folder)
        found.append(tamper.must_not_start(box, r"Error loading \S+\.efi: Access denied"))


def _other_tpm(rig: Rig) -> None:
    with rig.report.stage("a disk beside another TPM does not open") as found, _copy(rig, "other-tpm") as box:
        tamper.replace_tpm(box.folder)
        found.append(tamper.must_not_start(box, r"Failed to start systemd-cryptsetup@state\S+"))


def _release(rig: Rig) -> None:
    box, tools = rig.box("release"), rig.tools()
    with rig.report.stage("a release image that nobody provisioned waits, and gives nobody a prompt") as found:
        prepare(box.folder, image=rig.image, tools=tools, keys=rig.keys)
        found.append(tamper.must_wait(box))
    with rig.report.stage("by two visits with a stick it becomes its owner's box, and opens its doors") as found:
        found.append(become_owners(box, tools, rig.out))


@contextmanager
def _copy(rig: Rig, name: str) -> Iterator[Box]:
    box = rig.box(name)
    tamper.copy_machine(rig.out / "machine", box.folder)
    yield box


def _trust(rig: Rig) -> Path:
    """trust.json as the public door gives it, once it says what the tills learnt when they were paired."""
    file = rig.out / "trust.json"
    if not file.exists():
        shown = fetch("/trust.json")
        for name in TILLS:
            if (rig.out / name / "trust.json").read_bytes() != shown:
                raise BoxFailed(f"the public door shows another trust.json than {name} got with its pairing")
        write_durably(file, shown)
    return file
