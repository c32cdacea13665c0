"""Card numbers planted wherever text can be put: nothing of them is on the disk, in a log or in memory afterwards.

Each place gets a number of its own, so that what is found names the place. What is searched for is the number as a
client would send it; memory is read from our own child (`/proc/PID/mem`, see proc(5)).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import Rejected, Unavailable
from provisioning.terminal.signing import Encoding
from tests.integration.box import running_box
from tests.integration.till import CARD, CASH, Reply, Till, new_key, now_ms, paired_till

TURNS = 550
"""Ordinary requests sent afterwards: what is read into a buffer stays until the buffer is used again, and the libraries
remember the last 512 addresses and names (yarl, msgspec). Nothing may stay longer than that."""
_LINE = {"sku": "A1", "unit_price_minor": 1250}
_TAX = {"tax_code": "S", "rate_basis_points": 0, "net_minor": 1250, "tax_minor": 0}
_WITH_LINES: dict[str, Any] = {
    "currency": "EUR",
    "total_minor": 1250,
    "tenders": [{"kind": "cash", "amount_minor": 1250}],
}


def luhn(body: str) -> str:
    """`body` with its check digit (ISO/IEC 7812-1 annex B)."""
    digits = [int(digit) for digit in reversed(body)]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[::2])
    return body + str((10 - (doubled + sum(digits[1::2])) % 10) % 10)


def planted(place: int) -> str:
    """A card number for one place, of a test range that no bank uses for people."""
    return luhn(f"424242{place:03d}931857")


PLACES: dict[str, Callable[[Till, str], object]] = {
    "reference": lambda till, number: till.ask("payment", {**CASH, "reference": number}),
    "cashier": lambda till, number: till.ask("payment", {**CASH, "cashier": f"Ada {number}"}),
    "customer": lambda till, number: till.ask("payment", {**CASH, "customer": number}),
    "source": lambda till, number: till.ask(
        "payment", {**CARD, "tenders": [{"kind": "card", "amount_minor": 990, "source": number}]}
    ),
    "sku": lambda till, number: till.ask("payment", {**_WITH_LINES, "lines": [{**_LINE, "sku": number}]}),
    "tax_code": lambda till, number: till.ask("payment", {**_WITH_LINES, "lines": [{**_LINE, "tax_code": number}]}),
    "tax_total": lambda till, number: till.ask(
        "payment", {**_WITH_LINES, "lines": [_LINE], "taxes": [{**_TAX, "tax_code": number}]}
    ),
    "a_member_that_is_no_field": lambda till, number: till.ask("payment", {**CASH, "card": number}),
    "a_member_of_that_name": lambda till, number: till.ask("payment", {**CASH, number: 1}),
    "a_number_instead_of_text": lambda till, number: till.ask("payment", {**CASH, "amount_minor": int(number)}),
    "sold_at_ms": lambda till, number: till.ask("payment", {**CASH, "sold_at_ms": int(number)}),
    "json": lambda till, number: till.ask("payment", {**CASH, "reference": number}, encoding=Encoding.JWS),
    "batch": lambda till, number: till.ask(
        "batch", {"items": [{"key": new_key(), "payment": {**CASH, "sold_at_ms": now_ms(), "reference": number}}]}
    ),
    "refund_reason": lambda till, number: till.ask("refund", {"of": sold(till), "reason": number}),
    "reversal_reason": lambda till, number: till.ask("reversal", {"of": sold(till), "reason": number}),
    "of": lambda till, number: till.ask("status", {"of": number.ljust(36, "0")}),
    "drawer": lambda till, number: till.ask("drawer", {"act": "float", "drawer": number}),
    "drawer_reason": lambda till, number: till.ask("drawer", {"act": "paid_in", "amount_minor": 1, "reason": number}),
    "drawer_cashier": lambda till, number: till.ask("drawer", {"act": "no_sale", "cashier": number}),
    "report_cashier": lambda till, number: till.ask("report", {"kind": "x", "cashier": number}),
    "report_kind": lambda till, number: till.ask("report", {"kind": number}),
    "events_after": lambda till, number: till.ask("events", {"after": int(number)}),
    "key": lambda till, number: till.ask("payment", CASH, number.ljust(36, "0")),
    "audience": lambda till, number: till.ask("payment", CASH, None, audience=number),
    "terminal": lambda till, number: till.ask("payment", CASH, None, terminal=number),
    "verb": lambda till, number: till.ask("payment", CASH, None, verb=number),
    "seen": lambda till, number: till.ask("payment", CASH, None, seen={"size": int(number), "root": "00" * 32}),
    "not_signed": lambda till, number: till.post("/v1/payment", number.encode(), Encoding.COSE),
    "path": lambda till, number: till.request("GET", f"/v1/{number}", None, {}),
    "query": lambda till, number: till.request("GET", f"/v1/events?after={number}", None, {}),
    "header": lambda till, number: till.request("POST", "/v1/payment", b"", {"Content-Type": number}),
    "authorization": lambda till, number: till.request("GET", "/v1/events", None, {"Authorization": number}),
    "user_agent": lambda till, number: till.request("GET", "/v1/openapi.json", None, {"User-Agent": number}),
    "public_path": lambda till, number: till.box.public(f"/tile/{number}"),
    "public_query": lambda till, number: till.box.public(f"/proof?seq={number}"),
    "invited_terminal": lambda till, number: refused(till.box.local.invite, number),
    "revoked_terminal": lambda till, number: refused(till.box.local.revoke, "till-9", number),
    "auditor": lambda till, number: refused(till.box.local.admit_auditor, number, 1),
    "auditor_reason": lambda till, number: refused(till.box.local.revoke_auditor, "00", number),
    "erased_subject": lambda till, number: refused(till.box.local.erase_subject, f"customer:{number}"),
    "slip_key": lambda till, number: refused(till.box.local.slip, number, 42),
    "threshold": lambda till, number: refused(till.box.local.change_screening, {number: 1}),
    "threshold_value": lambda till, number: refused(till.box.local.change_screening, {"hours_open": number}),
}
"""Where text or a large number can be put, by name; each sends one request."""


def refused(call: Callable[..., object], *values: object) -> None:
    with pytest.raises((Rejected, Unavailable)):
        call(*values)


def sold(till: Till) -> str:
    key = new_key()
    assert till.ask("payment", CASH, key).status == 200
    return key


def turn_over(till: Till) -> None:
    """Use every buffer and cache of the doors again, with requests that are larger than those before."""
    lines = [{**_LINE, "sku": f"{number:0200}", "unit_price_minor": 10} for number in range(100)]
    sale = {"currency": "EUR", "lines": lines, "total_minor": 1000, "tenders": [{"kind": "cash", "amount_minor": 1000}]}
    for number in range(TURNS):
        till.request("GET", f"/v1/{number:016}?after={number:016}", None, {"Content-Type": f"{number:016}"})
        till.box.public(f"/tile/{number:016}?seq={number:016}")
        refused(till.box.local.slip, f"{number:016}", 42)
        refused(till.box.local.change_screening, {f"{number:016}": "x" * 150})
        if number % 10 == 0:
            assert till.ask("payment", sale).status == 200
            # Names of members are remembered in one slot of 512 each, by their hash: 1,500 a time leave none untouched.
            names = {f"{number * 1_500 + name:016}": 1 for name in range(1_500)}
            assert till.ask("payment", {**CASH, **names}).status == 400
            assert till.ask("payment", {**CASH, **names}, encoding=Encoding.JWS).status == 400
            till.ask("payment", sale, encoding=Encoding.JWS)


def _raw(answer: object) -> bytes:
    return answer.raw if isinstance(answer, Reply) else b""


def memory_of(pid: int) -> Iterator[bytes]:
    """What a memory dump of the process holds, mapping by mapping."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, access, *_rest = line.split()
            begins, ends = (int(end, 16) for end in span.split("-"))
            if not access.startswith("rw") or "[vvar" in line or "[vsyscall" in line:
                continue
            try:
                memory.seek(begins)
                yield memory.read(ends - begins)
            except OSError:
                continue  # unmapped meanwhile


