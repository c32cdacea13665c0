"""One open conversation with one TPM; owns the ESAPI context and decides when it is dead. Never shared by threads.

- Two threads on one context fail most of their calls (304 of 600, measured), so a second thread is refused at the door.
- After any error below the TPM itself (TCTI, marshalling, sequence) the context is dead for good: close, open anew.
- A TPM has three transient slots; what a killed predecessor left in them is flushed at the start.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from tpm2_pytss import ESAPI, TPM2_CAP, TPM2_SU, TSS2_Exception

from drivers.tpm.errors import TpmAway, TpmBusy, TpmError, TpmForeign, TpmRefused

# Response codes of the TPM itself (TCG TPM 2.0 part 2, 6.6) and the layer mask of tss2 (tss2_common.h).
RC_INITIALIZE: Final = 0x100  # power came back and nobody has sent TPM2_Startup
RC_FAILURE: Final = 0x101  # failure mode until the next power cycle
# Yielded, testing, NV rate limit, retry, NV unavailable, and a PCR extended between a policy check and its use.
BUSY_CODES: Final = frozenset({0x908, 0x90A, 0x920, 0x922, 0x923, 0x128})
LAYER_MASK: Final = 0xFF0000
ANSWERING_LAYERS: Final = frozenset({0x000000, 0x0B0000, 0x0C0000})  # the TPM, and resource managers speaking for it

FIRST_TRANSIENT: Final = 0x80000000
FIRST_LOADED_SESSION: Final = 0x02000000
FIRST_SAVED_SESSION: Final = 0x03000000
HANDLES_PER_QUESTION: Final = 64


class TpmContext:
    """An ESAPI context bound to the thread that opened it.

    Args:
        tcti: where the TPM is: `swtpm:path=SOCKET`, `swtpm:host=127.0.0.1,port=N` or `device:/dev/tpmrm0`.
    Raises:
        TpmAway: nothing answers there.
    """

    def __init__(self, tcti: str) -> None:
        self._thread = threading.get_ident()
        self._is_dead = False
        try:
            self._esapi: Any = ESAPI(tcti)  # Any: the binding has no types
        except (TSS2_Exception, RuntimeError) as error:
            raise TpmAway(f"no TPM answers at {tcti.split(':', 1)[0]}: {error}") from error
        try:
            self._flush_left_behind()
        except TpmError:
            self.close()
            raise

    @property
    def is_dead(self) -> bool:
        """Whether every further command is refused; then close it and open another."""
        return self._is_dead

    @contextmanager
    def commands(self) -> Iterator[Any]:
        """The raw ESAPI for a few commands; its errors leave as this driver's errors."""
        if threading.get_ident() != self._thread:
            raise TpmForeign("a TPM context belongs to the thread that opened it; another thread asked")
        if self._is_dead:
            raise TpmAway("this context died earlier; open a new one")
        try:
            yield self._esapi
        except TSS2_Exception as error:
            raise self._translated(error) from error

    @contextmanager
    def persistent(self, handle: int) -> Iterator[Any]:
        """The object or NV index at `handle`, looked up afresh so that its cached name is never stale."""
        if not self.holds(handle):
            raise TpmForeign(f"nothing lies at handle 0x{handle:08x}")
        with self.commands() as esapi:
            resource = esapi.tr_from_tpmpublic(handle)
        try:
            yield resource
        finally:
            if not self._is_dead:
                self._esapi.tr_close(resource)

    @contextmanager
    def transient(self, resource: Any) -> Iterator[Any]:
        """Use a loaded object or session and flush it, whatever happens: there are three slots."""
        try:
            yield resource
        finally:
            if not self._is_dead:
                with self.commands() as esapi:
                    esapi.flush_context(resource)

    def holds(self, handle: int) -> bool:
        """Whether a persistent object or NV index lies at `handle`."""
        return handle in self.handles(handle, count=1)

    def handles(self, first: int, *, count: int = HANDLES_PER_QUESTION) -> list[int]:
        """Handles in use from `first` upward, within its kind."""
        with self.commands() as esapi:
            # `capability` owns the memory that `.data.handles` only views: it must outlive the copy made here.
            _, capability = esapi.get_capability(TPM2_CAP.HANDLES, first, count)
            return [int(handle) for handle in capability.data.handles]

    def property(self, tag: int) -> int:
        """One TPM_PT value, such as the lockout counter."""
        with self.commands() as esapi:
            _, capability = esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, tag, 1)
            for entry in capability.data.tpmProperties:
                if int(entry.property) == tag:
                    return int(entry.value)
        raise TpmRefused(0, f"the TPM has no property 0x{tag:x}")

    def settle(self) -> None:
        """TPM2_Shutdown(CLEAR) after the last use: a power cut from here on is an orderly one.

        A later command is still allowed; one that changes state makes the next power cut unorderly again.
        """
        with self.commands() as esapi:
            esapi.shutdown(TPM2_SU.CLEAR)

    def close(self) -> None:
        """Release the connection; a dead context closes quietly."""
        if not self._is_dead:
            self._is_dead = True
            # The TPM may be gone or busy by now: noda objects survive an unorderly stop too.
            with suppress(TSS2_Exception):
                self._esapi.shutdown(TPM2_SU.CLEAR)
        self._esapi.close()

    def _flush_left_behind(self) -> None:
        # Behind /dev/tpmrm0 these lists hold only our own; on a bare TPM we are the only user by design.
        for first in (FIRST_TRANSIENT, FIRST_LOADED_SESSION, FIRST_SAVED_SESSION):
            for handle in self.handles(first):
                with self.commands() as esapi:
                    esapi.flush_context(esapi.tr_from_tpmpublic(handle))

    def _translated(self, error: Any) -> TpmError:
        code = int(error.rc)
        if code & LAYER_MASK not in ANSWERING_LAYERS or code & 0xFFFF in (RC_INITIALIZE, RC_FAILURE):
            self._is_dead = True
            return TpmAway(f"the TPM is away: {error} (0x{code:x})")
        if code & 0xFFFF in BUSY_CODES:
            return TpmBusy(f"the TPM is busy: {error} (0x{code:x})")
        return TpmRefused(code, str(error))
