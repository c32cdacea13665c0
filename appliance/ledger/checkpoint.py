"""Checkpoints: a head as a C2SP signed note, for witnesses, anchors and Go's tools.

Owns the note's bytes and both kinds of signature line. Must never sign a head that is not durable: the head comes from
the ledger.

* Ed25519 (type 0x01) is what existing tools read. There is no type for ML-DSA-87 yet, so its line uses 0xff, which the
  specification reserves for names of one's own; a reader that does not know it skips the line.
* No extension lines. At most one a second, unless asked.

Source: docs/formats/checkpoint.md; https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.crypto import cose, signature
from appliance.crypto.hybrid import PinnedKey
from appliance.ledger.head import Head
from appliance.ledger.log_keys import KeyPeriod, LogKeys
from appliance.model.errors import Rejected
from appliance.model.invariants import ensure
from appliance.ports.clock import Clock
from appliance.ports.signer import Signer

NOTE_BYTES_MAX = 64 << 10
LINES_MAX = 16
EVERY_MS = 1_000
TYPE_ED25519 = b"\x01"
TYPE_ML_DSA_87 = b"\xfftillstone/ML-DSA-87"
_SPKI_ED25519 = bytes.fromhex("302a300506032b6570032100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A head under its log's name."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """The signed bytes: three lines, each ended by a newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


async def sign_checkpoint(checkpoint: Checkpoint, *, note: Signer, post_quantum: Signer) -> bytes:
    """The note with both signatures.

    Raises:
        Unavailable, OutcomeUnknown: as the signers.
    """
    text = checkpoint.text()
    return text + b"\n" + await sign_lines(text, origin=checkpoint.origin, note=note, post_quantum=post_quantum)


async def sign_lines(text: bytes, *, origin: str, note: Signer, post_quantum: Signer) -> bytes:
    """Signature lines of `text` by both keys of the log `origin`.

    Raises:
        Unavailable, OutcomeUnknown: as the signers.
    """
    ensure(note.algorithm == cose.ED25519, "checkpoints are signed with Ed25519")
    ensure(post_quantum.algorithm == cose.ML_DSA_87, "checkpoints are signed with ML-DSA-87 too")
    lines = [
        _line(origin, signer.algorithm, signer.public_key, await signer.sign(text)) for signer in (note, post_quantum)
    ]
    return b"".join(lines)


def read_checkpoint(encoded: bytes) -> Checkpoint:
    """What a note says, nothing of it verified. Raises Rejected `checkpoint_malformed`."""
    return _read(encoded)[0]


def verify_checkpoint(encoded: bytes, *, origin: str, note_key: bytes, post_quantum: PinnedKey) -> Checkpoint:
    """The checkpoint, if both keys of the log signed it; other lines (witnesses) are skipped.

    Raises:
        Rejected: `checkpoint_malformed`, `checkpoint_origin_unknown`, `checkpoint_signature_missing`,
            `checkpoint_signature_wrong`.
    """
    checkpoint, text, lines = _read(encoded)
    if checkpoint.origin != origin:
        raise Rejected("checkpoint_origin_unknown", f"expected {origin}, saw {checkpoint.origin[:80]}")
    require_signatures(text, lines, origin=origin, note_key=note_key, post_quantum=post_quantum)
    return checkpoint


def verify_head(encoded: bytes, *, origin: str, keys: LogKeys) -> Checkpoint:
    """As `verify_checkpoint`, by the keys that sign heads of its size, also those of before a rotation.

    Raises:
        Rejected: as `verify_checkpoint`; `log_key_distrusted`.
    """
    period = keys.at(claimed_size(encoded))
    checkpoint = verify_checkpoint(
        encoded, origin=origin, note_key=period.note_key, post_quantum=period.keys.post_quantum
    )
    keys.require_trusted(checkpoint.size, checkpoint.root, vouched=())
    return checkpoint


def require_signatures(
    text: bytes, lines: Sequence[tuple[str, bytes]], *, origin: str, note_key: bytes, post_quantum: PinnedKey
) -> None:
    """Return if both keys of the log `origin` signed `text`; `lines` as `read_signatures` gives them.

    Raises:
        Rejected: `checkpoint_signature_missing`, `checkpoint_signature_wrong`.
    """
    for algorithm, public_key in ((cose.ED25519, note_key), (post_quantum.algorithm, post_quantum.public_key)):
        name = signature.algorithm(algorithm).name
        wanted = key_hash(origin, algorithm, public_key)
        mine = [raw[4:] for line_name, raw in lines if line_name == origin and raw[:4] == wanted]
        if len(mine) != 1:
            others = _others(lines, origin, note_key, post_quantum)
            raise Rejected("checkpoint_signature_missing", f"expected one {name} signature, saw {len(mine)}{others}")
        if not signature.verify(algorithm, public_key, text, mine[0]):
            raise Rejected("checkpoint_signature_wrong", f"the {name} signature does not fit the text")


def _others(lines: Sequence[tuple[str, bytes]], origin: str, note_key: bytes, post_quantum: PinnedKey) -> str:
    """Which keys signed in place of the known ones; nothing when a known one did."""
    known = [
        key_hash(origin, cose.ED25519, note_key),
        key_hash(origin, post_quantum.algorithm, post_quantum.public_key),
    ]
    seen = [raw[:4] for name, raw in lines if name == origin]
    if not seen or any(each in known for each in seen):
        return ""
    signed, trusted = (", ".join(each.hex() for each in keys) for keys in (seen, known))
    return f": signed by keys {signed}, trust.json knows {trusted}: another log, or trust.json is older than a rotation"


