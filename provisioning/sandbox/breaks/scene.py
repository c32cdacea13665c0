"""What every break needs: a till to sell from, the box's status, the control door, and a voice.

Owns the wording of each line and the list of promises that were not kept. Must never hide a surprise: a promise that
did not hold is said in red and makes the command fail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from appliance.model.errors import OutcomeUnknown, Rejected, TillstoneError, Unavailable
from appliance.model.ids import RequestKey
from appliance.model.money import Money
from appliance.wire.answers import PaymentAnswer
from appliance.wire.requests import PaymentBody, TenderBody
from provisioning.local_door import LocalDoor
from provisioning.sandbox.control import Control
from provisioning.sandbox.layout import TILLS, SandboxFolder
from provisioning.sandbox.tills import open_till
from provisioning.terminal.reasons import reason

LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """How one attempt to sell ended. `state` is the box's word, or refused, unreachable, unknown."""

    key: RequestKey
    state: str
    has_receipt: bool = False
    code: str = ""
    detail: str = ""
    answer: PaymentAnswer | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        if self.answer is None:
            return f"{self.state}: {self.detail or 'no reason was given'} ({self.code})"
        receipt = "with its receipt" if self.has_receipt else "its receipt is still to come"
        because = f": {reason(self.state, self.code)} ({self.code})" if self.code else ""
        return f"{self.state.replace('_', ' ')}, {receipt}{because}"


class Scene:
    """One break of one sandbox."""

    def __init__(self, folder: SandboxFolder) -> None:
        self.folder = folder
        self.control = Control(folder)
        self.local = LocalDoor(folder.data)
        self._console = Console(highlight=False, soft_wrap=True)
        self._broken_promises = 0
        self._number = 0

    def act(self, sentence: str) -> None:
        """What is done now, numbered."""
        self._number += 1
        self._console.print(f"\n[bold]{self._number}. {escape(sentence)}[/]")

    def tell(self, sentence: str) -> None:
        """What is seen."""
        self._console.print(f"   {escape(sentence)}")

    def promise(self, sentence: str, is_kept: bool) -> None:
        """Something that must hold here."""
        mark = "[green]✓[/]" if is_kept else "[red]✗ not as promised:[/]"
        self._console.print(f"   {mark} {escape(sentence)}")
        self._broken_promises += not is_kept

    def close(self) -> bool:
        """The last line; whether every promise was kept."""
        if self._broken_promises:
            count = "A promise was" if self._broken_promises == 1 else f"{self._broken_promises} promises were"
            self._console.print(f"\n[red]{count} not kept.[/] Read {escape(str(self.folder.appliance_log))}\n")
        else:
            self._console.print("\n[green]Nothing was lost, and the shop is whole again.[/]\n")
        return not self._broken_promises

    def sell(self, tender: str = "cash", *, amount_minor: int = 1250, seconds_max: float = 6.0) -> Sold:
        """One sale from till-1, told."""
        currency = self.folder.till(TILLS[0]).profile().currency
        self.tell(f"till-1 sells {Money(amount_minor, currency)}, {tender} ...")
        sold = asyncio.run(self._sell(tender, amount_minor, currency, int(seconds_max * 1000)))
        self.tell(f"... {sold.sentence}")
        return sold

    def ask(self, key: RequestKey) -> PaymentAnswer | None:
        """What became of a sale; None when the box cannot say now."""
        return asyncio.run(self._ask(key))

    def status(self) -> dict[str, Any] | None:
        """The box's health, told; None when nobody answers."""
        try:
            health = self.local.status()
        except TillstoneError:
            self.tell("the shop says nothing: nobody answers")
            return None
        self.tell(f"the shop says: {health['sentence']}")
        return health

    def wait(self, what: str, is_so: Callable[[], bool], *, seconds_max: float) -> bool:
        """Look twice a second until `is_so`; a promise with its time."""
        began = time.monotonic()
        with self._console.status(f"   waiting: {escape(what)}"):
            while not (held := is_so()) and time.monotonic() - began < seconds_max:
                time.sleep(LOOK_S)
        self.promise(f"{what} ({time.monotonic() - began:.1f} s)", held)
        return held

    def is_well(self) -> bool:
        """Whether the box says that nothing is wrong."""
        try:
            return bool(self.local.status()["level"] == "ok")
        except TillstoneError:
            return False

    def has_receipt(self, key: RequestKey) -> bool:
        """Whether the receipt of `key` is there now; the till checks it."""
        answer = self.ask(key)
        return answer is not None and answer.receipt is not None

    async def _sell(self, tender: str, amount_minor: int, currency: str, duration_ms: int) -> Sold:
        kind = TenderBody(kind="card" if tender == "card" else "cash", amount_minor=amount_minor)
        body = PaymentBody(currency=currency, tenders=(kind,), amount_minor=amount_minor)
        async with open_till(self.folder.till(TILLS[0])) as client:
            key = client.new_key()
            try:
                answer = await client.payment(body, key=key, deadline=client.deadline(duration_ms))
            except Rejected as refusal:
                return Sold(key=key, state="refused", code=refusal.code, detail=refusal.detail)
            except Unavailable as trouble:
                return Sold(key=key, state="not sold", code=trouble.code, detail=trouble.detail)
            except OutcomeUnknown as doubt:
                return Sold(key=key, state="unknown", code=doubt.code, detail=doubt.detail)
        return Sold(
            key=key, state=answer.state, has_receipt=answer.receipt is not None, code=answer.code or "", answer=answer
        )

    async def _ask(self, key: RequestKey) -> PaymentAnswer | None:
        async with open_till(self.folder.till(TILLS[0])) as client:
            try:
                return await client.status(key, deadline=client.deadline(3_000))
            except TillstoneError:
                return None
