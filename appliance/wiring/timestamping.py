"""Builds what timestamps need: the node's adapter, the calendars, own anchors where there is a key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from appliance.adapters.bitcoin_rpc import BitcoinRpc
from appliance.adapters.bitcoin_rpc_lib import open_library
from appliance.adapters.calendar_http import HttpCalendar
from appliance.anchor.anchoring import Anchoring, Fees
from appliance.anchor.store import EvidenceStore
from appliance.anchor.timestamps import Node, Rules, Timestamps
from appliance.config.load import read_secret
from appliance.config.timestamping import BitcoinNode, OwnAnchors, Timestamping
from appliance.evidence.block import NETWORKS
from appliance.evidence.transaction import AnchorKey, read_outpoint
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ports.chain import Chain
from appliance.ports.clock import Clock
from appliance.runtime.log import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNode:
    """The node's adapter, and the key of our own anchors where there is one."""

    chain: Chain
    key: AnchorKey | None


async def open_node(settings: BitcoinNode) -> OpenNode:
    """Read the secrets, make the adapter; nothing is asked yet.

    Raises:
        Rejected: `chain_address_insecure`, `chain_library_missing`, `anchor_key_malformed`.
        Unavailable: `secret_file_unusable`.
    """
    opening = open_library if settings.client == "python-bitcoinrpc" else BitcoinRpc.open
    credential = await asyncio.to_thread(read_secret, settings.credential_path)
    key = None
    if settings.own is not None:
        key = AnchorKey.read((await asyncio.to_thread(read_secret, settings.own.key_path)).reveal_text())
    chain = await opening(url=settings.url, credential=credential, network=NETWORKS[settings.network])
    return OpenNode(chain=chain, key=key)


def make_timestamps(
    settings: Timestamping,
    *,
    opened: OpenNode | None,
    http: Callable[[str], aiohttp.ClientSession],
    checkpoints: CheckpointMaker,
    store: EvidenceStore,
    clock: Clock,
    log: Log,
) -> Timestamps:
    """The follower's step. Raises Rejected: `calendar_address_insecure`."""
    node = None
    if settings.node is not None and opened is not None:
        node = Node(
            chain=opened.chain,
            network=NETWORKS[settings.node.network],
            anchoring=_anchoring(settings.node.own, opened, store, clock, log),
        )
    return Timestamps(
        checkpoints=checkpoints,
        calendars=[HttpCalendar(address=address, http=http(address)) for address in settings.calendars],
        node=node,
        rules=Rules(
            every_ms=settings.every_ms,
            fallback_after_ms=settings.fallback_after_ms,
            late_after_ms=settings.late_after_ms,
        ),
        store=store,
        clock=clock,
        log=log,
    )


def _anchoring(
    settings: OwnAnchors | None, opened: OpenNode, store: EvidenceStore, clock: Clock, log: Log
) -> Anchoring | None:
    if settings is None or opened.key is None:
        return None
    return Anchoring(
        store=store,
        chain=opened.chain,
        key=opened.key,
        funds=[read_outpoint(coin) for coin in settings.coins],
        fees=Fees(per_day_max_sat=settings.fees_per_day_max_sat),
        clock=clock,
        log=log,
    )
