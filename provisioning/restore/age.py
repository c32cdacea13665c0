"""How old a backup is: what witnesses say of the log that it holds, against the head up to which it holds it.

Owns the question and the judgement. Must never believe a witness: what counts is a head that the log's own keys signed,
which a witness shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import aiohttp
import msgspec

from appliance.adapters.witness_http import HttpWitness
from appliance.config.schema import Witnesses
from appliance.ledger.checkpoint import Checkpoint, verify_head
from appliance.ledger.database import connect_reader
from appliance.ledger.merkle import Tree
from appliance.ledger.recover import load_tail
from appliance.ledger.tiles import StoredTiles, TileCache
from appliance.ledger.trust import Trust
from appliance.model.errors import Rejected, Unavailable
from appliance.wiring.followers import read_witnesses
from provisioning.commands.outcome import entries
from provisioning.restore.unpack import Unpacked

_TILES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownHead:
    """A head of the log that somebody keeps, signed by the log's own keys; `note` as it was shown."""

    by: str
    head: Checkpoint
    note: bytes


def read_shown(note: bytes, *, by: str, origin: str, log_id: bytes, trust: Trust) -> ShownHead:
    """A checkpoint that somebody kept. Raises Rejected: the codes of `verify_head`."""
    keys = next(keys for known, keys in trust.keys.items() if known == log_id)
    return ShownHead(by=by, head=verify_head(note, origin=origin, keys=keys), note=note)


def ask_witnesses(unpacked: Unpacked) -> tuple[ShownHead, ...]:
    """What the witnesses of the box's settings show.

    Raises:
        Rejected: `backup_age_unknown`: the settings name none, or too few of them answered.
    """
    table = unpacked.settings.get("witnesses", {})
    settings = msgspec.convert(table, Witnesses)
    shown, trouble = asyncio.run(_ask(unpacked, settings))
    needed = max(1, settings.needed)
    if len(shown) < needed:
        said = "; ".join(trouble) or "the settings in it name no witness"
        raise Rejected("backup_age_unknown", f"nobody says how long the log was: {said}")
    return shown


async def _ask(unpacked: Unpacked, settings: Witnesses) -> tuple[tuple[ShownHead, ...], list[str]]:
    header = unpacked.header
    prefixes, _ = read_witnesses(settings)
    shown: list[ShownHead] = []
    trouble: list[str] = []
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as http:
        for name, prefix in prefixes.items():
            try:
                note = await HttpWitness(name=name, prefix=prefix, http=http).latest_checkpoint(header.origin)
                shown.append(
                    read_shown(note, by=name, origin=header.origin, log_id=header.log_id, trust=unpacked.trust)
                )
            except (Unavailable, Rejected) as refusal:
                trouble.append(f"{name}: {refusal.detail}")
    return tuple(shown), trouble


def require_newest(unpacked: Unpacked, shown: Sequence[ShownHead], *, accepted_loss: int) -> None:
    """Return if the log in the backup is as long as anybody saw it, or as short as the operator accepts.

    Args:
        accepted_loss: entries that the operator knows to be missing.
    Raises:
        Rejected: `backup_stale`: the log went on after it; `backup_forked`: somebody saw another log under its name.
    """
    size = unpacked.size
    for each in shown:
        if each.head.size <= size and _root_at(unpacked, each.head.size) != each.head.root:
            raise Rejected(
                "backup_forked", f"{each.by} keeps a head of {entries(each.head.size)} that is not this log's"
            )
    newest = max(shown, key=lambda each: each.head.size, default=None)
    if newest is not None and newest.head.size - size > accepted_loss:
        missing = newest.head.size - size
        raise Rejected(
            "backup_stale",
            f"{newest.by} has seen {entries(newest.head.size)}, the backup holds {size:,}: {missing} are missing",
        )


def _root_at(unpacked: Unpacked, size: int) -> bytes:
    with closing(connect_reader(unpacked.folder)) as connection:
        tail = load_tail(connection)
        return Tree(tail.frontier, StoredTiles(connection, TileCache(_TILES_MAX))).root(size)
