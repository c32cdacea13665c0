"""May this box move money? Every reason not to, in one place, in the order in which a person should hear them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from appliance.crypto import jws
from appliance.ledger.head import SigningLag
from appliance.ledger.ledger import Ledger
from appliance.ledger.prover import Watermark
from appliance.ledger.shown_head import verify_shown_head
from appliance.model.device_state import Act, Condition, DeviceState, Role, require
from appliance.model.errors import Corrupt, Rejected, Unavailable
from appliance.wire.requests import HeadBody


class Quarantine:
    """Set once, by evidence that this log is not the one the world has seen; only a person lifts it, by a restart."""

    def __init__(self) -> None:
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """Why the box moves no money but what it began; None when it may."""
        return self._reason

    def set(self, reason: str) -> None:
        """Keep the first reason: later ones are its consequences."""
        self._reason = self._reason or reason

    def conditions(self) -> Sequence[Condition]:
        """As `model/device_state.py` has it."""
        return () if self._reason is None else (Condition(state=DeviceState.QUARANTINED, reason=self._reason),)


class BoxAdmission:
    """Satisfies `ports/admission.py` from the box's own state.

    Args:
        conditions: what holds now; `model/device_state.py` says what that forbids.
    """

    def __init__(
        self,
        *,
        conditions: Callable[[], Sequence[Condition]],
        signing_lag: Callable[[], SigningLag],
        unsigned_age_max_ms: int,
        unsigned_entries_max: int,
    ) -> None:
        self._conditions = conditions
        self._signing_lag = signing_lag
        self._unsigned_age_max_ms = unsigned_age_max_ms
        self._unsigned_entries_max = unsigned_entries_max

    def admit(self) -> None:
        """Raise Unavailable unless a new sale may start."""
        require(self._conditions(), Act.SELL, Role.TERMINAL)
        lag = self._signing_lag()
        # A head that is one sale behind is daily life; what counts is how long signing has been failing, and how much
        # an auditor would find unproven.
        if lag.age_ms > self._unsigned_age_max_ms or lag.entries > self._unsigned_entries_max:
            raise Unavailable(
                "signing_down",
                f"{lag.entries} entries wait for a signature since {lag.age_ms // 1000} s; new sales wait for it",
            )

    def admit_undo(self) -> None:
        """Raise Unavailable where the state forbids that; unsigned entries alone never keep money from a customer."""
        require(self._conditions(), Act.UNDO, Role.TERMINAL)


class LogWatermark:
    """Compares what terminals have seen with the log, and quarantines a log that was rolled back or replaced.

    A terminal's word alone stops nothing but this terminal: a lying one could close the shop. What does is a head that
    this log's own keys signed and that the log does not contain.
    """

    def __init__(self, *, ledger: Ledger, quarantine: Quarantine) -> None:
        self._ledger = ledger
        self._quarantine = quarantine

    async def check(self, size: int, root: bytes) -> None:
        """Return when the head is one of this log's.

        Raises:
            Rejected: `head_evidence_needed`: it is not, by the terminal's word.
            Unavailable: `quarantined` already.
        """
        try:
            await self._ledger.check_watermark(Watermark(size=size, root=root))
        except Corrupt as claimed:
            self._require_one_log()
            raise Rejected(
                "head_evidence_needed", f"this log does not contain the head of size {size}; show it signed (verb head)"
            ) from claimed

    async def show(self, head: HeadBody) -> int:
        """The log's size when `head` is one of its own.

        Raises:
            Rejected: `head_evidence_refused`: the two signatures are not this log's over one head.
            Unavailable: `quarantined`, from now on: they are, and the log does not contain it.
        """
        root = bytes.fromhex(head.root)
        try:
            halves = [jws.from_base64url(half.encode()) for half in (head.classical, head.post_quantum)]
            size = verify_shown_head(halves, root, self._ledger.keys)
        except Rejected as fault:
            raise Rejected("head_evidence_refused", f"{fault.code}: {fault.detail}") from fault
        try:
            await self._ledger.check_watermark(Watermark(size=size, root=root))
        except Corrupt as evidence:
            self._quarantine.set(evidence.detail)
            self._require_one_log()
        return self._ledger.head.size

    def _require_one_log(self) -> None:
        require(self._quarantine.conditions(), Act.SELL, Role.TERMINAL)
