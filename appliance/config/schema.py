"""Every setting of the process: unit in its name, range, default and reason in its description.

Owns the shape of `tillstone.toml`; `load.py` fills it, `describe.py` prints it as a commented example. Bounds that are
not settings live in `model/limits.py`. No field holds a secret: a secret is a path to a file that only we may read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta

from appliance.config.backup import Backups
from appliance.config.card_provider import Stripe
from appliance.config.coinbase import Coinbase
from appliance.config.escrow import Escrow
from appliance.config.offline import Offline
from appliance.config.outbound import Outbound
from appliance.config.paper import Printer, Slips
from appliance.config.paypal import PayPal
from appliance.config.pin_pad import PinPads
from appliance.config.pos_door import PosDoor
from appliance.config.publication import Publication
from appliance.config.screening import Screening
from appliance.config.section import IN_EXAMPLE, SECRET_FILE, DoorPort, KeyIdHex, PlainHost, Section, Url
from appliance.config.tamper import Tamper
from appliance.config.timestamping import Timestamping
from appliance.config.update import Update
from appliance.model.limits import (
    AMOUNT_MINOR_MAX,
    BATCH_SALES_MAX,
    DAY_MS,
    MINUTE_MS,
    PROVIDER_DEADLINE_MS,
    WITNESSES_MAX,
)

Sha256Hex = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]

_EXAMPLE_HASH: Final = "00" * 32


class Shop(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who sells. The log's origin is owner/serial/generation; changing one of the three means another log."""

    name: Annotated[
        str, Meta(min_length=1, max_length=60, description="What people call the shop.", examples=["Corner Shop"])
    ]
    owner: Annotated[
        str,
        Meta(
            pattern=r"\A[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?\Z",
            description="Name of the owner, in the form of a domain name: first part of the log's origin.",
            examples=["corner-shop.example"],
        ),
    ]
    serial: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9-]{1,32}\Z",
            description="Serial number of the box: second part of the log's origin.",
            examples=["TS-0001"],
        ),
    ]
    generation: Annotated[
        int, Meta(ge=1, le=65535, description="Third part of the origin; a restored or rebuilt box counts one up.")
    ] = 1
    currency: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Z]{3}\Z",
            description="ISO 4217 code that sales are in, and in which the drawer is counted.",
            examples=["EUR"],
        ),
    ]
    country: Annotated[
        str, Meta(pattern=r"\A[A-Z]{2}\Z", description="ISO 3166-1 code; tax rules go by it.", examples=["DE"])
    ]
    timezone: Annotated[
        str,
        Meta(max_length=64, description="IANA zone of the shop day; times inside are UTC.", examples=["Europe/Berlin"]),
    ]
    day_cutoff: Annotated[
        str,
        Meta(
            pattern=r"\A(?:[01][0-9]|2[0-3]):[0-5][0-9]\Z",
            description="Local time at which a shop day ends; a bar's Saturday ends on Sunday morning.",
        ),
    ] = "04:00"
    cash_rounding_minor: Annotated[
        int, Meta(ge=1, le=1000, description="Smallest coin, in minor units: 5 for CHF, 1 for no rounding.")
    ] = 1
    address: Annotated[
        str, Meta(max_length=200, description="Printed on slips.", examples=["Marktplatz 1, 12345 Beispielstadt"])
    ] = ""


