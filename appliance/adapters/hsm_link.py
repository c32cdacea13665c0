"""The connection to the HSM: one token, one owner thread, one breaker, shared by everything that uses the token.

PKCS#11 has one login and one Initialize per process, so reconnecting ends the sessions of everybody; that is why
signers and ciphers share this link instead of connecting themselves. Never presents the PIN twice after a refusal.

- Connecting happens on the owner thread, when a call needs it: a device that comes back is used by the next call after
  the back-off, without a restart and without a background task. `probe` is such a call for status pages.
- A call that hangs costs its thread and session, not the login; the next call gets a fresh session.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, cast

from appliance.adapters.breaker import BackOff, Breaker
from appliance.adapters.owner_thread import OwnerThread, SessionKind
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, TillstoneError, Unavailable
from appliance.model.invariants import present
from appliance.ports.clock import Clock
from drivers.hsm import library as hsm_library
from drivers.hsm.destroy import destroy_all
from drivers.hsm.errors import (
    BlobRefused,
    HsmError,
    KeyRefused,
    LibraryBusy,
    MechanismMissing,
    PinRefused,
    TokenAway,
    TokenRefused,
)
from drivers.hsm.token import Pin, Session, Token

Result = TypeVar("Result")
Opened = TypeVar("Opened")
PROBE_DEADLINE_MS: Final = 2_000
_PROBE_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmAddress:
    """Which token; `serial` as PKCS#11 shows it, None to go by the label alone."""

    library_path: str
    token_label: str
    token_serial: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmState:
    """What the status page shows; `reason` is empty when ok.

    ok: the last call succeeded, or none was made yet. degraded: it heals by itself when the cause is gone.
    away: it is not tried again by itself; a person must look.
    """

    kind: Literal["ok", "degraded", "away"]
    reason: str


class HsmSession:
    """What the owner thread holds: a worker session, and the keys and ciphers opened in it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._opened: dict[Hashable, object] = {}

    def once(self, name: Hashable, open_it: Callable[[Session], Opened]) -> Opened:
        """Open a key once per session; it is thrown away with the session, never carried to another."""
        if name not in self._opened:
            self._opened[name] = open_it(self.session)
        return cast("Opened", self._opened[name])


class HsmLink:
    """The one connection of this process to its token."""

    def __init__(
        self,
        *,
        address: HsmAddress,
        pin: Pin,
        clock: Clock,
        random: Callable[[], float],
        back_off: BackOff | None = None,
    ) -> None:
        self._address = address
        self._pin = pin
        self._token: Token | None = None  # owner thread only
        self._must_reinitialise = False  # owner thread only
        self._breaker = Breaker(device="the HSM", clock=clock, random=random, back_off=back_off or BackOff())
        self._thread = OwnerThread(
            kind=SessionKind(
                name="hsm",
                open=self._connect,
                close=lambda opened: opened.session.close(),
                translate=_translate,
                is_fatal=self._is_fatal,
            )
        )

    @property
    def state(self) -> HsmState:
        """Readable at any time, without asking the device."""
        if self._breaker.state == "held":
            return HsmState(kind="away", reason=self._breaker.reason)
        if self._breaker.state != "closed":
            return HsmState(kind="degraded", reason=self._breaker.reason)
        if self._thread.hung_count:
            return HsmState(kind="degraded", reason=f"{self._thread.hung_count} calls hang inside the token's library")
        return HsmState(kind="ok", reason="")

    async def call(self, work: Callable[[HsmSession], Result], deadline_ms: int) -> Result:
        """Run `work` on the owner thread, connecting first when needed.

        Raises:
            Unavailable: the device is away, busy or resting; nothing of use was done.
            OutcomeUnknown: the deadline passed inside the device.
            Corrupt: the token's key or our blob is not what our records say.
            Rejected: the token cannot do this at all.
        """
        self._breaker.admit()
        try:
            result = await self._thread.run(work, deadline_ms)
        except TillstoneError as error:
            self._judge(error)
            raise
        else:
            self._breaker.succeeded()
            return result
        finally:
            self._breaker.gave_up_trial()  # only when the trial said nothing: it was cancelled, late, or never began

    async def probe(self) -> HsmState:
        """Ask the device for a few random bytes and return the state; never raises."""
        with suppress(Unavailable, OutcomeUnknown, Corrupt, Rejected):
            await self.call(lambda opened: opened.session.random(_PROBE_BYTES), PROBE_DEADLINE_MS)
        return self.state

    async def destroy_keys(self, deadline_ms: int) -> int:
        """Destroy every object of the token, for good; how many, proven by looking again. Raises like `call`."""
        return await self.call(lambda _opened: self._destroy(), deadline_ms)

    async def close(self) -> None:
        """End the owner thread; the login ends with the process."""
        await self._thread.close()

    def _judge(self, error: TillstoneError) -> None:
        """Only the device's own failures count; data errors, full queues and late calls prove nothing about it."""
        match error.__cause__:
            case PinRefused() | KeyRefused() | TokenRefused():
                self._breaker.hold(error.detail)
            case TokenAway() | LibraryBusy():
                self._breaker.failed(error.detail)
            case BlobRefused() | MechanismMissing():
                self._breaker.succeeded()  # the token answered
            case _:
                pass

    def _connect(self) -> HsmSession:
        """On the owner thread. The first failure after a connection makes every later attempt begin with Initialize."""
        library = hsm_library.load(self._address.library_path)
        if self._must_reinitialise:
            library.reinitialise()
            self._must_reinitialise = False
        if self._token is None or not self._token.is_current():
            self._token = None
            self._token = Token.open(
                library=library, label=self._address.token_label, serial=self._address.token_serial, pin=self._pin
            )
        return HsmSession(self._token.session())

    def _destroy(self) -> int:
        """On the owner thread, in a session that may change the token."""
        session = present(self._token, "a call has connected").session(writable=True)
        try:
            return destroy_all(session)
        finally:
            session.close()

    def _is_fatal(self, error: Exception) -> bool:
        """On the owner thread. Only Finalize and Initialize recover a token that misbehaved."""
        is_fatal = isinstance(error, HsmError) and not isinstance(error, BlobRefused | MechanismMissing)
        if isinstance(error, TokenAway | LibraryBusy):
            self._must_reinitialise = True
        return is_fatal


def _translate(error: Exception) -> TillstoneError | None:
    match error:
        case TokenAway():
            return Unavailable("hsm_away", str(error))
        case LibraryBusy():
            return Unavailable("hsm_library_hangs", str(error))
        case PinRefused():
            return Unavailable("hsm_pin_refused", str(error))
        case TokenRefused():
            return Unavailable("hsm_token_refused", str(error))
        case KeyRefused():
            return Corrupt("hsm_key_refused", str(error))
        case BlobRefused():
            return Corrupt("hsm_blob_refused", str(error))
        case MechanismMissing():
            return Rejected("hsm_mechanism_missing", str(error))
        case _:
            return None
