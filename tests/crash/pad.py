"""A PIN pad that outlives the box: what it accepted, charged and forgot lies in a file. Holds no test.

The box under test opens it where `PAD` names its file; a test reads and changes the same file while the box is down, or
where the box only reads.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from appliance.model.ids import ProviderKey, ProviderReference
from appliance.model.limits import PROVIDER_DEADLINE_MS
from appliance.ports import provider as port


@dataclass
class PadCard:
    """One card.

    Attributes:
        state: `accepted`, `charged`, `declined` or `forgotten`.
        is_offline: it was accepted without its bank at first.
        asked: how often its bank was asked.
    """

    payment: str
    minor: int
    state: str
    is_offline: bool
    asked: int = 0
    refunded: int = 0


@dataclass
class PadMemory:
    """Everything that the pad knows. Attributes: `keys`, which card each provider key was about."""

    is_bank_down: bool = True
    says_no: bool = False
    keeps: bool = False
    cards: dict[str, PadCard] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


def read_pad(path: Path) -> PadMemory:
    """The memory in the file; an empty one where there is none yet."""
    if not path.exists():
        return PadMemory()
    plain = json.loads(path.read_text())
    return PadMemory(**{**plain, "cards": {name: PadCard(**card) for name, card in plain["cards"].items()}})


def write_pad(path: Path, memory: PadMemory) -> None:
    """All of it or nothing, however the process ends."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(memory)))
    os.replace(fresh, path)


class FilePad:
    """Satisfies `Forwards`; one authorisation, forward or refund under one key has one end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def authorise(self, operation: port.Authorise) -> port.Answer:
        memory = read_pad(self._path)
        if memory.is_bank_down and not operation.may_accept_offline:
            return port.Declined(code=port.BANK_UNREACHABLE, message="The bank cannot be asked.")
        name, is_offline = f"pad-{len(memory.cards) + 1}", memory.is_bank_down
        memory.cards[name] = PadCard(
            payment=str(operation.reference.payment_key),
            minor=operation.amount.amount_minor,
            state="accepted" if is_offline else "charged",
            is_offline=is_offline,
            asked=0 if is_offline else 1,
        )
        memory.keys[operation.provider_key] = name
        write_pad(self._path, memory)
        return _authorised(operation, ProviderReference(name), memory.cards[name])

    async def forward(self, operation: port.Forward) -> port.Answer:
        memory = read_pad(self._path)
        card = memory.cards[operation.of]
        if memory.is_bank_down and card.state == "accepted":
            return port.NotSent(reason=port.BANK_UNREACHABLE)
        if card.state == "accepted":
            card.asked += 1
            card.state = "declined" if memory.says_no else "charged"
            write_pad(self._path, memory)
        return _known(operation, card)

    async def cancel(self, operation: port.Cancel) -> port.Answer:
        memory = read_pad(self._path)
        card = memory.cards[operation.of]
        if card.state not in ("accepted", "forgotten") or memory.keeps:
            return port.Refused(code="cannot_forget", detail="it goes to its bank")
        card.state = "forgotten"
        write_pad(self._path, memory)
        return _confirmed(operation, operation.of)

    async def refund(self, operation: port.Refund) -> port.Answer:
        memory = read_pad(self._path)
        if operation.provider_key not in memory.keys:
            memory.cards[operation.of].refunded += operation.amount.amount_minor
            memory.keys[operation.provider_key] = operation.of
            write_pad(self._path, memory)
        return _confirmed(operation, operation.of)

    async def find(
        self, operation: port.Operation, *, since_ms: int, known: ProviderReference | None = None
    ) -> port.Found | port.Absent | port.Unknown:
        memory = read_pad(self._path)
        absent = port.Absent(as_of_ms=time.time_ns() // 1_000_000)
        match operation:
            case port.Authorise() | port.Refund():
                name = memory.keys.get(operation.provider_key)
                if name is None:
                    return absent
                if isinstance(operation, port.Refund):
                    return port.Found(answer=_confirmed(operation, ProviderReference(name)))
                return port.Found(answer=_authorised(operation, ProviderReference(name), memory.cards[name]))
            case port.Forward():
                answer = _known(operation, memory.cards[operation.of])
                return absent if isinstance(answer, port.NotSent) else port.Found(answer=answer)
            case _:
                is_forgotten = memory.cards[operation.of].state == "forgotten"
                return port.Found(answer=_confirmed(operation, operation.of)) if is_forgotten else absent

    def patience_ms(self, operation: port.Operation) -> int:
        return PROVIDER_DEADLINE_MS

    def give_up(self, provider_key: ProviderKey) -> None:
        """Nobody is waited for."""

    def hurry(self, reference: ProviderReference) -> bool:
        return False

    async def close(self) -> None:
        """Nothing to release."""


def _authorised(
    operation: port.Authorise, name: ProviderReference, card: PadCard
) -> port.Confirmed | port.AcceptedOffline:
    if not card.is_offline:
        return _confirmed(operation, name)
    now_ms = time.time_ns() // 1_000_000
    return port.AcceptedOffline(provider_reference=name, amount=operation.amount, accepted_ms=now_ms)


def _known(operation: port.Forward, card: PadCard) -> port.Confirmed | port.Declined | port.NotSent:
    match card.state:
        case "charged":
            return _confirmed(operation, operation.of)
        case "declined":
            return port.Declined(code="insufficient_funds", message="The bank said no.")
        case _:
            return port.NotSent(reason="waits")


def _confirmed(operation: port.Operation, name: ProviderReference) -> port.Confirmed:
    now_ms = time.time_ns() // 1_000_000
    return port.Confirmed(provider_reference=name, amount=operation.amount, confirmed_ms=now_ms)
