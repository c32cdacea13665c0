"""The ledger: the face that the rest of the process sees, on the event loop.

Owns the futures of waiting callers, the published tail, readers and receipts. Must never touch the writer's connection
or decide what an entry means.

* One way in: `append`. On return the entries are on the disk.
* `sign_heads` and `watch` are essential services for as long as the ledger is open: without the first no receipt comes,
  and the second ends the process when a commit failed, so that it comes back through recovery.
* Cancelling an `append` gives up the wait, not the entries.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from appliance.ledger.burst import Answer, hear
from appliance.ledger.disclosures import KIND_ERASED, DisclosureVault, erased_body
from appliance.ledger.draft import Disclosure, Draft, Purpose, Recorded
from appliance.ledger.genesis import ACTOR as GENESIS_ACTOR
from appliance.ledger.genesis import KIND as GENESIS_KIND
from appliance.ledger.genesis import GenesisStatement, LogId
from appliance.ledger.group import Append, Tail
from appliance.ledger.guard import Guard
from appliance.ledger.head import Head, HeadSigner, LogSigners, SigningLag
from appliance.ledger.log_keys import KeyPeriod, LogKeys
from appliance.ledger.opening import Beginning, Opened, open_folder
from appliance.ledger.page import PAGE_ENTRIES_MAX, Page, read_page
from appliance.ledger.preparing import prepare
from appliance.ledger.projection import Projection
from appliance.ledger.prover import Prover, Watermark
from appliance.ledger.reader import Reader
from appliance.ledger.rebuild import rebuild
from appliance.ledger.receipt import ReceiptBundle, SignedHead
from appliance.ledger.room import Room
from appliance.ledger.wal import WalKeeper
from appliance.ledger.writer import Settled, Writer
from appliance.model.errors import Corrupt, OutcomeUnknown, TillstoneError, Unavailable
from appliance.model.invariants import ensure
from appliance.ports.clock import Clock

_T = TypeVar("_T")


class Ledger:
    """An open log."""

    def __init__(self, folder: Path, opened: Opened, signers: LogSigners, clock: Clock, room: Room) -> None:
        self._loop = asyncio.get_running_loop()
        self._folder = folder
        self._opened = opened
        self._clock = clock
        self._room = room
        self._waiting: dict[Append, asyncio.Future[tuple[Recorded, ...]]] = {}
        self._followers: list[asyncio.Future[None]] = []
        self._failure: Exception | None = None
        self._failed = asyncio.Event()
        self._reader = Reader(opened.reading)
        self._prover = Prover(opened.tail, self._reader)
        self._wal = WalKeeper(folder, self._fail)
        self._writer = self._new_writer()
        self._heads = HeadSigner(log_id=opened.log_id, signers=signers, newest=self._head_to_sign, clock=clock)

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        signers: LogSigners,
        projections: Sequence[Projection],
        clock: Clock,
        store_key: bytes | None = None,
        beginning: Beginning | None = None,
        room: Room | None = None,
    ) -> Ledger:
        """Recover the ledger in `folder`, or begin it when the folder holds none.

        Args:
            store_key: 32 bytes that wrap the subject keys; without it no draft may carry a disclosure.
            beginning: genesis and first entry, needed for a new log only.
        Raises:
            Corrupt: every code of `load_tail`; `log_keys_mismatch`: the signers are not the keys of this log.
            Rejected, Unavailable: as `opening.open_folder`.
        """
        opened = await asyncio.to_thread(
            open_folder, folder, projections=projections, store_key=store_key, beginning=beginning
        )
        ledger = cls(folder, opened, signers, clock, room if room is not None else Room(folder=folder, clock=clock))
        try:
            _check_keys(opened.keys.newest, signers)
            ledger._wal.start()
            ledger._writer.start()
            if opened.tail.size == 0 and beginning is not None:
                await ledger._begin(beginning)
        except BaseException:
            await ledger.close()
            raise
        # What was acknowledged before the stop may have no signed head yet.
        ledger._heads.want(ledger.head.size)
        return ledger

    # --- what it is ---

    @property
    def log_id(self) -> LogId:
        """SHA-256 of the genesis statement."""
        return self._opened.log_id

    @property
    def statement(self) -> GenesisStatement:
        """The genesis statement."""
        return self._opened.statement

    @property
    def keys(self) -> LogKeys:
        """Which keys sign heads of which size, as the log itself says."""
        return self._opened.keys

    @property
    def head(self) -> Head:
        """The newest durable head."""
        return Head(size=self._prover.tail.size, root=self._prover.tail.root)

    @property
    def vault(self) -> DisclosureVault | None:
        """The values that can be erased; None without a store key."""
        return self._opened.vault

    @property
    def tail(self) -> Tail:
        """Where the log ends, durable; never changed, so any thread may read it."""
        return self._prover.tail

    @property
    def signed_head(self) -> SignedHead | None:
        """The newest signed head; None until the first signature after a start."""
        return self._heads.signed

    @property
    def signing_lag(self) -> SigningLag:
        """How far signatures are behind what was asked."""
        return self._heads.lag

    @property
    def queue_depth(self) -> int:
        """Appends whose end is not known yet."""
        return len(self._waiting)

    # --- writing ---

    async def append(
        self, drafts: Sequence[Draft], guard: Guard | None = None, *, purpose: Purpose
    ) -> tuple[Recorded, ...]:
        """Make `drafts` permanent, all or none, in order and without a gap.

        On return the bytes are fsynced and covered by `head`; before that nothing is visible.

        Raises:
            Rejected: the guard refused; nothing was written.
            Unavailable: `ledger_busy`, `disk_full`, `disk_low` (intents only), `ledger_failed`, `ledger_closed`,
                `subject_being_erased`; nothing was written.
            OutcomeUnknown: the commit failed; the process is about to stop.
            Bug: a draft breaks the format, or guard or projection raised something of its own.
        """
        ensure(len(drafts) > 0, "an append has at least one draft")
        self._refuse_if_failed()
        if purpose is Purpose.INTENT:
            await self._room.require()
        return await self._submit(await prepare(tuple(drafts), guard, self._opened.vault))

    async def append_each(
        self, members: Sequence[tuple[Sequence[Draft], Guard | None]], *, purpose: Purpose
    ) -> list[Answer]:
        """Append each member for itself, in order and as one burst; a refused one does not hold up the others.

        Raises:
            Unavailable, OutcomeUnknown, Bug: as `append`; some members may be durable, ask again with the same keys.
        """
        self._refuse_if_failed()
        if purpose is Purpose.INTENT:
            await self._room.require()
        futures = []
        trouble: Unavailable | None = None
        try:
            for drafts, guard in members:
                ensure(len(drafts) > 0, "an append has at least one draft")
                futures.append(self._submit(await prepare(tuple(drafts), guard, self._opened.vault)))
        except Unavailable as error:
            trouble = error
        return await hear(futures, trouble)

    async def erase(self, subject: str, *, actor: str) -> Recorded:
        """Forget a person: their values become noise everywhere, their entries stay provable."""
        vault = self._opened.vault
        if vault is None:
            raise Unavailable("disclosures_closed", "expected a store key for the subject keys")
        key_ids = await vault.begin_erasure(subject)
        try:
            body = erased_body(vault.alias_of(subject), key_ids)
            draft = Draft(kind=KIND_ERASED, actor=actor, time_ms=self._clock.now_ms(), body=body)
            (recorded,) = await self.append((draft,), purpose=Purpose.OUTCOME)
            # A crash here leaves the keys; the next start finds them in the entry and finishes.
            await vault.forget(key_ids)
            # SQLite's caches and free pages hold ciphertext only.
            return recorded
        finally:
            vault.end_erasure(subject)

    async def rebuild(self) -> None:
        """Empty every projection and replay the log into it; appends are refused meanwhile (`ledger_closed`)."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.sleep(0)  # the writer's last answers come first
        opened = self._opened
        await asyncio.to_thread(rebuild, opened.connection, opened.projector.projections, opened.vault)
        self._writer = self._new_writer()
        self._writer.start()

    # --- proving ---

    async def receipts(self, seqs: Sequence[int], wait_ms: int) -> ReceiptBundle | None:
        """Proofs for durable entries under one signed head; None while its signature is still pending.

        Old entries are proven under the newest signed head: nothing about receipts is stored.
        """
        size = max(seqs) + 1
        try:
            async with asyncio.timeout(wait_ms / 1000):
                # Whoever read the tables may know of a commit before this loop was told of it.
                await self.wait_beyond(size - 1)
                head = await self._heads.wait_for(size)
        except TimeoutError:
            return None
        return ReceiptBundle(head=head, entries=await self._prover.prove(tuple(seqs), head.size))

    async def consistency(self, size1: int, size2: int) -> tuple[bytes, ...]:
        """Proof that the log of `size2` extends the one of `size1`."""
        return await self._prover.consistency(size1, size2)

    async def check_watermark(self, seen: Watermark) -> None:
        """Compare the highest head that a terminal has verified with this log; raises as `Prover.check`."""
        await self._prover.check(seen)

    # --- reading ---

    async def read(self, query: Callable[[sqlite3.Connection], _T], *, purpose: Purpose = Purpose.INTENT) -> _T:
        """Run `query` in a short read transaction on the reader thread; it must not keep the connection.

        Raises:
            Unavailable: `ledger_busy`: too many reads wait; not where something begun is ended.
        """
        return await self._reader.read(query, may_refuse=purpose is Purpose.INTENT)

    async def entries(self, after: int, limit: int, kinds: frozenset[str] | None = None) -> Page:
        """Entries with seq > `after`, in order; `after` is -1 for the beginning.

        At most `limit` (and 1,000) entries are looked at, so a page may be empty though more follow.
        """
        count = min(limit, PAGE_ENTRIES_MAX)
        return await self.read(lambda connection: read_page(connection, after, count, kinds))

    async def disclosures(self, seq: int) -> tuple[Disclosure, ...]:
        """What can still be opened of an entry."""
        vault = self._opened.vault
        if vault is None:
            return ()
        rows = await self.read(
            lambda connection: connection.execute(
                "SELECT name, key_id, ciphertext FROM disclosures WHERE seq = ? ORDER BY name", (seq,)
            ).fetchall()
        )
        return await vault.open(rows)

    async def wait_beyond(self, size: int) -> int:
        """Return the log's size as soon as it is more than `size`: how followers sleep."""
        while self._prover.tail.size <= size:
            follower: asyncio.Future[None] = self._loop.create_future()
            self._followers.append(follower)
            await follower
        return self._prover.tail.size

    # --- living and dying ---

    async def sign_heads(self) -> None:
        """A service: sign heads for whoever waits, until cancelled."""
        await self._heads.run()

    async def watch(self) -> None:
        """A service: raise OutcomeUnknown when a commit failed, so that the process ends and recovers."""
        await self._failed.wait()
        raise OutcomeUnknown("commit_failed", "the disk failed during a commit; restart") from self._failure

    async def close(self) -> None:
        """Write what is queued and close the files. Killing the process instead is just as safe."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.sleep(0)  # the writer's last answers come first
        await asyncio.to_thread(self._close_files)

    def _close_files(self) -> None:
        self._wal.close()
        self._reader.close()
        if self._opened.vault is not None:
            self._opened.vault.close()
        # SQLite checkpoints when the last connection closes. After a failed commit nothing of ours touches the files
        # again: the process leaves by `os._exit`, without destructors.
        if self._failure is None:
            self._opened.connection.close()
        os.close(self._opened.lock)

    @property
    def failure(self) -> Exception | None:
        """What the disk said when a commit failed; None in a healthy ledger."""
        return self._failure

    # --- the writer's thread calls these ---

    def _settle(self, settled: Settled) -> None:
        self._loop.call_soon_threadsafe(self._on_settled, settled)

    def _fail(self, failure: Exception) -> None:
        # Set here and now: the event loop may be busy, and nothing may be accepted meanwhile.
        self._failure = failure
        self._loop.call_soon_threadsafe(self._failed.set)

    # --- helpers, on the event loop ---

    def _new_writer(self) -> Writer:
        return Writer(
            connection=self._opened.connection,
            projector=self._opened.projector,
            wal=self._wal,
            tail=self._prover.tail,
            settle=self._settle,
            fail=self._fail,
        )

    def _submit(self, append: Append) -> asyncio.Future[tuple[Recorded, ...]]:
        future: asyncio.Future[tuple[Recorded, ...]] = self._loop.create_future()
        self._waiting[append] = future
        try:
            self._writer.submit(append)
        except Unavailable:
            del self._waiting[append]
            raise
        return future

    async def _begin(self, beginning: Beginning) -> None:
        genesis = Draft(
            kind=GENESIS_KIND,
            actor=GENESIS_ACTOR,
            time_ms=beginning.created_ms,
            body=beginning.genesis.encode_body(),
        )
        await self.append((genesis, beginning.first), purpose=Purpose.OUTCOME)

    def _on_settled(self, settled: Settled) -> None:
        """Publish a group and wake its callers, in this order: who wakes sees its own entries."""
        recorded = [one for _, answer in settled.answers if isinstance(answer, tuple) for one in answer]
        self._prover.publish(settled.tail, settled.tiles, recorded)
        for append, answer in settled.answers:
            future = self._waiting.pop(append, None)
            if future is None or future.done():
                continue  # the caller was cancelled, or heard of a failed commit already
            if isinstance(answer, TillstoneError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if recorded:
            self._wake_followers()

    def _wake_followers(self) -> None:
        followers, self._followers = self._followers, []
        for follower in followers:
            if not follower.done():
                follower.set_result(None)

    def _head_to_sign(self) -> Head:
        self._refuse_if_failed()
        return self.head

    def _refuse_if_failed(self) -> None:
        if self._failure is not None:
            raise Unavailable("ledger_failed", "the disk failed; the box restarts")


def _check_keys(period: KeyPeriod, signers: LogSigners) -> None:
    """The keys at hand are those that the owner vouched for; another token's receipts would convince nobody."""
    since = f" since the rotation at entry {period.first_size - 1}" if period.first_size > 1 else ""
    for pinned, signer in (
        (period.keys.classical, signers.classical),
        (period.keys.post_quantum, signers.post_quantum),
    ):
        if (signer.algorithm, signer.public_key) != (pinned.algorithm, pinned.public_key):
            raise Corrupt(
                "log_keys_mismatch",
                f"the log expects key {pinned.key_id.hex()[:16]}{since}, the signer has {signer.key_id.hex()[:16]}",
            )
