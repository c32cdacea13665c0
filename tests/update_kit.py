"""Small images and update files of them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any, Final

from appliance.crypto.owner import OwnerKey, SignedStatement
from appliance.evidence.update import UPDATE, UpdatePart, UpdateStatement
from appliance.evidence.update_file import head_of

MODEL: Final = "test-board"
OLD: Final = "1.0.0"
NEW: Final = "1.1.0"
FLOOR: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a release is made of; the kernel image names the root's hash, as a real one's command line does."""

    version: str
    root: bytes
    verity: bytes

    @property
    def root_hash(self) -> bytes:
        return hashlib.sha256(self.root + self.verity).digest()

    @property
    def uki(self) -> bytes:
        body = random.Random(self.version).randbytes(20_000)
        return self.root_hash + body + hashlib.sha256(self.root_hash + body).digest()


def image(version: str) -> Image:
    """The same content for the same version."""
    source = random.Random(version)
    return Image(version=version, root=source.randbytes(300_000), verity=source.randbytes(40_000))


def statement_of(release: Image, **changes: Any) -> UpdateStatement:
    parts = {"verity": release.verity, "root": release.root, "uki": release.uki}
    said: dict[str, Any] = {
        "model": MODEL,
        "version": release.version,
        "number": FLOOR + 1,
        "root_hash": release.root_hash,
        "pcr11": bytes(32),
        "parts": {
            name: UpdatePart(size=len(part), sha256=hashlib.sha256(part).digest()) for name, part in parts.items()
        },
        "policies": (),
        "created_ms": 1,
        **changes,
    }
    return UpdateStatement(**said)


def update_file(
    release: Image, owner: OwnerKey | None, statement: UpdateStatement | None = None, kind: str = UPDATE
) -> bytes:
    """A whole file; unsigned without an owner."""
    encoded = (statement or statement_of(release)).encode()
    signed = SignedStatement(statement=encoded, owner_signature=b"") if owner is None else owner.sign(kind, encoded)
    return head_of(signed) + release.verity + release.root + release.uki
