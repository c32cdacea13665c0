"""Settings of timestamps: which calendars put heads into Bitcoin blocks, which node is believed, what it may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from appliance.config.section import SECRET_FILE, Section, Url
from appliance.model.limits import DAY_MS, HOUR_MS

CALENDARS_MAX = 8


class OwnAnchors(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Transactions of our own, for when calendars fail. The key holds small money; the log does not depend on it."""

    key_path: Annotated[
        Path,
        Meta(
            description="File with the secp256k1 key, as `tillstone anchor key` makes it; pay coins to its address.",
            extra=SECRET_FILE,
            examples=["anchor.key"],
        ),
    ]
    coins: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}:[0-9]{1,5}\Z")], ...],
        Meta(max_length=64, description="Outputs paid to its address, TXID:INDEX, spent in this order as needed."),
    ] = ()
    fees_per_day_max_sat: Annotated[
        int,
        Meta(ge=0, le=10_000_000, description="Fees of 24 hours; an anchor is 165 virtual bytes, 825 sat at 5 a byte."),
    ] = 5_000


class BitcoinNode(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose blocks are believed; without a node nobody looks whether a calendar tells the truth."""

    url: Annotated[
        Url, Meta(description="Its RPC; https, or http on this machine.", examples=["http://127.0.0.1:8332/"])
    ]
    credential_path: Annotated[
        Path,
        Meta(
            description="File with user:password, mode 0600, such as Core's .cookie.",
            extra=SECRET_FILE,
            examples=["bitcoin-credential"],
        ),
    ]
    network: Annotated[
        Literal["mainnet", "testnet", "regtest"], Meta(description="The others prove nothing; sandboxes only.")
    ] = "mainnet"
    client: Annotated[
        Literal["aiohttp", "python-bitcoinrpc"],
        Meta(description="python-bitcoinrpc only where that package is wanted; it has to be installed apart."),
    ] = "aiohttp"
    own: Annotated[OwnAnchors | None, Meta(description="Transactions of our own.")] = None


class Timestamping(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Heads are anchored in Bitcoin blocks; without this table they are not."""

    calendars: Annotated[
        tuple[Url, ...],
        Meta(max_length=CALENDARS_MAX, description="OpenTimestamps calendars; with none, every head costs a fee."),
    ] = ()
    node: Annotated[BitcoinNode | None, Meta(description="The Bitcoin node.")] = None
    every_ms: Annotated[
        int, Meta(ge=1_000, le=7 * DAY_MS, description="Between two heads; a log that has not grown is not anchored.")
    ] = HOUR_MS
    look_every_ms: Annotated[
        int,
        Meta(ge=100, le=DAY_MS, description="Pause between two looks at calendars and blocks, give or take a quarter."),
    ] = 10 * 60_000
    fallback_after_ms: Annotated[
        int,
        Meta(ge=1_000, le=30 * DAY_MS, description="No calendar kept a promise for this long: anchor by ourselves."),
    ] = 6 * HOUR_MS
    late_after_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=30 * DAY_MS,
            description="Without a block for this long, health says that somebody must look; sales go on.",
        ),
    ] = DAY_MS
