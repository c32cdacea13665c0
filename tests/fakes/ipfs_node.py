"""An IPFS node that can be told to fail and to lie; verified by tests/contract/test_block_store.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import BodyPartReader, web

from appliance.evidence.car import read_car
from appliance.evidence.cid import cid_text, parse_cid, raw_cid
from appliance.evidence.publication_root import read_root
from appliance.model.errors import Rejected
from appliance.model.ids import Cid

Fault = Callable[[web.Request, bytes], web.StreamResponse]


class FakeIpfsNode:
    """The RPC on a free port of loopback. Switches are plain attributes.

    Attributes:
        blocks, pins: what it holds; a test may change both behind its back.
        hangs: verbs that never answer.
        says: verbs that answer with exactly these bytes, status 200.
        fails: verbs that answer 500 with this message.
        cuts: verbs whose connection breaks in the middle of the body.
        redirects: verbs that send the asker elsewhere.
        floods: verbs whose body never ends.
        forgets: the last block of each import is gone at once.
        asked: every verb in order.
    """

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}
        self.pins: set[Cid] = set()
        self.hangs: set[str] = set()
        self.says: dict[str, bytes] = {}
        self.fails: dict[str, str] = {}
        self.cuts: set[str] = set()
        self.redirects: dict[str, str] = {}
        self.floods: set[str] = set()
        self.forgets = False
        self.asked: list[str] = []
        self.api_base = ""
        self._runner: web.AppRunner | None = None
        self._let_go = asyncio.Event()

    def heal(self) -> None:
        """Answer again as a node should; what it holds stays."""
        for switch in (self.hangs, self.says, self.fails, self.cuts, self.redirects, self.floods):
            switch.clear()
        self.forgets = False

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_post("/api/v0/{verb:.+}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.api_base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        verb = request.match_info["verb"]
        self.asked.append(verb)
        body = await self._uploaded(request) if verb == "dag/import" else b""
        if verb in self.hangs:
            await self._let_go.wait()
        if verb in self.floods or verb in self.cuts:
            return await self._broken(request, endless=verb in self.floods)
        if verb in self.redirects:
            return web.Response(status=307, headers={"Location": self.redirects[verb]})
        if verb in self.fails:
            return _error(self.fails[verb])
        if verb in self.says:
            return web.Response(body=self.says[verb], content_type="application/json")
        match verb:
            case "dag/import":
                return self._import(body)
            case "block/get":
                return self._get(parse_cid(request.query["arg"]))
            case _:
                return self._list(parse_cid(request.query["arg"]))

    def _import(self, car: bytes) -> web.Response:
        try:
            read = read_car(car)
            linked = read_root(read.blocks[read.root]).links()
        except Rejected as refusal:
            return _error(f"Failed to import DAG: {refusal.detail}")
        self.blocks |= read.blocks
        if any(cid not in self.blocks for cid in linked):
            return _error("Failed to import DAG: request timed out")
        self.pins.add(read.root)
        if self.forgets:
            del self.blocks[linked[-1]]
        root = {"Root": {"Cid": {"/": cid_text(read.root)}, "PinErrorMsg": ""}}
        return web.Response(body=json.dumps(root).encode() + b"\n", content_type="application/json")

    def _get(self, cid: Cid) -> web.Response:
        if cid not in self.blocks:
            return _error("Failed to get block: request timed out")
        return web.Response(body=self.blocks[cid])

    def _list(self, cid: Cid) -> web.Response:
        if cid not in self.pins:
            return _error(f"path '{cid_text(cid)}' is not pinned")
        return web.json_response({"Keys": {cid_text(cid): {"Type": "recursive"}}})

    async def _uploaded(self, request: web.Request) -> bytes:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        return bytes(await part.read())

    async def _broken(self, request: web.Request, *, endless: bool) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_length = None if endless else 1000
        if endless:
            answer.enable_chunked_encoding()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x" * (64 << 10 if endless else 10))
                if not endless:
                    break
        except ConnectionError:  # the asker has had enough
            return answer
        assert request.transport is not None
        request.transport.abort()
        return answer


def other_root() -> bytes:
    """An import's answer that names another root than the one that was sent."""
    return json.dumps({"Root": {"Cid": {"/": cid_text(raw_cid(b"other"))}, "PinErrorMsg": ""}}).encode()


def _error(message: str) -> web.Response:
    return web.json_response({"Message": message, "Code": 0, "Type": "error"}, status=500)