class PublicDoor(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The read-only door of auditors, witnesses and monitoring."""

    host: PlainHost = "127.0.0.1"
    port: DoorPort = 9080


class Storage(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the log lives."""

    path: Annotated[
        Path, Meta(description="Folder of the log; on a disk that honours fsync.", examples=["/var/lib/tillstone"])
    ]
    genesis_path: Annotated[
        Path, Meta(description="Genesis statement signed by the owner key; it becomes the log's first entry.")
    ] = Path("genesis.cbor")
    trust_path: Annotated[
        Path, Meta(description="trust.json: what terminals get at pairing and verify receipts with; public.")
    ] = Path("trust.json")
    room_bytes_min: Annotated[
        int,
        Meta(
            ge=16 * 2**20,
            le=2**40,
            description="New intents stop below this much free space; outcomes and recovery may use all of it.",
        ),
    ] = 256 * 2**20


class TokenKey(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key in the token, found by id and pinned by the hash of its public key."""

    id: Annotated[KeyIdHex, Meta(description="CKA_ID, hexadecimal.", examples=["01"])]
    public_key_sha256: Annotated[
        Sha256Hex,
        Meta(
            description="SHA-256 of the SubjectPublicKeyInfo: a stale handle may be another key, this tells.",
            examples=[_EXAMPLE_HASH],
        ),
    ]


class WrappingKey(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The key that wraps envelopes: AES-GCM has no public half, an ECDH key has one."""

    id: Annotated[KeyIdHex, Meta(description="CKA_ID, hexadecimal.", examples=["02"])]
    public_key_sha256: Annotated[
        Sha256Hex | None,
        Meta(
            description="Only for an ECDH P-384 key (tokens without GCM): SHA-256 of its public key.",
            examples=[_EXAMPLE_HASH],
        ),
    ] = None


class Hsm(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that holds the classical log key and the wrapping key."""

    module_path: Annotated[Path, Meta(description="PKCS#11 library.", examples=["/usr/lib/softhsm/libsofthsm2.so"])]
    token_label: Annotated[
        str, Meta(min_length=1, max_length=32, description="Exactly one token may carry it.", examples=["tillstone"])
    ]
    token_serial: Annotated[
        Annotated[str, Meta(max_length=16)] | None,
        Meta(description="Needed where two tokens share a label.", examples=["0123456789abcdef"]),
    ] = None
    pin_path: Annotated[
        Path | None,
        Meta(
            description="File with the PIN, mode 0600. Only without [tpm], or with an optional one: a TPM seals it.",
            extra=SECRET_FILE,
            examples=["hsm-pin"],
        ),
    ] = None
    deadline_ms: Annotated[
        int,
        Meta(
            ge=50,
            le=60_000,
            description="A call inside the vendor's library cannot be cancelled; past this its session is retired.",
        ),
    ] = 2_000
    classical: Annotated[TokenKey, Meta(description="The log's classical key: Ed25519, else ECDSA.")]
    kek: Annotated[WrappingKey, Meta(description="Wraps the seeds of enveloped keys.")]


class PostQuantum(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log's ML-DSA-87 key: in the token when it has CKM_ML_DSA, else a seed in an envelope; exactly one of them."""

    envelope_path: Annotated[
        Path | None,
        Meta(
            extra=IN_EXAMPLE,
            description="Envelope of the 32-byte seed, under the key [hsm.kek].",
            examples=["ml-dsa.envelope"],
        ),
    ] = None
    token: Annotated[TokenKey | None, Meta(description="The key in the token, instead of an envelope.")] = None


class Note(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Ed25519 key of checkpoints, where the classical log key is not Ed25519 itself."""

    envelope_path: Annotated[Path, Meta(description="Envelope of the 32-byte seed.", examples=["note.envelope"])]


class Tpm(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The TPM that seals the HSM PIN and counts epochs."""

    tcti: Annotated[
        str, Meta(min_length=1, max_length=200, description="How to reach it.", examples=["device:/dev/tpmrm0"])
    ]
    bundle_path: Annotated[
        Path, Meta(description="Sealed PIN and public parts, made by provisioning.", examples=["tpm-bundle.json"])
    ]
    policy_path: Annotated[
        Path, Meta(description="Signed PCR policy; an update brings a new one.", examples=["pcr-policy.json"])
    ]
    certificate_path: Annotated[
        Path | None,
        Meta(description="The owner's word for the key that signs quotes.", examples=["attestation.cbor"]),
    ] = None
    is_optional: Annotated[
        bool,
        Meta(description="Start without it, with the PIN of hsm.pin_path; for a bench, never for a shop."),
    ] = False


class Provider(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who moves money that is not cash; a tender whose provider has no section is refused."""

    stripe: Annotated[Stripe | None, Meta(description="Cards through Stripe.")] = None
    paypal: Annotated[PayPal | None, Meta(description="The tender paypal, through PayPal.")] = None
    coinbase: Annotated[Coinbase | None, Meta(description="The tender usdc, through Coinbase Business.")] = None
    pin_pad: Annotated[PinPads | None, Meta(description="The tender pin_pad, at PIN pads that speak ZVT.")] = None


class Reconciliation(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider may keep of one payment; a fee above it is told as a break."""

    fee_basis_points_max: Annotated[
        int, Meta(ge=0, le=10_000, description="Share of the amount, in hundredths of a percent.")
    ] = 500
    fee_fixed_minor_max: Annotated[
        int, Meta(ge=0, le=100_000, description="Beside it, in minor units of the shop's currency.")
    ] = 100


class Witnesses(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who outside remembers this log's heads; they prove that everybody is shown the same one."""

    named: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\Ahttps?://[^\s?#@]{1,200}(?: [^\s+]{1,255}\+[^\s]{1,4000}){1,2}\Z")], ...],
        Meta(
            max_length=WITNESSES_MAX,
            description="Each: submission prefix and verifier keys (C2SP), one or two, all of one name, with single"
            " spaces between. What they claim stops no sale, a head signed by this log that it lacks does. None by"
            " default.",
        ),
    ] = ()
    needed: Annotated[
        int, Meta(ge=0, le=WITNESSES_MAX, description="How many of them must vouch for a head; 0 asks without waiting.")
    ] = 0
    every_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=DAY_MS,
            description="Pause between two rounds, give or take a quarter; each asks about the newest head.",
        ),
    ] = 5 * MINUTE_MS
    late_after_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=30 * DAY_MS,
            description="Without enough witnesses for this long, health says that somebody must look; sales go on.",
        ),
    ] = DAY_MS


class Limits(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds a shop may tighten."""

    unsigned_age_max_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=DAY_MS,
            description="With signing down, new intents are refused once the oldest unsigned entry is this old.",
        ),
    ] = 15 * MINUTE_MS
    unsigned_entries_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="The same bound as a count of unsigned entries.")
    ] = 5_000
    clock_skew_max_ms: Annotated[
        int, Meta(ge=1_000, le=DAY_MS, description="How far a request's signed_at may be from our clock.")
    ] = 5 * MINUTE_MS
    settle_ms: Annotated[
        int,
        Meta(
            ge=PROVIDER_DEADLINE_MS,
            le=3_600_000,
            description="Between the two complete listings that together prove a card was never charged;"
            " less than a provider takes over a request would call a sale not charged that is charged later.",
        ),
    ] = 120_000
    # Stripe holds 2 days for most cards at a reader, 7 days for cards that are not there.
    capture_window_ms: Annotated[
        int, Meta(ge=3_600_000, le=30 * DAY_MS, description="How long money is held that is captured later.")
    ] = 2 * DAY_MS
    batch_sales_max: Annotated[int, Meta(ge=1, le=BATCH_SALES_MAX, description="Sales in one signed batch.")] = (
        BATCH_SALES_MAX
    )
    amount_minor_max: Annotated[
        int, Meta(ge=1, le=AMOUNT_MINOR_MAX, description="Largest amount of one tender, in minor units.")
    ] = AMOUNT_MINOR_MAX


class Otlp(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where spans go; without it tracing costs nothing."""

    endpoint: Annotated[
        Url,
        Meta(description="Traces endpoint of an OTLP/HTTP collector.", examples=["http://127.0.0.1:4318/v1/traces"]),
    ]


class Log(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the process says about itself."""

    level: Annotated[
        str,
        Meta(pattern=r"\A(?:info|warning|error)\Z", description="Least severe line written: info, warning or error."),
    ] = "info"
    format: Annotated[
        str,
        Meta(
            pattern=r"\A(?:auto|json|console)\Z",
            description="json for machines, console for eyes; auto asks for a tty.",
        ),
    ] = "auto"


class Settings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    shop: Annotated[Shop, Meta(description="Who sells.")]
    pos: Annotated[PosDoor, Meta(description="Door of terminals.")]
    public: Annotated[PublicDoor, Meta(description="Read-only door.")] = PublicDoor()
    storage: Annotated[Storage, Meta(description="Where the log lives.")]
    hsm: Annotated[Hsm, Meta(description="The token.")]
    post_quantum: Annotated[PostQuantum, Meta(description="The log's ML-DSA-87 key.")]
    note: Annotated[Note | None, Meta(description="Key of checkpoints.")] = None
    tpm: Annotated[Tpm | None, Meta(extra=IN_EXAMPLE, description="Root of trust.")] = None
    tamper: Annotated[Tamper | None, Meta(description="The contact in the case.")] = None
    provider: Annotated[Provider, Meta(description="Card money.")] = Provider()
    reconciliation: Annotated[Reconciliation, Meta(description="Card money beside the statement.")] = Reconciliation()
    outbound: Annotated[Outbound, Meta(description="The way out.")] = Outbound()
    witnesses: Annotated[Witnesses, Meta(description="Who vouches for heads.")] = Witnesses()
    publication: Annotated[Publication | None, Meta(description="Where the log is published.")] = None
    escrow: Annotated[Escrow | None, Meta(description="What terminals keep for a lost box.")] = None
    backup: Annotated[Backups | None, Meta(description="What a new box is restored from.")] = None
    timestamps: Annotated[Timestamping | None, Meta(description="How heads are anchored in Bitcoin.")] = None
    slip: Annotated[Slips, Meta(description="What customers get in the hand.")] = Slips()
    printer: Annotated[Printer | None, Meta(description="Paper.")] = None
    limits: Annotated[Limits, Meta(description="Bounds.")] = Limits()
    screening: Annotated[Screening, Meta(description="What may move money.")] = Screening()
    offline: Annotated[Offline, Meta(description="Cards without their bank.")] = Offline()
    update: Annotated[Update, Meta(description="Other images.")] = Update()
    otlp: Annotated[Otlp | None, Meta(description="Spans.")] = None
    log: Annotated[Log, Meta(description="Lines.")] = Log()
