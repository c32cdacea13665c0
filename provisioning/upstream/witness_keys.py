"""The two keys of a witness: files in a folder that only its owner may enter.

Owns making and loading them. A key is never written over, and one that others could read is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.crypto import cose
from appliance.crypto.signing_key import SigningKey, from_pem, generate
from appliance.evidence.cosignature import WitnessKey, cosign
from appliance.ledger.recover import fsync_folder
from appliance.model.errors import Rejected

_FILES: Final = {cose.ED25519: "witness-ed25519.pem", cose.ML_DSA_44: "witness-ml-dsa-44.pem"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessSigner:
    """Both keys of one witness under its name."""

    keys: tuple[tuple[WitnessKey, SigningKey], ...]

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Verifier keys, for the settings of boxes and for trust.json."""
        return tuple(key.vkey for key, _ in self.keys)

    def cosign(self, text: bytes, time_s: int) -> bytes:
        """One signature line per key for the checkpoint's text."""
        return b"".join(cosign(text, key=key, sign=private.sign, time_s=time_s) for key, private in self.keys)


def open_witness_keys(folder: Path, name: str) -> WitnessSigner:
    """The keys in `folder`; those that are missing are made.

    Raises:
        Rejected: `key_file_too_open`, `private_key_malformed`, `witness_key_malformed`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = []
    for algorithm, file_name in _FILES.items():
        file = folder / file_name
        if not file.exists():
            _write_new(file, generate(algorithm).to_pem())
        private = from_pem(algorithm, _read_private(file))
        keys.append((WitnessKey(name=name, algorithm=algorithm, public_key=private.public_key), private))
    return WitnessSigner(keys=tuple(keys))


def _read_private(file: Path) -> bytes:
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        raise Rejected("key_file_too_open", f"expected mode 0600 of {file.name}, saw {mode:04o}")
    return file.read_bytes()


def _write_new(file: Path, pem: bytes) -> None:
    """Whole and durable, or not there: a witness that forgets its key is another witness."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)
    fsync_folder(file.parent)
