"""The platform's root of trust as the core sees it: a TPM behind its owner thread, a deadline and a visible state.

- A TPM that came back is used by the next call: a dead context is thrown away and a call that did nothing is tried once
  more on a new one.
- A read that came late is Unavailable; an increment that came late or lost its answer is OutcomeUnknown and is never
  repeated here: the caller reads the epoch and decides.
- Never keeps the PIN and never logs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.model.errors import Corrupt, OutcomeUnknown, TillstoneError, Unavailable
from appliance.model.trusted_time import PlatformClock
from appliance.ports.sealer import Quoted
from drivers.tpm.bundle import TpmBundle
from drivers.tpm.clock import read_clock
from drivers.tpm.context import TpmContext
from drivers.tpm.counter import increment_counter, read_counter
from drivers.tpm.errors import TpmAway, TpmBusy, TpmError, TpmForeign, TpmPolicyRefused, TpmUnsure
from drivers.tpm.forget import forget
from drivers.tpm.quote import quote_with_values
from drivers.tpm.seal import unseal

Result = TypeVar("Result")
_ATTEMPTS_MAX: Final = 2
_QUEUE_DEPTH_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SealerState:
    """What the status page shows; `reason` is empty when ok.

    ok: the last call succeeded, or none was made yet. degraded: the TPM answered and refused. away: it did not answer.
    """

    kind: Literal["ok", "degraded", "away"]
    reason: str


class TpmSealer:
    """Satisfies `ports/sealer.py` for one provisioned TPM.

    Args:
        tcti: `device:/dev/tpmrm0` on a device, `swtpm:path=SOCKET` in the sandbox.
        bundle: what provisioning left; its policies are tried in turn.
        deadline_ms: how long one call may take; hardware needs up to a second for a key operation, and more when busy.
    """

    def __init__(self, *, tcti: str, bundle: TpmBundle, deadline_ms: int) -> None:
        self._bundle = bundle
        self._deadline_ms = deadline_ms
        self._state = SealerState(kind="ok", reason="")
        self._thread = OwnerThread(
            kind=SessionKind(
                name="tpm",
                open=lambda: TpmContext(tcti),
                close=TpmContext.close,
                translate=_translated,
                is_fatal=lambda error: isinstance(error, TpmAway),
            ),
            queue_depth_max=_QUEUE_DEPTH_MAX,
        )

    @property
    def state(self) -> SealerState:
        """How the last call went."""
        return self._state

    async def unseal(self) -> bytes:
        """The PIN. Raises Corrupt when no policy approves this machine, or when this is not the bundle's TPM."""
        return await self._read(self._unseal)

    async def epoch(self) -> int:
        """The epoch counter's value."""
        return await self._read(lambda tpm: read_counter(tpm, self._bundle.epoch_index))

    async def advance_epoch(self) -> int:
        """Increment the epoch counter. Raises OutcomeUnknown when nobody knows whether it happened: call `epoch`."""
        return await self._run(self._advance)

    async def clock(self) -> PlatformClock:
        """The TPM's clock."""
        read = await self._read(read_clock)
        return PlatformClock(powered_ms=read.clock_ms, resets=read.resets, is_safe=read.is_safe)

    async def quote(self, nonce: bytes) -> Quoted:
        """A quote over the bundle's PCRs, with their values."""
        bundle = self._bundle
        made, values = await self._read(
            lambda tpm: quote_with_values(tpm, ak_handle=bundle.ak_handle, pcrs=bundle.quote_pcrs, nonce=nonce)
        )
        return Quoted(attest=made.attest, signature=made.signature, pcr_values=values)

    async def forget(self) -> str:
        """Destroy what opens the PIN, for good and proven; how, for people. Raises Corrupt when the proof failed."""
        return (await self._run(lambda tpm: forget(tpm, self._bundle))).value

    async def floor(self) -> int:
        """The counter below which signed policies open nothing any more."""
        return await self._read(lambda tpm: read_counter(tpm, self._bundle.floor_index))

    async def raise_floor(self, number: int) -> int:
        """Raise it to `number`, never lower; what it is then. Raises OutcomeUnknown as `advance_epoch`."""
        return await self._run(lambda tpm: self._raise_floor(tpm, number))

    async def resets(self) -> int:
        """How often the machine started from cold, as the TPM counts."""
        return await self._read(lambda tpm: read_clock(tpm).resets)

    async def close(self) -> None:
        """TPM2_Shutdown and the end of the owner thread."""
        await self._thread.close()

    def _unseal(self, tpm: TpmContext) -> bytes:
        bundle = self._bundle
        secret = unseal(
            tpm,
            bundle.sealed,
            srk_handle=bundle.srk_handle,
            srk_name=bundle.srk_name,
            policies=bundle.policies,
        )
        _settle(tpm)
        return secret

    def _advance(self, tpm: TpmContext) -> int:
        value = increment_counter(tpm, self._bundle.epoch_index)
        _settle(tpm)
        return value

    def _raise_floor(self, tpm: TpmContext, number: int) -> int:
        value = read_counter(tpm, self._bundle.floor_index)
        while value < number:
            value = increment_counter(tpm, self._bundle.floor_index)
        _settle(tpm)
        return value

    async def _read(self, call: Callable[[TpmContext], Result]) -> Result:
        try:
            return await self._run(call)
        except OutcomeUnknown as late:
            raise Unavailable("tpm_late", f"a read changes nothing: {late.detail}") from late

    async def _run(self, call: Callable[[TpmContext], Result]) -> Result:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._deadline_ms / 1000
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                result = await self._thread.run(call, max(1, int((ends_at - loop.time()) * 1000)))
            except TillstoneError as error:
                # Gone before anything happened: perhaps only the context was stale, which a new one tells.
                if error.code == "tpm_away" and attempt < _ATTEMPTS_MAX:
                    continue
                self._state = _state_after(error)
                raise
            self._state = SealerState(kind="ok", reason="")
            return result
        raise AssertionError("unreachable: the last attempt returns or raises")


def _settle(tpm: TpmContext) -> None:
    """Make the next power cut an orderly one; the answer that is already there must not be lost over it."""
    try:
        tpm.settle()
    except TpmError:
        return  # noda objects survive an unorderly cut as well; the next call finds the TPM away and says so


def _translated(error: Exception) -> TillstoneError | None:
    match error:
        case TpmUnsure():
            return OutcomeUnknown("tpm_unsure", str(error))
        case TpmAway():
            return Unavailable("tpm_away", str(error))
        case TpmBusy():
            return Unavailable("tpm_busy", str(error))
        case TpmPolicyRefused():
            return Corrupt("tpm_policy_refused", str(error))
        case TpmForeign():
            return Corrupt("tpm_foreign", str(error))
        case TpmError():
            return Unavailable("tpm_refused", str(error))
        case _:
            return None


def _state_after(error: TillstoneError) -> SealerState:
    is_answering = error.code in ("tpm_busy", "tpm_policy_refused", "tpm_foreign", "tpm_refused")
    return SealerState(kind="degraded" if is_answering else "away", reason=f"{error.code}: {error.detail}")
