"""A till that may lie: signs whatever a test wants, in both encodings, and sends it however a test wants."""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from appliance.crypto import cbor, cose, jws
from appliance.crypto.signing_key import TerminalKey
from appliance.ledger.receipt import VerifiedReceipt, verify_receipt
from appliance.ledger.trust import load_trust
from appliance.model.ids import new_request_key
from provisioning.sandbox.tills import pair_till
from provisioning.terminal import key_file
from provisioning.terminal.home import TerminalHome
from provisioning.terminal.signing import Encoding
from tests.integration.box import RunningBox

CASH: Final[dict[str, Any]] = {
    "currency": "EUR",
    "amount_minor": 1250,
    "tenders": [{"kind": "cash", "amount_minor": 1250}],
}
CARD: Final[dict[str, Any]] = {
    "currency": "EUR",
    "amount_minor": 990,
    "tenders": [{"kind": "card", "amount_minor": 990, "source": "pm_card_visa"}],
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def new_key(at_ms: int | None = None) -> str:
    return str(new_request_key(now_ms() if at_ms is None else at_ms, secrets.token_bytes(10)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, decoded whichever way it came; `body` is empty when it was neither CBOR nor JSON."""

    status: int
    content_type: str
    raw: bytes
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))


class Till:
    """One paired terminal of a running box."""

    def __init__(self, box: RunningBox, name: str, key: TerminalKey, home: TerminalHome | None = None) -> None:
        self.box = box
        self.name = name
        self.key = key
        self._home = home

    @property
    def home(self) -> TerminalHome:
        """The folder that the typed client opens."""
        assert self._home is not None
        return self._home

    def claims(self, verb: str, body: object, key: str | None = None, /, **changed: Any) -> dict[str, Any]:
        claims = {
            "v": 1,
            "verb": verb,
            "audience": self.box.audience,
            "terminal": self.name,
            "key": new_key() if key is None else key,
            "signed_at_ms": now_ms(),
            "body": body,
        } | changed
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, payload: bytes, encoding: Encoding) -> bytes:
        """Sign a payload that may be any bytes."""
        if encoding is Encoding.JWS:
            return jws.sign(self.key, payload)
        protected = cose.encode_protected({cose.ALG: self.key.algorithm, cose.KEY_ID: self.key.key_id})
        signature = self.key.sign(cose.sign1_to_be_signed(protected, payload))
        return cose.encode_sign1(protected, {}, payload, signature)

    def signed(self, claims: dict[str, Any], encoding: Encoding) -> bytes:
        payload = msgspec.json.encode(claims) if encoding is Encoding.JWS else cbor.encode(claims)
        return self.sign(payload, encoding)

    def ask(
        self, verb: str, body: object, key: str | None = None, /, *, encoding: Encoding = Encoding.COSE, **changed: Any
    ) -> Reply:
        """Sign and send one request. `changed` are claims that differ from honest ones."""
        return self.post(f"/v1/{verb}", self.signed(self.claims(verb, body, key, **changed), encoding), encoding)

    def post(self, path: str, body: bytes, encoding: Encoding) -> Reply:
        return self.request("POST", path, body, {"Content-Type": encoding.value})

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        connection = http.client.HTTPSConnection("localhost", self.box.port, timeout=30, context=self.box.tls())
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        content_type = answer.headers.get_content_type()
        value: object = None
        if content_type == "application/cbor":
            value = cbor.decode(raw, size_max=8 << 20)
        elif content_type.endswith("json"):
            value = msgspec.json.decode(raw)
        return Reply(
            status=answer.status,
            content_type=content_type,
            raw=raw,
            headers=dict(answer.headers.items()),
            body=value if isinstance(value, dict) else {},
        )

    def until_final(self, key: str, *, encoding: Encoding = Encoding.COSE, seconds_max: float = 15) -> Reply:
        """Ask `status` until the payment is no longer being checked."""
        ends_at = time.monotonic() + seconds_max
        while True:
            reply = self.ask("status", {"of": key}, encoding=encoding)
            if reply.body.get("state") != "being_checked" or time.monotonic() > ends_at:
                return reply
            time.sleep(0.02)

    @contextmanager
    def events(self, *, after: int = -1, query: str | None = None) -> Iterator[http.client.HTTPResponse]:
        """An open event stream."""
        token = self.sign(msgspec.json.encode(self.claims("events", {"after": after})), Encoding.JWS).decode()
        connection = http.client.HTTPSConnection("localhost", self.box.port, timeout=20, context=self.box.tls())
        path = f"/v1/events?after={after if query is None else query}"
        connection.request("GET", path, headers={"Authorization": f"Tillstone {token}"})
        try:
            yield connection.getresponse()
        finally:
            connection.close()


def paired_till(box: RunningBox, folder: Path, name: str) -> Till:
    """Pair a new till as a person with a QR reader does."""
    home = TerminalHome(folder=folder / name)
    home.folder.mkdir(mode=0o700)
    pair_till(home, name, box.local)
    return Till(box, name, key_file.load(home.key_file), home)


def verified(box: RunningBox, reply: Reply) -> VerifiedReceipt:
    """The answer's receipt, checked offline with the box's trust file alone."""
    receipt = reply.body["receipt"]
    if isinstance(receipt, str):
        receipt = msgspec.convert(receipt, bytes)
    return verify_receipt(receipt, load_trust(box.box.trust.read_bytes()).keys)


def read_event(stream: http.client.HTTPResponse) -> dict[str, Any]:
    """The next event of an open stream, comments skipped."""
    while line := stream.readline():
        if line.startswith(b"data:"):
            event: dict[str, Any] = msgspec.json.decode(line[5:])
            return event
    raise AssertionError("the stream ended")
