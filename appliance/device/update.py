"""Updates as the process sees them: take one, have it installed, prove itself after it, tell what became of it.

Owns the states (`model/update_state.py`) and their entries. Its rules:
- an update is verified, approved at the TPM and durable in the log before the installer is asked;
- a new image proves itself in its first start from cold, before it says that it is ready: the boot loader confirms it
  only then, and the floor is raised only after that, because from then on the old image opens nothing;
- what the installer says is believed about the disk, never about who signed what.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from appliance.crypto.owner import OwnerPublic, SignedStatement
from appliance.device.update_log import KnownUpdate, read_update, update_draft
from appliance.evidence.update import Installed, PcrPolicy, UpdateStatement, require_update
from appliance.evidence.update_file import UpdateStream, size_of
from appliance.ledger.draft import Purpose
from appliance.ledger.ledger import Ledger
from appliance.model.errors import OutcomeUnknown, Rejected, TillstoneError, Unavailable
from appliance.model.update_state import OPEN, UpdateState, follow
from appliance.ports.clock import Clock
from appliance.ports.platform import Counters, RunningImage, Spool
from appliance.runtime.log import Log
from appliance.wire import update_entries
from appliance.wire.installer import Installing, Report
from appliance.wire.requests import Wire

LOOK_MS: Final = 15_000
"""Each look may start the installer's program, which takes its time on a small machine."""
OPERATOR: Final = "operator"
_REQUEST_BYTES: Final = 16
_DETAIL_CHARACTERS_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateParty:
    """Who decides about updates of this box.

    Attributes:
        image: what runs.
        owner: whose signature counts.
        approve: lets the TPM open the PIN for these machine states too, beside those of the image whose number is the
            floor; durable when it returns; blocking.
        require: raises unless the box's state lets an update begin.
        sell: the test sale; returns its entry.
        room_bytes_min: what selling needs of the disk.
    """

    image: RunningImage
    owner: OwnerPublic
    counters: Counters
    approve: Callable[[tuple[PcrPolicy, ...], int], None]
    require: Callable[[], None]
    sell: Callable[[], Awaitable[int]]
    room_bytes_min: int


