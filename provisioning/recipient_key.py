"""The key pair of somebody to whom boxes seal: an auditor, or the recovery recipient.

Owns the two files. Must never write over a key, and never print one.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from appliance.config.load import read_secret
from appliance.crypto import hpke
from appliance.model.errors import Unavailable
from provisioning.commands.outcome import CannotDo


def make_recipient(private: Path) -> tuple[Path, str]:
    """Write the private key (mode 0600) and, beside it as `.pub`, the public one; that file, and its SHA-256."""
    public = private.with_name(private.name + ".pub")
    seed = os.urandom(hpke.SEED_BYTES)
    public_key = hpke.public_key_of(seed)
    _write_new(private, seed, 0o600)
    _write_new(public, public_key, 0o644)
    return public, hpke.Recipient(public_key).key_id.hex()


def read_seed(path: Path, *, made_by: str) -> bytes:
    """The private key of a file; `made_by` is the command that writes such files. Raises CannotDo."""
    hint = f"name the private key that `{made_by}` wrote, not its .pub"
    try:
        seed = base64.b64decode(read_secret(path).reveal(), validate=True)
    except binascii.Error:
        seed = b""
    except Unavailable as cause:
        raise CannotDo(cause.detail, hint) from cause
    if len(seed) != hpke.SEED_BYTES:
        raise CannotDo(f"{path} holds no private key of a recipient", hint)
    return seed


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as cause:
        raise CannotDo(
            f"{path} cannot be made: {cause.strerror}", "name another file; a key is never written over"
        ) from cause
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(content) + b"\n")
        file.flush()
        os.fsync(file.fileno())
