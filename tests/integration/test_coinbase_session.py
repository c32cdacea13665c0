"""How the box shows itself to Coinbase: tokens of two minutes for one request each, and a key that is never told."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.adapters.coinbase_session import CoinbaseSession, CoinbaseSettings, idempotency_key
from appliance.adapters.provider_http import Reply
from appliance.config.secret import Secret
from appliance.crypto import cose, signature
from appliance.crypto.jws import from_base64url
from appliance.model.errors import Rejected
from appliance.ports.provider import NotSent, Unknown
from tests.coinbase_twin_here import NAME, SEED, CoinbaseHere, key_file, public_key
from tests.fakes.clock import START_MS, FakeClock

BASE = "https://business.coinbase.com/sandbox"
PATH = "/api/v1/checkouts/68f7a946db0529ea9b6d3a12"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
PEM = EC_KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)


def settings(key: bytes, base: str = BASE, name: str = NAME) -> CoinbaseSettings:
    return CoinbaseSettings(api_base=base, key_name=name, key=Secret(key))


class Kept:
    """A line that keeps what it was given, and sends nothing."""

    base = BASE

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, str], bytes | None]] = []

    async def send(self, *request: Any) -> NotSent:
        self.sent.append(request)
        return NotSent(reason="connection_failed")

    async def close(self) -> None:
        """There is nothing."""


async def asked(key: bytes, **more: Any) -> tuple[str, dict[str, str]]:
    """The path and the headers of one request under this key."""
    kept = Kept()
    session = CoinbaseSession(settings=settings(key), clock=FakeClock(), line=kept)
    await session.ask("GET", PATH, **more)
    (request,) = kept.sent
    return request[1], request[2]


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(key_file(), "EdDSA"), (PEM, "ES256"), (PEM.replace(b"\n", b"\\n"), "ES256")],
    ids=["Ed25519", "PEM", "PEM on one line"],
)
async def test_a_token_is_signed_for_one_method_and_path_and_lives_for_two_minutes(key: bytes, algorithm: str) -> None:
    _, headers = await asked(key)
    header, claims, given = headers["Authorization"].removeprefix("Bearer ").encode().split(b".")
    said, claimed = json.loads(from_base64url(header)), json.loads(from_base64url(claims))
    assert (said["alg"], said["kid"], len(said["nonce"])) == (algorithm, NAME, 32)
    now_s = START_MS // 1000
    assert claimed == {
        "iss": "cdp",
        "sub": NAME,
        "nbf": now_s,
        "exp": now_s + 120,
        "uri": f"GET business.coinbase.com/sandbox{PATH}",
    }
    number = cose.ES256 if algorithm == "ES256" else cose.ED25519
    public = EC_KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public = public if algorithm == "ES256" else base64.b64decode(public_key())
    assert signature.verify(number, public, header + b"." + claims, from_base64url(given))


async def test_every_request_has_a_token_of_its_own_and_its_query_is_no_part_of_it() -> None:
    path, first = await asked(key_file(), query={"pageToken": "a+b=="})
    assert path == f"{PATH}?pageToken=a%2Bb%3D%3D"
    _, second = await asked(key_file())
    assert first["Authorization"] != second["Authorization"]


def test_a_key_becomes_the_same_uuid_of_version_4_each_time() -> None:
    one = uuid.UUID(idempotency_key("payment/0"))
    assert (one.version, one.variant) == (4, uuid.RFC_4122)
    assert str(one) == idempotency_key("payment/0") != idempotency_key("payment/1")


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"no key",
        base64.b64encode(SEED),
        ec.generate_private_key(ec.SECP384R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
    ],
)
async def test_what_is_no_key_of_coinbases_is_refused_without_being_told(key: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        CoinbaseSession(settings=settings(key), clock=FakeClock())
    assert refused.value.code == "provider_key_invalid"
    assert not key or key.decode() not in str(refused.value)


async def test_a_wrong_name_and_an_address_without_tls_are_refused() -> None:
    with pytest.raises(Rejected) as name:
        CoinbaseSession(settings=settings(key_file(), name="a name\nwith a line"), clock=FakeClock())
    assert name.value.code == "provider_key_invalid"
    with pytest.raises(Rejected) as address:
        CoinbaseSession(settings=settings(key_file(), base="http://business.coinbase.com"), clock=FakeClock())
    assert address.value.code == "provider_address_insecure"


async def test_the_key_stays_in_its_settings() -> None:
    assert key_file().decode() not in repr(settings(key_file()))
    _, headers = await asked(key_file())
    assert key_file().decode() not in str(headers)


async def test_a_box_whose_clock_is_wrong_learns_the_time_from_the_first_answer() -> None:
    clock = FakeClock()
    async with CoinbaseHere(clock) as here:
        session = here.session()
        here.store.move_clock(-3_600_000)
        answers: list[Reply | NotSent | Unknown] = [await session.ask("GET", "/api/v1/checkouts") for _ in range(2)]
        assert [each.status for each in answers if isinstance(each, Reply)] == [401, 200]
        clock.step(86_400_000)  # and a step of our own clock afterwards changes nothing
        here.store.move_clock(-86_400_000)
        again = await session.ask("GET", "/api/v1/checkouts")
        await session.close()
        assert isinstance(again, Reply)
        assert again.status == 200
