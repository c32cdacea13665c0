"""The PKCS#11 library of this process: loaded once, initialised with its own locks on, counted by generation.

A PKCS#11 library has one state per process, so there is one `Library` per file, whoever asks. Never calls the binding's
own finalize, reinitialize or unload: they switch the library's locks off.

Rules:
- The binding calls C_Initialize(NULL) when it loads, which tells SoftHSM that there is one thread, and then releases
  the GIL inside calls: four threads crash the process. So we finalise at once and initialise with CKF_OS_LOCKING_OK.
- Every Initialize begins a new generation. Handles of an older one may silently name another key, so using one raises.
- Finalize frees memory that running calls use. It waits for them, bounded, and refuses when one hangs.
- With the token's store gone C_Initialize itself fails and leaves the library not initialised; the next try starts
  there.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pkcs11
from pkcs11.exceptions import PKCS11Error
from pkcs11.types import Token as Pkcs11Token

from drivers.hsm.errors import LibraryBusy, StaleGeneration, TokenAway, translated

CKF_OS_LOCKING_OK: Final = 2
CKR_OK: Final = 0
CKR_CRYPTOKI_NOT_INITIALIZED: Final = 0x190
CALLS_END_SECONDS_MAX: Final = 1.0  # how long a reconnect waits for calls of other threads


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS (PKCS#11 v2.40 section 3.7); null callbacks and one flag: use the system's locks."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class Library:
    """One loaded PKCS#11 library; get it with `load`."""

    def __init__(self, path: str) -> None:
        self._condition = threading.Condition()
        self._calls_running = 0
        self._generation = 0
        self._is_initialised = False
        self._refused_tokens: set[tuple[str, bytes]] = set()
        try:
            self._binding = pkcs11.lib(path)
            self._functions = ctypes.CDLL(path)
        except (PKCS11Error, OSError) as cause:
            raise TokenAway(f"cannot load the PKCS#11 library {path}: {cause}") from cause
        self.reinitialise()

    @property
    def generation(self) -> int:
        """Grows with every Initialize; objects carry the one they were made in."""
        return self._generation

    def reinitialise(self) -> int:
        """Finalise and initialise; all sessions, logins and handles of this process end. Returns the new generation.

        Raises:
            LibraryBusy: a call of another thread did not end in time.
            TokenAway: the library does not come up, such as when its token store is gone.
        """
        with self._condition:
            # From here on no call begins and every object there is becomes stale, also when the rest fails.
            self._generation += 1
            self._is_initialised = False
            ends_at = time.monotonic() + CALLS_END_SECONDS_MAX
            while self._calls_running:
                if not self._condition.wait(ends_at - time.monotonic()):
                    raise LibraryBusy(f"{self._calls_running} calls hang inside the PKCS#11 library")
            finalised = int(self._functions.C_Finalize(None))
            if finalised not in (CKR_OK, CKR_CRYPTOKI_NOT_INITIALIZED):
                raise TokenAway(f"C_Finalize: {finalised:#x}")
            initialised = int(self._functions.C_Initialize(ctypes.byref(_InitializeArgs(flags=CKF_OS_LOCKING_OK))))
            if initialised != CKR_OK:
                raise TokenAway(f"C_Initialize: {initialised:#x}")
            self._is_initialised = True
            return self._generation

    @contextmanager
    def entered(self, generation: int) -> Iterator[None]:
        """The right to call the library while `generation` lasts; Finalize waits for the end of the block."""
        with self._condition:
            if generation != self._generation:
                raise StaleGeneration(f"made in generation {generation}, the library is in {self._generation}")
            if not self._is_initialised:
                raise TokenAway("the library is not initialised")
            self._calls_running += 1
        try:
            yield
        finally:
            with self._condition:
                self._calls_running -= 1
                self._condition.notify_all()

    def tokens(self, label: str) -> list[Pkcs11Token]:
        """Every token with that label."""
        with self.entered(self._generation), translated("list the tokens"):
            return list(self._binding.get_tokens(token_label=label))

    def remember_refusal(self, label: str, serial: bytes) -> None:
        """That token refused its PIN; nobody in this process presents one again. Some tokens have no serial."""
        self._refused_tokens.add((label, serial))

    def has_refused(self, label: str, serial: bytes) -> bool:
        return (label, serial) in self._refused_tokens


_loaded: Final[dict[str, Library]] = {}
_loading: Final = threading.Lock()


def load(path: str) -> Library:
    """The library at `path`. A second call returns the same one: PKCS#11 has one state per process and file."""
    with _loading:
        if path not in _loaded:
            _loaded[path] = Library(path)
        return _loaded[path]