def without_strangers(encoded: bytes, *, origin: str, period: KeyPeriod) -> bytes:
    """A verified note with the log's own two lines alone: what others append to a note is not the log's word."""
    post_quantum = period.keys.post_quantum
    own = {
        key_hash(origin, cose.ED25519, period.note_key),
        key_hash(origin, post_quantum.algorithm, post_quantum.public_key),
    }
    text, _, tail = encoded.partition(b"\n\n")
    named = zip(tail.split(b"\n"), read_signatures(tail), strict=False)  # behind the last newline stands no line
    lines = [line + b"\n" for line, (name, raw) in named if name == origin and raw[:4] in own]
    return text + b"\n\n" + b"".join(lines)


def read_signatures(lines: bytes) -> list[tuple[str, bytes]]:
    """Name and raw value (key hash, signature) of each line; nothing is verified.

    Raises:
        Rejected: `checkpoint_malformed`.
    """
    try:
        tail = lines.decode().split("\n")
    except UnicodeDecodeError as cause:
        raise _malformed("UTF-8") from cause
    if tail.pop() != "" or not 0 < len(tail) <= LINES_MAX:
        raise _malformed("one to 16 signature lines")
    return [_read_line(line) for line in tail]


def claimed_size(encoded: bytes) -> int:
    """The size that a note speaks of, before anything is believed: it tells whose keys must have signed it.

    Raises:
        Rejected: `checkpoint_malformed`.
    """
    return _read(encoded)[0].size


class CheckpointMaker:
    """The newest checkpoint, made when asked and at most once a second for each asker that can wait."""

    def __init__(
        self, *, origin: str, note: Signer, post_quantum: Signer, newest: Callable[[], Head], clock: Clock
    ) -> None:
        self._origin = origin
        self._note = note
        self._post_quantum = post_quantum
        self._newest = newest
        self._clock = clock
        self._making = asyncio.Lock()
        self._made: tuple[Head, bytes] | None = None
        self._made_ms = 0

    async def current(self) -> bytes:
        """A checkpoint at most a second old: what the public door serves."""
        return (await self.current_head())[1]

    async def current_head(self) -> tuple[Head, bytes]:
        """As `current`, with the head that the note is about."""
        async with self._making:
            made = self._made
            if made is not None and self._clock.monotonic_ms() - self._made_ms < EVERY_MS:
                return made
            return await self._make()

    async def of(self, head: Head) -> bytes:
        """A checkpoint of an older durable head: true for ever, so it may be signed at any time. For operators only,
        because each costs two signatures."""
        checkpoint = Checkpoint(origin=self._origin, size=head.size, root=head.root)
        return await sign_checkpoint(checkpoint, note=self._note, post_quantum=self._post_quantum)

    async def signed(self, text: bytes) -> bytes:
        """Signature lines of another text of this log, one that is no checkpoint. For operators only, as `of`."""
        return await sign_lines(text, origin=self._origin, note=self._note, post_quantum=self._post_quantum)

    async def now(self) -> bytes:
        """A checkpoint over everything durable at this moment: for an anchor or a day close."""
        async with self._making:
            return (await self._make())[1]

    async def _make(self) -> tuple[Head, bytes]:
        head = self._newest()
        if self._made is None or self._made[0] != head:
            self._made = (head, await self.of(head))
        self._made_ms = self._clock.monotonic_ms()
        return self._made


def _line(name: str, algorithm: int, public_key: bytes, signed: bytes) -> bytes:
    encoded = base64.b64encode(key_hash(name, algorithm, public_key) + signed).decode()
    return f"\u2014 {name} {encoded}\n".encode()


def key_hash(name: str, algorithm: int, public_key: bytes) -> bytes:
    """What a line calls its key: SHA-256(name || newline || type || key), first four bytes.

    Ed25519 keys enter raw, ours as they are pinned.
    """
    if algorithm == cose.ED25519:
        material = TYPE_ED25519 + public_key.removeprefix(_SPKI_ED25519)
    else:
        material = TYPE_ML_DSA_87 + public_key
    return hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]


def _read(encoded: bytes) -> tuple[Checkpoint, bytes, list[tuple[str, bytes]]]:
    if len(encoded) > NOTE_BYTES_MAX:
        raise _malformed(f"at most {NOTE_BYTES_MAX} bytes")
    text, separator, signatures = encoded.partition(b"\n\n")
    try:
        body = text.decode().split("\n")
    except UnicodeDecodeError as cause:
        raise _malformed("UTF-8") from cause
    if len(body) != 3 or not separator:
        raise _malformed("three lines, an empty one, and one to 16 signature lines")
    origin, size, root_text = body
    if not size.isascii() or not size.isdecimal() or len(size) > 19 or size != str(int(size)):
        raise _malformed("the size as a decimal number")
    root = from_base64(root_text)
    if not origin or len(root) != 32:
        raise _malformed("an origin and a root of 32 bytes")
    return Checkpoint(origin=origin, size=int(size), root=root), text + b"\n", read_signatures(signatures)


def _read_line(line: str) -> tuple[str, bytes]:
    mark, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    raw = from_base64(encoded)
    if mark != "\u2014" or not name or len(raw) < 5:
        raise _malformed("signature lines of dash, name and signature")
    return name, raw


def from_base64(text: str) -> bytes:
    """The bytes of standard base64 in its one form. Raises Rejected `checkpoint_malformed`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as cause:
        raise _malformed("base64") from cause
    if base64.b64encode(raw).decode() != text:
        raise _malformed("base64 in its one form")
    return raw


def _malformed(expected: str) -> Rejected:
    return Rejected("checkpoint_malformed", f"expected {expected}")
