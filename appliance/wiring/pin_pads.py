"""Builds the PIN pads of a box, where there are some: adapter, what the ledger tells it, what health says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from appliance.adapters.pin_pad import SILENT, Later, PinPadProvider
from appliance.adapters.pin_pad_line import PadSettings
from appliance.config.load import read_secret
from appliance.config.pin_pad import CURRENCY_NUMBERS, PinPads
from appliance.config.schema import Settings
from appliance.device.health import Check, Finding, Level
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import Rejected
from appliance.model.ids import OperationId, ProviderName, ProviderReference, TerminalId
from appliance.model.operation import OperationKind
from appliance.payment.device_log import begun_after, last_name_before
from appliance.ports.clock import Clock
from appliance.runtime.metrics import Metrics
from appliance.runtime.supervise import Restart, Supervisor

PIN_PAD: Final = ProviderName("pin_pad")
_PASSWORD_DIGITS: Final = 6
_LOOK_MS: Final = 30_000
_LOOK_AGAIN_MS: Final = 5_000
"""While one does not answer: whoever mended it looks at the status."""
_SAID: Final = {
    SILENT: ("does not answer", "Check its power, its cable and provider.pin_pad in the settings."),
    "pad_refuses": (
        "refuses the box",
        "Compare its password for tills with the file of provider.pin_pad.password_path.",
    ),
    "pad_tells_no_last_payment": (
        "does not tell its last payment, so nothing is sold at it",
        "Ask its vendor for Repeat Receipt (06 20) with Status-Information, and that the till alone begins payments.",
    ),
}


def open_pin_pads(pads: PinPads, settings: Settings, ledger: Ledger, clock: Clock) -> PinPadProvider:
    """Make ready to ask; no line is opened yet. Raises Rejected `pin_pad_password_invalid`."""
    password = read_secret(pads.password_path)
    digits = password.reveal_text()
    if len(digits) != _PASSWORD_DIGITS or not digits.isdecimal() or not digits.isascii():
        raise Rejected("pin_pad_password_invalid", "the file of provider.pin_pad.password_path must hold six digits")
    return PinPadProvider(
        pads=[
            PadSettings(
                name=name,
                address=address,
                baud=pads.baud,
                password=password,
                currency=CURRENCY_NUMBERS[settings.shop.currency],
                answer_s=pads.answer_ms / 1_000,
                customer_s=pads.customer_wait_ms / 1_000,
                is_used_by_hand=pads.is_used_by_hand,
            )
            for name, address in pads.places().items()
        ],
        bound={TerminalId(till): pad for till, pad in pads.bound().items()},
        currency=settings.shop.currency,
        log=LedgerPadLog(ledger),
        clock=clock,
    )


class LedgerPadLog:
    """Satisfies `PadLog`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def before(self, pad: str, operation: OperationId) -> ProviderReference | None:
        return await self._ledger.read(
            lambda connection: last_name_before(connection, PIN_PAD, pad, operation), purpose=Purpose.OUTCOME
        )

    async def after(self, pad: str, operation: OperationId) -> Later | None:
        found = await self._ledger.read(
            lambda connection: begun_after(connection, PIN_PAD, pad, operation), purpose=Purpose.OUTCOME
        )
        if found is None:
            return None
        kind, target = found
        # Only a payment began by reading: what was given back names the payment that it came from.
        return Later(mark=target if kind is OperationKind.AUTHORISE else None)


class PinPadParts:
    """Nothing at all where there is no PIN pad."""

    def __init__(
        self, provider: PinPadProvider | None, pads: PinPads | None, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._provider = provider
        self._names = () if pads is None else tuple(pads.places())
        self._clock = clock
        self._metrics = metrics
        self._is_up: dict[str, bool] = {}
        self._asked_ms: dict[str, int] = {}

    def begin(self, supervisor: Supervisor) -> None:
        """Ask each PIN pad again and again whether it is there; nothing waits for it."""
        if self._provider is not None:
            supervisor.start("pin pads", self._watch, restart=Restart.ON_CRASH)

    @property
    def checks(self) -> Sequence[Check]:
        """What health says of PIN pads."""
        return (self._finding,) if self._names else ()

    async def _watch(self) -> None:
        while True:
            for name in self._names:
                self._is_up[name] = self._provider is not None and await self._provider.answers(name)
                self._asked_ms[name] = self._clock.monotonic_ms()
                self._metrics.device_up(f"pin_pad_{name}", self._is_up[name])
            await self._clock.sleep(_LOOK_MS if all(self._is_up.values()) else _LOOK_AGAIN_MS)

    def _finding(self) -> Finding:
        refusals = {} if self._provider is None else self._provider.refusals
        wrong = {name: refusals.get(name, SILENT) for name in self._names if self._is_wrong(name, refusals)}
        if not wrong:
            return Finding(check="pin-pads", level=Level.OK, sentence=self._fine())
        name, reason = next(iter(wrong.items()))
        what, next_step = _SAID.get(reason, _SAID[SILENT])
        others = f" So are {len(wrong) - 1} more." if len(wrong) > 1 else ""
        return Finding(
            check="pin-pads",
            level=Level.COPING,
            sentence=f"The PIN pad {name} {what}; other tenders go on.{others}",
            next_step=next_step,
        )

    def _is_wrong(self, name: str, refusals: Mapping[str, str]) -> bool:
        if name in refusals:
            return True
        return not self._is_up.get(name, True) and self._heard_ms(name) <= self._asked_ms[name]

    def _heard_ms(self, name: str) -> int:
        """When it answered last, a sale included; -1: never."""
        return -1 if self._provider is None else self._provider.heard_ms.get(name, -1)

    def _fine(self) -> str:
        """With its age: the PIN pad may be gone since."""
        heard = [self._heard_ms(name) for name in self._names]
        if min(heard) < 0:
            return "Not every PIN pad was asked yet."
        return f"Every PIN pad answered, the longest ago {(self._clock.monotonic_ms() - min(heard)) // 1_000} s."
