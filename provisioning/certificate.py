"""The authority and the server certificate of a door whose keys are files.

A box whose token holds the authority's key makes both by itself, at each start and daily (`TokenDoor`). Owns both pairs
of files. Must never keep a key readable by others, and never issues anything but a server certificate.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.crypto.certificate import LOOPBACK, IpAddress, authority_builder, server_builder
from provisioning.terminal.durable import write_durably

AUTHORITY: Final = "authority.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDoor:
    """A door whose authority's key is in the token; the box writes the authority's certificate there at its start."""

    authority: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorFiles:
    """Where the door's TLS material lies."""

    authority: Path
    certificate: Path
    key: Path


def open_door(folder: Path, *, has_authority: bool, now: datetime.datetime, shop: str) -> DoorFiles | TokenDoor:
    """The door of a box: by its token where that has the authority's key, else by files, with a fresh certificate."""
    return TokenDoor(authority=folder / AUTHORITY) if has_authority else issue(folder, now=now, shop=shop)


def issue(folder: Path, *, now: datetime.datetime, shop: str, host: str | None = None) -> DoorFiles:
    """Make the authority of `folder` when it has none, and a fresh server certificate for this machine.

    Args:
        host: a name or address by which other machines reach it: browsers take no certificate for another.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = DoorFiles(
        authority=folder / AUTHORITY, certificate=folder / "pos-certificate.pem", key=folder / "pos-key.pem"
    )
    authority_key, authority = _authority(folder, now, shop)
    key = ec.generate_private_key(ec.SECP256R1())
    names, addresses = ["localhost"], list[IpAddress](LOOPBACK)
    try:
        addresses += [] if host is None else [ipaddress.ip_address(host)]
    except ValueError:
        names.append(host or "")
    builder = server_builder(authority, key.public_key(), now, names=names, addresses=addresses)
    certificate = builder.sign(authority_key, hashes.SHA384())
    # Key before certificate: a certificate without its key would keep the door shut, an unused key does nothing.
    write_durably(files.key, _pem(key))
    pem = serialization.Encoding.PEM
    write_durably(files.certificate, certificate.public_bytes(pem) + authority.public_bytes(pem))
    return files


def _authority(folder: Path, now: datetime.datetime, shop: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, path = folder / "authority-key.pem", folder / AUTHORITY
    if key_path.exists() and path.exists():
        loaded = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if isinstance(loaded, ec.EllipticCurvePrivateKey):
            return loaded, x509.load_pem_x509_certificate(path.read_bytes())
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = authority_builder(shop, key.public_key(), now).sign(key, hashes.SHA384())
    write_durably(key_path, _pem(key))
    write_durably(path, certificate.public_bytes(serialization.Encoding.PEM))
    return key, certificate


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
