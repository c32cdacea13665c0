"""Settings of the door of terminals, and of its authority where that is a key of the token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from appliance.config.section import IN_EXAMPLE, SECRET_FILE, DoorPort, Host, KeyIdHex, Section


class Authority(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door's certificate authority, a key of the token: the box makes its certificates by itself, daily."""

    id: Annotated[KeyIdHex, Meta(description="CKA_ID, hexadecimal.", examples=["4341"])]
    public_key: Annotated[
        str,
        Meta(
            pattern=r"\A(?:[0-9a-f]{2}){91,120}\Z",
            description="Its SubjectPublicKeyInfo, DER in hexadecimal: ECDSA P-256 or P-384.",
            examples=["30" * 91],
        ),
    ]
    certificate_path: Annotated[
        Path, Meta(description="Where the box writes the authority's certificate, PEM, for tools.")
    ] = Path("authority.pem")


class PosDoor(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The door of terminals: TLS, signed requests."""

    host: Annotated[
        Host, Meta(description="Address to listen on; the default is every interface of the shop's LAN.")
    ] = "0.0.0.0"  # noqa: S104 - terminals come from the LAN; the image's firewall decides which interface that is
    port: DoorPort = 8443
    tls_certificate_path: Annotated[
        Path | None,
        Meta(
            extra=IN_EXAMPLE,
            description="PEM chain of the door, leaf first; renewed by whoever made it.",
            examples=["pos-certificate.pem"],
        ),
    ] = None
    tls_key_path: Annotated[
        Path | None,
        Meta(
            extra=SECRET_FILE | IN_EXAMPLE,
            description="PEM private key of the door, mode 0600.",
            examples=["pos-key.pem"],
        ),
    ] = None
    authority: Annotated[
        Authority | None, Meta(description="In place of the two: the box renews its certificate by itself.")
    ] = None
    origins: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\Ahttps?://[0-9A-Za-z.:-]{1,253}\Z")], ...],
        Meta(max_length=16, description="Web origins of browser tills that CORS lets in; none by default."),
    ] = ()
    is_post_quantum_required: Annotated[
        bool,
        Meta(
            description="Refuse terminals whose TLS has no hybrid key exchange (ML-KEM). Needs OpenSSL 3.5 (Debian 13);"
            " proven at each start by a handshake that is refused."
        ),
    ] = False
    is_announced: Annotated[
        bool, Meta(description="Announce the box by DNS-SD (_tillstone._tcp), so that terminals find it.")
    ] = True
