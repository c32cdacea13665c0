"""What every signer promises, whatever holds its key; the ledger relies on nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.adapters.hsm_link import HsmAddress, HsmLink
from appliance.adapters.hsm_signer import COSE_OF, EnvelopedSigner, HsmSigner, PinnedHsmKey
from appliance.crypto import cose, signature, signing_key
from appliance.ports.signer import Signer
from drivers.hsm import library as hsm_library
from drivers.hsm.keys import Algorithm, generate_signing_key
from drivers.hsm.token import Pin, Token
from tests.fakes.clock import FakeClock
from tests.fakes.signer import FakeSigner
from tests.softhsm import LABEL, LIBRARY_PATH, soft_hsm

KEY_ID = b"log-key"
DEADLINE_MS = 30_000  # of a shared machine, not of the product


@pytest.fixture(
    params=[
        "fake",
        "softhsm-ed25519",
        "softhsm-p256",
        "softhsm-p384",
        "enveloped-ml-dsa-87",
        "enveloped-ed25519",
        pytest.param("token-ml-dsa-87", marks=pytest.mark.pq_token),
    ]
)
async def signer(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Signer]:
    match request.param:
        case "fake":
            yield FakeSigner()
        case "enveloped-ml-dsa-87" | "enveloped-ed25519" as name:
            from_seed = signing_key.ml_dsa_87_from_seed if "ml-dsa" in name else signing_key.ed25519_from_seed
            enveloped = EnvelopedSigner(key=from_seed(os.urandom(32)), deadline_ms=DEADLINE_MS)
            yield enveloped
            await enveloped.close()
        case "token-ml-dsa-87":
            async for made in token_signer(pq_token_address(), pq_token_pin(), Algorithm.ML_DSA_87):
                yield made
        case name:
            algorithm = {"ed25519": Algorithm.ED25519, "p256": Algorithm.P256, "p384": Algorithm.P384}[name[8:]]
            with soft_hsm(tmp_path, monkeypatch) as hsm:
                address = HsmAddress(library_path=LIBRARY_PATH, token_label=LABEL, token_serial=None)
                async for made in token_signer(address, hsm.pin, algorithm):
                    yield made


async def token_signer(address: HsmAddress, pin: Pin, algorithm: Algorithm) -> AsyncIterator[Signer]:
    """A signer whose key was made in the token just now."""
    public_key = await asyncio.to_thread(make_key, address, pin, algorithm)
    link = HsmLink(address=address, pin=pin, clock=FakeClock(), random=random.Random(7).random)
    key = PinnedHsmKey(token_key_id=KEY_ID, algorithm=COSE_OF[algorithm], public_key=public_key)
    yield HsmSigner(link=link, key=key, deadline_ms=DEADLINE_MS)
    await link.close()


def make_key(address: HsmAddress, pin: Pin, algorithm: Algorithm) -> bytes:
    library = hsm_library.load(address.library_path)
    library.reinitialise()
    token = Token.open(library=library, label=address.token_label, serial=address.token_serial, pin=pin)
    session = token.session(writable=True)
    with session.used("remove the key of an earlier test") as raw:
        for left_over in list(raw.get_objects()):
            left_over.destroy()
    public_key = generate_signing_key(session, algorithm, key_id=KEY_ID, label="log")
    library.reinitialise()
    return public_key


def pq_token_address() -> HsmAddress:
    path, label = os.environ.get("PQ_TOKEN_LIBRARY"), os.environ.get("PQ_TOKEN_LABEL")
    if path is None or label is None:
        pytest.skip("optional: PQ_TOKEN_LIBRARY and PQ_TOKEN_LABEL name no token (make test-pq-token sets them)")
    return HsmAddress(library_path=path, token_label=label, token_serial=None)


def pq_token_pin() -> Pin:
    return Pin(os.environ["PQ_TOKEN_PIN"])


async def test_signature_verifies_under_the_public_key(signer: Signer) -> None:
    made = await signer.sign(b"a tree head")
    assert signature.verify(signer.algorithm, signer.public_key, b"a tree head", made)


async def test_signature_covers_every_byte_of_the_message(signer: Signer) -> None:
    made = await signer.sign(b"a tree head")
    assert not signature.verify(signer.algorithm, signer.public_key, b"a tree heae", made)


async def test_signature_has_the_exact_size_of_its_cose_form(signer: Signer) -> None:
    assert len(await signer.sign(b"a tree head")) == signature.algorithm(signer.algorithm).signature_size


async def test_key_id_is_the_hash_of_the_public_key(signer: Signer) -> None:
    assert signer.key_id == hashlib.sha256(signer.public_key).digest()


@pytest.mark.parametrize("size", [0, 1, 65_536])
async def test_messages_of_any_size_are_signed(signer: Signer, size: int) -> None:
    message = b"\xa5" * size
    assert signature.verify(signer.algorithm, signer.public_key, message, await signer.sign(message))


async def test_concurrent_calls_get_their_own_signatures(signer: Signer) -> None:
    messages = [f"head {number}".encode() for number in range(16)]
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(signer.sign(message)) for message in messages]
    for message, call in zip(messages, calls, strict=True):
        assert signature.verify(signer.algorithm, signer.public_key, message, call.result())


def test_algorithms_of_tokens_are_on_the_approved_list() -> None:
    assert set(COSE_OF.values()) == {cose.ED25519, cose.ESP256, cose.ESP384, cose.ML_DSA_87}
