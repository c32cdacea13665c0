"""What an IPFS node's answers mean, whoever carried them.

Owns the reading of decoded JSON. Must never compare an address with ours: that is the asker's.

Source: docs.ipfs.tech/reference/kubo/rpc (`dag/import`, `block/get`, `pin/ls`); js-ipfs 0.66 answers the same.
"""

from __future__ import annotations

from typing import Final

import msgspec

from appliance.evidence.cid import parse_cid
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import Cid

ANSWER_BYTES_MAX: Final = 64 << 10
"""Of an answer that is not a block."""
IMPORT: Final = "dag/import"
BLOCK: Final = "block/get"
PINS: Final = "pin/ls"


class _Name(msgspec.Struct, frozen=True):
    text: str = msgspec.field(name="/")


class _Root(msgspec.Struct, frozen=True):
    cid: _Name = msgspec.field(name="Cid")
    pin_error: str = msgspec.field(name="PinErrorMsg", default="")


class _Import(msgspec.Struct, frozen=True):
    root: _Root = msgspec.field(name="Root")


class _Pins(msgspec.Struct, frozen=True):
    keys: dict[str, object] = msgspec.field(name="Keys", default_factory=dict)


def imported_root(answer: object) -> Cid:
    """The root that an import pinned. Raises Rejected `block_store_refused`."""
    try:
        root = msgspec.convert(answer, _Import).root
    except msgspec.ValidationError as cause:
        raise refused("one root of the import") from cause
    if root.pin_error:
        raise refused(f"a pinned root, saw {root.pin_error[:200]!r}")
    return _cid(root.cid.text)


def pinned(answer: object) -> set[Cid]:
    """What a listing of pins holds. Raises Rejected `block_store_refused`."""
    try:
        return {_cid(key) for key in msgspec.convert(answer, _Pins).keys}
    except msgspec.ValidationError as cause:
        raise refused("a list of pins") from cause


def failure(verb: str, message: str) -> Rejected:
    """The node's own error. A node cannot know that a block is nowhere: not finding it in time is all it can say."""
    if verb == BLOCK:
        return Rejected("block_missing", f"the node does not find the block: {message[:200]!r}")
    return refused(f"{verb} to work, saw {message[:200]!r}")


def is_unpinned(message: str) -> bool:
    """Whether an error of `pin/ls` says that there is no such pin; nodes tell it by these words alone."""
    return "is not pinned" in message


def refused(expected: str) -> Rejected:
    """An answer that is not as it must be."""
    return Rejected("block_store_refused", f"expected {expected}")


def away(reason: str) -> Unavailable:
    """No whole answer."""
    return Unavailable("block_store_away", f"the IPFS node gives no answer: {reason}")


def _cid(text: str) -> Cid:
    try:
        return parse_cid(text)
    except Rejected as cause:
        raise refused("a CIDv1 by SHA-256") from cause
