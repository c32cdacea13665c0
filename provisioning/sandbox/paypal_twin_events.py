"""What the PayPal twin tells by itself: webhooks, signed by a certificate whose chain it made when it began.

The signature covers the transmission's id and time, the webhook's id and a CRC32 of the body, no more: as at PayPal, so
whoever listens must not believe the body. A webhook may come late, twice, in another order or never.

Source: developer.paypal.com/api/rest/webhooks/rest ("message verification", 25 tries over 3 days).
"""

from __future__ import annotations

import base64
import datetime
import zlib
from typing import Annotated, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Meta

from appliance.crypto.certificate import key_usage
from provisioning.sandbox import twin_delivery
from provisioning.sandbox.stripe_twin_store import TwinStore
from provisioning.sandbox.twin_delivery import Listener
from provisioning.sandbox.twin_process import Post

CERTIFICATE_NAME: Final = "messageverificationcerts.paypal.test"
CERTIFICATE_PATH: Final = "/v1/notifications/certs/CERT-1"
RETRY_MS: Final = 10_000  # assumed: the page says how often and for how long in all, not when
TRIES_MAX: Final = 25
_YEARS: Final = datetime.timedelta(days=3650)


class Hook(Listener, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one webhook listener, by PayPal's name of it."""

    webhook_id: Annotated[str, Meta(pattern=r"\A[0-9A-Za-z]{1,50}\Z")]


def emit(store: TwinStore, kind: str, resource_type: str, resource: dict[str, Any]) -> None:
    """Make an event; call it inside the transaction of the change."""
    name = f"WH-{store.new_id('x').removeprefix('x_').upper()}"
    event = {
        "id": name,
        "event_version": "1.0",
        "create_time": _time(store),
        "resource_type": resource_type,
        "event_type": kind,
        "resource": resource,
    }
    twin_delivery.emit(store, name, kind, event)


def headers_for(store: TwinStore, webhook_id: str, transmission: str, body: bytes, base: str) -> dict[str, str]:
    """The headers of one delivery."""
    sent = _time(store)
    signed = f"{transmission}|{sent}|{webhook_id}|{zlib.crc32(body)}".encode()
    key = serialization.load_pem_private_key(_chain(store)["key"].encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the twin signs with RSA")
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return {
        "PAYPAL-TRANSMISSION-ID": transmission,
        "PAYPAL-TRANSMISSION-TIME": sent,
        "PAYPAL-TRANSMISSION-SIG": base64.b64encode(signature).decode(),
        "PAYPAL-CERT-URL": base + CERTIFICATE_PATH,
        "PAYPAL-AUTH-ALGO": "SHA256withRSA",
        "Content-Type": "application/json",
    }


def certificate_pem(store: TwinStore) -> str:
    """What lies at the certificate's address: the leaf and its issuer."""
    return str(_chain(store)["chain"])


def root_pem(store: TwinStore) -> str:
    """Whom a box must trust to believe the chain."""
    return str(_chain(store)["root"])


async def deliver_due(store: TwinStore, post: Post, base: str) -> int:
    """Send what is due; returns how many requests were made."""
    hook = twin_delivery.hook_of(store, Hook)

    def headers(transmission: str, _kind: str, body: bytes) -> dict[str, str]:
        return headers_for(store, "" if hook is None else hook.webhook_id, transmission, body, base)

    return await twin_delivery.deliver_due(store, post, hook, headers, retry_ms=RETRY_MS, tries_max=TRIES_MAX)


def _chain(store: TwinStore) -> dict[str, Any]:
    note = store.note("chain")
    if note is None:
        note = make_chain(datetime.datetime.fromtimestamp(store.now_ms() / 1000, datetime.UTC))
        store.keep_note("chain", note)
    return note


def make_chain(now: datetime.datetime, name: str = CERTIFICATE_NAME) -> dict[str, str]:
    """A root, an authority below it and a leaf for `name`, in PEM: `root`, `chain` (leaf first), `key`."""
    root_key, issuer_key, leaf_key = (rsa.generate_private_key(65537, 2048) for _ in range(3))
    root = _certificate("Twin root", root_key, "Twin root", root_key, now, is_authority=True)
    issuer = _certificate("Twin authority", issuer_key, "Twin root", root_key, now, is_authority=True)
    leaf = _certificate(name, leaf_key, "Twin authority", issuer_key, now, is_authority=False)
    pem = serialization.Encoding.PEM
    return {
        "root": root.public_bytes(pem).decode(),
        "chain": (leaf.public_bytes(pem) + issuer.public_bytes(pem)).decode(),
        "key": leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode(),
    }


def _certificate(
    name: str,
    key: rsa.RSAPrivateKey,
    issuer: str,
    issuer_key: rsa.RSAPrivateKey,
    now: datetime.datetime,
    *,
    is_authority: bool,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _YEARS)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(key_usage(is_authority=is_authority), critical=True)
    )
    if not is_authority:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _time(store: TwinStore) -> str:
    return datetime.datetime.fromtimestamp(store.now_ms() // 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
