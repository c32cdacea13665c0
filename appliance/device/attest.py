"""Attestation: what the TPM says about the machine, together with all that is needed to judge it.

Owns putting the answer together, and the entry of each day. Must never judge: the box is who nobody has to believe.

* The quote is bound to the asker's nonce, the log, the terminals' door and the version that the box claims.
* A log that cannot be read is said to be absent, with the reason; nothing is made up for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from appliance.crypto import cbor
from appliance.identity.authenticate import Authenticate
from appliance.identity.signed import SignedRequest
from appliance.ledger.attestation import qualifying_data
from appliance.ledger.draft import Draft
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Corrupt, Rejected, Unavailable
from appliance.ports.clock import Clock
from appliance.ports.sealer import Sealer
from appliance.wire.answers import AttestAnswer
from appliance.wire.attestation import ATTESTED, LOG_BYTES_MAX, Attestation, AttestedEntry, PcrValue
from appliance.wire.requests import AttestBody


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationKey:
    """The public side of the key that signs quotes.

    Attributes:
        public: TPMT_PUBLIC.
        endorsement_certificate: DER.
        certificate: the owner's statement for this log; None where the owner has not certified it yet.
    """

    public: bytes
    endorsement_certificate: bytes
    certificate: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogs:
    """Where the machine keeps what was measured; None where it has no such log.

    Attributes:
        absent: why there is no firmware log, in words.
    """

    firmware: Path | None
    userspace: Path | None
    absent: str = ""


class Attestor:
    """Answers who asks what runs here.

    Args:
        key, sealer: None on a box without a TPM.
        tls_sha256: of the certificate that the terminals' door shows now, DER.
        image: name, version and profile of the image that this process was started from; empty outside one.
    """

    def __init__(
        self,
        *,
        sealer: Sealer | None,
        key: AttestationKey | None,
        logs: EventLogs,
        ledger: Ledger,
        clock: Clock,
        tls_sha256: Callable[[], bytes],
        version: str,
        image: str,
    ) -> None:
        self._sealer = sealer
        self._key = key
        self._logs = logs
        self._ledger = ledger
        self._clock = clock
        self._tls_sha256 = tls_sha256
        self._version = version
        self._image = image

    async def attest(self, nonce: bytes) -> Attestation:
        """Quote for `nonce` (32 bytes), now.

        Raises:
            Rejected: `attestation_not_set_up`: the settings name no TPM.
            Unavailable: the codes of the TPM.
        """
        bare, key = await self._quoted(nonce)
        firmware, absent = await asyncio.to_thread(_read_log, self._logs.firmware, self._logs.absent)
        userspace, _ = await asyncio.to_thread(_read_log, self._logs.userspace, "")
        return msgspec.structs.replace(
            bare,
            event_log=firmware,
            event_log_absent=absent,
            userspace_log=userspace,
            certificate=key.certificate,
            endorsement_certificate=key.endorsement_certificate,
        )

    async def entry_of_day(self, day: str) -> tuple[Draft, ...]:
        """What goes before the day's close: a quote made after the log's newest head; nothing on a box without a TPM.

        A TPM that does not answer is said so in the entry: the day ends whatever it does.
        """
        if self._key is None:
            return ()
        head = self._ledger.head
        try:
            bare, _ = await self._quoted(head.root)
            said = AttestedEntry(day=day, size=head.size, digest=hashlib.sha256(bare.quote).digest(), attestation=bare)
        except Unavailable as trouble:
            said = AttestedEntry(day=day, size=head.size, missing=trouble.code)
        body = cbor.encode_ordered(msgspec.to_builtins(said, builtin_types=(bytes,)))
        return (Draft(kind=ATTESTED, actor="box", time_ms=self._clock.now_ms(), body=body),)

    async def _quoted(self, nonce: bytes) -> tuple[Attestation, AttestationKey]:
        if self._sealer is None or self._key is None:
            raise Rejected("attestation_not_set_up", "this box has no TPM that could speak for it")
        tls_sha256 = self._tls_sha256()  # once: the door may show another while the TPM quotes
        bound = qualifying_data(
            nonce=nonce,
            log_id=self._ledger.log_id,
            tls_sha256=tls_sha256,
            version=self._version,
            image=self._image,
        )
        try:
            quoted = await self._sealer.quote(bound)
        except Corrupt as trouble:
            # Who asks must not be able to stop the box: what is wrong with the TPM shows at the next start, too.
            raise Unavailable(trouble.code, trouble.detail) from trouble
        bare = Attestation(
            log=self._ledger.log_id,
            tls=tls_sha256,
            pcrs=tuple(PcrValue(pcr=pcr, value=value) for pcr, value in sorted(quoted.pcr_values.items())),
            image=self._image,
            nonce=nonce,
            quote=quoted.attest,
            origin=self._ledger.statement.origin,
            version=self._version,
            signature=quoted.signature,
            attestation_key=self._key.public,
        )
        return bare, self._key


class TerminalAttestation:
    """The verb `attest`: the same for a terminal, which need not be able to reach the public door."""

    def __init__(
        self, *, attestor: Attestor, authenticate: Authenticate, pace: Callable[[], None], clock: Clock
    ) -> None:
        """`pace` raises Rejected `too_many_reads` when all terminals together are too fast."""
        self._attestor = attestor
        self._authenticate = authenticate
        self._pace = pace
        self._clock = clock

    async def attest(self, signed: SignedRequest) -> AttestAnswer:
        """Raises Rejected and Unavailable as `Attestor.attest`, and `too_many_reads`."""
        request = await self._authenticate(signed, AttestBody)
        self._pace()
        attestation = await self._attestor.attest(bytes.fromhex(request.body.nonce))
        return AttestAnswer(key=str(request.identity.key), now_ms=self._clock.now_ms(), attestation=attestation)


def _read_log(path: Path | None, absent: str) -> tuple[bytes | None, str]:
    """The log's bytes, or None and why."""
    if path is None:
        return None, absent
    try:
        with path.open("rb") as file:
            encoded = file.read(LOG_BYTES_MAX + 1)
    except OSError as cause:
        return None, f"the machine's log cannot be read: {cause.strerror}"
    if len(encoded) > LOG_BYTES_MAX:
        return None, f"the machine's log has more than {LOG_BYTES_MAX} bytes"
    return encoded, ""
