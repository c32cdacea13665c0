"""Owns the promises of a sealed stream: whole, in order, for one key and header, or nothing is believed."""

from __future__ import annotations

import io
import itertools
import os

import pytest

from appliance.crypto import hpke
from appliance.crypto.hpke import Recipient
from appliance.crypto.sealed_stream import CHUNK_BYTES, SEALED_CHUNK_BYTES, SEALED_KEY_BYTES, StreamOpener, StreamSealer
from appliance.model.errors import Rejected

SEED = bytes(range(32))
INFO = b"header"
RECIPIENT = Recipient(hpke.public_key_of(SEED))


def sealed(plain: bytes, *, step: int = 50_000) -> bytes:
    sealer = StreamSealer(RECIPIENT, INFO)
    pieces = [sealer.write(plain[at : at + step]) for at in range(0, len(plain), step)]
    return b"".join([sealer.sealed_key, *pieces, sealer.end()])


def opened(stream: bytes, *, seed: bytes = SEED, info: bytes = INFO) -> bytes:
    return b"".join(StreamOpener(io.BytesIO(stream), len(stream), seed, info).chunks())


def refused(stream: bytes) -> None:
    with pytest.raises(Rejected, match="seal_refused"):
        opened(stream)


def chunks(stream: bytes) -> tuple[bytes, list[bytes]]:
    body = stream[SEALED_KEY_BYTES:]
    parts = [body[at : at + SEALED_CHUNK_BYTES] for at in range(0, len(body), SEALED_CHUNK_BYTES)]
    return stream[:SEALED_KEY_BYTES], parts


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_was_sealed_is_opened(size: int) -> None:
    plain = os.urandom(size)
    stream = sealed(plain)
    assert opened(stream) == plain
    assert len(chunks(stream)[1]) == max(1, -(-size // CHUNK_BYTES)), "the last chunk is never empty but alone"


def test_a_stream_cut_anywhere_is_refused() -> None:
    stream = sealed(os.urandom(3 * CHUNK_BYTES + 17))
    edges = [SEALED_KEY_BYTES + number * SEALED_CHUNK_BYTES for number in range(4)]
    for at in itertools.chain(edges, [edge + 1 for edge in edges], [edge + 9_000 for edge in edges[:-1]]):
        refused(stream[:at])
    refused(stream + b"\x00")


def test_chunks_moved_repeated_or_left_out_are_refused() -> None:
    head, parts = chunks(sealed(os.urandom(4 * CHUNK_BYTES)))
    for order in ([1, 0, 2, 3], [0, 0, 1, 2, 3], [0, 2, 3], [0, 1, 3, 2], [0, 1, 2, 3, 3]):
        refused(head + b"".join([parts[at] for at in order]))


def test_a_chunk_of_another_stream_is_refused() -> None:
    plain = os.urandom(3 * CHUNK_BYTES)
    head, parts = chunks(sealed(plain))
    _, others = chunks(sealed(plain))
    refused(head + parts[0] + others[1] + parts[2])


def test_another_key_or_header_opens_nothing() -> None:
    stream = sealed(b"plain")
    for changed in ({"seed": bytes(32)}, {"info": b"Header"}):
        with pytest.raises(Rejected, match="seal_refused"):
            opened(stream, **changed)
