"""Exactly one token: the anchor login and the sessions that live under it.

Never presents a PIN twice after a refusal, and never picks "the first" token: exactly one fits, or none is opened.

Rules:
- Closing the session that logged in logs the whole process out, so the anchor session is opened once per generation, is
  used for nothing else and is never closed: only Finalize ends it.
- A worker session is used by the thread that opened it; another thread is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pkcs11.exceptions import PKCS11Error, UserAlreadyLoggedIn
from pkcs11.types import Session as Pkcs11Session
from pkcs11.types import Token as Pkcs11Token

from drivers.hsm.errors import PIN_ERRORS, PinRefused, TokenAway, TokenRefused, translated

if TYPE_CHECKING:
    from drivers.hsm.library import Library


class Pin:
    """A PIN whose repr never shows it. Python cannot wipe it from memory; nothing claims that."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """For C_Login only."""
        return self._value

    def __repr__(self) -> str:
        return "Pin(redacted)"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a PIN is not copied out of the process")


class Token:
    """The one token that was asked for, logged in."""

    def __init__(self, *, library: Library, raw: Pkcs11Token, anchor: Pkcs11Session, generation: int) -> None:
        self._library = library
        self._raw = raw
        self._anchor = anchor  # held so that nobody can reach and close it
        self._generation = generation
        with library.entered(generation), translated("list the mechanisms"):
            self.mechanisms = frozenset(int(mechanism) for mechanism in raw.slot.get_mechanisms())

    @classmethod
    def open(cls, *, library: Library, label: str, serial: bytes | None, pin: Pin) -> Token:
        """Find the token with this label, and serial when pinned, and log in for as long as the generation lasts.

        Raises:
            TokenAway: no such token is present.
            TokenRefused: several fit, or this process is logged in already.
            PinRefused: now, or at any time before in this process; then the token is not asked.
        """
        generation = library.generation
        raw = _exactly_one(library, label, serial)
        if library.has_refused(label, raw.serial):
            raise PinRefused(f"token {label} refused its PIN before; it is not presented again in this process")
        with library.entered(generation):
            try:
                anchor = raw.open(user_pin=pin.reveal())
            except PIN_ERRORS as cause:
                library.remember_refusal(label, raw.serial)
                raise PinRefused(f"token {label}: {type(cause).__name__}") from cause
            except UserAlreadyLoggedIn as cause:
                raise TokenRefused(f"token {label}: this process has logged in already; share that token") from cause
            except PKCS11Error as cause:
                raise TokenAway(f"log in to token {label}: {type(cause).__name__}") from cause
        return cls(library=library, raw=raw, anchor=anchor, generation=generation)

    @property
    def label(self) -> str:
        return self._raw.label

    @property
    def serial(self) -> bytes:
        return self._raw.serial

    def is_current(self) -> bool:
        """Whether the login still stands: no Initialize since."""
        return self._generation == self._library.generation

    def session(self, *, writable: bool = False) -> Session:
        """A session of the calling thread; `writable` to make keys."""
        with self._library.entered(self._generation), translated("open a session"):
            raw = self._raw.open(rw=writable)
        return Session(library=self._library, raw=raw, mechanisms=self.mechanisms, generation=self._generation)


class Session:
    """A worker session: one thread, one generation, no login of its own."""

    def __init__(self, *, library: Library, raw: Pkcs11Session, mechanisms: frozenset[int], generation: int) -> None:
        self._library = library
        self._raw = raw
        self._generation = generation
        self._thread_id = threading.get_ident()
        self.mechanisms = mechanisms

    @contextmanager
    def used(self, what: str) -> Iterator[Pkcs11Session]:
        """The raw session for one call named `what`; the only way to it.

        Raises:
            StaleGeneration, TokenAway, MechanismMissing.
            TokenRefused: called from a thread that did not open the session.
        """
        if threading.get_ident() != self._thread_id:
            raise TokenRefused(f"{what}: a session belongs to the thread that opened it")
        with self._library.entered(self._generation), translated(what):
            yield self._raw

    def random(self, size_bytes: int) -> bytes:
        """Bytes from the token's generator."""
        with self.used("draw random bytes") as raw:
            return bytes(raw.generate_random(size_bytes * 8))

    def close(self) -> None:
        """End this session; the login stays."""
        with self.used("close a session") as raw:
            raw.close()


def _exactly_one(library: Library, label: str, serial: bytes | None) -> Pkcs11Token:
    found = [token for token in library.tokens(label) if serial is None or token.serial == serial]
    if not found:
        raise TokenAway(f"no token labelled {label}" + (f" with serial {serial.decode()}" if serial else ""))
    if len(found) > 1:
        raise TokenRefused(f"{len(found)} tokens are labelled {label}; pin a serial")
    return found[0]
