"""The door of the command line at a real box: whose file it is, and what it says."""

from __future__ import annotations

import http.client
import os
import stat

import msgspec
import pytest

from appliance.model.errors import Rejected, Unavailable
from provisioning.local_door import SOCKET_NAME, TIMEOUT_S, connect_unix
from tests.integration.box import RunningBox
from tests.integration.till import CASH, Till, new_key


def ask(box: RunningBox, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connect_unix(box.box.data, SOCKET_NAME, TIMEOUT_S)
    connection.request(method, path, body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def test_socket_is_its_owners_alone(box: RunningBox) -> None:
    found = (box.box.data / SOCKET_NAME).stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.getuid())


def test_status_is_in_plain_words(box: RunningBox) -> None:
    status = box.local.status()
    assert status["origin"] == box.audience
    assert status["sentence"].startswith("Selling.")
    assert {finding["check"] for finding in status["findings"]} == {
        "log",
        "state",
        "clock",
        "signing",
        "token",
        "tpm",
        "disk",
        "screening",
        "providers",
        "offline",
        "payments",
        "sales",
        "escrow",
        "contradictions",
        "vault",
        "backup",
    }
    assert any("SoftHSM" in finding["sentence"] for finding in status["findings"])


def test_recent_sales_are_listed_with_how_they_stand(box: RunningBox, till: Till) -> None:
    key = new_key()
    seq = till.ask("payment", CASH, key).body["seq"]
    till.ask("refund", {"of": key})
    first, second = box.local.recent(after=seq - 1, limit=10)
    assert (first["key"], first["terminal"], first["total_minor"]) == (key, "till-1", 1250)
    assert second["state"] == "refunded"


def test_terminals_are_listed(box: RunningBox, till: Till) -> None:
    assert {"terminal": "till-1", "key_id": till.key.key_id.hex(), "state": "paired"} in box.local.terminals()


@pytest.mark.parametrize("name", ["", "Till", "a b", "-a", "x" * 33, "till\n"])
def test_name_of_another_form_is_not_invited(box: RunningBox, name: str) -> None:
    with pytest.raises(Rejected) as caught:
        box.local.invite(name)
    assert caught.value.code in {"terminal_name_invalid", "body_invalid"}


def test_unknown_terminal_is_not_revoked(box: RunningBox) -> None:
    size = box.log_size()
    with pytest.raises(Rejected, match="terminal_unknown"):
        box.local.revoke("nobody", "lost")
    with pytest.raises(Rejected, match="body_invalid"):
        box.local.revoke("nobody", "")
    assert box.log_size() == size


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/recent?after=--5", None, 400),
        ("GET", "/recent?after=" + "9" * 30, None, 400),
        ("GET", "/recent?limit=x", None, 400),
        ("GET", "/recent?limit=" + "9" * 400, None, 400),
        ("POST", "/invite", b"", 400),
        ("POST", "/invite", b'{"terminal":1}', 400),
        ("POST", "/invite", b'{"terminal":"a","surplus":1}', 400),
        ("POST", "/invite", b"\xff", 400),
        ("POST", "/revoke", b"[" * 4000, 400),
        ("POST", "/invite", bytes(70_000), 413),
        ("GET", "/invite", None, 405),
        ("GET", "/nothing", None, 404),
    ],
)
def test_nonsense_is_refused(box: RunningBox, method: str, path: str, body: bytes | None, status: int) -> None:
    code, content = ask(box, method, path, body)
    assert (code, msgspec.json.decode(content)["status"]) == (status, status)


def test_slip_says_what_the_log_says_and_forgets_who_was_erased(box: RunningBox, till: Till) -> None:
    key = new_key()
    till.ask("payment", {**CASH, "cashier": "Zuse", "reference": "4711"}, key)
    told = box.local.slip(key, 42)
    assert told["standing"] == "paid"
    assert "COPY" in told["text"]
    assert "Zuse" in told["text"]
    assert "4711" in told["text"]
    box.local.erase_subject("cashier:Zuse")
    assert "Zuse" not in box.local.slip(key, 42)["text"]
    till.ask("refund", {"of": key})
    assert "REFUNDED" in box.local.slip(key, 42)["text"]


def test_slip_of_nothing_is_refused(box: RunningBox) -> None:
    with pytest.raises(Rejected, match="payment_unknown"):
        box.local.slip(new_key(), 42)
    with pytest.raises(Rejected, match="question_malformed"):
        box.local.slip(new_key(), 5)


def test_box_without_a_printer_says_so(box: RunningBox) -> None:
    with pytest.raises(Unavailable, match="printer_missing"):
        box.local.print_slip(new_key())
