"""Whether the owner's answer on the stick is his, is for this box, and has no fault; all of what is wrong, at once.

Owns the checks. Must never change the box, and never show what a secret says.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.config.load import Fault, SettingsInvalid
from appliance.crypto.owner import OwnerPublic, SignedStatement
from appliance.ledger.genesis import read_body
from appliance.ledger.trust import Trust, load_trust
from appliance.model.errors import Rejected
from provisioning.ceremony.stick import GENESIS, TRUST, SignedSite
from provisioning.site import plan, statement
from provisioning.site.plan import Site, read_site
from provisioning.site.request import BoxRequest
from provisioning.site.statement import SiteStatement


class SiteRefused(Rejected):
    """The answer cannot be used; `faults` lists everything that is wrong with it."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("site_refused", "; ".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSite:
    """An answer that may be installed.

    Attributes:
        files: what goes into `files/`, opened.
    """

    site: Site
    trust: Trust
    statement: SiteStatement
    files: dict[str, bytes]


def require_owner(signed: SignedSite, pinned: OwnerPublic | None) -> tuple[Trust, SiteStatement]:
    """The trust file and the statement, when the owner whom they name signed this.

    Args:
        pinned: the owner whom this box knows; None before its first answer.
    Raises:
        SiteRefused.
    """
    faults: list[Fault] = []
    trust, said = None, None
    try:
        trust = load_trust(signed.trust)
    except Rejected as refusal:
        faults.append(Fault(place=TRUST, reason=f"{refusal.detail} ({refusal.code})"))
    if trust is not None and pinned is not None and trust.owner != pinned:
        faults.append(
            Fault(place=TRUST, reason=f"names another owner than this box's, {pinned.fingerprint} (site_owner_foreign)")
        )
    if not signed.statement:
        faults.append(Fault(place=statement.NAME, reason="is missing: the owner has not signed this (site_unsigned)"))
    else:
        try:
            by_owner = SignedStatement.decode(signed.statement)
            if trust is not None:
                by_owner.verify(trust.owner, statement.KIND)
            said = statement.read_statement(by_owner.statement)
        except Rejected as refusal:
            faults.append(Fault(place=statement.NAME, reason=f"{refusal.detail} ({refusal.code})"))
    if faults or trust is None or said is None:
        raise SiteRefused(tuple(faults))
    return trust, said


def check_site(
    signed: SignedSite, request: BoxRequest, pinned: OwnerPublic | None, seed: Callable[[], bytes]
) -> CheckedSite:
    """Everything of the answer.

    Args:
        request: as this box would ask now.
        seed: gives that of the box's key; asked once the signature is right, so that no stranger has the token opened.
    Raises:
        SiteRefused: with every fault.
    """
    trust, said = require_owner(signed, pinned)
    faults = list(_binding_faults(signed, said, request))
    files: dict[str, bytes] = {}
    if not faults:
        try:
            files = said.open_files(seed())
        except Rejected as refusal:
            faults.append(Fault(place=statement.NAME, reason=f"{refusal.detail} ({refusal.code})"))
    site = None
    if not faults:
        site, found = _read_site(signed.site, files)
        faults += found
    if site is not None:
        faults += _genesis_faults(signed.genesis, trust, site.shop(request.serial).origin, request)
    if faults or site is None:
        raise SiteRefused(tuple(faults))
    return CheckedSite(site=site, trust=trust, statement=said, files=files)


def _binding_faults(signed: SignedSite, said: SiteStatement, request: BoxRequest) -> tuple[Fault, ...]:
    found = []
    if said.request_sha256 != hashlib.sha256(request.encode()).digest():
        found.append(
            Fault(
                place=statement.NAME,
                reason="answers another request: another box's, or of before its software changed (site_not_ours)",
            )
        )
    if said.site_sha256 != hashlib.sha256(signed.site).digest():
        found.append(Fault(place=plan.NAME, reason="is not the file that the owner signed (site_changed)"))
    return tuple(found)


def _read_site(content: bytes, files: dict[str, bytes]) -> tuple[Site | None, tuple[Fault, ...]]:
    # In memory, where the device has its temporary folder: secrets touch the disk only once they are installed.
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / plan.FILES
        folder.mkdir(mode=0o700)
        for name, secret in files.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(secret)
        toml = Path(place) / plan.NAME
        toml.write_bytes(content)
        try:
            return read_site(toml, files=folder), ()
        except SettingsInvalid as invalid:
            return None, tuple(
                Fault(place=f"{plan.NAME}: {fault.place}", reason=fault.reason) for fault in invalid.faults
            )


def _genesis_faults(genesis: bytes, trust: Trust, origin: str, request: BoxRequest) -> tuple[Fault, ...]:
    try:
        named = trust.logs.get(read_body(genesis).log_id)
    except Rejected as refusal:
        return (Fault(place=GENESIS, reason=f"{refusal.detail} ({refusal.code})"),)
    if named is None:
        return (Fault(place=TRUST, reason=f"does not name the log of {GENESIS}"),)
    wanted = (origin, request.keys, request.note_key)
    if (named.origin, named.keys, named.note_key) != wanted or named.previous is not None:
        return (Fault(place=GENESIS, reason=f"begins another log than {origin} under this box's keys"),)
    return ()
