"""PIN pads of a world: devices that may take a card without its bank, and ask the bank later, as their port promises.

Owns what each pad accepted, charged and forgot, and what the banks say. What is not played is a pad's own line
(`appliance/adapters/pin_pad.py`): here the core's question travels as JSON, over the same network as everybody's.

A bank is asked once for each card. A pad that was alone for a while may ask by itself, and then knows what was said.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.adapters.provider_http import Reply
from appliance.model.ids import ProviderKey, ProviderName, ProviderReference
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.model.money import Money
from appliance.model.offline import OfflineLimits
from appliance.ports import provider as port
from appliance.ports.clock import Clock
from tests.world.network import Network, Twin

PIN_PAD: Final = ProviderName("pin_pad")
PADS: Final = {"till-1": "pad-a", "till-2": "pad-b", "till-3": "pad-b"}
"""Two tills share one."""
LIMITS: Final = OfflineLimits(sale_minor_max=2_000, terminal_minor_max=3_500, box_minor_max=6_000, age_hours_max=24)
"""So narrow that tills race for what is left."""
_DECLINES: Final = 0.08
_SAYS_NO: Final = 0.25
_FORGETS_NOT: Final = 0.2
_ASKS_BY_ITSELF: Final = 0.15


@dataclass(slots=True, kw_only=True)
class PadCard:
    """One card.

    Attributes:
        state: `accepted`, `charged`, `declined` after it was accepted, `forgotten`, or `refused` at once.
        is_offline: it was accepted without its bank at first.
        asked: how often its bank was asked.
    """

    payment: str
    terminal: str
    minor: int
    state: str
    is_offline: bool
    at_ms: int
    asked: int = 0
    refunded: int = 0


class PadTwin:
    """All pads, and the banks behind them."""

    failures: Final = {409: "{}", 429: "{}", 500: "{}"}

    def __init__(self, clock: Clock, randomness: random.Random, note: Callable[[str], None]) -> None:
        self._clock = clock
        self._randomness = randomness
        self._note = note
        self.is_bank_down = False
        self.cards: dict[str, PadCard] = {}
        self.wrong: list[str] = []
        self._by_key: dict[str, tuple[str, int]] = {}
        self._sent: set[str] = set()

    def charges(self) -> list[dict[str, Any]]:
        """The money oracle; what hangs on a bank counts as held."""
        return [
            {
                "metadata": {"tillstone_payment": card.payment},
                "amount": card.minor,
                "captured": card.minor if card.state == "charged" else 0,
                "refunded": card.refunded,
            }
            for card in self.cards.values()
            if card.state in ("accepted", "charged")
        ]

    def set_bank(self, *, is_down: bool) -> None:
        """A pad that waited for the line may have asked before anybody told it to."""
        if self.is_bank_down and not is_down:
            for name, card in self.cards.items():
                if card.state == "accepted" and self._randomness.random() < _ASKS_BY_ITSELF:
                    self._ask_bank(name, card)
        self.is_bank_down = is_down
        self._note("the banks are away" if is_down else "the banks are there")

    def serve(
        self, method: str, path: str, parameters: Mapping[str, Any], key: str | None, *, forget: bool, lag_s: float
    ) -> tuple[int, dict[str, Any]]:
        if method == "GET":
            return 200, self._find(parameters, lag_s)
        if key in self._sent:
            self.wrong.append(f"the key {key} was sent twice")
        self._sent.add(str(key))
        answer = self._do(path, parameters, str(key))
        self._note(f"{path} {parameters.get('minor', '')} under {key} -> {answer.get('state')} {answer.get('id', '')}")
        return (500, {}) if forget else (200, answer)

    def lie(self, body: dict[str, Any], fault: str) -> dict[str, Any]:
        if "id" not in body:
            return body
        return {**body, "minor": body["minor"] + 1} if fault == "wrong_amount" else {**body, "payment": "other"}

    def _do(self, path: str, parameters: Mapping[str, Any], key: str) -> dict[str, Any]:
        if path == "/authorise":
            return self._authorise(parameters, key)
        name = parameters["id"]
        card = self.cards[name]
        match path:
            case "/forward":
                if card.state == "accepted" and not self.is_bank_down:
                    self._ask_bank(name, card)
            case "/forget" if card.state == "accepted" and self._randomness.random() >= _FORGETS_NOT:
                card.state = "forgotten"
            case "/refund":
                if card.refunded + parameters["minor"] > card.minor or card.state != "charged":
                    self.wrong.append(f"{parameters['minor']} were to go back of {card}")
                    return self._told(name, "refused")
                card.refunded += parameters["minor"]
                self._by_key[key] = name, self._clock.now_ms()
                return {**self._told(name, "given"), "minor": parameters["minor"]}
            case _:
                pass
        return self._told(name)

    def _authorise(self, asked: Mapping[str, Any], key: str) -> dict[str, Any]:
        if self.is_bank_down and not asked["offline"]:
            return {"state": "unreachable"}
        name = f"{asked['pad']}-{len(self.cards) + 1}"
        self.cards[name] = card = PadCard(
            payment=asked["payment"],
            terminal=asked["terminal"],
            minor=asked["minor"],
            state="accepted" if self.is_bank_down else "charged",
            is_offline=self.is_bank_down,
            at_ms=self._clock.now_ms(),
        )
        if self._randomness.random() < _DECLINES:
            card.state, card.is_offline = "refused", False
        self._by_key[key] = name, card.at_ms
        self._watch()
        return self._told(name)

    def _ask_bank(self, name: str, card: PadCard) -> None:
        card.asked += 1
        card.state = "declined" if self._randomness.random() < _SAYS_NO else "charged"
        self._note(f"the bank of {name}: {card.state}")

    def _watch(self) -> None:
        """What really hangs on banks never exceeds what the shop can lose."""
        exposed: Counter[str] = Counter()
        for card in self.cards.values():
            if card.state == "accepted":
                exposed[card.terminal] += card.minor
                if card.minor > LIMITS.sale_minor_max:
                    self.wrong.append(f"{card.minor} were accepted offline at once")
        if exposed.total() > LIMITS.box_minor_max or any(at > LIMITS.terminal_minor_max for at in exposed.values()):
            self.wrong.append(f"{dict(exposed)} hang on banks that were not asked")

    def _find(self, asked: Mapping[str, Any], lag_s: float) -> dict[str, Any]:
        """By its own name at once; else in a listing, which lags."""
        now_ms = self._clock.now_ms()
        if "id" in asked:
            return {**self._told(asked["id"]), "as_of": now_ms}
        name, at_ms = self._by_key.get(asked["key"], ("", 0))
        if not name or not asked["since"] <= at_ms <= now_ms - round(1_000 * lag_s):
            return {"as_of": now_ms}
        return {**self._told(name), "as_of": now_ms}

    def _told(self, name: str, state: str | None = None) -> dict[str, Any]:
        card = self.cards[name]
        return {
            "id": name,
            "payment": card.payment,
            "minor": card.minor,
            "state": state or card.state,
            "is_offline": card.is_offline,
            "at": card.at_ms,
        }


class WorldPads:
    """Satisfies `Forwards` over the world's network."""

    def __init__(self, network: Network, twin: Twin) -> None:
        self._network = network
        self._twin = twin

    async def authorise(self, operation: port.Authorise) -> port.Answer:
        asked = {
            "pad": operation.source,
            "payment": str(operation.reference.payment_key),
            "terminal": operation.reference.terminal_id,
            "minor": operation.amount.amount_minor,
            "offline": operation.may_accept_offline,
        }
        return await self._ask("/authorise", operation, asked)

    async def forward(self, operation: port.Forward) -> port.Answer:
        return await self._ask("/forward", operation, {"id": operation.of})

    async def cancel(self, operation: port.Cancel) -> port.Answer:
        return await self._ask("/forget", operation, {"id": operation.of})

    async def refund(self, operation: port.Refund) -> port.Answer:
        return await self._ask("/refund", operation, {"id": operation.of, "minor": operation.amount.amount_minor})

    async def find(
        self, operation: port.Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> port.Found | port.Absent | port.Unknown:
        match operation:
            case port.Authorise():
                asked = {"key": operation.provider_key, "since": since_ms} if known is None else {"id": known}
            case port.Refund():  # listed on its card
                asked = {"key": operation.provider_key, "since": 0}
            case _:
                asked = {"id": operation.of}
        read = _read(await self._network.ask(self._twin, "GET", "/operation", asked, None))
        if isinstance(read, port.NotSent | port.Unknown):
            return port.Unknown(reason=read.reason)
        if "id" not in read:
            return port.Absent(as_of_ms=read["as_of"])
        if isinstance(operation, port.Refund):
            read = {**read, "state": "given", "minor": operation.amount.amount_minor}
        answer = _answer(operation, read)
        if isinstance(operation, port.Forward | port.Cancel) and read["state"] == "accepted":
            return port.Absent(as_of_ms=read["as_of"])
        if isinstance(operation, port.Cancel) and isinstance(answer, port.Refused):
            answer = port.Declined(code=answer.code, message="Its bank was asked.")
        if isinstance(answer, port.NotSent | port.Refused | port.Unknown):
            return port.Unknown(reason="unfinished")
        return port.Found(answer=answer)

    def patience_ms(self, operation: port.Operation) -> int:
        return PROVIDER_DEADLINE_MS

    def give_up(self, provider_key: ProviderKey) -> None:
        """Nobody is waited for."""

    def hurry(self, reference: ProviderReference) -> bool:
        return False

    async def close(self) -> None:
        """Nothing to release."""

    async def _ask(self, path: str, operation: port.Operation, asked: Mapping[str, Any]) -> port.Answer:
        read = _read(await self._network.ask(self._twin, "POST", path, asked, operation.provider_key))
        return read if isinstance(read, port.NotSent | port.Unknown) else _answer(operation, read)


def _read(reply: Reply | port.NotSent | port.Unknown) -> dict[str, Any] | port.NotSent | port.Unknown:
    if not isinstance(reply, Reply):
        return reply
    if reply.status in (409, 429):
        return port.NotSent(reason="pad_busy")
    try:
        read: dict[str, Any] = json.loads(reply.body)
    except ValueError:
        return port.Unknown(reason="answer_unreadable")
    return read if reply.status == 200 else port.Unknown(reason="pad_failed")


def _answer(operation: port.Operation, read: Mapping[str, Any]) -> port.Answer:
    """What the pad says about `operation`, compared with what was asked."""
    if read["state"] == "unreachable":
        return port.Declined(code=port.BANK_UNREACHABLE, message="The card's bank cannot be asked.")
    name = ProviderReference(read["id"])
    own = str(operation.reference.payment_key), operation.amount.amount_minor
    if (read["payment"], read["minor"]) != own:
        return port.Unknown(reason="answer_differs")
    amount = Money(read["minor"], operation.amount.currency)
    confirmed = port.Confirmed(provider_reference=name, amount=amount, confirmed_ms=read["at"])
    match operation, read["state"]:
        case port.Authorise(), _ if read["is_offline"]:
            return port.AcceptedOffline(provider_reference=name, amount=amount, accepted_ms=read["at"])
        case (port.Authorise() | port.Forward(), "charged") | (port.Refund(), "given") | (port.Cancel(), "forgotten"):
            return confirmed
        case (port.Authorise(), "refused") | (port.Forward(), "declined"):
            return port.Declined(code="insufficient_funds", message="The bank said no.", provider_reference=name)
        case port.Forward(), "accepted":
            return port.NotSent(reason=port.BANK_UNREACHABLE)
        case _:
            return port.Refused(code="cannot_be_done", detail=f"the card is {read['state']}")
