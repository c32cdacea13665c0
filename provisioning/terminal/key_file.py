"""The file of the terminal's signing key: PEM, PKCS#8, readable by its owner alone.

Owns making and reading that file. Must never print the key, overwrite one, or use a file that others can read. A
platform with a key store of its own needs no such file: anything that signs like `TerminalKey` does.

Source: docs/formats/terminal-protocol.md section 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from appliance.crypto.signing_key import TerminalKey
from appliance.model.errors import Rejected
from provisioning.terminal.durable import write_durably

_MODE_BITS_OF_OTHERS: Final = 0o077


def make(path: Path) -> TerminalKey:
    """A fresh key, durable in `path` with mode 0600 on return.

    Raises:
        Rejected: `key_file_exists`: a terminal's key is made once.
    """
    if path.exists():
        raise Rejected("key_file_exists", f"{path} exists already: a terminal's key is made once")
    key = TerminalKey.generate()
    write_durably(path, key.to_pem())
    return key


def load(path: Path) -> TerminalKey:
    """The key in `path`.

    Raises:
        Rejected: `key_file_missing`, `key_file_too_open`, `private_key_malformed`, `algorithm_key_mismatch`.
    """
    try:
        mode = path.stat().st_mode
        pem = path.read_bytes()
    except FileNotFoundError:
        raise Rejected("key_file_missing", f"expected the terminal's key in {path}") from None
    if mode & _MODE_BITS_OF_OTHERS:
        raise Rejected("key_file_too_open", f"expected mode 0600 on {path}, saw {mode & 0o777:04o}")
    return TerminalKey.load(pem)