class Updates:
    """The newest update, and the service that brings it to its end."""

    def __init__(self, *, party: UpdateParty, spool: Spool, ledger: Ledger, clock: Clock, log: Log) -> None:
        self._party = party
        self._spool = spool
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._known = KnownUpdate()
        self._sale: int | None = None
        self._staging = asyncio.Lock()

    @property
    def known(self) -> KnownUpdate:
        """What the log says."""
        return self._known

    @property
    def image(self) -> RunningImage:
        """What runs."""
        return self._party.image

    async def settle(self) -> None:
        """Prove this image if it is on trial; call it last, before the box says that it is ready.

        Raises:
            TillstoneError: it cannot sell; the reason is left for the image that may have to go on.
        """
        await self._load()
        if self._known.state in OPEN and self._known.version == self._party.image.version:
            try:
                await self._prove()
            except TillstoneError as trouble:
                await asyncio.to_thread(self._spool.note, f"{trouble.code}: {trouble.detail}")
                raise

    async def run(self) -> None:
        """A service: what the installer says becomes an entry."""
        while True:
            if self._known.state in OPEN and not self._staging.locked():
                try:
                    await self._look()
                except (Unavailable, OutcomeUnknown) as trouble:
                    self._log.warning("update.unrecorded", code=trouble.code)  # the next look tries again
            await self._clock.sleep(LOOK_MS)

    async def stage(self, content: AsyncIterator[bytes]) -> UpdateStatement:
        """Take an update file and have it installed; the machine starts again by itself soon after.

        Raises:
            Rejected: the file is refused (`require_update`, `UpdateStream`); `update_in_progress`.
            Unavailable: `update_no_room`; the box's state allows none; a device is away. Nothing was begun.
        """
        self._party.require()
        async with self._staging:
            if self._known.state in OPEN:
                raise Rejected("update_in_progress", f"the update to {self._known.version} has not ended yet")
            installed = await self._installed()
            statement = await self._receive(content, lambda signed: self._judge(signed, installed))
            staged = update_entries.UpdateStagedEntry(
                asked=secrets.token_bytes(_REQUEST_BYTES),
                before=self._party.image.version,
                number=statement.number,
                resets=await self._party.counters.resets(),
                version=statement.version,
                root_hash=statement.root_hash,
            )
            async with self._cleared_on_failure():
                await asyncio.to_thread(self._spool.keep)
                await asyncio.to_thread(self._party.approve, statement.policies, installed.floor)
                await self._record(UpdateState.STAGED, update_entries.UPDATE_STAGED, staged, actor=OPERATOR)
            await asyncio.to_thread(self._spool.ask, staged.asked)
            return statement

    async def floor(self) -> int:
        """The number of the newest release that was confirmed here."""
        return await self._party.counters.floor()

    async def _installed(self) -> Installed:
        image = self._party.image
        return Installed(model=image.model, version=image.version, floor=await self.floor())

    def _judge(self, signed: SignedStatement, installed: Installed) -> UpdateStatement:
        statement = require_update(signed, self._party.owner, installed)
        if self._spool.room_bytes() < size_of(statement) + self._party.room_bytes_min:
            raise Unavailable("update_no_room", f"an update of {size_of(statement)} bytes would leave too little room")
        return statement

    async def _receive(
        self, content: AsyncIterator[bytes], judge: Callable[[SignedStatement], UpdateStatement]
    ) -> UpdateStatement:
        stream = UpdateStream(judge)
        take = await asyncio.to_thread(self._spool.begin)

        def feed(piece: bytes) -> None:
            stream.feed(piece)
            take(piece)

        async with self._cleared_on_failure():
            async for piece in content:
                await asyncio.to_thread(feed, piece)
            return stream.finish()

    @asynccontextmanager
    async def _cleared_on_failure(self) -> AsyncIterator[None]:
        """Also when the caller hangs up: what nobody will install takes no room."""
        try:
            yield
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._spool.clear))
            raise

    async def _prove(self) -> None:
        known = self._known
        resets = await self._party.counters.resets()
        if resets <= known.resets:
            raise Unavailable("update_not_cold", "a new image proves itself after a start from cold, which this is not")
        self._sale = await self._party.sell()
        if known.state is UpdateState.STAGED:
            tried = update_entries.UpdateTriedEntry(resets=resets, version=known.version)
            await self._record(UpdateState.TRYING, update_entries.UPDATE_TRIED, tried)

    async def _look(self) -> None:
        report = await asyncio.to_thread(self._spool.report)
        runs_new = self._known.version == self._party.image.version
        if report is None or report.asked != self._known.asked.hex():
            await self._ask_again(runs_new)
        elif report.state is Installing.CONFIRMED and runs_new and self._sale is not None:
            await self._confirm(self._sale)
        elif report.state in (Installing.REFUSED, Installing.FELL_BACK) and not runs_new:
            await self._give_up(report.code, await self._reason(report))
        elif await asyncio.to_thread(self._spool.ask, self._known.asked):
            # Its last word is not the end: it looks again when it is asked, whatever else starts it or does not.
            await asyncio.to_thread(self._spool.nudge)

    async def _ask_again(self, runs_new: bool) -> None:
        """The power may have gone between the entry and the request."""
        if not await asyncio.to_thread(self._spool.ask, self._known.asked) and not runs_new:
            await self._give_up("update_lost", "the file is not there any more")

    async def _confirm(self, sale: int) -> None:
        known = self._known
        # Only now: the boot loader would not go back by itself any more, and the old image opens nothing from here on.
        await self._party.counters.raise_floor(known.number)
        confirmed = update_entries.UpdateConfirmedEntry(sale=sale, number=known.number, version=known.version)
        await self._record(UpdateState.CONFIRMED, update_entries.UPDATE_CONFIRMED, confirmed)
        await asyncio.to_thread(self._spool.clear)

    async def _give_up(self, code: str, detail: str) -> None:
        fallen = update_entries.UpdateFellBackEntry(
            code=code,
            before=self._party.image.version,
            detail=detail[:_DETAIL_CHARACTERS_MAX],
            version=self._known.version,
        )
        await self._record(UpdateState.FELL_BACK, update_entries.UPDATE_FELL_BACK, fallen)
        await asyncio.to_thread(self._spool.clear)

    async def _reason(self, report: Report) -> str:
        noted = await asyncio.to_thread(self._spool.noted)
        return "; ".join(each for each in (report.detail, noted) if each)

    async def _record(self, after: UpdateState, kind: str, body: Wire, *, actor: str = "box") -> None:
        before = self._known.state
        draft = update_draft(kind, body, self._clock.now_ms(), actor=actor)
        follow(before, after)
        await self._ledger.append([draft], purpose=Purpose.OUTCOME)
        await self._load()
        self._log.warning("update.changed", state=after, before=before, version=self._known.version)

    async def _load(self) -> None:
        self._known = await self._ledger.read(read_update, purpose=Purpose.OUTCOME)
