"""The second visit: what the owner signed for this box is put into place, and the log begins.

Owns the steps and their order. Must never begin before the whole answer was checked (`site_check.py`); from the first
step on it works from its own copy, so the stick may be gone.

    site              the answer, kept
    policy            the PIN opens to what the owner approved, and to nothing else
    recovery          the image learns to whom it seals the state's recovery key, and makes it meanwhile
    files             secrets and public keys of `site.toml`, mode 0600
    genesis           the log's name and keys, and whom this box believes
    attestation       the owner's word for the attestation key, opened by the TPM that it is about
    certificates      the door's authority: the token's key, or files with a first certificate
    network           what systemd-networkd is told
    settings          what the process will read, under another name until the end
    first_checkpoint  the log begins, says that the box was provisioned, and is signed
    state_key         the sealed recovery key is there, for the stick
    transcript        all of this, signed by the log's keys
    open              the settings get their name: the process may start
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import os
import time
from typing import Any, Final

from appliance.config.load import load
from appliance.crypto.hpke import read_recipient
from appliance.crypto.owner import SignedStatement
from appliance.ledger.attestation import read_attestation_statement
from appliance.ledger.genesis import read_body
from appliance.ledger.trust import load_trust
from provisioning.attest.certify import open_certificate
from provisioning.box import ATTESTATION, Box, keep_box
from provisioning.ceremony import pins
from provisioning.ceremony.first_checkpoint import begin_log
from provisioning.ceremony.record import Facts
from provisioning.ceremony.site_check import CheckedSite, SiteRefused
from provisioning.ceremony.steps import Place, Step
from provisioning.ceremony.stick import GENESIS, TRUST, SignedSite
from provisioning.ceremony.transcript import NAME as TRANSCRIPT
from provisioning.ceremony.transcript import sign_transcript
from provisioning.certificate import AUTHORITY, DoorFiles, TokenDoor, issue
from provisioning.commands.outcome import CannotDo
from provisioning.settings_extra import flat
from provisioning.settings_file import Ports, door_files, write_settings
from provisioning.site import plan, statement
from provisioning.site.network import FILE as NETWORK_FILE
from provisioning.site.plan import Site, read_site
from provisioning.site.statement import SiteStatement, read_statement

KEPT: Final = "site"
PENDING: Final = "tillstone.toml.pending"
RECIPIENT: Final = "recovery.pub"
STATE_KEY: Final = "state-key.sealed"
STATE_KEY_S_MAX: Final = 180.0
_LOOK_AGAIN_S: Final = 0.2
PORTS: Final = Ports(pos=8443, public=9080)
_ROOM_BYTES_MIN: Final = 256 * 2**20


def keep_site(place: Place, signed: SignedSite, checked: CheckedSite) -> Facts:
    """The answer, as it came, beside the box."""
    for name, content in signed.files.items():
        place.write(f"{KEPT}/{name}", content)
    for name, content in checked.files.items():
        place.write(f"{plan.FILES}/{name}", content)
    return {
        "owner": checked.trust.owner.fingerprint,
        "request_sha256": checked.statement.request_sha256.hex(),
        "site_sha256": checked.statement.site_sha256.hex(),
        "statement_sha256": hashlib.sha256(signed.statement).hexdigest(),
        "files": [*sorted(checked.files)],
    }


def approve(place: Place) -> Facts:
    """Raises TpmPolicyRefused: the machine has started something else since the owner was asked."""
    policy = _statement(place).policy
    bundle = pins.seal_for(place.tcti, place.folder, policy)
    place.write(pins.POLICY, pins.encoded_policy(policy))
    place.write(pins.BUNDLE, pins.encoded(bundle))
    return {
        "policy_key_sha256": hashlib.sha256(policy.public_key).hexdigest(),
        "approved": policy.approved.hex(),
        "pcrs": list(policy.pcrs),
        "version": policy.version,
    }


def name_log(place: Place) -> Facts:
    """From here on the box has a name and an owner."""
    genesis, trust = (_kept(place, name) for name in (GENESIS, TRUST))
    place.write(GENESIS, genesis)
    place.write(TRUST, trust)
    box = Box(
        folder=place.folder,
        shop=_site(place).shop(place.fact("tpm", "serial")),
        module=place.module(),
        keys=place.token_keys(),
    )
    box.data.mkdir(mode=0o700, exist_ok=True)
    keep_box(box)
    return {"origin": box.shop.origin, "log": read_body(genesis).log_id.hex(), "recovery": _site(place).recovery}


def name_recipient(place: Place) -> Facts:
    """Where `tillstone-state-key.service` waits for it: that one is root, this ceremony is not."""
    recipient = (place.folder / _site(place).recovery).read_bytes()
    place.write(RECIPIENT, recipient)
    return {"recipient_sha256": read_recipient(recipient).key_id.hex()}


def await_state_key(place: Place) -> Facts:
    """Raises CannotDo: it does not come; the box does not open without it."""
    if place.state_key is None:
        return {"sealed_sha256": "no encrypted state"}
    ends_at = time.monotonic() + STATE_KEY_S_MAX
    while not place.state_key.exists():
        if time.monotonic() > ends_at:
            raise CannotDo("the state's recovery key was not made", "start the box again with the stick in it")
        time.sleep(_LOOK_AGAIN_S)
    sealed = place.state_key.read_bytes()
    place.write(STATE_KEY, sealed)
    return {"sealed_sha256": hashlib.sha256(sealed).hexdigest()}


def attest(place: Place) -> Facts:
    """The proof that attestation key and endorsement key lie in one TPM is that it opens."""
    log_id = read_body(_kept(place, GENESIS)).log_id
    opened = open_certificate(
        _statement(place).attestation,
        tcti=place.tcti,
        bundle=pins.read_bundle(place.folder),
        owner=load_trust(_kept(place, TRUST)).owner,
        log_id=log_id,
    )
    place.write(ATTESTATION, opened)
    maker = read_attestation_statement(SignedStatement.decode(opened).statement).maker
    return {
        "certificate_sha256": hashlib.sha256(opened).hexdigest(),
        "maker_sha256": "nobody followed it" if maker is None else maker.hex(),
    }


def certify(place: Place) -> Facts:
    """By the authority in the token, from which the box makes certificates itself; by files where it has none."""
    authority = place.box().keys.authority_public
    if authority is not None:
        return {"authority_key_sha256": hashlib.sha256(authority).hexdigest()}
    door = issue(place.folder / "tls", now=datetime.datetime.now(datetime.UTC), shop=place.box().shop.name)
    return {
        "authority_sha256": hashlib.sha256(door.authority.read_bytes()).hexdigest(),
        "certificate_sha256": hashlib.sha256(door.certificate.read_bytes()).hexdigest(),
    }


def connect(place: Place) -> Facts:
    """A file for systemd-networkd; the image puts it into place."""
    network = _site(place).network
    place.write(f"network/{NETWORK_FILE}", network.networkd())
    return {
        "address": network.address or "by DHCP",
        "dns": list(network.dns),
        "ntp": list(network.ntp),
    }


def settle(place: Place) -> Facts:
    """Written and read back by the process's own loader."""
    box, site, door = place.box(), _site(place), _door(place)
    path = write_settings(
        box,
        tcti=place.tcti,
        ports=PORTS,
        door=door,
        cards=None,
        room_bytes_min=_ROOM_BYTES_MIN,
        further=_sections(site, box, door),
        name=PENDING,
    )
    return {"settings_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def begin(place: Place) -> Facts:
    """The first signed head of the log, over its genesis and the entry that says who provisioned it."""
    os.environ.update(place.environment)
    site = hashlib.sha256(_kept(place, statement.NAME)).digest()
    note = asyncio.run(begin_log(load(place.folder / PENDING), site_sha256=site))
    place.write("first-checkpoint", note)
    return {"checkpoint": note.decode()}


def write_down(place: Place) -> Facts:
    """The record so far, signed; what comes after it is only that the settings get their name."""
    os.environ.update(place.environment)
    signed = asyncio.run(sign_transcript(load(place.folder / PENDING), place.record))
    place.write(TRANSCRIPT, signed)
    return {"transcript_sha256": hashlib.sha256(signed).hexdigest()}


def open_box(place: Place) -> Facts:
    """The process starts by this file."""
    pending = place.folder / PENDING
    if pending.exists():
        place.write("tillstone.toml", pending.read_bytes())
        pending.unlink()
    return {}


SECOND_VISIT: Final = (
    Step(name="policy", title="the PIN opens to what the owner approved", run=approve),
    Step(name="recovery", title="the state's recovery key has its owner", run=name_recipient),
    Step(name="genesis", title="the log has its name, the box its owner", run=name_log),
    Step(name="attestation", title="the attestation key has the owner's word", run=attest),
    Step(name="certificates", title="the door has its authority and certificate", run=certify),
    Step(name="network", title="the network is set", run=connect),
    Step(name="settings", title="the settings are written and the process accepts them", run=settle),
    Step(name="first_checkpoint", title="the log has begun and its first head is signed", run=begin),
    Step(name="state_key", title="the state's recovery key is sealed for its owner", run=await_state_key),
    Step(name="transcript", title="the transcript is signed by the log's keys", run=write_down),
    Step(name="open", title="the box may start", run=open_box),
)


def _door(place: Place) -> DoorFiles | TokenDoor:
    tls = place.folder / "tls"
    if place.box().keys.authority_public is not None:
        return TokenDoor(authority=tls / AUTHORITY)
    return DoorFiles(authority=tls / AUTHORITY, certificate=tls / "pos-certificate.pem", key=tls / "pos-key.pem")


def _sections(site: Site, box: Box, door: DoorFiles | TokenDoor) -> dict[str, dict[str, Any]]:
    """Those of `site.toml`, with what only the box knows."""
    said = {name: dict(values) for name, values in flat(site.sections, "")[1:]}
    said["shop"] = {**said["shop"], "serial": box.shop.serial}
    # Without `host` the door is for the shop's machines: the firewall says which.
    said["pos"] = {"port": PORTS.pos, **said.get("pos", {}), **door_files(door)}
    return said


def _site(place: Place) -> Site:
    return read_site(place.folder / KEPT / plan.NAME, files=place.folder / plan.FILES)


def _statement(place: Place) -> SiteStatement:
    return read_statement(SignedStatement.decode(_kept(place, statement.NAME)).statement)


def _kept(place: Place, name: str) -> bytes:
    return (place.folder / KEPT / name).read_bytes()


__all__ = ["SECOND_VISIT", "SiteRefused", "keep_site"]
