"""A stream of any length sealed to one HPKE recipient, in constant memory: chunks that cannot be moved, lost or added.

Owns the chunks and their order. Must never give out plaintext of a chunk that was not opened, nor say that a stream is
whole before its last chunk was.

* The key is random for each stream and sealed by HPKE together with the caller's header (`info`): a changed header
  opens nothing.
* Each chunk's nonce is its number and whether it is the last (STREAM, Hoang, Reyhanitabar, Rogaway and Vizar 2015): a
  stream that was cut at the edge of a chunk, put in another order, or lengthened, is seen.

Source: docs/formats/backup.md, "Chunks".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.crypto import hpke
from appliance.crypto.hpke import Recipient
from appliance.model.errors import Rejected

CHUNK_BYTES: Final = 64 << 10
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + 16
_KEY_BITS: Final = 256
SEALED_KEY_BYTES: Final = _KEY_BITS // 8 + hpke.OVERHEAD_BYTES
_COUNTER_BYTES: Final = 11


class StreamSealer:
    """Seals one stream; `write` as often as wanted, then `end` once."""

    def __init__(self, recipient: Recipient, info: bytes) -> None:
        key = AESGCM.generate_key(_KEY_BITS)
        self._aead = AESGCM(key)
        self._rest = bytearray()
        self._number = 0
        self.sealed_key = recipient.seal(key, info)
        """Comes first; `SEALED_KEY_BYTES` long."""

    def write(self, plain: bytes) -> bytes:
        """The chunks that `plain` completes; the last one waits, because it may be the last of all."""
        self._rest += plain
        sealed: list[bytes] = []
        while len(self._rest) > CHUNK_BYTES:
            sealed.append(self._seal(bytes(self._rest[:CHUNK_BYTES]), is_last=False))
            del self._rest[:CHUNK_BYTES]
        return b"".join(sealed)

    def end(self) -> bytes:
        """The last chunk."""
        return self._seal(bytes(self._rest), is_last=True)

    def _seal(self, plain: bytes, *, is_last: bool) -> bytes:
        sealed = self._aead.encrypt(_nonce(self._number, is_last=is_last), plain, None)
        self._number += 1
        return sealed


class StreamOpener:
    """Opens one stream, chunk by chunk.

    Args:
        seed: the recipient's private key.
        size_bytes: how much of `file` from here on is the stream, its sealed key among it.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, seed: bytes, info: bytes) -> None:
        """Raises Rejected `seal_refused`: for another key or header, or changed."""
        self._aead = AESGCM(hpke.open_sealed(seed, file.read(SEALED_KEY_BYTES), info))
        self._file = file
        self._left = size_bytes - SEALED_KEY_BYTES

    def chunks(self) -> Iterator[bytes]:
        """The plaintext, piece by piece. Raises Rejected `seal_refused`: what came before is the stream's, no more."""
        number = 0
        while True:
            sealed = self._file.read(min(SEALED_CHUNK_BYTES, self._left))
            self._left -= len(sealed)
            is_last = self._left <= 0 or not sealed
            try:
                yield self._aead.decrypt(_nonce(number, is_last=is_last), sealed, None)
            except (InvalidTag, ValueError) as cause:
                raise Rejected("seal_refused", f"chunk {number} is not the one that was sealed there") from cause
            if is_last:
                return
            number += 1


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(_COUNTER_BYTES, "big") + bytes([is_last])
