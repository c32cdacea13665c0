"""The file that a person gets: what the box holds about them, in words, with receipts that prove each line.

Owns the shape. Everything in `entries` is read out of `receipts`, so whoever verifies the receipts and reads them again
has checked the words too; every other member follows from them or is fixed text. Must never say more than the receipts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from appliance.crypto import cbor, cose, jws, strict_json
from appliance.ledger.draft import Disclosure
from appliance.ledger.entry import Entry, decode
from appliance.ledger.receipt import RECEIPT_BYTES_MAX, verify_receipt
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected
from appliance.model.limits import NESTING_MAX, REQUEST_BYTES_MAX
from appliance.wire.entries import EXPORTED
from provisioning.verify.bodies import read_body
from provisioning.verify.sentences import sentence
from provisioning.verify.wording import time_text

VERSION: Final = 1
_CBOR_MAP: Final = 5
_PERSONS: Final = ("cashier", "customer")
_DEPTH_MAX: Final = 4 + NESTING_MAX + 4  # a line's request in its list, and what a till may nest
EXPLAINED: Final = (
    "This is everything that the shop's box holds about the person in `about`. `entries` is for reading.",
    "`values` are the personal ones. The log itself holds only their fingerprints; the box can erase the values.",
    "`request` is what the till asked for, as it signed it; it is missing where it names another person too.",
    "`receipts` prove every line: `tillstone subject check FILE --trust trust.json` checks all of it, without the box.",
)
Opened: TypeAlias = Sequence[tuple[int, Disclosure]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What came from the box: the number of the `exported` entry, how many entries have values, receipt files.

    Attributes:
        exported: receipt file of the entry that says that all this was handed out.
    """

    seq: int
    count: int
    receipts: tuple[bytes, ...]
    exported: bytes


def compose(subject: str, origin: str, held: Held) -> dict[str, Any]:
    """The file's content; receipts are read, not verified: they come from the box itself."""
    return {
        "tillstone_subject": VERSION,
        "about": subject,
        "shop": origin,
        "exported_by_entry": held.seq,
        "exported": base64.b64encode(held.exported).decode(),
        "read_me": list(EXPLAINED),
        "entries": _lines(_read_unverified(receipt) for receipt in held.receipts),
        "receipts": [base64.b64encode(receipt).decode() for receipt in held.receipts],
    }


def check(content: bytes, trust: Trust) -> tuple[str, int]:
    """Verify every receipt and compare every word; returns whom the file is about and how many entries it proves.

    Raises:
        Rejected: `subject_file_malformed`, `subject_file_changed`, and the codes of `verify_receipt`.
    """
    match _decoded(content):
        case {
            "tillstone_subject": 1,
            "about": str(about),
            "shop": str(shop),
            "exported_by_entry": int(seq),
            "exported": str(exported),
            "read_me": [*read_me],
            "entries": [*lines],
            "receipts": [*receipts],
            **rest,
        } if not rest:
            pass
        case _:
            raise Rejected("subject_file_malformed", f"expected an exported subject of version {VERSION}")
    verified = [verify_receipt(_bytes(receipt), trust.keys) for receipt in receipts]
    handed_out = verify_receipt(_bytes(exported), trust.keys)
    if _lines((each.entries, each.disclosures) for each in verified) != lines:
        raise _changed("what stands in `entries` is not what the receipts prove")
    if read_me != list(EXPLAINED):
        raise _changed("`read_me` is not the text that the box writes")
    if {trust.logs[each.log_id].origin for each in (*verified, handed_out)} != {shop}:
        raise _changed("`shop` is not the log that the receipts are of")
    if [(entry.seq, entry.kind) for entry in handed_out.entries] != [(seq, EXPORTED)]:
        raise _changed("`exported` does not prove that entry `exported_by_entry` says so")
    _require_about(about, [value for each in verified for _, value in each.disclosures])
    return about, len(lines)


def _require_about(about: str, opened: Sequence[Disclosure]) -> None:
    """Each person whose name was opened is the one in `about`, and there is one."""
    kind, _, name = about.partition(":")
    named = {(value.name, value.value) for value in opened if value.name in _PERSONS}
    if named != {(kind, name.encode())}:
        raise _changed("`about` is not the one person whose name is opened in the receipts")


def _changed(detail: str) -> Rejected:
    return Rejected("subject_file_changed", detail)


def _decoded(content: bytes) -> strict_json.Value:
    """Strictly: of two members of one name a reader would see the one, and the check the other."""
    try:
        return strict_json.decode(content, size_max=len(content), depth_max=_DEPTH_MAX)
    except Rejected as cause:
        raise Rejected("subject_file_malformed", f"expected JSON with each member once: {cause.detail}") from cause


def _lines(proven: Iterable[tuple[Sequence[Entry], Opened]]) -> list[dict[str, Any]]:
    return [
        _line(entry, [value for at, value in opened if at == index])
        for entries, opened in proven
        for index, entry in enumerate(entries)
    ]


def _line(entry: Entry, opened: Sequence[Disclosure]) -> dict[str, Any]:
    body, plain = read_body(entry)
    line: dict[str, Any] = {
        "entry": entry.seq,
        "time": time_text(entry.time_ms),
        "says": sentence(entry, body),
        "values": {each.name: each.value.decode("utf-8", "replace") for each in opened if each.name != "request"},
    }
    request = next((each.value for each in opened if each.name == "request"), None)
    if request is not None:
        line["request"] = _claims(request)
    return {**line, "body": plain}


def _claims(request: bytes) -> object:
    """What a signed request says, for reading; the bytes themselves are in the receipt."""
    try:
        if request[:2] == b"ey":
            return jws.decode(request, size_max=REQUEST_BYTES_MAX, depth_max=NESTING_MAX).payload
        if request[0] >> 5 == _CBOR_MAP:  # a sale out of a batch: it was signed with the others
            payload: bytes | None = request
        else:
            payload = cose.decode_sign1(request, size_max=REQUEST_BYTES_MAX).payload
        return cbor.decode(payload or b"", size_max=REQUEST_BYTES_MAX, depth_max=NESTING_MAX)
    except Rejected:
        return request.hex()


def _read_unverified(receipt: bytes) -> tuple[list[Entry], list[tuple[int, Disclosure]]]:
    match cbor.decode(receipt, size_max=RECEIPT_BYTES_MAX):
        case {"entries": [*encoded], "disclosures": [*opened]}:
            entries = [decode(each) for each in encoded if isinstance(each, bytes)]
            return entries, [read for each in opened if (read := _disclosure(each)) is not None]
        case _:
            raise Rejected("subject_file_malformed", "the box sent something else than a receipt")


def _disclosure(value: object) -> tuple[int, Disclosure] | None:
    match value:
        case [int(at), str(name), bytes(salt), bytes(opened)]:
            return at, Disclosure(name=name, salt=salt, value=opened)
        case _:
            return None


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError as cause:
        raise Rejected("subject_file_malformed", "expected receipts in base64") from cause