def found_in(content: bytes) -> set[str]:
    """Planted numbers in these bytes, as text, with separators or as the integer that CBOR and JSON decode to."""
    hits = {match.decode() for match in re.findall(rb"424242\d{10}", content)}
    return hits & NUMBERS.keys()


NUMBERS = {planted(place): name for place, name in enumerate(PLACES)}


def test_planted_card_numbers_are_on_no_disk_in_no_log_and_kept_by_nothing_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python does not wipe what it frees, and we do not claim it. Here every free() overwrites (glibc's tunables
    # "perturb" and, because it spares its own lists, "tcache_count"), so that what is found is still held by something.
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0")
    with running_box(tmp_path / "shop", has_cards=True) as box:
        till = paired_till(box, tmp_path, "till-1")
        repeated = {name for number, name in NUMBERS.items() if number.encode() in _raw(PLACES[name](till, number))}
        assert repeated == set(), "an answer repeats it"
        control = "5105105105105100"
        till.ask("payment", {**CASH, "reference": f"order {control[:-1]}1"})  # no card number: this one is kept
        turn_over(till)
        in_memory: set[str] = set()
        sees_memory = False
        for piece in memory_of(box.pid):
            in_memory |= found_in(piece)
            sees_memory = sees_memory or b"tillstone_screened" in piece
        assert sees_memory, "the memory that is read is the box's"
        disk = b"".join(path.read_bytes() for path in (tmp_path / "shop").rglob("*") if path.is_file())
        assert f"order {control[:-1]}1".encode() in disk, "what is kept would be found"
        assert {NUMBERS[number] for number in found_in(disk)} == set()
        assert {NUMBERS[number] for number in found_in(box.said().encode())} == set()
        assert {NUMBERS[number] for number in in_memory} == set()
