"""Builds what timestamps need: the node's adapter, the calendars, own anchors where there is a key."""

from __future__ import annotations

import aiohttp

from appliance.adapters.bitcoin_rpc import BitcoinRpc
from appliance.adapters.bitcoin_rpc_lib import open_library
from appliance.adapters.calendar_http import HttpCalendar
from appliance.anchor.anchoring import Anchoring, Fees
from appliance.anchor.store import EvidenceStore
from appliance.anchor.timestamps import Node, Rules, Timestamps
from appliance.config.load import read_secret
from appliance.config.timestamping import BitcoinNode, Timestamping
from appliance.evidence.block import NETWORKS
from appliance.evidence.transaction import AnchorKey, read_outpoint
from appliance.ledger.checkpoint import CheckpointMaker
from appliance.ports.chain import Chain
from appliance.ports.clock import Clock
from appliance.runtime.log import Log


async def open_chain(settings: BitcoinNode) -> BitcoinRpc:
    """The node's adapter; nothing is asked yet.

    Raises:
        Rejected: `chain_address_insecure`, `chain_library_missing`.
        Unavailable: `secret_file_unusable`.
    """
    opening = open_library if settings.client == "python-bitcoinrpc" else BitcoinRpc.open
    credential = read_secret(settings.credential_path)
    return await opening(url=settings.url, credential=credential, network=NETWORKS[settings.network])


def make_timestamps(
    settings: Timestamping,
    *,
    chain: Chain | None,
    http: aiohttp.ClientSession,
    checkpoints: CheckpointMaker,
    store: EvidenceStore,
    clock: Clock,
    log: Log,
) -> Timestamps:
    """The follower's step. Raises Rejected: `calendar_address_insecure`, `anchor_key_malformed`."""
    node = None
    if settings.node is not None and chain is not None:
        node = Node(
            chain=chain,
            network=NETWORKS[settings.node.network],
            anchoring=_anchoring(settings.node, chain, store, clock, log),
        )
    return Timestamps(
        checkpoints=checkpoints,
        calendars=[HttpCalendar(address=address, http=http) for address in settings.calendars],
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


def _anchoring(settings: BitcoinNode, chain: Chain, store: EvidenceStore, clock: Clock, log: Log) -> Anchoring | None:
    own = settings.own
    if own is None:
        return None
    return Anchoring(
        store=store,
        chain=chain,
        key=AnchorKey.read(read_secret(own.key_path).reveal_text()),
        funds=[read_outpoint(coin) for coin in own.coins],
        fees=Fees(per_day_max_sat=own.fees_per_day_max_sat),
        clock=clock,
        log=log,
    )
