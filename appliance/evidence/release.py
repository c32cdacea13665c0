"""Release: the owner's word for what an image leaves in a TPM when it starts.

Owns the bytes of the `release` statement. Must never decide whether a box runs it: `provisioning/attest` does.

Source: docs/formats/attestation.md, "The release statement".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.model.errors import Rejected

RELEASE: Final = "release"  # the kind of the owner's statement
RELEASE_BYTES_MAX: Final = 256 << 10
PCR_COUNT: Final = 24
DIGEST_BYTES: Final = 32
_FIRMWARE_MAX: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatement:
    """What the owner signs: a box of this model that runs this image shows these values.

    Attributes:
        model: of the hardware, as the owner calls it.
        image: name, version and profile, such as `tillstone 0.1.0 release`.
        root_hash: dm-verity's, of the image's root.
        values: by PCR, the SHA-256 values that it may have at the end.
        events: by PCR, the only digests that may have been extended into it, for a PCR without values.
        firmware: firmware versions of TPMs that may speak, as a quote tells them.
    """

    model: str
    image: str
    root_hash: bytes
    values: Mapping[int, tuple[bytes, ...]]
    events: Mapping[int, tuple[bytes, ...]]
    firmware: tuple[int, ...]
    created_ms: int

    @property
    def pcrs(self) -> tuple[int, ...]:
        """Those that a quote has to cover, and no others."""
        return tuple(sorted({*self.values, *self.events}))

    def encode(self) -> bytes:
        """The bytes that the owner signs."""
        return cbor.encode(
            {
                "created": self.created_ms,
                "events": {pcr: list(digests) for pcr, digests in self.events.items()},
                "firmware": list(self.firmware),
                "image": self.image,
                "model": self.model,
                "root_hash": self.root_hash,
                "values": {pcr: list(values) for pcr, values in self.values.items()},
                "version": 1,
            }
        )


def read_release_statement(encoded: bytes) -> ReleaseStatement:
    """A statement, signed or not. Raises Rejected `release_malformed` and every `cbor_*` code."""
    match cbor.decode(encoded, size_max=RELEASE_BYTES_MAX):
        case {
            "version": 1,
            "model": str(model),
            "image": str(image),
            "root_hash": bytes(root_hash),
            "values": dict(values),
            "events": dict(events),
            "firmware": list(firmware),
            "created": int(created_ms),
            **rest,
        } if not rest and len(root_hash) == DIGEST_BYTES and created_ms >= 0 and not values.keys() & events.keys():
            return ReleaseStatement(
                model=model,
                image=image,
                root_hash=root_hash,
                values=_digests(values),
                events=_digests(events),
                firmware=_firmware(firmware),
                created_ms=created_ms,
            )
    raise Rejected("release_malformed", "expected a release statement of version 1")


def _digests(by_pcr: Mapping[str | int, cbor.Value]) -> dict[int, tuple[bytes, ...]]:
    read: dict[int, tuple[bytes, ...]] = {}
    for pcr, listed in by_pcr.items():
        digests = listed if isinstance(listed, list) else []
        given = tuple([each for each in digests if isinstance(each, bytes) and len(each) == DIGEST_BYTES])
        if not isinstance(pcr, int) or not 0 <= pcr < PCR_COUNT or not given or len(given) != len(digests):
            raise Rejected("release_malformed", "expected SHA-256 digests by the number of a PCR")
        read[pcr] = given
    return read


def _firmware(listed: list[cbor.Value]) -> tuple[int, ...]:
    versions = tuple([each for each in listed if type(each) is int and 0 <= each <= _FIRMWARE_MAX])
    if not versions or len(versions) != len(listed):
        raise Rejected("release_malformed", "expected the firmware versions of TPMs that may speak, at least one")
    return versions
