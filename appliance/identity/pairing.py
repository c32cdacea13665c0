"""Pairing a terminal by a one-time code that never travels.

The operator reads the code from the box (text or QR); the terminal proves that it knows it by an HMAC over its own key
and the TLS certificate it saw, so that a man in the middle, who has another certificate, gets nothing he can use. The
box answers with an HMAC of its own. A code lives ten minutes and five tries, and dies with the process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from appliance.crypto import cose, jws, signature
from appliance.identity.authenticate import Authenticate, check_age
from appliance.identity.signed import SignedRequest
from appliance.identity.terminals import Terminals
from appliance.model.errors import Rejected
from appliance.model.ids import TerminalId, terminal_id
from appliance.model.limits import PAIRING_CODE_AGE_MAX_MS, PAIRING_CODE_TRIES_MAX
from appliance.ports.clock import Clock
from appliance.wire.answers import PairAnswer
from appliance.wire.faults import explain
from appliance.wire.requests import PairBody

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no I, L, O, U. 12 characters are 60 bits: too many to try against one recorded proof in time."""
_CODE_CHARACTERS: Final = 12
_CODES_MAX: Final = 16
_REQUEST_CONTEXT: Final = b"tillstone/pair/v1"
_ANSWER_CONTEXT: Final = b"tillstone/pair/answer/v1"


@dataclass(slots=True, kw_only=True)
class _Invitation:
    terminal: TerminalId
    code: str
    expires_ms: int
    tries_left: int


class Pairing:
    """Open invitations, and the verb that uses one up."""

    def __init__(
        self,
        *,
        terminals: Terminals,
        authenticate: Authenticate,
        clock: Clock,
        audience: str,
        currency: str,
        trust: str,
        authority: Callable[[], str],
        certificate_sha256: Callable[[], bytes],
        admit: Callable[[], None],
    ) -> None:
        """What the door shows is asked each time; `admit` raises Unavailable while the box's state forbids pairing."""
        self._terminals = terminals
        self._authenticate = authenticate
        self._clock = clock
        self._audience = audience
        self._currency = currency
        self._trust = trust
        self._authority = authority
        self._certificate_sha256 = certificate_sha256
        self._admit = admit
        self._open: dict[TerminalId, _Invitation] = {}

    @property
    def certificate_sha256(self) -> bytes:
        """SHA-256 of the door's TLS certificate (DER), as a QR code shows it."""
        return self._certificate_sha256()

    def invite(self, name: str) -> str:
        """A new one-time code for the terminal `name`, in the form XXXX-XXXX-XXXX; an older one for it dies."""
        self._admit()
        terminal = terminal_id(name)
        now_ms = self._clock.monotonic_ms()
        self._open = {each: kept for each, kept in self._open.items() if kept.expires_ms > now_ms}
        if terminal not in self._open and len(self._open) >= _CODES_MAX:
            raise Rejected("too_many_invitations", f"at most {_CODES_MAX} codes are open at a time")
        code = "".join(secrets.choice(ALPHABET) for _ in range(_CODE_CHARACTERS))
        self._open[terminal] = _Invitation(
            terminal=terminal,
            code=code,
            expires_ms=now_ms + PAIRING_CODE_AGE_MAX_MS,
            tries_left=PAIRING_CODE_TRIES_MAX,
        )
        return "-".join(code[at : at + 4] for at in range(0, _CODE_CHARACTERS, 4))

    async def pair(self, signed: SignedRequest) -> PairAnswer:
        """Accept a terminal's key if its proof shows the code.

        Raises:
            Rejected: `pairing_refused`, the same for a wrong, expired, used-up and never issued code.
            Unavailable: the box's state forbids it.
        """
        public_key = _public_key(signed)
        if signature.key_id(public_key) != signed.key_id or not signed.is_signed_by(public_key):
            raise Rejected("signature_wrong", "a pairing request is signed by the key that it brings")
        now_ms = self._clock.now_ms()
        check_age(self._authenticate.check_claims(signed, PairBody, now_ms), now_ms)
        self._admit()
        invitation = self._use(signed, public_key)
        await self._terminals.pair(invitation.terminal, public_key)
        authority = self._authority()
        return PairAnswer(
            terminal=invitation.terminal,
            audience=self._audience,
            currency=self._currency,
            trust=self._trust,
            authority=authority,
            proof=answer_proof(invitation.code, public_key, self._trust + authority),
            now_ms=self._clock.now_ms(),
        )

    def _use(self, signed: SignedRequest, public_key: bytes) -> _Invitation:
        refusal = Rejected("pairing_refused", "no open invitation matches this name and proof; ask for a new code")
        invitation = self._open.get(TerminalId(signed.claims.terminal))
        if invitation is None or invitation.expires_ms <= self._clock.monotonic_ms():
            raise refusal
        expected = request_proof(invitation.code, self.certificate_sha256, public_key)
        if not hmac.compare_digest(expected, str(signed.claims.body.get("proof", ""))):
            invitation.tries_left -= 1
            if invitation.tries_left == 0:
                del self._open[invitation.terminal]
            raise refusal
        del self._open[invitation.terminal]
        return invitation


def request_proof(code: str, certificate_sha256: bytes, public_key: bytes) -> str:
    """The terminal's proof, hex. `code` is the 12 characters without hyphens."""
    message = _REQUEST_CONTEXT + certificate_sha256 + public_key
    return hmac.digest(code.encode(), message, "sha256").hex()


def answer_proof(code: str, public_key: bytes, handed_over: str) -> str:
    """The box's proof, hex: only who knows the code can hand over a trust file and an authority."""
    message = _ANSWER_CONTEXT + public_key + hashlib.sha256(handed_over.encode()).digest()
    return hmac.digest(code.encode(), message, "sha256").hex()


def _public_key(signed: SignedRequest) -> bytes:
    try:
        body = msgspec.convert(signed.claims.body, PairBody)
    except msgspec.ValidationError as fault:
        raise Rejected("body_invalid", explain(fault)) from None
    if body.name != signed.claims.terminal:
        raise Rejected("terminal_mismatch", "the claims and the body name two terminals")
    public_key = jws.from_base64url(body.public_key.encode())
    if signature.key_type(public_key) != signature.algorithm(cose.ES256).key_type:
        raise Rejected("public_key_unsupported", "a terminal's key is ECDSA P-256")
    return public_key
