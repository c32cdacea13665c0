"""The writer: one thread that turns drafts into durable entries.

Owns the only connection that writes and the tail of the log. Must never answer before the fsync, never sign, and never
touch the disk again after a failed commit.

* Natural batching: while one group is in its fsync, the next one gathers in the queue. Nobody waits for a timer.
* A refused member writes nothing and the rest of its group goes on. A member that raises anything else takes the group
  down; each member is then tried alone, so only the culprit fails.
* Answers leave after COMMIT returned, refusals too: "this key is used" may rest on an earlier member of the group.
* Three ends of a group: committed; disk full (nothing written, everybody may retry, heals by itself); anything else
  (nobody knows what the disk holds: all waiters hear OutcomeUnknown and the process stops).

Measured: `README.md` beside this file. Crashes: `tests/crash/test_disk_faults.py`.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from appliance.ledger.draft import Recorded
from appliance.ledger.group import Append, Group, Tail
from appliance.ledger.guard import ClaimedKeys, KeysUnused
from appliance.ledger.merkle import Tile
from appliance.ledger.projection import Projector
from appliance.ledger.wal import WalKeeper
from appliance.model.errors import Bug, OutcomeUnknown, Rejected, TillstoneError, Unavailable

# A group is one transaction: large enough that fsync and head cost nothing per entry, small enough that the members
# of the next one wait about 50 ms.
GROUP_ENTRIES_MAX = 4_096
GROUP_BYTES_MAX = 8 << 20
# What may wait at all: about a second of work. More would only be answered after the caller gave up.
QUEUE_ENTRIES_MAX = 32_768
QUEUE_BYTES_MAX = 64 << 20
SWITCH_INTERVAL_S = 0.0005

Answer: TypeAlias = "tuple[Recorded, ...] | TillstoneError"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one group came to. `tail` is durable; `tiles` are those that became full."""

    tail: Tail
    tiles: tuple[Tile, ...]
    answers: tuple[tuple[Append, Answer], ...]


class CommitFailed(Exception):
    """The disk failed inside a transaction: nobody knows what it holds."""


