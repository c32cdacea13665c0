"""A root of trust without hardware: satisfies `ports/sealer.py` and the contract suite of the TPM, with switches."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from appliance.ledger.draft import Draft
from appliance.model.errors import Corrupt, OutcomeUnknown, Unavailable
from appliance.model.trusted_time import PlatformClock
from appliance.ports.sealer import Quoted
from drivers.tpm.quote_check import object_name

AK_ATTRIBUTES: Final = 0x00050472
NONCE_BYTES: Final = range(8, 65)


class SoftwareAttestationKey:
    """Signs quotes byte by byte, so that tests may sign any lie; `attributes` lets the key itself be a wrong one."""

    def __init__(self, *, attributes: int = AK_ATTRIBUTES, curve_id: int = 3, scheme: int = 0x18) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        point = self._key.public_key().public_numbers()
        head = _u16(0x23) + _u16(0x0B) + attributes.to_bytes(4, "big") + _sized(b"")
        detail = _u16(0x10) + _u16(scheme) + _u16(0x0B) + _u16(curve_id) + _u16(0x10)
        self.public = head + detail + _sized(point.x.to_bytes(32, "big")) + _sized(point.y.to_bytes(32, "big"))
        self.name = object_name(self.public)

    def sign(self, attest: bytes) -> bytes:
        """TPMT_SIGNATURE over `attest`."""
        r, s = decode_dss_signature(self._key.sign(attest, ec.ECDSA(hashes.SHA256())))
        return _u16(0x18) + _u16(0x0B) + _sized(r.to_bytes(32, "big")) + _sized(s.to_bytes(32, "big"))

    def attest(
        self,
        *,
        nonce: bytes,
        pcr_values: dict[int, bytes],
        magic: int = 0xFF544347,
        kind: int = 0x8018,
        hierarchy: int = 0x4000000B,
        reset: int = 5,
        restart: int = 0,
        safe: int = 1,
        firmware: int = 7,
        bank: int = 0x0B,
        octets: bytes | None = None,
        selection_count: int = 1,
        digest: bytes | None = None,
        tail: bytes = b"",
    ) -> bytes:
        """TPMS_ATTEST of a quote; each argument after `pcr_values` is a field to lie about."""
        qualified = b"\x00\x0b" + hashlib.sha256(hierarchy.to_bytes(4, "big") + self.name).digest()
        clock = (1_000).to_bytes(8, "big") + reset.to_bytes(4, "big") + restart.to_bytes(4, "big") + bytes([safe])
        if octets is None:
            octets = sum(1 << index for index in pcr_values).to_bytes(3, "little")
        one_selection = _u16(bank) + bytes([len(octets)]) + octets
        if digest is None:
            digest = hashlib.sha256(b"".join(pcr_values[index] for index in sorted(pcr_values))).digest()
        return (
            magic.to_bytes(4, "big") + _u16(kind) + _sized(qualified) + _sized(nonce)
            + clock + firmware.to_bytes(8, "big")
            + selection_count.to_bytes(4, "big") + one_selection * selection_count + _sized(digest) + tail
        )  # fmt: skip


async def unattested(_day: str) -> tuple[Draft, ...]:
    """What a box without a TPM has to say about itself when a day is closed."""
    return ()


class FakeSealer:
    """Holds a PIN and an epoch.

    Switches: `is_away` (every call fails, nothing happened), `is_refused` (the policy says no), `loses_answers` (an
    advance happens and its answer is lost), `epoch_offset` (it lies about the counter by so much),
    `starts` (how often the machine started from cold).
    """

    def __init__(self, *, pin: bytes = b"123456", epoch: int = 1) -> None:
        self._pin = pin
        self._epoch = epoch
        self._floor = 1
        self.starts = 1
        self.attestation_key = SoftwareAttestationKey()
        self.pcr_values = {7: hashlib.sha256(b"secure boot").digest(), 11: hashlib.sha256(b"image").digest()}
        self.platform = PlatformClock(powered_ms=1_000_000, resets=5, is_safe=True)
        self.is_away = False
        self.is_refused = False
        self.loses_answers = False
        self.epoch_offset = 0

    async def unseal(self) -> bytes:
        self._answer_or_raise()
        if self.is_refused:
            raise Corrupt("tpm_policy_refused", "the fake was told to refuse")
        return self._pin

    async def epoch(self) -> int:
        self._answer_or_raise()
        return self._epoch + self.epoch_offset

    async def advance_epoch(self) -> int:
        self._answer_or_raise()
        self._epoch += 1
        if self.loses_answers:
            raise OutcomeUnknown("tpm_unsure", "the fake was told to lose the answer")
        return self._epoch + self.epoch_offset

    async def clock(self) -> PlatformClock:
        self._answer_or_raise()
        self.platform = replace(self.platform, powered_ms=self.platform.powered_ms + 1)
        return self.platform

    async def quote(self, nonce: bytes) -> Quoted:
        if len(nonce) not in NONCE_BYTES:
            raise ValueError(f"a quote's nonce has 8 to 64 bytes, got {len(nonce)}")
        self._answer_or_raise()
        attest = self.attestation_key.attest(nonce=nonce, pcr_values=self.pcr_values)
        return Quoted(attest=attest, signature=self.attestation_key.sign(attest), pcr_values=self.pcr_values)

    async def floor(self) -> int:
        self._answer_or_raise()
        return self._floor

    async def raise_floor(self, number: int) -> int:
        self._answer_or_raise()
        self._floor = max(self._floor, number)
        if self.loses_answers:
            raise OutcomeUnknown("tpm_unsure", "the fake was told to lose the answer")
        return self._floor

    async def resets(self) -> int:
        self._answer_or_raise()
        return self.starts

    def _answer_or_raise(self) -> None:
        if self.is_away:
            raise Unavailable("tpm_away", "the fake was told to be away")


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _sized(value: bytes) -> bytes:
    return _u16(len(value)) + value
