"""The update file, read as it comes: the signed statement first, then the parts that it names, and nothing behind them.

Owns the layout. Must never hand on a byte of a part before the statement was judged, nor call a file whole that ended
early.

Source: docs/formats/update.md, version 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from appliance.crypto.owner import SignedStatement
from appliance.evidence.update import PARTS, UpdateStatement
from appliance.model.errors import Rejected

MAGIC: Final = b"tillstone-update/1\n"
HEAD_BYTES_MAX: Final = 128 << 10
CHUNK_BYTES: Final = 1 << 20
_LENGTH_BYTES: Final = 4

Judge = Callable[[SignedStatement], UpdateStatement]
"""Reads the statement and raises Rejected when this box must not take it."""
Take = Callable[[str, bytes], None]
"""Gets the bytes of a part, by its name, in their order."""


class UpdateStream:
    """Feed it the file's bytes in pieces of any size, then `finish`.

    Attributes:
        statement: once the head was read and judged.
    """

    def __init__(self, judge: Judge, take: Take = lambda _part, _content: None) -> None:
        self._judge = judge
        self._take = take
        self._head = bytearray()
        self._parts = iter(PARTS)
        self._part = ""
        self._left = 0
        self._digest = hashlib.sha256()
        self.statement: UpdateStatement | None = None

    def feed(self, content: bytes) -> None:
        """Go on.

        Raises:
            Rejected: `update_malformed`, `update_damaged` (a part is not what was signed), and what the judge raises.
        """
        if self.statement is None:
            self._head += content
            content = self._read_head()
        while content and self.statement is not None:
            content = self._read_part(self.statement, content)

    def finish(self) -> UpdateStatement:
        """The statement, if the whole file was fed. Raises Rejected `update_truncated`."""
        if self.statement is None or self._part != PARTS[-1] or self._left:
            where = "in its head" if self.statement is None else f"in the part {self._part or PARTS[0]}"
            raise Rejected("update_truncated", f"the file ends {where}")
        return self.statement

    def _read_head(self) -> bytes:
        """What follows the head, once all of that is there."""
        begins = len(MAGIC) + _LENGTH_BYTES
        if bytes(self._head[: len(MAGIC)]) != MAGIC[: len(self._head)]:
            raise Rejected("update_malformed", "expected an update file of version 1")
        if len(self._head) < begins:
            return b""
        size = int.from_bytes(self._head[len(MAGIC) : begins], "big")
        if size > HEAD_BYTES_MAX:
            raise Rejected("update_malformed", f"expected a head of at most {HEAD_BYTES_MAX} bytes, saw {size}")
        if len(self._head) < begins + size:
            return b""
        self.statement = self._judge(SignedStatement.decode(bytes(self._head[begins : begins + size])))
        return bytes(self._head[begins + size :])

    def _read_part(self, statement: UpdateStatement, content: bytes) -> bytes:
        if not self._left:
            part = next(self._parts, None)
            if part is None:
                raise Rejected("update_malformed", "bytes follow the last part")
            self._part, self._left, self._digest = part, statement.parts[part].size, hashlib.sha256()
        mine, rest = content[: self._left], content[self._left :]
        self._digest.update(mine)
        self._left -= len(mine)
        if not self._left and self._digest.digest() != statement.parts[self._part].sha256:
            raise Rejected("update_damaged", f"the part {self._part} is not the one that was signed")
        self._take(self._part, mine)
        return rest


def head_of(signed: SignedStatement) -> bytes:
    """What a file begins with."""
    encoded = signed.encode()
    return MAGIC + len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def size_of(statement: UpdateStatement) -> int:
    """Bytes of the parts."""
    return sum(part.size for part in statement.parts.values())


def read_update(path: Path, judge: Judge, take: Take = lambda _part, _content: None) -> UpdateStatement:
    """The statement of a whole file. Raises as `UpdateStream`."""
    stream = UpdateStream(judge, take)
    with path.open("rb") as file:
        for chunk in chunks(file):
            stream.feed(chunk)
    return stream.finish()


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """A file's content from where it stands."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
