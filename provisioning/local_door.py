"""The box's local door as a command sees it: HTTP over the Unix socket beside the log.

Owns one exchange at a time, blocking. Must never retry: the caller knows whether asking again is safe.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlencode

import msgspec

from appliance.model.errors import Rejected, Unavailable
from appliance.wire.answers import ComparedAnswer, DayAnswer, ReconcileAnswer

SOCKET_NAME: Final = "local.sock"
ANSWER_BYTES_MAX: Final = 16 * 2**20
TIMEOUT_S: Final = 10.0
UPDATE_TIMEOUT_S: Final = 600.0
BACKUP_TIMEOUT_S: Final = 60.0
"""Between two pieces of a backup."""
PIECE_BYTES: Final = 1 << 20
LOOK_TIMEOUT_S: Final = 75.0
"""Above what the box gives a look (`api/local/reconcile.py`): it says by itself that a provider was too slow."""


class LocalDoor:
    """Ask the process whose log lies in `data`."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def status(self) -> dict[str, Any]:
        """The health of the box: level, sentence, findings."""
        answer: dict[str, Any] = self._ask("GET", "/status")
        return answer

    def device(self) -> dict[str, Any]:
        """`state`, `since_ms`, `reason`, and `lock`: the reason of one that stands, else null."""
        answer: dict[str, Any] = self._ask("GET", "/device")
        return answer

    def lock_device(self, reason: str) -> dict[str, Any]:
        """Sell nothing from here on; answers as `device`."""
        answer: dict[str, Any] = self._ask("POST", "/device/lock", {"reason": reason})
        return answer

    def unlock_device(self, reason: str) -> dict[str, Any]:
        """End the lock; answers as `device`."""
        answer: dict[str, Any] = self._ask("POST", "/device/unlock", {"reason": reason})
        return answer

    def accept_clock(self) -> dict[str, Any]:
        """The wall clock is right as it is; answers as `device`."""
        answer: dict[str, Any] = self._ask("POST", "/device/clock")
        return answer

    def terminals(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._ask("GET", "/terminals")
        return answer

    def recent(self, *, after: int, limit: int) -> Any:
        """What was sold after entry `after`."""
        return self._ask("GET", f"/recent?{urlencode({'after': after, 'limit': limit})}")

    def newest_receipt(self) -> bytes:
        """A receipt of the newest entry, as a receipt file."""
        return base64.b64decode(self._ask("GET", "/receipt")["receipt"])

    def invite(self, terminal: str) -> dict[str, str]:
        """A one-time code for a new terminal, and the same as the content of a QR code."""
        answer: dict[str, str] = self._ask("POST", "/invite", {"terminal": terminal})
        return answer

    def revoke(self, terminal: str, reason: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("POST", "/revoke", {"terminal": terminal, "reason": reason})
        return answer

    def history(self, key: str) -> dict[str, Any]:
        """Every entry that concerns a payment."""
        answer: dict[str, Any] = self._ask("GET", f"/ledger/history?{urlencode({'key': key})}")
        return answer

    def digest(self, at: str | None) -> dict[str, Any]:
        """The tree head as of a time, None for now."""
        answer: dict[str, Any] = self._ask(
            "GET", "/ledger/digest" + ("" if at is None else f"?{urlencode({'at': at})}")
        )
        return answer

    def proof(self, seq: int, size: int | None) -> bytes:
        """A tlog-proof of an entry, with the entry inside."""
        query = {"seq": seq} if size is None else {"seq": seq, "size": size}
        return str(self._ask("GET", f"/ledger/proof?{urlencode(query)}")["proof"]).encode()

    def evidence(self, *, key: str | None = None, seq: int | None = None) -> bytes:
        """The evidence bundle of a payment, or of one entry."""
        query = {"seq": seq} if key is None else {"key": key}
        return base64.b64decode(self._ask("GET", f"/ledger/evidence?{urlencode(query)}")["bundle"])

    def slip(self, key: str, width: int) -> dict[str, Any]:
        """A payment as paper has it: `text`, `link`, `standing`, `seq`, `entry_hash`."""
        answer: dict[str, Any] = self._ask("GET", f"/slip?{urlencode({'key': key, 'width': width})}")
        return answer

    def printer_columns(self) -> int:
        """Characters of a row of the box's printer. Raises Unavailable `printer_missing`."""
        return int(self._ask("GET", "/printer")["columns"])

    def print_lines(self, lines: Sequence[str]) -> dict[str, Any]:
        """Queue lines for the box's printer; answers as `print_slip`."""
        answer: dict[str, Any] = self._ask("POST", "/print", {"lines": lines})
        return answer

    def print_slip(self, key: str) -> dict[str, Any]:
        """Queue a copy for the box's printer; `printer` is how that was found last."""
        answer: dict[str, Any] = self._ask("POST", "/slip/print", {"key": key})
        return answer

    def consistency(self, size1: int, size2: int) -> dict[str, Any]:
        """Proof that the log of `size2` extends the one of `size1`."""
        answer: dict[str, Any] = self._ask("GET", f"/ledger/consistency?{urlencode({'from': size1, 'to': size2})}")
        return answer

    def integrity(self) -> dict[str, Any]:
        """Last verification, followers' lag, keys."""
        answer: dict[str, Any] = self._ask("GET", "/integrity")
        return answer

    def verify_now(self) -> dict[str, Any]:
        """Start a verification; answers as `integrity`."""
        answer: dict[str, Any] = self._ask("POST", "/integrity/verify")
        return answer

    def auditors(self) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self._ask("GET", "/auditors")
        return answer

    def admit_auditor(self, name: str, days: int) -> dict[str, Any]:
        """A new credential; its `token` is in this answer and nowhere else."""
        answer: dict[str, Any] = self._ask("POST", "/auditors/admit", {"auditor": name, "days": days})
        return answer

    def revoke_auditor(self, credential: str, reason: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("POST", "/auditors/revoke", {"credential": credential, "reason": reason})
        return answer

    def held_about(self, subject: str) -> dict[str, Any]:
        """How much the box holds about a person: `entries`, `first_ms`, `last_ms`."""
        answer: dict[str, Any] = self._ask("POST", "/subject/held", {"subject": subject})
        return answer

    def erase_subject(self, subject: str) -> dict[str, Any]:
        """Erase a person: `seq` of the `erased` entry, `entries` that lost their values."""
        answer: dict[str, Any] = self._ask("POST", "/subject/erase", {"subject": subject})
        return answer

    def export_subject(self, subject: str) -> Iterator[dict[str, Any]]:
        """What is held about a person, part by part (`appliance/api/subject_answers.py`); `end` comes last."""
        with closing(_UnixConnection(self._data)) as connection:
            try:
                connection.request("POST", "/subject/export", msgspec.json.encode({"subject": subject}))
                response = connection.getresponse()
                if response.status >= 400:
                    raise _refusal(response.status, "/subject/export", _decode(response.read(ANSWER_BYTES_MAX)))
                while line := response.readline(ANSWER_BYTES_MAX):
                    yield _decode(line)
            except (OSError, http.client.HTTPException) as cause:
                raise self._unreachable(cause) from cause

    def backup(self, file: BinaryIO) -> None:
        """Write a backup into `file`; whole only if it ends as one does.

        Raises:
            Rejected: `backup_not_set_up`. Unavailable: as the box says; or it went away in the middle.
        """
        with closing(_UnixConnection(self._data, BACKUP_TIMEOUT_S)) as connection:
            try:
                connection.request("POST", "/backup")
                response = connection.getresponse()
                if response.status >= 400:
                    raise _refusal(response.status, "/backup", _decode(response.read(ANSWER_BYTES_MAX)))
                while piece := response.read(PIECE_BYTES):
                    file.write(piece)
            except (OSError, http.client.HTTPException) as cause:
                raise self._unreachable(cause) from cause

    def prune_plan(self, days: int) -> dict[str, Any]:
        """What pruning would do (`appliance/ledger/prune.py`, PrunePlan)."""
        answer: dict[str, Any] = self._ask("POST", "/prune/plan", {"days": days})
        return answer

    def take_snapshot(self) -> int:
        """Take a snapshot now; the seq of its entry."""
        return int(self._ask("POST", "/prune/snapshot", {})["seq"])

    def prune(self, days: int) -> dict[str, Any]:
        """Prune; the plan that was carried out."""
        answer: dict[str, Any] = self._ask("POST", "/prune", {"days": days})
        return answer

    def screening(self) -> dict[str, Any]:
        """Thresholds, the model's hash, and what was watched or refused in the last day."""
        answer: dict[str, Any] = self._ask("GET", "/screening")
        return answer

    def change_screening(self, changes: dict[str, int | str]) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask("POST", "/screening/change", {"changed": changes})
        return answer

    def screened(self, key: str) -> list[dict[str, Any]]:
        """Every verdict on a sale or refund, oldest first."""
        answer: list[dict[str, Any]] = self._ask("GET", f"/screening/why?{urlencode({'key': key})}")
        return answer

    def vault(self, *, after: str = "") -> dict[str, Any]:
        """Tokens of the vault by name, with what each is bound to; data keys. `trouble` is null when all is well."""
        answer: dict[str, Any] = self._ask("GET", f"/vault?{urlencode({'after': after})}")
        return answer

    def rotate_vault(self) -> str:
        """Begin a new data key; its number. The tokens move in the background."""
        return str(self._ask("POST", "/vault/rotate", {})["key"])

    def forget_token(self, name: str, reason: str) -> int:
        """Forget a token for good; the entry that says so."""
        return int(self._ask("POST", "/vault/forget", {"name": name, "reason": reason})["seq"])

    def ask_about_lost(self, receipt: bytes) -> list[dict[str, Any]]:
        """What providers say of the open operations of a lost box, whose entries `receipt` proves; moves no money."""
        body = {"receipt": base64.b64encode(receipt).decode()}
        answer: list[dict[str, Any]] = self._ask("POST", "/escrow/ask", body, timeout_s=LOOK_TIMEOUT_S)
        return answer

    def day(self) -> DayAnswer:
        """What the open day came to so far."""
        return msgspec.convert(self._ask("GET", "/day"), DayAnswer)

    def close_day(self) -> DayAnswer:
        """Close the shop's open day; the last close where there is nothing to close."""
        return msgspec.convert(self._ask("POST", "/day/close", {}), DayAnswer)

    def compared(self) -> ComparedAnswer:
        """Whose money is compared with a statement, and whose is not."""
        return msgspec.convert(self._ask("GET", "/reconcile"), ComparedAnswer)

    def reconcile(self, day: str | None, provider: str | None = None) -> ReconcileAnswer:
        """Look at what is due and at `day` beside the provider's statement; of the last that ended without it."""
        body = {"day": day, "provider": provider}
        return msgspec.convert(self._ask("POST", "/reconcile", body, timeout_s=LOOK_TIMEOUT_S), ReconcileAnswer)

    def accept_break(self, kind: str, subject: str, reason: str, provider: str | None = None) -> int:
        """Close a break for good; returns the entry."""
        body = {"type": kind, "subject": subject, "reason": reason, "provider": provider}
        return int(self._ask("POST", "/reconcile/accept", body)["seq"])

    def update(self) -> dict[str, Any]:
        """How the newest update stands."""
        answer: dict[str, Any] = self._ask("GET", "/update")
        return answer

    def stage_update(self, file: Path) -> dict[str, Any]:
        """Have the image in an update file installed: `version` and `number` of it."""
        with file.open("rb") as content:
            answer: dict[str, Any] = self._ask("POST", "/update", content, timeout_s=UPDATE_TIMEOUT_S)
        return answer

    def _unreachable(self, cause: Exception) -> Unavailable:
        return Unavailable("box_unreachable", f"nobody answers at {self._data / SOCKET_NAME}: {cause}")

    def _ask(self, method: str, path: str, body: object = None, *, timeout_s: float = TIMEOUT_S) -> Any:
        connection = _UnixConnection(self._data, timeout_s)
        try:
            # A file goes out as it is, piece by piece.
            content = body if body is None or isinstance(body, io.BufferedReader) else msgspec.json.encode(body)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A body that is refused at its beginning is not read to its end; the answer says why.
                connection.request(method, path, content)
            response = connection.getresponse()
            answer = response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as cause:
            raise self._unreachable(cause) from cause
        finally:
            connection.close()
        decoded = _decode(answer)
        if response.status >= 400:
            raise _refusal(response.status, path, decoded)
        return decoded


def _refusal(status: int, path: str, answer: object) -> Unavailable | Rejected:
    problem = answer if isinstance(answer, dict) else {}
    kind = Unavailable if status >= 500 else Rejected
    return kind(str(problem.get("code", f"http_{status}")), str(problem.get("detail", path)))


def _decode(answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer)
    except msgspec.MsgspecError as cause:
        raise Unavailable("answer_unreadable", "the local door answered with something that is not JSON") from cause


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, folder: Path, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._folder = folder
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = connect_unix(self._folder, SOCKET_NAME, self._timeout_s)


def connect_unix(folder: Path, name: str, timeout_s: float) -> socket.socket:
    """A connection to the socket `name` in `folder`, however deep that lies.

    sockaddr_un holds 108 bytes; a path through an open directory (proc(5)) is always short enough.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{name}")
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(directory)
