"""One byte changes: in a receipt, and in the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from appliance.ledger.receipt import verify_receipt
from appliance.ledger.trust import Trust, load_trust
from appliance.ledger.verify import BadEntry, verify_log
from appliance.model.errors import Rejected
from provisioning.sandbox.breaks.scene import Scene
from provisioning.sandbox.layout import TILLS
from provisioning.sandbox.log_copy import stored_entries
from provisioning.verify.hints import log_hint, receipt_hint

_FLIP: Final = 0x01


def play(scene: Scene) -> None:
    """Verification names what is wrong, in copies: the shop's own log stays as it is."""
    scene.act("A sale, and its receipt as a stranger would check it")
    sold = scene.sell()
    trust = load_trust(scene.folder.till(TILLS[0]).trust_file.read_bytes())
    if sold.answer is None or sold.answer.receipt is None:
        scene.promise("there is a receipt to change", False)
        return
    receipt = sold.answer.receipt
    scene.promise("the receipt is true", _fault_of_receipt(receipt, trust) == "")
    scene.act("One bit changes somewhere in a copy of the receipt")
    for name, at in (
        ("the end", len(receipt) - 1),
        ("the middle", len(receipt) // 2),
        ("the beginning", 3),
    ):
        fault = _fault_of_receipt(_flipped(receipt, at), trust)
        scene.promise(f"at {name}: {fault or 'nobody noticed'}", fault != "")
    scene.act("The whole log is checked, beside the running shop")
    data = scene.folder.data
    size = verify_log(stored_entries(data), owner=trust.owner).size
    scene.promise(f"{size} entries, each follows from the one before it", size > sold.answer.seq)
    bad = size // 2
    scene.act(f"One bit changes in entry {bad} of a copy")
    named = _first_bad(data, bad, trust)
    scene.promise(f"verification names the first bad entry: {named or 'nobody noticed'}", named is not None)
    scene.tell("The shop's own log was not touched.")


def _fault_of_receipt(receipt: bytes, trust: Trust) -> str:
    try:
        verify_receipt(receipt, trust.keys)
    except Rejected as refusal:
        return f"{receipt_hint(refusal.code, receipt, trust)} ({refusal.code})"
    return ""


def _first_bad(data: Path, bad: int, trust: Trust) -> str | None:
    """What verification says; None unless it names `bad`, or the next entry, whose link then does not fit."""
    try:
        verify_log(_with_flip(data, bad), owner=trust.owner)
    except BadEntry as fault:
        return f"{fault.seq}. {log_hint(fault.code)} ({fault.code})" if fault.seq in (bad, bad + 1) else None
    return None


def _with_flip(data: Path, bad: int) -> Iterator[bytes]:
    for seq, entry in enumerate(stored_entries(data)):
        yield _flipped(entry, len(entry) // 2) if seq == bad else entry


def _flipped(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes([octets[at] ^ _FLIP]) + octets[at + 1 :]
