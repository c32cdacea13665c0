"""A measured machine without hardware: its attestation, its release, its owner. Any part may be changed into a lie."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final

from appliance.crypto.owner import OwnerKey
from appliance.evidence.release import ReleaseStatement
from appliance.ledger.attestation import AttestationStatement
from appliance.ledger.genesis import LogId
from appliance.ledger.trust import Trust, encode_trust, load_trust
from appliance.wire.attestation import Attestation, PcrValue
from provisioning.attest.check import Demand, quoted_nonce
from provisioning.owner.statements import sign
from tests.fakes.clock import START_MS
from tests.fakes.measured import event, extended, firmware_log, userspace_log
from tests.fakes.sealer import SoftwareAttestationKey
from tests.unit.ledger.shop import genesis, owner

NONCE: Final = bytes(range(32))
TLS: Final = hashlib.sha256(b"certificate of the door").digest()
ENDORSEMENT: Final = b"endorsement certificate, DER"
IMAGE: Final = "tillstone 0.1.0 release"
ROOT_HASH: Final = hashlib.sha256(b"root").digest()
CODE, LOADER, OTHER_LOADER, POLICY = b"firmware code", b"boot loader", b"another loader", b"secure boot keys"
KERNEL, PHASES = b"kernel", (b"enter-initrd", b"ready")
VALUES: Final = {0: extended(CODE), 4: extended(LOADER), 7: extended(POLICY), 11: extended(KERNEL, *PHASES)}
FIRMWARE_LOG: Final = firmware_log(event(0, CODE), event(7, POLICY), event(4, LOADER), event(11, KERNEL))
USERSPACE_LOG: Final = userspace_log(*((11, phase) for phase in PHASES), (15, b"machine id"))
KEY: Final = SoftwareAttestationKey()
RELEASE: Final = ReleaseStatement(
    model="test machine",
    image=IMAGE,
    root_hash=ROOT_HASH,
    values={pcr: (VALUES[pcr],) for pcr in (0, 7, 11)},
    events={4: (hashlib.sha256(LOADER).digest(), hashlib.sha256(b"of another firmware").digest())},
    firmware=(7,),
    created_ms=START_MS,
)


@cache
def trust() -> Trust:
    return load_trust(encode_trust(owner().public, [genesis()]))


@cache
def certificate(
    key: bytes = KEY.public,
    *,
    log_id: LogId | None = None,
    by: OwnerKey | None = None,
    endorsement: bytes = ENDORSEMENT,
) -> bytes:
    """The owner's word for `key`, as the box keeps it."""
    statement = AttestationStatement(
        log_id=genesis().log_id if log_id is None else log_id,
        key=key,
        endorsement_certificate=endorsement,
        maker=None,
        created_ms=START_MS,
    )
    return sign(owner() if by is None else by, statement).file


def attestation(
    *,
    key: SoftwareAttestationKey = KEY,
    values: dict[int, bytes] = VALUES,
    quoted: dict[str, Any] | None = None,
    **members: Any,
) -> Attestation:
    """What the machine says; `quoted` are fields of the quote to lie about, `members` those of the answer.

    The quote is made for the members as they are then: only what is changed afterwards is not bound.
    """
    said = Attestation(
        **{
            "log": genesis().log_id,
            "tls": TLS,
            "pcrs": tuple(PcrValue(pcr=pcr, value=value) for pcr, value in values.items()),
            "image": IMAGE,
            "nonce": NONCE,
            "quote": b"",
            "origin": genesis().read().origin,
            "version": "0.1.0",
            "event_log": FIRMWARE_LOG,
            "signature": b"",
            "certificate": certificate(),
            "userspace_log": USERSPACE_LOG,
            "attestation_key": key.public,
            "endorsement_certificate": ENDORSEMENT,
            **members,
        }
    )
    attest = key.attest(**{"nonce": quoted_nonce(said), "pcr_values": values, "firmware": 7, **(quoted or {})})
    return changed(said, quote=attest, signature=key.sign(attest))


def changed(said: Attestation, **members: Any) -> Attestation:
    """Another answer than the one that was quoted."""
    return Attestation(**{**{name: getattr(said, name) for name in said.__struct_fields__}, **members})


def demand(**members: Any) -> Demand:
    """Who pins the owner, asked with `NONCE`, looked at the door, and wants `RELEASE`."""
    return Demand(**{"trust": trust(), "nonce": NONCE, "tls_sha256": TLS, "releases": (RELEASE,), **members})
