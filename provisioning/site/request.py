"""`box.request`: what a new box says about itself, for the owner to answer with a signed site.

Owns the bytes. Must never hold a secret: it travels on a stick. It proves nothing by itself; the owner compares its
fingerprint with the box's, and what he signs and seals in answer serves this one box only.

Source: docs/formats/site.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.model.errors import Rejected

NAME: Final = "box.request"
REQUEST_BYTES_MAX: Final = 64 << 10
SERIAL: Final = re.compile(r"[A-Za-z0-9-]{1,32}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxRequest:
    """A box that has made its keys and waits for its owner.

    Attributes:
        keys, note_key: the log's keys, which the owner names in the genesis.
        box_key: HPKE public key to which secrets are sealed; its seed lies under a key of the token.
        ek_certificate: DER, of the endorsement key by the TPM's maker.
        ek_public, ak_public: TPMT_PUBLIC of the endorsement key and of the attestation key.
        pcrs: SHA-256 PCR values that the token's PIN shall open to.
        floor_name, floor: the counter below which approvals of PCR values are revoked, and its value.
        version: of the software that made this.
    """

    serial: str
    keys: HybridPublic
    note_key: bytes
    box_key: bytes
    ek_certificate: bytes
    ek_public: bytes
    ak_public: bytes
    pcrs: dict[int, bytes]
    floor_name: bytes
    floor: int
    version: str

    def encode(self) -> bytes:
        """The file."""
        return cbor.encode(
            {
                "ak_public": self.ak_public,
                "box_key": self.box_key,
                "classical": [self.keys.classical.algorithm, self.keys.classical.public_key],
                "ek_certificate": self.ek_certificate,
                "ek_public": self.ek_public,
                "floor": self.floor,
                "floor_name": self.floor_name,
                "note": self.note_key,
                "pcrs": [[index, value] for index, value in sorted(self.pcrs.items())],
                "post_quantum": [self.keys.post_quantum.algorithm, self.keys.post_quantum.public_key],
                "serial": self.serial,
                "software": self.version,
                "version": 1,
            }
        )

    @property
    def fingerprint(self) -> str:
        """What a person compares: SHA-256 of the file."""
        return hashlib.sha256(self.encode()).hexdigest()


def read_request(encoded: bytes) -> BoxRequest:
    """Raises Rejected `box_request_malformed`, every `cbor_*` code and those of public keys."""
    match cbor.decode(encoded, size_max=REQUEST_BYTES_MAX):
        case {
            "version": 1,
            "serial": str(serial),
            "software": str(version),
            "classical": [int(classical), bytes(classical_key)],
            "post_quantum": [int(post_quantum), bytes(post_quantum_key)],
            "note": bytes(note_key),
            "box_key": bytes(box_key),
            "ek_certificate": bytes(ek_certificate),
            "ek_public": bytes(ek_public),
            "ak_public": bytes(ak_public),
            "pcrs": list(pcrs),
            "floor_name": bytes(floor_name),
            "floor": int(floor),
            **rest,
        } if not rest and SERIAL.match(serial):
            return BoxRequest(
                serial=serial,
                keys=HybridPublic(
                    classical=PinnedKey(algorithm=classical, public_key=classical_key),
                    post_quantum=PinnedKey(algorithm=post_quantum, public_key=post_quantum_key),
                ),
                note_key=note_key,
                box_key=box_key,
                ek_certificate=ek_certificate,
                ek_public=ek_public,
                ak_public=ak_public,
                pcrs=dict(_pcr(entry) for entry in pcrs),
                floor_name=floor_name,
                floor=floor,
                version=version,
            )
    raise Rejected("box_request_malformed", "expected a box's request of version 1")


def _pcr(entry: cbor.Value) -> tuple[int, bytes]:
    match entry:
        case [int(index), bytes(value)] if 0 <= index < 24 and len(value) == 32:
            return index, value
    raise Rejected("box_request_malformed", "expected PCRs as [index, 32 bytes]")
