"""What a REST twin has whose customers act: by themselves, or on a page with buttons; and its one listener.

POST /_twin/customer        one of the twin's `customer_shape`: what customers do from now on
POST /_twin/webhooks        one of its `hook_shape`
"""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from aiohttp import web
from typing_extensions import override

from provisioning.sandbox.twin_control import read_json
from provisioning.sandbox.twin_delivery import Listener, set_hook
from provisioning.sandbox.twin_rest import Answered, RestTwin


class CustomerTwin(RestTwin):
    """The page and its part of the control door."""

    vendor: ClassVar[str]
    page_path: ClassVar[str]
    choice: ClassVar[str]
    """What the page's form asks."""
    buttons: ClassVar[Mapping[str, str]]
    """What each choice is called on the page; the first one counts where none is made."""
    customer_shape: ClassVar[type[msgspec.Struct]]
    hook_shape: ClassVar[type[Listener]]

    @abstractmethod
    def told(self, request: web.Request) -> str | None:
        """What the page says of what is to be paid; None: there is no such thing."""

    @abstractmethod
    def press(self, request: web.Request, choice: str) -> None:
        """The customer pressed a button; inside a transaction."""

    @override
    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get(self.page_path, self._page)
        router.add_post(self.page_path, self._button)
        router.add_post("/_twin/customer", self._customer)
        router.add_post("/_twin/webhooks", self._hook)

    def ok(self, body: dict[str, Any] | None = None) -> web.Response:
        """It went well."""
        return self.respond(Answered(status=200, body=body or {}))

    async def keep(self, request: web.Request, name: str, shape: type[msgspec.Struct]) -> web.Response:
        """Keep what the request says as a note."""
        self.store.keep_note(name, msgspec.to_builtins(await read_json(request, shape)))
        return self.ok()

    async def _page(self, request: web.Request) -> web.Response:
        told = self.told(request)
        if told is None:
            return web.Response(status=404, text="There is nothing to pay here.")
        buttons = "".join(
            f"<button name={self.choice} value={each}>{name}</button>" for each, name in self.buttons.items()
        )
        text = f"<!doctype html><title>{self.vendor} twin</title><h1>{html.escape(told)}</h1>"
        text += f"<form method=post>{buttons}</form><p>No money moves anywhere."
        return web.Response(text=text, content_type="text/html")

    async def _button(self, request: web.Request) -> web.Response:
        choice = str((await request.post()).get(self.choice, next(iter(self.buttons))))
        with self.store.transaction():
            self.press(request, choice)
        return web.Response(text="Thank you. The till goes on by itself.")

    async def _customer(self, request: web.Request) -> web.Response:
        return await self.keep(request, "customer", self.customer_shape)

    async def _hook(self, request: web.Request) -> web.Response:
        set_hook(self.store, await read_json(request, self.hook_shape))
        return self.ok()
