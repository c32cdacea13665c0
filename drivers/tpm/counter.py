"""Monotonic NV counters: define, read, increment. A counter here only ever grows; nothing in this module deletes one.

- The first increment also makes the index readable; it starts above every counter this TPM ever had, so a deleted and
  redefined counter resumes above its old value. Nobody may assume that a counter starts at 1.
- An increment is never retried: after a lost answer the caller reads.
- NV wears out (order 100,000 writes): one increment an hour is 11 years.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from tpm2_pytss import TPM2_ALG, TPM2_NT, TPM2B_AUTH, TPM2B_NV_PUBLIC, TPMA_NV, TPMS_NV_PUBLIC

from drivers.tpm.context import TpmContext
from drivers.tpm.errors import TpmAway, TpmForeign, TpmUnsure

# Owner-defined part of the NV space (TCG registry of reserved handles, 2.2.2).
EPOCH_INDEX: Final = 0x01800100
POLICY_FLOOR_INDEX: Final = 0x01800101
COUNTER_BYTES: Final = 8
_ALG_SHA256: Final = b"\x00\x0b"

_ATTRIBUTES: Final = (TPM2_NT.COUNTER << 4) | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.OWNERREAD | TPMA_NV.NO_DA


def ensure_counter(tpm: TpmContext, index: int) -> int:
    """The counter's value; defines it and gives it its first value when absent."""
    if not tpm.holds(index):
        with tpm.commands() as esapi:
            esapi.tr_close(esapi.nv_define_space(TPM2B_AUTH(), _public(index, _ATTRIBUTES)))
    if not _is_written(tpm, index):  # also after a power cut between the two commands
        return increment_counter(tpm, index)
    return read_counter(tpm, index)


def read_counter(tpm: TpmContext, index: int) -> int:
    """The value. Raises TpmForeign when the index is absent or no counter of ours."""
    if not _is_written(tpm, index):
        raise TpmForeign(f"the counter at 0x{index:08x} was never incremented")
    with tpm.persistent(index) as resource, tpm.commands() as esapi:
        return int.from_bytes(bytes(esapi.nv_read(resource, COUNTER_BYTES, auth_handle=resource)), "big")


def increment_counter(tpm: TpmContext, index: int) -> int:
    """Add one and return the new value, durable in the TPM.

    Raises:
        TpmUnsure: it may or may not have happened: read, never repeat.
    """
    with tpm.persistent(index) as resource:
        try:
            with tpm.commands() as esapi:
                esapi.nv_increment(resource, auth_handle=resource)
        except TpmAway as error:
            raise TpmUnsure("the TPM went away during an increment") from error
    return read_counter(tpm, index)


def counter_name(tpm: TpmContext, index: int) -> bytes:
    """The name of a written counter; it binds index and attributes, not the value."""
    with tpm.persistent(index) as resource, tpm.commands() as esapi:
        _, name = esapi.nv_read_public(resource)
        return bytes(name)


def written_counter_name(index: int) -> bytes:
    """What `counter_name` tells of our counter at `index` in every TPM (part 1, 16: algorithm and digest)."""
    return _ALG_SHA256 + hashlib.sha256(_public(index, _ATTRIBUTES | TPMA_NV.WRITTEN).nvPublic.marshal()).digest()


def _is_written(tpm: TpmContext, index: int) -> bool:
    with tpm.persistent(index) as resource, tpm.commands() as esapi:
        public, _ = esapi.nv_read_public(resource)
        attributes = int(public.nvPublic.attributes)
    if attributes & ~int(TPMA_NV.WRITTEN) != int(_ATTRIBUTES):
        raise TpmForeign(f"index 0x{index:08x} holds something else than our counter")
    return bool(attributes & int(TPMA_NV.WRITTEN))


def _public(index: int, attributes: Any) -> Any:
    area = TPMS_NV_PUBLIC(nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=COUNTER_BYTES)
    return TPM2B_NV_PUBLIC(nvPublic=area)
