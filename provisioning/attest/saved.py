"""An attestation as files: what this program reads again, and what `tpm2_checkquote` of tpm2-tools reads.

Owns their names and forms:
    attestation.json   the whole answer
    key.pem            the attestation key
    quote.msg          TPMS_ATTEST            quote.sig    TPMT_SIGNATURE
    quote.pcrs         the quoted values, one after another
    event.log          the firmware's log, where there is one
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.wire.attestation import Attestation
from drivers.tpm.quote_check import read_attestation_key
from provisioning.attest.check import quoted_nonce
from provisioning.terminal.durable import write_durably

ANSWER: Final = "attestation.json"


def save(said: Attestation, folder: Path) -> tuple[str, ...]:
    """Write the files into `folder` and return the command that has tpm2-tools check them.

    Raises:
        QuoteRefused: the key is none that could attest.
    """
    key = read_attestation_key(said.attestation_key)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files = {
        ANSWER: msgspec.json.encode(said),
        "key.pem": pem,
        "quote.msg": said.quote,
        "quote.sig": said.signature,
        "quote.pcrs": b"".join(each.value for each in said.pcrs),
        **({} if said.event_log is None else {"event.log": said.event_log}),
    }
    for name, content in files.items():
        write_durably(folder / name, content)
    return (
        "tpm2_checkquote",
        f"--public={folder / 'key.pem'}",
        f"--message={folder / 'quote.msg'}",
        f"--signature={folder / 'quote.sig'}",
        f"--pcr={folder / 'quote.pcrs'}",
        f"--pcr-list=sha256:{','.join(str(each.pcr) for each in said.pcrs)}",
        f"--hash-algorithm={'sha256' if key.curve.key_size == 256 else 'sha384'}",
        f"--qualification={quoted_nonce(said).hex()}",
    )
