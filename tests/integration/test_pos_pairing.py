"""Pairing and revoking at a real box: one code, one terminal, at once."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.crypto import jws
from appliance.crypto.signing_key import TerminalKey
from appliance.identity.pairing import answer_proof, request_proof
from appliance.model.errors import Rejected
from provisioning.terminal.pairing import read_code
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox, running_box
from tests.integration.till import CASH, Reply, Till, new_key, paired_till, read_event

BOTH = pytest.mark.parametrize("encoding", list(Encoding))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    with running_box(tmp_path_factory.mktemp("shop")) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(box: RunningBox) -> bytes:
    pem = box.door.certificate.read_text()
    end = "-----END CERTIFICATE-----"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem[: pem.index(end) + len(end)] + "\n")).digest()


def pair(till: Till, code: str, certificate: bytes, encoding: Encoding = Encoding.JWS, **changed: object) -> Reply:
    body = {
        "name": till.name,
        "public_key": jws.to_base64url(till.key.public_key).decode(),
        "proof": request_proof(code, certificate, till.key.public_key),
    }
    return till.ask("pair", body | changed, encoding=encoding)


@BOTH
def test_terminal_pairs_by_the_code_and_both_sides_are_proven(
    box: RunningBox, certificate: bytes, encoding: Encoding
) -> None:
    till = Till(box, f"new-{encoding.name.lower()}", TerminalKey.generate())
    assert till.ask("payment", CASH).code == "terminal_unknown"
    code = read_code(box.local.invite(till.name)["code"])
    reply = pair(till, code, certificate, encoding)
    assert reply.status == 200
    trust = reply.body["trust"]
    assert reply.body["proof"] == answer_proof(code, till.key.public_key, trust + reply.body["authority"])
    assert trust.encode() == box.box.trust.read_bytes()
    assert reply.body["authority"].strip() == box.door.authority.read_text().strip()
    assert till.ask("payment", CASH).status == 200
    again = pair(till, code, certificate, encoding)
    assert (again.status, again.code) == (403, "pairing_refused")
    assert code not in box.said()


def test_wrong_code_kills_the_invitation_at_the_fifth_try(box: RunningBox, certificate: bytes) -> None:
    till = Till(box, "guessed", TerminalKey.generate())
    code = read_code(box.local.invite(till.name)["code"])
    size = box.log_size()
    for _ in range(5):
        assert pair(till, "0" * 12, certificate).code == "pairing_refused"
    assert pair(till, code, certificate).code == "pairing_refused"
    assert box.log_size() == size
    assert till.ask("payment", CASH).code == "terminal_unknown"


def test_four_wrong_codes_leave_the_right_one(box: RunningBox, certificate: bytes) -> None:
    till = Till(box, "mistyped", TerminalKey.generate())
    code = read_code(box.local.invite(till.name)["code"])
    for _ in range(4):
        assert pair(till, "0" * 12, certificate).code == "pairing_refused"
    assert pair(till, code, certificate).status == 200


def test_proof_for_another_certificate_is_worth_nothing(box: RunningBox) -> None:
    till = Till(box, "intercepted", TerminalKey.generate())
    code = read_code(box.local.invite(till.name)["code"])
    assert pair(till, code, hashlib.sha256(b"certificate of somebody in between").digest()).code == "pairing_refused"


def test_proof_is_bound_to_the_key_and_the_name(box: RunningBox, certificate: bytes) -> None:
    till = Till(box, "bound", TerminalKey.generate())
    code = read_code(box.local.invite(till.name)["code"])
    thief = Till(box, "bound", TerminalKey.generate())
    proof = request_proof(code, certificate, till.key.public_key)
    assert pair(thief, code, certificate, proof=proof).code == "pairing_refused"
    public_key = jws.to_base64url(till.key.public_key).decode()
    assert pair(thief, code, certificate, public_key=public_key, proof=proof).code == "signature_wrong"
    assert pair(till, code, certificate, name="else").code == "terminal_mismatch"
    assert pair(Till(box, "unasked", till.key), code, certificate).code == "pairing_refused"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"public_key": "!"}, "jws_malformed"),
        ({"public_key": "AAAA"}, "public_key_malformed"),
        ({"public_key": "x" * 600}, "body_invalid"),
        ({"proof": "00"}, "body_invalid"),
        ({"name": ""}, "body_invalid"),
    ],
)
def test_malformed_pairing_is_refused(box: RunningBox, certificate: bytes, changed: dict[str, Any], code: str) -> None:
    reply = pair(Till(box, "malformed", TerminalKey.generate()), "0" * 12, certificate, **changed)
    assert (reply.status, reply.code) == (400, code)


def test_newer_code_for_a_name_ends_the_older(box: RunningBox, certificate: bytes) -> None:
    till = Till(box, "twice", TerminalKey.generate())
    older = read_code(box.local.invite(till.name)["code"])
    newer = read_code(box.local.invite(till.name)["code"])
    assert pair(till, older, certificate).code == "pairing_refused"
    assert pair(till, newer, certificate).status == 200


def test_revoked_terminal_is_refused_at_once_and_its_stream_ends(box: RunningBox, tmp_path: Path) -> None:
    till = paired_till(box, tmp_path, "stolen")
    sold = till.ask("payment", CASH)
    with till.events(after=sold.body["seq"] - 1) as stream:
        assert read_event(stream)["seq"] == sold.body["seq"]
        box.local.revoke("stolen", "stolen from the counter")
        with pytest.raises(http.client.IncompleteRead):
            stream.read()
    size = box.log_size()
    for encoding in Encoding:
        reply = till.ask("payment", CASH, encoding=encoding)
        assert (reply.status, reply.code) == (403, "terminal_revoked")
    with till.events() as stream:
        assert stream.status == 403
    assert box.log_size() == size
    with pytest.raises(Rejected, match="terminal_unknown"):
        box.local.revoke("stolen", "again")


def test_pairing_a_name_anew_ends_its_older_key(box: RunningBox, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    older = paired_till(box, tmp_path / "a", "replaced")
    newer = paired_till(box, tmp_path / "b", "replaced")
    assert older.ask("payment", CASH).code == "terminal_revoked"
    assert newer.ask("payment", CASH).status == 200


def test_certificate_in_the_qr_code_is_the_doors(box: RunningBox, certificate: bytes) -> None:
    qr = box.local.invite("qr")["qr"]
    assert qr.startswith(f"tillstone:pair?url={box.url}&code=")
    assert f"&cert={certificate.hex()}" in qr


def test_info_says_what_a_new_terminal_needs(box: RunningBox) -> None:
    till = Till(box, "nobody", TerminalKey.generate())
    reply = till.request("GET", "/v1/info", None, {})
    assert (reply.body["audience"], reply.body["currency"]) == (box.audience, "EUR")
    assert reply.body["now_ms"] > 0


def test_key_material_is_closed_to_others(box: RunningBox) -> None:
    for path in box.box.folder.rglob("*"):
        if not path.is_socket():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_openapi_of_the_door_is_what_the_types_say(box: RunningBox) -> None:
    reply = Till(box, "nobody", TerminalKey.generate()).request("GET", "/v1/openapi.json", None, {})
    document = msgspec.json.decode(reply.raw)
    assert document["openapi"] == "3.1.0"
    assert new_key() not in document["paths"]
