"""`tillstone retire`: the end of a box. Its last words are signed, then its secrets are destroyed, and that is proven.

Owns the order. Must never destroy before the last words are durable, and never leave a box that could start.

    entry         the log says that it is retired; the last checkpoint stands over it
    certificate   `retirement.cbor`: that, signed by keys which are about to die
    mark          from here on every start goes no further (`appliance/device/retirement.py`)
    zeroise       token objects, what opens the PIN in the TPM, files of secrets: read back (`adapters/zeroise.py`)
    token         initialised again, while its officer's PIN is still known
    proof         `retirement.json`: what was destroyed; nobody is left who could sign it

Run again after a crash it does what is left.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from appliance.adapters.tpm_sealer import TpmSealer
from appliance.adapters.zeroise import Zeroised, zeroise
from appliance.config.schema import Settings
from appliance.crypto import cbor
from appliance.device.life import OPERATOR, read_standing
from appliance.device.retirement import mark_retired, retired_for
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.device_state import Cause, DeviceState
from appliance.model.errors import TillstoneError
from appliance.runtime.clock import SystemClock
from appliance.wire.device_entries import DEVICE_STATE, DeviceStateEntry
from appliance.wiring.retiring import files_to_wipe
from appliance.wiring.trust import Trust, open_link, open_sealer
from drivers.hsm.library import load as load_library
from provisioning.box import HSM_LABEL, Box
from provisioning.ceremony.first_checkpoint import checkpoint, opened
from provisioning.ceremony.pins import Pins
from provisioning.ceremony.record import Done
from provisioning.ceremony.transcript import RETIREMENT, sign_steps
from provisioning.terminal.durable import write_durably
from provisioning.token import TokenFailed, TokenPlan, erase_token

CERTIFICATE: Final = "retirement.cbor"
PROOF: Final = "retirement.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The end.

    Attributes:
        certificate: the file; None: the log could not be opened, and the box died without last words.
        token: how it was initialised again, or why not.
    """

    certificate: Path | None
    zeroised: Zeroised
    token: str

    @property
    def is_proven(self) -> bool:
        return self.zeroised.is_proven


async def say_last_words(box: Box, settings: Settings, reason: str) -> None:
    """The entry, the checkpoint over it and the certificate; nothing is destroyed.

    Raises:
        Unavailable, Corrupt: TPM or token are not there or not this box's.
    """
    began_ms = time.time_ns() // 1_000_000
    async with opened(settings) as (trust, ledger):
        await _append_once(ledger, reason)
        note = (await checkpoint(trust, ledger)).decode()
        step = Done(
            name="retired",
            began_ms=began_ms,
            ended_ms=time.time_ns() // 1_000_000,
            facts={
                "serial": box.shop.serial,
                "reason": reason,
                "checkpoint": note,
                "classical": trust.signers.classical.key_id.hex(),
                "post_quantum": trust.signers.post_quantum.key_id.hex(),
            },
        )
        write_durably(box.folder / CERTIFICATE, await _signed(trust, step))


async def destroy(box: Box, settings: Settings, reason: str) -> Retired:
    """Mark the box, destroy its secrets and read back; from the mark on there is no way back."""
    if retired_for(settings.storage.path) is None:
        mark_retired(settings.storage.path, reason)
    load_library(str(settings.hsm.module_path)).reinitialise()
    sealer = _sealer(settings)
    pins = await _pins(sealer)
    so_pin = None if pins is None else _officers_pin(box, pins)  # before the file of a sandbox is wiped
    link = None if sealer is None or pins is None else await open_link(settings, sealer, SystemClock())
    try:
        zeroised = await zeroise(link=link, sealer=sealer, files=[*files_to_wipe(settings), *_files_beside(box)])
    finally:
        for device in (link, sealer):
            if device is not None:
                await device.close()
    path = box.folder / CERTIFICATE
    retired = Retired(
        certificate=path if path.exists() else None, zeroised=zeroised, token=_erased_token(box, settings, so_pin)
    )
    write_durably(box.folder / PROOF, encode_proof(retired))
    return retired


def encode_proof(retired: Retired) -> bytes:
    """The list of what was destroyed and read back; it is not signed, for its keys are gone."""
    zeroised = retired.zeroised
    said = {
        "certificate_sha256": None
        if retired.certificate is None
        else hashlib.sha256(retired.certificate.read_bytes()).hexdigest(),
        "proven": retired.is_proven,
        "token_objects": zeroised.objects,
        "token": retired.token,
        "tpm": zeroised.tpm,
        "files": [str(file) for file in zeroised.files],
        "failures": list(zeroised.failures),
    }
    return msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"


async def _append_once(ledger: Ledger, reason: str) -> None:
    standing = await ledger.read(read_standing)
    if standing.state is DeviceState.RETIRED:
        return
    body = DeviceStateEntry(cause=Cause.RETIRE, state=DeviceState.RETIRED, before=standing.state, reason=reason)
    draft = Draft(
        kind=DEVICE_STATE,
        actor=OPERATOR,
        time_ms=SystemClock().now_ms(),
        body=cbor.encode(msgspec.to_builtins(body)),
    )
    await ledger.append([draft], purpose=Purpose.OUTCOME)


async def _signed(trust: Trust, step: Done) -> bytes:
    return await sign_steps(
        RETIREMENT,
        [msgspec.to_builtins(step)],
        signers=trust.signers,
        log_id=trust.genesis.log_id,
        origin=trust.statement.origin,
    )


def _sealer(settings: Settings) -> TpmSealer | None:
    try:
        return open_sealer(settings)
    except (OSError, ValueError):
        return None  # the bundle is gone: nothing names what the TPM should forget


async def _pins(sealer: TpmSealer | None) -> Pins | None:
    """What the TPM still gives; None once it has forgotten, and with it every way into the token."""
    if sealer is None:
        return None
    try:
        return Pins(user=(await sealer.unseal()).decode())
    except TillstoneError:
        return None


def _officers_pin(box: Box, pins: Pins) -> str:
    """A ceremony derives it; a sandbox has a file."""
    try:
        return (box.token / "so-pin").read_text().strip()
    except FileNotFoundError:
        return pins.officer


def _erased_token(box: Box, settings: Settings, so_pin: str | None) -> str:
    if so_pin is None:
        return "not initialised again: nobody has its PINs any more"
    plan = TokenPlan(module_path=str(settings.hsm.module_path), label=HSM_LABEL, so_pin=so_pin, user_pin="")
    try:
        erase_token(plan, environment=box.environment)
    except TokenFailed as failure:
        return f"not initialised again: {failure}"
    return "initialised again: empty"


def _files_beside(box: Box) -> Iterator[Path]:
    """Secrets that no setting names: the authority's key, what came with the site, what wraps the box's own key."""
    yield box.folder / "tls" / "authority-key.pem"
    yield box.folder / "next-keys.json"
    yield box.token / "so-pin"
    files = box.folder / "files"
    if files.is_dir():
        yield from sorted(files.iterdir())
