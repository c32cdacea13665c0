"""The evidence bundle: everything a stranger needs to check one payment's entries, in one file.

Owns the file's shape. Must never check a part of it: whoever reads it hands each part to the format that owns it.

Source: docs/formats/evidence.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.crypto import cbor
from appliance.model.errors import Rejected

BUNDLE_BYTES_MAX: Final = 8 << 20
CHECKPOINTS_MAX: Final = 16
HEADERS_MAX: Final = 2_016
_NESTING_MAX: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationEvidence:
    """Under which address a head was published, and what of it can be checked without fetching it.

    Attributes:
        root: root block of the CAR (docs/formats/publication.md); its address is computed from it.
        tiles: the bytes of each tile that the root names, in its order.
        signatures: signature lines of the log's two keys over the address.
    """

    root: bytes
    tiles: tuple[bytes, ...]
    signatures: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadEvidence:
    """What is known about one head that covers the entries.

    Attributes:
        note: the checkpoint exactly as the log signed it (docs/formats/checkpoint.md).
        paths: for each entry of the receipt its inclusion proof under this head, the leaf's sibling first.
        cosignatures: signature lines of witnesses, each with its newline; empty when there are none.
        timestamp: `.ots` file of the note (docs/formats/timestamp.md); None when there is none.
        headers: of the block that the timestamp leads to and of those behind it, 80 bytes each.
        publication: None when this head was not published.
    """

    note: bytes
    paths: tuple[tuple[bytes, ...], ...]
    cosignatures: bytes = b""
    timestamp: bytes | None = None
    headers: tuple[bytes, ...] = ()
    publication: PublicationEvidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceBundle:
    """A receipt file and the heads that more than the box itself vouch for, smallest first."""

    receipt: bytes
    heads: tuple[HeadEvidence, ...]

    def encode(self) -> bytes:
        """The file."""
        return cbor.encode(
            {
                "heads": [
                    {
                        "cosignatures": head.cosignatures,
                        "headers": head.headers,
                        "note": head.note,
                        "paths": head.paths,
                        "publication": _encoded(head.publication),
                        "timestamp": head.timestamp,
                    }
                    for head in self.heads
                ],
                "receipt": self.receipt,
                "version": 1,
            }
        )


def read_bundle(file: bytes) -> EvidenceBundle:
    """Read a bundle strictly; nothing in it is believed yet.

    Raises:
        Rejected: `evidence_malformed`, and every `cbor_*` code.
    """
    match cbor.decode(file, size_max=BUNDLE_BYTES_MAX, depth_max=_NESTING_MAX):
        case {"heads": [*heads], "receipt": bytes(receipt), "version": 1, **rest} if (
            not rest and len(heads) <= CHECKPOINTS_MAX
        ):
            return EvidenceBundle(receipt=receipt, heads=tuple([_read_head(head) for head in heads]))
    raise _malformed(f"a map of version 1, a receipt and at most {CHECKPOINTS_MAX} heads")


def _read_head(value: cbor.Value) -> HeadEvidence:
    match value:
        case {
            "cosignatures": bytes(cosignatures),
            "headers": [*headers],
            "note": bytes(note),
            "paths": [*paths],
            "publication": publication,
            "timestamp": (bytes() | None) as timestamp,
            **rest,
        } if not rest and len(headers) <= HEADERS_MAX:
            return HeadEvidence(
                note=note,
                paths=tuple([_byte_strings(path) for path in paths]),
                cosignatures=cosignatures,
                timestamp=timestamp,
                headers=_byte_strings(headers),
                publication=_read_publication(publication),
            )
    raise _malformed("heads of cosignatures, headers, note, paths, publication and timestamp")


def _read_publication(value: cbor.Value) -> PublicationEvidence | None:
    match value:
        case None:
            return None
        case {"root": bytes(root), "signatures": bytes(signatures), "tiles": [*tiles], **rest} if not rest:
            return PublicationEvidence(root=root, tiles=_byte_strings(tiles), signatures=signatures)
    raise _malformed("a publication of root, signatures and tiles")


def _encoded(publication: PublicationEvidence | None) -> object:
    if publication is None:
        return None
    return {"root": publication.root, "signatures": publication.signatures, "tiles": publication.tiles}


def _byte_strings(value: cbor.Value) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not all(isinstance(item, bytes) for item in value):
        raise _malformed("arrays of byte strings")
    return tuple([item for item in value if isinstance(item, bytes)])


def _malformed(expected: str) -> Rejected:
    return Rejected("evidence_malformed", f"expected {expected}")
