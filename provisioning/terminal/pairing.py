"""Make this terminal known to a box by the one-time code that the box shows.

Owns the code's spelling, both proofs and the order of writes: key first, profile last, so that a power cut leaves a
terminal that pairs again, never one that believes it is paired. The code itself never travels.

Source: docs/formats/terminal-protocol.md section 9.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from appliance.crypto import jws
from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import OutcomeUnknown, Rejected
from appliance.model.ids import TerminalId, new_request_key
from appliance.ports.clock import Clock
from appliance.runtime.deadline import Deadline
from appliance.wire.answers import PairAnswer, Problem
from appliance.wire.requests import Claims, PairBody, Wire
from provisioning.terminal import key_file
from provisioning.terminal.durable import write_durably
from provisioning.terminal.home import AUTHORITY_FILE, Profile, TerminalHome
from provisioning.terminal.link import Link, peer_certificate_sha256
from provisioning.terminal.signing import Encoding, read_answer, sign

REQUEST_CONTEXT: Final = b"tillstone/pair/v1"
ANSWER_CONTEXT: Final = b"tillstone/pair/answer/v1"
_CODE_ALPHABET: Final = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_CODE_CHARACTERS: Final = 12
_SHA256: Final = re.compile(r"\A[0-9a-f]{64}\Z")
_AS_READ: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})


class BoxInfo(Wire, frozen=True, kw_only=True):
    """`GET /v1/info`: what a box says to anybody."""

    audience: str
    currency: str
    shop: str
    now_ms: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Where to pair and with which code. `certificate_sha256` is known when it came by QR code."""

    url: str
    code: str
    certificate_sha256: str | None = None


def read_code(typed: str) -> str:
    """The 12 characters of a code as people type it. Raises Rejected `pairing_code_malformed`."""
    code = typed.strip().upper().translate(_AS_READ)
    if len(code) != _CODE_CHARACTERS or not _CODE_ALPHABET.issuperset(code):
        raise Rejected("pairing_code_malformed", "expected 12 letters and digits in three groups of four")
    return code


def read_qr(content: str) -> Invitation:
    """The invitation in `tillstone:pair?url=...&code=...&cert=...`. Raises Rejected `pairing_qr_malformed`."""
    parts = urlsplit(content)
    members = parse_qs(parts.query, strict_parsing=False)
    if parts.scheme != "tillstone" or parts.path != "pair" or sorted(members) != ["cert", "code", "url"]:
        raise Rejected("pairing_qr_malformed", "expected tillstone:pair?url=...&code=...&cert=...")
    url, code, certificate = (members[name][0] for name in ("url", "code", "cert"))
    if not url.startswith("https://") or not _SHA256.match(certificate):
        raise Rejected("pairing_qr_malformed", "expected an https address and a SHA-256 in hex")
    return Invitation(url=url, code=read_code(code), certificate_sha256=certificate)


async def pair(
    home: TerminalHome, invitation: Invitation, *, terminal: TerminalId, clock: Clock, deadline: Deadline
) -> Profile:
    """Pair and keep key, trust and profile in `home`. Call again with the same folder after a failure.

    Without a fingerprint from a QR code the box's certificate is taken as it comes: the proofs tie it to the code.

    Raises:
        Rejected: the code, the name or this terminal's key was refused; `box_not_proven` when the answer's proof is
            wrong, which means that somebody else answered.
        Unavailable, OutcomeUnknown: try again.
    """
    certificate = invitation.certificate_sha256
    if certificate is None:
        certificate = await peer_certificate_sha256(invitation.url, deadline)
    key = await asyncio.to_thread(_key_of, home)
    async with Link(url=invitation.url, certificate_sha256=certificate) as link:
        reply = await link.get("/v1/info", deadline)
        info = read_answer(reply.content_type, reply.body, BoxInfo)
        body = PairBody(
            name=terminal,
            public_key=jws.to_base64url(key.public_key).decode(),
            proof=proof(invitation.code, REQUEST_CONTEXT + bytes.fromhex(certificate) + key.public_key),
        )
        members: dict[str, object] = msgspec.to_builtins(body)
        # Signed by the box's clock: a till that was just unpacked may not know the year.
        claims = Claims(
            v=1,
            verb="pair",
            audience=info.audience,
            terminal=terminal,
            key=str(new_request_key(info.now_ms, secrets.token_bytes(10))),
            signed_at_ms=info.now_ms,
            body=members,
        )
        reply = await link.post("/v1/pair", sign(key, claims, Encoding.JWS), Encoding.JWS, deadline)
    if reply.status != 200:
        problem = read_answer(reply.content_type, reply.body, Problem)
        raise Rejected(problem.code, problem.detail)
    answer = read_answer(reply.content_type, reply.body, PairAnswer)
    _check_answer(invitation.code, key.public_key, answer, terminal)
    profile = Profile(
        url=invitation.url,
        terminal=answer.terminal,
        audience=answer.audience,
        currency=answer.currency,
        certificate_sha256=None if answer.authority else certificate,
        ca_file=AUTHORITY_FILE if answer.authority else None,
    )
    await asyncio.to_thread(_keep, home, answer, profile, answer.now_ms - clock.now_ms())
    return profile


def _key_of(home: TerminalHome) -> TerminalKey:
    return key_file.load(home.key_file) if home.key_file.exists() else key_file.make(home.key_file)


def _keep(home: TerminalHome, answer: PairAnswer, profile: Profile, clock_offset_ms: int) -> None:
    """The profile last: with it the terminal is paired."""
    home.keep_trust(answer.trust)
    if answer.authority:
        write_durably(home.folder / AUTHORITY_FILE, answer.authority.encode())
    home.keep_memory(msgspec.structs.replace(home.memory(), clock_offset_ms=clock_offset_ms))
    home.keep_profile(profile)


def _check_answer(code: str, public_key: bytes, answer: PairAnswer, terminal: TerminalId) -> None:
    digest = hashlib.sha256((answer.trust + answer.authority).encode("utf-8")).digest()
    expected = proof(code, ANSWER_CONTEXT + public_key + digest)
    if not hmac.compare_digest(expected.encode(), answer.proof.encode()):
        raise Rejected("box_not_proven", "who answered does not know the code: nothing was kept, look for an impostor")
    if answer.terminal != terminal:
        raise OutcomeUnknown("answer_unreadable", "the answer is about another terminal")


def proof(code: str, message: bytes) -> str:
    """HMAC-SHA256 under the code's 12 characters, hex."""
    return hmac.digest(code.encode("ascii"), message, "sha256").hex()
