"""Who signed this, for this box, just now? The type it returns is the proof.

Replay needs no clock of the terminal's: the key is a UUIDv7, remembered for 90 days; an older key is refused, one
from the future would outlive the memory and is refused too. A key that is remembered gets what it was used for,
whatever its age: the box's clock may have been wrong by months when the key was made. The time of signing must be
fresh besides, and a refusal for the clock carries the box's time, so that a till can correct itself and sign again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import msgspec

from appliance.crypto import cbor
from appliance.identity.signed import SignedRequest
from appliance.identity.terminals import Terminals
from appliance.model.errors import Rejected
from appliance.model.ids import RequestKey, TerminalId, request_key
from appliance.model.limits import DAY_MS, KEY_AGE_MAX_MS, KEY_AHEAD_MAX_MS
from appliance.model.payment import AuthenticatedRequest, Identity
from appliance.ports.clock import Clock
from appliance.wire.answers import HeadAnswer
from appliance.wire.faults import explain
from appliance.wire.requests import BODIES, AttestBody, EventsBody, HeadBody, StatusBody, Wire

BodyT = TypeVar("BodyT", bound=Wire)
_READS: Final = frozenset({AttestBody, EventsBody, HeadBody, StatusBody})
"""What begins nothing, so that nobody remembers its key."""


class Watermark(Protocol):
    """Compares what a terminal has seen of the log with what the log is now."""

    async def check(self, size: int, root: bytes) -> None:
        """Return when the head is one of this log's; else raise, without believing the terminal's word."""
        ...

    async def show(self, head: HeadBody) -> int:
        """The log's size when `head` is one of its own; a verified head that is not quarantines the box."""
        ...


class Authenticate:
    """The first stage of every verb; `is_used` tells whether the ledger remembers a key."""

    def __init__(
        self,
        *,
        terminals: Terminals,
        watermark: Watermark,
        clock: Clock,
        audience: str,
        clock_skew_max_ms: int,
        is_used: Callable[[RequestKey], Awaitable[bool]],
    ) -> None:
        self._is_used = is_used
        self._terminals = terminals
        self._watermark = watermark
        self._clock = clock
        self._audience = audience
        self._clock_skew_max_ms = clock_skew_max_ms

    async def __call__(self, signed: SignedRequest, shape: type[BodyT]) -> AuthenticatedRequest[BodyT]:
        """Check the signature first, so that nothing else is said to a stranger.

        Raises:
            Rejected: unknown or revoked terminal, wrong signature, other audience, wrong verb, stale clock, key too old
                or too new, or a body of another shape.
                `head_evidence_needed`: the terminal tells a head that this log does not contain.
            Unavailable: the box is quarantined, and the terminal has seen a longer or another log.
        """
        request = await self._identify(signed, shape)
        seen = signed.claims.seen
        if seen is not None and seen.size > 0:
            await self._watermark.check(seen.size, bytes.fromhex(seen.root))
        return request

    async def show_head(self, signed: SignedRequest) -> HeadAnswer:
        """A terminal proves the head that it told as `seen`.

        Raises:
            Rejected: as a call, and `head_evidence_refused`: it is no signed head of this log.
            Unavailable: `quarantined`: it is one, and this log does not contain it.
        """
        request = await self._identify(signed, HeadBody)  # `seen` is not compared: it is what this is about
        size = await self._watermark.show(request.body)
        return HeadAnswer(key=str(request.identity.key), size=size, now_ms=request.identity.received_ms)

    async def _identify(self, signed: SignedRequest, shape: type[BodyT]) -> AuthenticatedRequest[BodyT]:
        terminal = self._terminals.by_key(signed.key_id)
        if not signed.is_signed_by(terminal.public_key):
            raise Rejected("signature_wrong", "the signature does not verify under this terminal's key")
        claims = signed.claims
        if claims.terminal != terminal.terminal_id:
            raise Rejected("terminal_mismatch", "the claims name another terminal than the key's")
        now_ms = self._clock.now_ms()
        key = self.check_claims(signed, shape, now_ms)
        try:
            check_age(key, now_ms)
        except Rejected:
            # A refusal would read as "nothing happened" to a till that never heard the answer to its first attempt.
            if shape not in _READS and not await self._is_used(key):
                raise
        return authenticated(signed, shape, key=key, terminal=terminal.terminal_id, now_ms=now_ms)

    def check_claims(self, signed: SignedRequest, shape: type[Wire], now_ms: int) -> RequestKey:
        """Audience, verb and freshness; also for a terminal that is just being paired."""
        claims = signed.claims
        if claims.audience != self._audience:
            raise Rejected("wrong_audience", f"this box answers to {self._audience}")
        if BODIES[claims.verb] is not shape:
            raise Rejected("wrong_verb", f"a request signed for {claims.verb} was sent to another verb")
        skew_ms = claims.signed_at_ms - now_ms
        if abs(skew_ms) > self._clock_skew_max_ms:
            raise Rejected(
                "clock_skew",
                f"the terminal's clock differs by {skew_ms} ms, at most {self._clock_skew_max_ms} is allowed; "
                "use now_ms and sign again with the same key",
            )
        return request_key(claims.key)


def check_age(key: RequestKey, now_ms: int) -> None:
    """Raises Rejected `key_too_old` or `key_from_the_future`: such a key begins nothing."""
    if key.created_ms < now_ms - KEY_AGE_MAX_MS:
        raise Rejected("key_too_old", f"keys older than {KEY_AGE_MAX_MS // DAY_MS} days are refused, never new")
    if key.created_ms > now_ms + KEY_AHEAD_MAX_MS:
        raise Rejected("key_from_the_future", "the key's time lies more than a day ahead of the box's clock")


def authenticated(
    signed: SignedRequest, shape: type[BodyT], *, key: RequestKey, terminal: TerminalId, now_ms: int
) -> AuthenticatedRequest[BodyT]:
    """The typed request. Called only after every check."""
    try:
        body = msgspec.convert(signed.claims.body, shape)
    except msgspec.ValidationError as fault:
        raise Rejected("body_invalid", explain(fault)) from None
    return AuthenticatedRequest(
        identity=Identity(
            key=key,
            terminal=terminal,
            payload_hash=payload_hash(signed.claims.verb, terminal, body),
            signed=signed.raw,
            received_ms=now_ms,
        ),
        body=body,
    )


def payload_hash(verb: str, terminal: str, body: Wire) -> bytes:
    """SHA-256 of what a retry must repeat: equal in COSE and JWS, and whatever defaults the sender wrote out."""
    return payload_hash_of(verb, terminal, cbor.encode_ordered(msgspec.to_builtins(body)))


def payload_hash_of(verb: str, terminal: str, encoded_body: bytes) -> bytes:
    """The same for a body that is encoded already, without its defaults."""
    return hashlib.sha256(cbor.array_head(3) + cbor.encode(verb) + cbor.encode(terminal) + encoded_body).digest()
