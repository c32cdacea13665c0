"""Identifiers: each its own type, each checked where it is made."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import NewType

from appliance.model.errors import Rejected

Cid = NewType("Cid", bytes)
"""CIDv1 of a block, 36 bytes: version 1, codec, 0x12 0x20 (SHA-256 of 32 bytes), digest (formats/publication.md)."""
TerminalId = NewType("TerminalId", str)
DrawerId = NewType("DrawerId", str)
KeyId = NewType("KeyId", bytes)
"""SHA-256 of a SubjectPublicKeyInfo, 32 bytes."""
LogId = NewType("LogId", bytes)
"""SHA-256 of a log's genesis statement, 32 bytes (docs/formats/genesis.md)."""
OperationId = NewType("OperationId", str)
"""The caller's key and the tender's index: `<uuid>/<index>`."""
ProviderKey = NewType("ProviderKey", str)
"""Our idempotency key at a provider; the same key always carries the same bytes."""
ProviderName = NewType("ProviderName", str)
"""Which provider, as the settings name its section."""
ProviderReference = NewType("ProviderReference", str)

_NAME = re.compile(r"\A[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")


def terminal_id(text: str) -> TerminalId:
    """A terminal's name: 1 to 32 of a-z, 0-9 and inner hyphens. Raises Rejected."""
    if not _NAME.match(text):
        raise Rejected("terminal_name_invalid", "a terminal's name is 1 to 32 of a-z, 0-9 and inner hyphens")
    return TerminalId(text)


def drawer_id(text: str) -> DrawerId:
    """A drawer's name, of the same form: a terminal's drawer has the terminal's name. Raises Rejected."""
    if not _NAME.match(text):
        raise Rejected("drawer_name_invalid", "a drawer's name is 1 to 32 of a-z, 0-9 and inner hyphens")
    return DrawerId(text)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The caller's idempotency key: a UUIDv7 (RFC 9562 section 5.7), so that its age can be told."""

    value: uuid.UUID

    def __post_init__(self) -> None:
        if self.value.variant != uuid.RFC_4122 or self.value.version != 7:
            raise Rejected("key_not_uuidv7", "an idempotency key must be a UUIDv7")

    @property
    def created_ms(self) -> int:
        """Unix milliseconds that the caller's clock showed when it made the key."""
        return self.value.int >> 80

    @property
    def octets(self) -> bytes:
        """The 16 bytes, big-endian."""
        return self.value.bytes

    def __str__(self) -> str:
        return str(self.value)


def request_key(text: str) -> RequestKey:
    """Parse the canonical text form (lower case, hyphens). Raises Rejected."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        raise Rejected("key_not_uuidv7", "an idempotency key must be a UUIDv7 in its canonical text form") from None
    if str(parsed) != text:
        raise Rejected("key_not_uuidv7", "an idempotency key must be written in lower case with hyphens")
    return RequestKey(parsed)


def new_request_key(now_ms: int, random: bytes) -> RequestKey:
    """Make a UUIDv7 from a clock reading and 10 random bytes."""
    number = (now_ms & (2**48 - 1)) << 80 | int.from_bytes(random[:10], "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return RequestKey(uuid.UUID(int=number))
