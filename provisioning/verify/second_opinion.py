"""Another implementation of ML-DSA: liboqs, where the system has it.

Owns finding and calling it. Must never let liboqs-python build one: without a library it clones and compiles over the
network and ends the process, so it is imported only after a library was found and loaded.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa

from appliance.crypto import cose
from provisioning.commands.outcome import CannotDo

Verify: TypeAlias = Callable[[int, bytes, bytes, bytes], bool]
"""As `appliance.crypto.signature.verify`: algorithm, SubjectPublicKeyInfo, message, signature."""

_NAMES: Final = {cose.ML_DSA_44: "ML-DSA-44", cose.ML_DSA_65: "ML-DSA-65", cose.ML_DSA_87: "ML-DSA-87"}


def find_liboqs() -> str | None:
    """A shared library that loads and is liboqs, else None."""
    places = [ctypes.util.find_library("oqs")]
    if "OQS_INSTALL_PATH" in os.environ:  # liboqs-python looks there too
        places += [str(Path(os.environ["OQS_INSTALL_PATH"]) / folder / "liboqs.so") for folder in ("lib", "lib64")]
    for place in places:
        if place is not None and _is_liboqs(place):
            return place
    return None


def load() -> Verify:
    """The verifier of liboqs. Raises CannotDo when there is no usable liboqs."""
    if find_liboqs() is None:
        raise CannotDo(
            "a second opinion was asked for, and there is no liboqs on this machine",
            "install liboqs with ML-DSA (OQS_INSTALL_PATH may name its folder), or leave out --second-opinion",
        )
    # Should the binding not find what we found, "disabled" makes it raise ValueError instead of cloning.
    os.environ["PYOQS_VERSION"] = "disabled"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the binding warns when its version and the library's differ by a release
        try:
            import oqs
        except (ValueError, RuntimeError, SystemExit) as cause:
            raise CannotDo(f"liboqs does not load: {cause}", "check the installation of liboqs") from cause
    enabled = oqs.get_enabled_sig_mechanisms()
    if _NAMES[cose.ML_DSA_87] not in enabled:
        raise CannotDo("this liboqs has no ML-DSA-87", "install liboqs 0.12 or newer with ML-DSA switched on")

    def verify(algorithm: int, public_key: bytes, message: bytes, signature: bytes) -> bool:
        with oqs.Signature(_NAMES[algorithm]) as verifier:
            return bool(verifier.verify(message, signature, _raw(public_key)))

    return verify


def _is_liboqs(place: str) -> bool:
    try:
        return hasattr(ctypes.CDLL(place), "OQS_SIG_verify")
    except OSError:
        return False


def _raw(public_key: bytes) -> bytes:
    key = serialization.load_der_public_key(public_key)
    if not isinstance(key, mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey):
        raise CannotDo("liboqs is asked about ML-DSA keys only", "leave out --second-opinion")
    return key.public_bytes_raw()