class Writer:
    """Takes appends from any thread; calls `settle` and `fail` on its own."""

    def __init__(
        self,
        *,
        connection: sqlite3.Connection,
        projector: Projector,
        wal: WalKeeper,
        tail: Tail,
        settle: Callable[[Settled], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._connection = connection
        self._projector = projector
        self._wal = wal
        self._tail = tail
        self._settle = settle
        self._fail = fail
        self._queue: deque[Append] = deque()
        self._queued_entries = 0
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        # With Python's 5 ms a busy event loop made a group of one entry take 27 ms instead of 0.5 (measured): each
        # step of the writer waited a whole interval for the interpreter.
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self._thread.start()

    def submit(self, append: Append) -> None:
        """Queue an append; its answer comes through `settle`.

        Raises:
            Unavailable: `ledger_busy`, the queue is full; `ledger_closed`, the writer stopped. Nothing was queued.
        """
        with self._changed:
            if self._is_closing:
                raise Unavailable("ledger_closed", "the ledger takes no more entries; the process is stopping")
            entries = self._queued_entries + len(append.drafts)
            size_bytes = self._queued_bytes + append.size_bytes
            # A lone append larger than the bound passes when nothing waits: the door bounds what it may hold.
            if self._queue and (entries > QUEUE_ENTRIES_MAX or size_bytes > QUEUE_BYTES_MAX):
                raise Unavailable("ledger_busy", f"expected at most {QUEUE_ENTRIES_MAX} entries waiting, saw {entries}")
            self._queued_entries, self._queued_bytes = entries, size_bytes
            self._queue.append(append)
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, then stop; returns when the thread has ended."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    # --- the thread ---

    def _run(self) -> None:
        while (members := self._take()) and self._write_group(members):
            pass

    def _write_group(self, members: list[Append]) -> bool:
        """Write and answer one group; False when the disk failed and nothing may be written any more."""
        try:
            self._write(members)
            members = []  # answered
            self._wal.after_commit(self._connection)
        except (CommitFailed, sqlite3.Error) as error:
            # A failed fsync leaves pages that look clean: a retry would "succeed" and lose them at the next power
            # cut (fsyncgate, 2018). Only a restart that rewrites the WAL can be trusted; see recover.py.
            self._abandon(members, error)
            return False
        return True

    def _take(self) -> list[Append]:
        """Everything that waits, up to a group; empty when closing."""
        with self._changed:
            while not self._queue and not self._is_closing:
                self._changed.wait()
            members: list[Append] = []
            entries = size_bytes = 0
            while self._queue:
                entries += len(self._queue[0].drafts)
                size_bytes += self._queue[0].size_bytes
                if members and (entries > GROUP_ENTRIES_MAX or size_bytes > GROUP_BYTES_MAX):
                    break
                member = self._queue.popleft()
                self._queued_entries -= len(member.drafts)
                self._queued_bytes -= member.size_bytes
                members.append(member)
            return members

    def _write(self, members: Sequence[Append]) -> None:
        """Bring one group to one of its ends."""
        try:
            settled = self._transact(members)
        except CommitFailed:
            raise
        # Any exception: guards and projections are other people's code, and one till's bad entry must not stop the
        # others. Nothing is swallowed: alone, the culprit is answered with what it raised.
        except Exception as error:
            self._roll_back()
            if _is_disk_full(error):
                # No commit frame was written, so after a crash SQLite would drop the frames that were.
                self._answer_all(members, Unavailable("disk_full", "the disk is full; nothing was written"))
            elif _is_disk_failure(error):
                raise CommitFailed(str(error)) from error
            elif len(members) == 1:
                self._answer_all(members, _as_ours(error))
            else:
                for member in members:
                    self._write((member,))
        else:
            # A crash from here on loses the answers, not the entries: callers retry by their key and find them.
            self._tail = settled.tail
            self._settle(settled)

    def _transact(self, members: Sequence[Append]) -> Settled:
        """One transaction; on return it is on the disk."""
        # A crash anywhere before COMMIT leaves WAL frames without a commit mark: recovery ignores them.
        self._begin()
        group = Group(self._connection, self._projector, self._tail)
        claimed = ClaimedKeys(self._connection, (m.guard for m in members if isinstance(m.guard, KeysUnused)))
        answers = tuple([(member, self._admit(member, group, claimed)) for member in members])
        if group.size == self._tail.size:
            self._roll_back()
            return Settled(tail=self._tail, tiles=(), answers=answers)
        tail, tiles = group.finish()
        self._commit()
        return Settled(tail=tail, tiles=tiles, answers=answers)

    def _admit(self, member: Append, group: Group, claimed: ClaimedKeys) -> Answer:
        """Check the guard and take the member into the group, or say why not."""
        guard = member.guard
        if guard is None:
            return group.add(member)
        if isinstance(guard, KeysUnused):
            try:
                claimed.check(guard)
            except Rejected as refusal:
                return refusal
            claimed.claim(guard)
            return group.add(member)
        # Outside the `try`: what an earlier member's projection raises is not this member's refusal.
        group.flush()
        try:
            guard.check(self._connection)
        except Rejected as refusal:
            return refusal
        return group.add(member)

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        """The point of no return: before it nothing is, after it everything is."""
        try:
            # Writes the commit frame and fsyncs the WAL. A crash inside may leave the group durable or not: nobody was
            # told either, and a torn frame fails SQLite's checksum.
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if _is_disk_full(error):
                raise
            raise CommitFailed(str(error)) from error

    def _roll_back(self) -> None:
        # SQLite may have rolled back by itself (https://sqlite.org/lang_transaction.html, "automatic rollback").
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise CommitFailed(str(error)) from error

    def _answer_all(self, members: Sequence[Append], error: TillstoneError) -> None:
        self._settle(Settled(tail=self._tail, tiles=(), answers=tuple((member, error) for member in members)))

    def _abandon(self, members: Sequence[Append], error: Exception) -> None:
        """Tell everybody that nobody knows, and never write again."""
        with self._changed:
            self._is_closing = True
            waiting = [*members, *self._queue]
            self._queue.clear()
        # `fail` first: by the time a caller hears of it, the ledger already refuses to sign.
        self._fail(error)
        self._answer_all(waiting, OutcomeUnknown("commit_failed", "the disk failed during a commit; the box restarts"))


_LOCAL_ERRORS = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)


def _is_disk_full(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and _primary_code(error) == sqlite3.SQLITE_FULL


def _is_disk_failure(error: Exception) -> bool:
    """Whether SQLite blames the file or itself, not the statement: everything that is not known to be harmless."""
    return isinstance(error, sqlite3.Error) and _primary_code(error) not in _LOCAL_ERRORS


def _primary_code(error: sqlite3.Error) -> int:
    # Errors that Python's module raises by itself (wrong parameter count) carry no code and are the statement's fault.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _as_ours(error: Exception) -> TillstoneError:
    if isinstance(error, TillstoneError):
        return error
    bug = Bug("append_failed", f"a guard or projection raised {type(error).__name__}")
    bug.__cause__ = error
    return bug
