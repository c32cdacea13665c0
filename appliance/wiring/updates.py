"""Builds what an update needs: the image that runs, the spool, the TPM's counters and its approvals, the test sale."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from appliance.adapters.spool import SpoolFolder
from appliance.api.local.update import UpdateRoutes
from appliance.config.schema import Settings
from appliance.device.admission import BoxAdmission
from appliance.device.health import Check, Finding, Level
from appliance.device.life import DeviceLife
from appliance.device.self_test_sale import sell_to_itself
from appliance.device.update import UpdateParty, Updates
from appliance.device.update_log import KnownUpdate
from appliance.evidence.update import PcrPolicy
from appliance.ledger.ledger import Ledger
from appliance.ledger.recover import write_durably
from appliance.ledger.trust import load_trust
from appliance.model.device_state import Act
from appliance.model.invariants import ensure
from appliance.model.update_state import UpdateState
from appliance.ports.clock import Clock
from appliance.ports.platform import RunningImage
from appliance.runtime.log import Log
from appliance.runtime.supervise import Restart, Supervisor
from appliance.wiring.trust import Trust
from drivers.tpm.bundle import POLICIES_MAX, TpmBundle, decode_bundle, encode_bundle
from drivers.tpm.policy import SignedPolicy


class UpdateParts:
    """Updates of a box that runs from an image and has a TPM; of any other nothing."""

    def __init__(
        self,
        *,
        settings: Settings,
        trust: Trust,
        ledger: Ledger,
        life: DeviceLife,
        admission: BoxAdmission,
        clock: Clock,
        log: Log,
    ) -> None:
        self._updates: Updates | None = None
        image = running_image(settings.update.image_path)
        if image is None or trust.sealer is None or settings.tpm is None:
            return
        party = UpdateParty(
            image=image,
            owner=load_trust(settings.storage.trust_path.read_bytes()).owner,
            counters=trust.sealer,
            approve=partial(_approve, settings.tpm.bundle_path),
            require=partial(life.require, Act.UPDATE),
            sell=partial(
                sell_to_itself,
                ledger=ledger,
                admission=admission,
                clock=clock,
                currency=settings.shop.currency,
                version=image.version,
            ),
            room_bytes_min=settings.storage.room_bytes_min,
        )
        spool = SpoolFolder(settings.update.spool_path, settings.update.report_path)
        self._updates = Updates(party=party, spool=spool, ledger=ledger, clock=clock, log=log)

    async def settle(self) -> None:
        """Prove an image that is on trial; raises when it cannot sell."""
        if self._updates is not None:
            await self._updates.settle()

    def begin(self, supervisor: Supervisor) -> None:
        """Listen to the installer."""
        if self._updates is not None:
            supervisor.start("updates", self._updates.run, restart=Restart.ON_CRASH)

    def routes(self) -> UpdateRoutes:
        """For the local door."""
        return UpdateRoutes(self._updates)

    @property
    def checks(self) -> Sequence[Check]:
        """What health says."""
        updates = self._updates
        return () if updates is None else (lambda: update_finding(updates.known),)


def running_image(os_release: Path) -> RunningImage | None:
    """The image of ours that runs, from os-release(5); None on any other system."""
    try:
        facts = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', os_release.read_text(), re.MULTILINE))
    except OSError:
        return None
    if facts.get("IMAGE_ID") != "tillstone" or "TILLSTONE_MODEL" not in facts or "IMAGE_VERSION" not in facts:
        return None
    return RunningImage(model=facts["TILLSTONE_MODEL"], version=facts["IMAGE_VERSION"])


def with_approvals(bundle: TpmBundle, approvals: Sequence[PcrPolicy], floor: int) -> TpmBundle:
    """The bundle with these tried first; those of the running image stay behind them.

    An update must have a higher number, so the running image's are the lowest that still open anything; the others are
    of updates that never came to anything, and would in time push the running image's out.
    """
    live = [policy for policy in bundle.policies if policy.version >= floor]
    lowest = min([policy.version for policy in live], default=floor)
    kept = [policy for policy in live if policy.version == lowest]
    new = [SignedPolicy(**dataclasses.asdict(approval)) for approval in approvals]
    ensure(len(new) + len(kept) <= POLICIES_MAX, "the bundle keeps the policies of two images")
    return msgspec.structs.replace(bundle, policies=(*new, *kept))


def update_finding(known: KnownUpdate) -> Finding:
    """In plain words."""
    level, next_step = Level.OK, ""
    sentence = {
        UpdateState.NONE: "The box was never updated.",
        UpdateState.STAGED: f"The update to {known.version} is being installed.",
        UpdateState.TRYING: f"{known.version} runs on trial.",
        UpdateState.CONFIRMED: f"The update to {known.version} is confirmed.",
        UpdateState.FELL_BACK: f"The update to {known.version} did not come up; the version before goes on.",
    }[known.state]
    if known.state is UpdateState.FELL_BACK:
        level, next_step = Level.COPING, "Send the words of tillstone update status to whoever made the update."
    return Finding(check="update", level=level, sentence=sentence, next_step=next_step)


def _approve(path: Path, approvals: Sequence[PcrPolicy], floor: int) -> None:
    bundle = decode_bundle(path.read_bytes())
    write_durably(path, encode_bundle(with_approvals(bundle, approvals, floor)))
