"""A PIN pad that is not there: speaks ZVT over frames or bare, and keeps the money that it took.

Owns the PIN pad's side of a payment, written from the protocol and not from our driver: its framing is its own. What
customers do, and what breaks, is `customer`'s word (`customers.py`); further switches damage a frame, fall silent after
so many messages, or contradict themselves. What it took outlives every cut of its line; so does a customer who stands
there, and until he is done it refuses everything but an abort.

Source: as `drivers/serial/zvt.py`. What a PIN pad tells of payments that it sends to the bank afterwards (06 51) is our
assumption: that chapter could not be read.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

_FRAME: Final = re.compile(rb"\x10\x02((?:[^\x10]|\x10\x10)*)\x10\x03(..)", re.DOTALL)
_OK: Final = bytes.fromhex("800000")
_COMPLETION: Final = bytes.fromhex("060f00")
_SEE_DISPLAY: Final = bytes.fromhex("04ff010a")
_MIRRORED: Final = [int(f"{value:08b}"[::-1], 2) for value in range(256)]
DECLINED: Final = 0x6C  # aborted by a key or a timeout
CARD_REFUSED: Final = 0x64
BANK_SAYS_NO: Final = 0x05  # codes below 64 come from the bank's side
NO_LINE: Final = 0x9B  # the bank cannot be reached
NOT_SENT: Final = 0xFA  # what was approved offline could not be handed in
BUSY: Final = 0x9C
NOT_POSSIBLE: Final = 0x83


class TakenPayment(msgspec.Struct):
    """Money that moved at the PIN pad.

    Attributes:
        amount: twelve digits.
        kind: payment, refund, or reversal of `of`.
        bank: what the card's bank says: "yes", or while it was not asked yet "waits", and "will refuse".
    """

    amount: str
    trace: int
    receipt: int
    kind: str = "payment"
    of: int = 0
    bank: str = "yes"


@dataclass(slots=True)
class PinPadTwin:
    """The PIN pad.

    Attributes:
        is_framed: a serial line; else bare APDUs as over TCP.
        taken: the money, kept over every cut of the line; `on_taken` is called with each.
        on_abort: called when the till stops a payment.
        customer: what the next customer does, by the words of `customers.py`.
        terminal: eight digits, its name at the bank.
        ends_with: a result code other than 0 ends the payment without money.
        refuses: an error code refuses each command.
        waits_for_card: nobody puts a card in, until the till gives up.
        silent_after: so many messages are sent, then the line is dead. None: it lives.
        cuts_after: so many messages are sent, then the line breaks, once.
        cuts_in_money: the same, counted from the next command that moves money.
        damages: so many of the next frames have a wrong checksum.
        says_amount: stands in the status instead of the amount taken.
        tells_last: whether 06 20 tells anything.
        talks_on: it tells what its display shows, again and again, and never comes to an end.
        hides_last: it aborts 06 20 as one that never took a card.
        refuses_with: the result of what is refused while it hands in.
        hands_in_silently: no status comes for what it hands in.
        says_online: stands in the online flag of each status; empty leaves it out. None: what is so.
        waits_for_reversal: a reversal waits for somebody who never comes.
        undoes_last: a reversal undoes the last payment, whatever receipt it names.
    """

    is_framed: bool = True
    taken: list[TakenPayment] = field(default_factory=list)
    on_taken: Callable[[], None] = lambda: None
    on_abort: Callable[[], object] = lambda: None
    customer: Callable[[], str] = lambda: "approve"
    terminal: str = "52500041"
    ends_with: int = 0
    refuses: int | None = None
    waits_for_card: bool = False
    silent_after: int | None = None
    cuts_after: int | None = None
    cuts_in_money: int | None = None
    damages: int = 0
    says_amount: str | None = None
    tells_last: bool = True
    talks_on: bool = False
    hides_last: bool = False
    refuses_with: int = BANK_SAYS_NO
    hands_in_silently: bool = False
    says_online: bytes | None = None
    waits_for_reversal: bool = False
    undoes_last: bool = False
    naks: int = 0
    sent: int = 0
    commands: list[bytes] = field(default_factory=list)
    trace: int = 0
    is_busy: bool = False
    is_mute: bool = False
    _queue: list[bytes] = field(default_factory=list)
    _last: bytes = b""
    _left: bytes = b""

    @property
    def kept_minor(self) -> int:
        """What the shop has of it: taken, and not given back."""
        signs = {"payment": 1, "refund": -1, "reversal": -1}
        return sum(signs[each.kind] * int(each.amount) for each in self.taken)

    def take(self, data: bytes) -> bytes:
        """What it answers to `data`. Raises ConnectionResetError where the line breaks."""
        self._left += data
        answers = b""
        while (event := self._next()) is not None:
            answers += self._hear(event)
        return answers

    def undo_last(self) -> None:
        """The last payment goes back, whoever asked for it."""
        self._undo(self.taken[-1])

    def mend_line(self) -> None:
        """The cable is back, or somebody connects anew; what was said before is lost."""
        self.silent_after, self.is_mute, self._left, self._queue, self._last = None, False, b"", [], b""

    def _next(self) -> bytes | None:
        """An APDU, or one byte of the transport; None while it is incomplete."""
        if not self._left:
            return None
        if not self.is_framed:
            if len(self._left) < 3 or len(self._left) < 3 + self._left[2]:
                return None
            return self._cut(3 + self._left[2])
        if self._left[:1] in (b"\x06", b"\x15"):
            return self._cut(1)
        found = _FRAME.match(self._left)
        if found is None:
            return None
        self._cut(found.end())
        content = found[1].replace(b"\x10\x10", b"\x10")
        return content if found[2] == _crc(content) else b"\x00"

    def _cut(self, size: int) -> bytes:
        head, self._left = self._left[:size], self._left[size:]
        return head

    def _hear(self, event: bytes) -> bytes:
        acknowledged = b"\x06" if self.is_framed and len(event) > 1 else b""
        match event:
            case b"\x00":
                return b"\x15"
            case b"\x15":
                self.naks += 1
                return self._frame(self._last)
            case b"\x06":
                return self._send_next() if self._last == _OK else b""
            case _ if event[:2] == b"\x80\x00":
                return self._reach(acknowledged) + self._send_next()
            case _ if self.customer() == "off" or self.is_mute:
                return b""
            case _ if self.refuses is not None:
                return self._reach(acknowledged) + self._send(bytes([0x84, self.refuses, 0]))
            case _ if self.is_busy and event[:2] != b"\x06\xb0":
                return self._reach(acknowledged) + self._send(bytes([0x84, BUSY, 0]))
            case _:
                return self._begin(event, acknowledged)

    def _begin(self, event: bytes, acknowledged: bytes) -> bytes:
        self.commands.append(event)
        self._queue = self._steps(event)
        first = self._reach(acknowledged) + self._send(_OK)
        return first if self.is_framed else first + self._send_next()

    def _steps(self, command: bytes) -> list[bytes]:
        match command[:2]:
            case b"\x06\x01" | b"\x06\x31" | b"\x06\x30":
                return self._money(command)
            case b"\x06\x51":
                return self._hand_in()
            case b"\x06\x20":
                if not self.taken or not self.tells_last or self.hides_last:
                    return [bytes([0x06, 0x1E, 1, CARD_REFUSED])] if self.tells_last else [_COMPLETION]
                return [self._status(self.taken[-1]), _COMPLETION]
            case b"\x06\xb0":
                self.is_busy = False
                self.on_abort()
                return [bytes([0x06, 0x1E, 0x01, DECLINED])]
            case _:
                return [_COMPLETION]

    def _money(self, command: bytes) -> list[bytes]:
        """Whatever moves money; the line may break before, or after."""
        if self.customer() == "cut":
            raise ConnectionResetError
        if self.cuts_in_money is not None:
            self.cuts_after, self.cuts_in_money = self.sent + self.cuts_in_money, None
        match command[:2]:
            case b"\x06\x01":
                steps = self._payment(command[4:10].hex())
            case b"\x06\x31":
                steps = self._refund(command[7:13].hex())
            case _:
                steps = self._reversal(int(command[7:9].hex()))
        if self.customer() == "broken":
            raise ConnectionResetError
        self.is_mute = self.customer() == "silent"
        return steps

    def _payment(self, amount: str) -> list[bytes]:
        self.trace += 1  # also what comes to nothing has a number
        customer = self.customer()
        no = {"decline": BANK_SAYS_NO, "cancel": DECLINED, "unreachable": NO_LINE}.get(customer, self.ends_with)
        if self.waits_for_card or customer == "timeout":
            self.is_busy = True
            return [_SEE_DISPLAY]
        if customer == "contradict":
            return [_SEE_DISPLAY, bytes([0x06, 0x1E, 0x01, 0])]
        if no:
            return [_SEE_DISPLAY, bytes([0x06, 0x1E, 0x01, no])]
        self._keep(amount, bank={"offline": "waits", "offline-refused": "will refuse"}.get(customer, "yes"))
        return [
            _SEE_DISPLAY,
            _SEE_DISPLAY,
            self._status(self.taken[-1], self.says_amount),
            *self._slip(b"** PAID **"),
            _COMPLETION,
        ]

    def _refund(self, amount: str) -> list[bytes]:
        self.trace += 1
        if self.customer() in ("timeout", "decline"):
            return [_SEE_DISPLAY, bytes([0x06, 0x1E, 0x01, DECLINED])]
        return [_SEE_DISPLAY, self._status(self._keep(amount, kind="refund"), self.says_amount), _COMPLETION]

    def _reversal(self, receipt: int) -> list[bytes]:
        gone = {each.of for each in self.taken}
        paid = [each for each in self.taken if each.kind == "payment" and each.trace not in gone]
        meant = paid[-1:] if self.undoes_last else [each for each in paid if each.receipt == receipt]
        if not meant:
            return [bytes([0x06, 0x1E, 0x01, NOT_POSSIBLE])]
        self.trace += 1
        if self.waits_for_reversal:
            self.is_busy = True
            return [_SEE_DISPLAY]
        undone = self._undo(meant[0])
        return [_SEE_DISPLAY, self._status(undone, self.says_amount), _COMPLETION]

    def _undo(self, paid: TakenPayment) -> TakenPayment:
        return self._keep(paid.amount, kind="reversal", of=paid.trace)

    def _hand_in(self) -> list[bytes]:
        """What waits for its bank: a status for each, so that everybody knows which of them the bank refused."""
        if self.customer() in ("unreachable", "offline", "offline-refused"):
            return [bytes([0x06, 0x1E, 0x01, NO_LINE])]
        undone = {each.of for each in self.taken}
        waiting = [each for each in self.taken if each.bank != "yes" and each.trace not in undone]
        steps = []
        for each in waiting:
            refused = each.bank == "will refuse"
            each.bank = "yes"
            steps.append(self._status(each, result=self.refuses_with if refused else 0))
            if refused:
                self.taken.remove(each)
        self.on_taken()
        return [*([] if self.hands_in_silently else steps), _COMPLETION]

    def _keep(self, amount: str, *, kind: str = "payment", of: int = 0, bank: str = "yes") -> TakenPayment:
        kept = TakenPayment(amount=amount, trace=self.trace, receipt=self.trace % 10_000, kind=kind, of=of, bank=bank)
        self.taken.append(kept)
        self.on_taken()
        return kept

    def _slip(self, line: bytes) -> list[bytes]:
        return [bytes([0x06, 0xD1, 1 + len(line), 0]) + line]

    def _status(self, taken: TakenPayment, says_amount: str | None = None, *, result: int = 0) -> bytes:
        """Status-Information: result, amount, currency, trace, receipt, date and time, terminal, a masked card number,
        a name, a TLV with the online flag; of a reversal the trace that it undoes."""
        amount = says_amount or taken.amount
        original = f"37{taken.of:06d}" if taken.of else ""
        data = bytes.fromhex(f"27{result:02x}04{amount}4909780b{taken.trace:06d}87{taken.receipt:04d}{original}")
        data += bytes.fromhex("0c1430000d1127" + "29" + self.terminal + "22f0f8" + "eeeeeeeeeeee1234")
        is_online = b"\x01" if taken.bank == "yes" else b"\x00"
        said = is_online if self.says_online is None else self.says_online
        tags = b"\x1f\x11\x01" + said if said else b""
        data += b"\x8b\xf0\xf4VISA\x06" + bytes([len(tags)]) + tags
        return bytes([0x04, 0x0F, len(data)]) + data

    def _send_next(self) -> bytes:
        if self.is_mute:
            return b""
        if self.talks_on:
            return self._send(_SEE_DISPLAY)
        return self._send(self._queue.pop(0)) if self._queue else b""

    def _send(self, apdu: bytes) -> bytes:
        if self.cuts_after is not None and self.sent >= self.cuts_after:
            self.cuts_after = None
            raise ConnectionResetError
        if self.silent_after is not None and self.sent >= self.silent_after:
            return b""
        self.sent += 1
        self._last = apdu
        return self._frame(apdu)

    def _reach(self, acknowledged: bytes) -> bytes:
        """An acknowledgement, unless the line is dead."""
        return b"" if self.silent_after is not None and self.sent >= self.silent_after else acknowledged

    def _frame(self, apdu: bytes) -> bytes:
        if not self.is_framed:
            return apdu
        crc = _crc(apdu)
        if self.damages:
            self.damages -= 1
            crc = bytes([crc[0] ^ 0xFF, crc[1]])
        return b"\x10\x02" + apdu.replace(b"\x10", b"\x10\x10") + b"\x10\x03" + crc


def _crc(content: bytes) -> bytes:
    """CRC-16/KERMIT through the mirror of the one that the standard library has; low byte first."""
    mirrored = binascii.crc_hqx(bytes([_MIRRORED[byte] for byte in content + b"\x03"]), 0)
    return bytes([_MIRRORED[mirrored >> 8], _MIRRORED[mirrored & 0xFF]])
