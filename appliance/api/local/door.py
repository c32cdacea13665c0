"""The door of the command line on the box itself: a Unix socket that only the box's own user can open.

It invites and revokes terminals, tells the status, lists recent sales and proves the newest entry; `ledger.py` adds
what operators ask of the log, `subjects.py` what they ask about a person, `slip.py` a payment as paper has it,
`device.py` the box's state and lock, `update.py` another image, `days.py` the shop's day. Whoever can open it owns the
box anyway, so the file's mode is the authentication; nothing here moves money.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from appliance.api.local.days import DayRoutes
from appliance.api.local.device import DeviceRoutes
from appliance.api.local.escrow import EscrowRoutes
from appliance.api.local.exchange import LARGEST_BYTES_MAX, json_answer, read_body
from appliance.api.local.screening import ScreeningRoutes
from appliance.api.local.vault import VaultRoutes
from appliance.device.health import Health
from appliance.identity.pairing import Pairing
from appliance.identity.terminals import Terminals
from appliance.ledger.ledger import Ledger
from appliance.model.card_data import refuse_card_numbers
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import terminal_id
from appliance.model.limits import SIGNATURE_WAIT_MS
from appliance.payment.story import news
from appliance.wire.requests import Name, Text, Wire

_AFTER = re.compile(r"\A(?:-1|[0-9]{1,18})\Z")
_LIMIT = re.compile(r"\A[0-9]{1,4}\Z")


class _Invite(Wire, frozen=True, kw_only=True):
    terminal: Name


class _Revoke(Wire, frozen=True, kw_only=True):
    terminal: Name
    reason: Annotated[Text, msgspec.Meta(min_length=1)]


class Routes(Protocol):
    """What a part of the box answers here."""

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the routes."""


class LocalDoor:
    """Routes of the Unix socket; JSON in and out."""

    def __init__(
        self,
        *,
        pairing: Pairing,
        terminals: Terminals,
        ledger: Ledger,
        health: Callable[[], Health],
        pos_url: Callable[[], str],
        about: dict[str, str],
        public: Sequence[Routes],
        days: DayRoutes,
        screening: ScreeningRoutes,
        vault: VaultRoutes,
        escrow: EscrowRoutes,
        device: DeviceRoutes,
    ) -> None:
        self._pairing = pairing
        self._terminals = terminals
        self._ledger = ledger
        self._health = health
        self._pos_url = pos_url
        self._about = about
        self._public = public
        self._days = days
        self._screening = screening
        self._vault = vault
        self._escrow = escrow
        self._device = device

    def application(self, middleware: Middleware) -> web.Application:
        """The aiohttp application of the socket."""
        application = web.Application(middlewares=[middleware], client_max_size=LARGEST_BYTES_MAX)
        application.router.add_get("/status", self._status, name="local_status")
        application.router.add_get("/terminals", self._list, name="local_terminals")
        application.router.add_get("/recent", self._recent, name="local_recent")
        application.router.add_get("/receipt", self._newest_receipt, name="local_receipt")
        application.router.add_post("/invite", self._invite, name="local_invite")
        application.router.add_post("/revoke", self._revoke, name="local_revoke")
        for routes in self._public:
            routes.add_to(application.router)
        self._days.add_to(application.router)
        self._screening.add_to(application.router)
        self._vault.add_to(application.router)
        self._escrow.add_to(application.router)
        self._device.add_to(application.router)
        return application

    async def _status(self, _request: web.Request) -> web.Response:
        health = self._health()
        return json_answer(
            {
                **self._about,
                "device": self._device.facts(),
                "level": health.level,
                "sentence": health.sentence,
                "findings": [
                    {
                        "check": finding.check,
                        "level": finding.level,
                        "sentence": finding.sentence,
                        "next": finding.next_step,
                    }
                    for finding in health.findings
                ],
            }
        )

    async def _list(self, _request: web.Request) -> web.Response:
        return json_answer(
            [
                {
                    "terminal": terminal.terminal_id,
                    "key_id": terminal.key_id.hex(),
                    "state": "revoked" if terminal.is_revoked else "paired",
                }
                for terminal in sorted(self._terminals.all, key=lambda each: (each.terminal_id, each.is_revoked))
            ]
        )

    async def _recent(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "-1")
        limit = request.query.get("limit", "100")
        if not _AFTER.match(after) or not _LIMIT.match(limit):
            raise Rejected("body_invalid", "expected whole numbers for `after` and `limit`")
        return json_answer(await news(self._ledger, int(after), min(int(limit), 500)))

    async def _newest_receipt(self, _request: web.Request) -> web.Response:
        """A receipt of the newest entry: whoever exports the log takes its signed head from it."""
        receipt = await self._ledger.receipts((self._ledger.head.size - 1,), SIGNATURE_WAIT_MS)
        if receipt is None:
            raise Unavailable("signing_down", "no head could be signed in time")
        return json_answer({"receipt": receipt.encode()})

    async def _invite(self, request: web.Request) -> web.Response:
        invite = await read_body(request, _Invite)
        refuse_card_numbers((invite.terminal,))
        code = self._pairing.invite(invite.terminal)
        certificate = self._pairing.certificate_sha256.hex()
        return json_answer({"code": code, "qr": f"tillstone:pair?url={self._pos_url()}&code={code}&cert={certificate}"})

    async def _revoke(self, request: web.Request) -> web.Response:
        revoke = await read_body(request, _Revoke)
        refuse_card_numbers((revoke.reason,))
        seq = await self._terminals.revoke(terminal_id(revoke.terminal), revoke.reason)
        return json_answer({"seq": seq})
