"""The HTTP face of a witness: every strange answer is a reason of ours, bounded in time and bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from appliance.adapters.witness_http import HttpWitness
from appliance.evidence.cosignature import LINES_BYTES_MAX
from appliance.model.errors import Rejected, Unavailable
from appliance.ports.witness import Cosigned, NotConsistent, OtherHead

ORIGIN: Final = "shop.example/SN-1/1"
ORIGIN_HASH: Final = hashlib.sha256(ORIGIN.encode()).hexdigest()
"""C2SP tlog-witness: what stands between the monitoring prefix and `/checkpoint`."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def witness_answering(handler: Handler, *, deadline_ms: int = 5_000) -> AsyncIterator[HttpWitness]:
    """A witness whose server is `handler`."""
    application = web.Application()
    application.router.add_post("/prefix/add-checkpoint", handler)
    application.router.add_get(f"/prefix/{ORIGIN_HASH}/checkpoint", handler)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as http:
            prefix = f"http://127.0.0.1:{runner.addresses[0][1]}/prefix/"
            yield HttpWitness(name="w1.example", prefix=prefix, http=http, deadline_ms=deadline_ms)
    finally:
        await runner.cleanup()


def answer(status: int, body: bytes = b"", **headers: str) -> Handler:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return handle


async def ask(witness: HttpWitness) -> Cosigned | OtherHead | NotConsistent:
    return await witness.add_checkpoint(old_size=3, proof=(b"p" * 32,), note=b"note\n")


async def test_the_question_is_the_specifications() -> None:
    bodies: list[bytes] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.read())
        return web.Response(body=b"lines\n")

    async with witness_answering(handle) as witness:
        assert await ask(witness) == Cosigned(lines=b"lines\n")
    assert bodies == [b"old 3\ncHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA=\n\nnote\n"]


async def test_a_conflict_names_the_size_and_a_wrong_proof_is_told() -> None:
    async with witness_answering(answer(409, b"42\n")) as witness:
        assert await ask(witness) == OtherHead(size=42)
    async with witness_answering(answer(422)) as witness:
        assert await ask(witness) == NotConsistent()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
async def test_a_refusal_asks_for_a_person(status: int) -> None:
    async with witness_answering(answer(status)) as witness:
        with pytest.raises(Rejected, match="witness_refused"):
            await ask(witness)


@pytest.mark.parametrize(
    "handler",
    [
        answer(500),
        answer(503),
        answer(204),
        answer(302, Location="http://127.0.0.1:1/elsewhere"),
        answer(409, b"not a size"),
        answer(409, b"42"),
        answer(409, b"-1\n"),
        answer(200, b"x" * (LINES_BYTES_MAX + 1)),
    ],
)
async def test_a_strange_answer_is_no_answer(handler: Handler) -> None:
    async with witness_answering(handler) as witness:
        with pytest.raises(Unavailable, match="witness_away"):
            await ask(witness)


async def test_the_checkpoint_that_it_holds_is_read_where_the_specification_says() -> None:
    async with witness_answering(answer(200, b"note\n")) as witness:
        assert await witness.latest_checkpoint(ORIGIN) == b"note\n"


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * LINES_BYTES_MAX)


@pytest.mark.parametrize(
    "handler", [answer(404), answer(503), answer(204), answer(302, Location="http://127.0.0.1:1/elsewhere"), endless]
)
async def test_a_checkpoint_that_is_not_shown_is_none(handler: Handler) -> None:
    async with witness_answering(handler) as witness:
        with pytest.raises(Unavailable, match="witness_away"):
            await witness.latest_checkpoint(ORIGIN)


async def test_a_witness_that_hangs_is_given_up() -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with witness_answering(hang, deadline_ms=50) as witness:
        with pytest.raises(Unavailable, match="did not answer within 50 ms"):
            await ask(witness)


async def test_nobody_there_is_a_sentence() -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(Unavailable, match="cannot be asked"):
            await ask(HttpWitness(name="w1.example", prefix="http://127.0.0.1:1", http=http))
