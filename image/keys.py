"""The keys that sign an image, made at the first build and kept outside git and outside the build's folder.

Owns their files. Must never overwrite one: machines in the field trust it.
"""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from appliance.crypto import cose
from appliance.crypto.hybrid import HybridPublic, PinnedKey
from appliance.crypto.jwk import from_pem as from_public_pem
from appliance.crypto.jwk import to_pem
from appliance.crypto.signing_key import SigningKey, from_pem, generate
from appliance.model.errors import Rejected

_YEARS: Final = 20
# Firmware everywhere knows RSA 2048; TPMs check signed policies with it too, and many with nothing larger.
_BITS: Final = 2048
# Two algorithms that fail for different reasons. Ed25519 is what other DSSE verifiers know without a conversion.
_RELEASE_KEYS: Final = {"release.key": cose.ED25519, "release-post-quantum.key": cose.ML_DSA_87}
_ROLES: Final = {"PK": "platform key", "KEK": "key exchange key", "db": "signer of boot loaders and kernels"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKeys:
    """The folder of the keys.

    Attributes:
        owner: GUID under which firmware lists the certificates.
    """

    folder: Path
    owner: str

    def certificate(self, role: str) -> Path:
        return self.folder / f"{role}.crt"

    def private(self, role: str) -> Path:
        return self.folder / f"{role}.key"

    @property
    def policy_private(self) -> Path:
        """Signs which PCR 11 values open the state partition."""
        return self.folder / "policy.key"

    @property
    def policy_public(self) -> Path:
        return self.folder / "policy.pub"

    @property
    def release_public(self) -> Path:
        """Both public halves of the release key, PEM after PEM: whoever verifies an image pins this file."""
        return self.folder / "release.pub"

    def release_keys(self) -> tuple[SigningKey, ...]:
        """They sign what a finished image says of itself; one of each key class, both are required."""
        return tuple(
            from_pem(algorithm, (self.folder / name).read_bytes()) for name, algorithm in _RELEASE_KEYS.items()
        )


def ensure_keys(folder: Path) -> ImageKeys:
    """The keys of `folder`; those that are not there are made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role, purpose in _ROLES.items():
        _ensure(folder / f"{role}.key", lambda: _private_pem(_new_key()))
        _ensure(folder / f"{role}.crt", partial(_certificate, _load(folder / f"{role}.key"), purpose))
    _ensure(folder / "policy.key", lambda: _private_pem(_new_key()))
    _ensure(folder / "policy.pub", lambda: _public_pem(_load(folder / "policy.key")))
    _ensure(folder / "owner-guid", lambda: f"{uuid.uuid4()}\n".encode())
    for name, algorithm in _RELEASE_KEYS.items():
        _ensure(folder / name, generate(algorithm).to_pem)
    keys = ImageKeys(folder=folder, owner=(folder / "owner-guid").read_text().strip())
    _ensure(keys.release_public, lambda: "".join(to_pem(key.public_key) for key in keys.release_keys()).encode())
    return keys


def read_release_public(file: bytes) -> HybridPublic:
    """The pinned pair of a `release.pub`. Raises Rejected: `public_key_malformed`, `public_key_unsupported`."""
    end = b"-----END PUBLIC KEY-----\n"
    keys = [from_public_pem(part + end) for part in file.split(end)[:-1]]
    if len(keys) != len(_RELEASE_KEYS):
        raise Rejected("public_key_malformed", f"expected {len(_RELEASE_KEYS)} public keys in PEM, saw {len(keys)}")
    classical, post_quantum = (
        PinnedKey(algorithm=algorithm, public_key=key)
        for algorithm, key in zip(_RELEASE_KEYS.values(), keys, strict=True)
    )
    return HybridPublic(classical=classical, post_quantum=post_quantum)


def _ensure(path: Path, make: Callable[[], bytes]) -> None:
    if path.exists():
        return
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    # 0600 from the first byte on; renamed when whole.
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(make())
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=_BITS)


def _load(path: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{path} is no RSA key")
    return key


def _private_pem(key: rsa.RSAPrivateKey) -> bytes:
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)


def _public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _certificate(key: rsa.RSAPrivateKey, purpose: str) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Tillstone image, {purpose}")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
