"""PCR values and quotes over them, SHA-256 bank only. Produces evidence; judging it is `quote_check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tpm2_pytss import (
    TPM2_ALG,
    TPM2B_DATA,
    TPML_PCR_SELECTION,
    TPMS_PCR_SELECTION,
    TPMT_SIG_SCHEME,
)

from drivers.tpm.context import TpmContext
from drivers.tpm.errors import TpmBusy, TpmForeign

NONCE_BYTES_MIN: Final = 8
NONCE_BYTES_MAX: Final = 64
PCR_COUNT: Final = 24
READ_ATTEMPTS_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """Marshalled TPMS_ATTEST and TPMT_SIGNATURE, as `quote_check.verify_quote` reads them."""

    attest: bytes
    signature: bytes


def quote_with_values(
    tpm: TpmContext, *, ak_handle: int, pcrs: tuple[int, ...], nonce: bytes
) -> tuple[Quote, dict[int, bytes]]:
    """A quote, and the values that it covers: of a moment in which no PCR of `pcrs` changed."""
    before = read_pcrs(tpm, pcrs)
    for _ in range(READ_ATTEMPTS_MAX):
        made = quote(tpm, ak_handle=ak_handle, pcrs=pcrs, nonce=nonce)
        after = read_pcrs(tpm, pcrs)
        if after == before:
            return made, after
        before = after
    raise TpmBusy(f"PCRs kept changing during {READ_ATTEMPTS_MAX} quotes")


def quote(tpm: TpmContext, *, ak_handle: int, pcrs: tuple[int, ...], nonce: bytes) -> Quote:
    """Let the attestation key sign the PCRs of `pcrs`, now, for `nonce`.

    Args:
        nonce: 8 to 64 bytes from the asker; TPMs without SHA-512 take at most 50.
    """
    if not NONCE_BYTES_MIN <= len(nonce) <= NONCE_BYTES_MAX:
        raise ValueError(f"a quote's nonce has {NONCE_BYTES_MIN} to {NONCE_BYTES_MAX} bytes, got {len(nonce)}")
    with tpm.persistent(ak_handle) as key, tpm.commands() as esapi:
        attest, signature = esapi.quote(key, selection(pcrs), TPM2B_DATA(nonce), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL))
        # TPM2B_ATTEST is the size-prefixed form of what was signed; its buffer is the signed bytes.
        return Quote(attest=bytes(attest), signature=bytes(signature.marshal()))


def read_pcrs(tpm: TpmContext, pcrs: tuple[int, ...]) -> dict[int, bytes]:
    """The values of `pcrs`, all from one moment.

    TPM2_PCR_Read gives eight values at a time; a PCR extended in between shows in the update counter, and then the
    reading starts again.
    """
    for _ in range(READ_ATTEMPTS_MAX):
        values = _read_once(tpm, pcrs)
        if values is not None:
            return values
    raise TpmBusy(f"PCRs kept changing during {READ_ATTEMPTS_MAX} readings")


def _read_once(tpm: TpmContext, pcrs: tuple[int, ...]) -> dict[int, bytes] | None:
    values: dict[int, bytes] = {}
    first_counter: int | None = None
    while len(values) < len(pcrs):
        missing = tuple(index for index in pcrs if index not in values)
        with tpm.commands() as esapi:
            counter, given, digests = esapi.pcr_read(selection(missing))
            indices = _selected(given)
            chunk = [bytes(digest) for digest in digests]
        if first_counter is None:
            first_counter = int(counter)
        if int(counter) != first_counter:
            return None
        if not indices or len(indices) != len(chunk):
            raise TpmForeign(f"the SHA-256 bank has no PCR {missing[0]}; is the bank switched off?")
        values.update(zip(indices, chunk, strict=True))
    return {index: values[index] for index in sorted(values)}


def selection(pcrs: tuple[int, ...]) -> TPML_PCR_SELECTION:
    """One SHA-256 selection of three octets, the form that `quote_check` and `policy` demand."""
    if not pcrs or len(set(pcrs)) != len(pcrs) or not all(0 <= index < PCR_COUNT for index in pcrs):
        raise ValueError(f"a PCR selection names 1 to {PCR_COUNT} different PCRs, got {pcrs}")
    octets = sum(1 << index for index in pcrs).to_bytes(PCR_COUNT // 8, "little")
    single = TPMS_PCR_SELECTION(hash=TPM2_ALG.SHA256, sizeofSelect=len(octets), pcrSelect=octets)
    return TPML_PCR_SELECTION(pcrSelections=[single])


def _selected(given: TPML_PCR_SELECTION) -> list[int]:
    indices: list[int] = []
    for entry in given.pcrSelections:
        bits = int.from_bytes(bytes(entry.pcrSelect)[: int(entry.sizeofSelect)], "little")
        indices += [index for index in range(PCR_COUNT) if bits >> index & 1]
    return indices
