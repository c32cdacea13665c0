"""What a new log takes over from the one before it, beside its terminals: keys of persons, and the vault of tokens.

Owns the way of these files from the old data into the new. Must never copy them: a person is erased where the keys are,
and there must be one such place.

* They are taken over only where this box's token opens them: after a restore, or where the token stayed. Of a lost
  token's the key over the others was put aside (`box.renew_devices`): they are noise, and stay where they lie.
* The old log's values stay in the old data; their keys are in the new. Erasing a person there makes both noise.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from appliance.crypto import cbor
from appliance.ledger.database import connect_writer
from appliance.ledger.draft import Draft, Purpose
from appliance.ledger.ledger import Ledger
from appliance.ledger.rebuild import rebuild
from appliance.ledger.recover import fsync_folder
from appliance.ledger.subject_keys import KEYS_FILE, STORE_KEY_FILE, SubjectKeys
from appliance.model.provider_token import TokenName
from appliance.payment.vault.file import VaultFile
from appliance.payment.vault.rows import StandingToken, TokenProjection, all_tokens, standing_keys
from appliance.payment.vault.safe import FILE_NAME as VAULT_FILE
from appliance.ports.clock import Clock
from appliance.wire import vault_entries
from appliance.wire.requests import Wire

_FILES: Final = (KEYS_FILE, VAULT_FILE, STORE_KEY_FILE)
"""In the order in which they move: the key over the others last, because it says that all have."""
_PAGE: Final = 500


def take_over_secrets(old: Path, new: Path) -> None:
    """Move the files of `old` to `new`, before the new log is opened for the first time."""
    if not (old / STORE_KEY_FILE).exists() or (new / STORE_KEY_FILE).exists():
        return
    if (old / KEYS_FILE).exists():
        with closing(SubjectKeys(old / KEYS_FILE, b"")) as keys:
            keys.carry()
    for name in _FILES:
        if (old / name).exists():
            (old / name).rename(new / name)
    fsync_folder(new)
    fsync_folder(old)


async def take_over_tokens(old: Path, ledger: Ledger, new: Path, clock: Clock) -> int:
    """Tell the new log of every token that the old one kept and the vault holds; returns how many it keeps by now."""
    if not (new / VAULT_FILE).exists():
        return 0
    with closing(VaultFile(new / VAULT_FILE)) as file:
        lying_under = {name: file.find(name) for name in file.names()}
    held = {name: found.token.key_id for name, found in lying_under.items() if found is not None}
    kept = [each for each in _kept(old) if each.binding.name in held]
    known = {each.binding.name for each in await ledger.read(_all)}
    told = {key_id for key_id, _ in await ledger.read(standing_keys)}
    drafts: list[Draft] = []
    for key_id in sorted({held[each.binding.name] for each in kept} - told):
        drafts.append(_draft(vault_entries.KEY_MADE, vault_entries.VaultKeyMadeEntry(key=key_id), clock))
    drafts += [_draft(vault_entries.KEPT, _entry(each), clock) for each in kept if each.binding.name not in known]
    for at in range(0, len(drafts), _PAGE):
        await ledger.append(drafts[at : at + _PAGE], purpose=Purpose.OUTCOME)
    return len(kept)


def _kept(old: Path) -> tuple[StandingToken, ...]:
    """As the old log's entries say; its own table is made anew first."""
    with closing(connect_writer(old)) as connection:
        rebuild(connection, (TokenProjection(),), None)
        return _all(connection)


def _all(connection: sqlite3.Connection) -> tuple[StandingToken, ...]:
    found: list[StandingToken] = []
    after = TokenName("")
    while page := all_tokens(connection, after=after, limit=_PAGE):
        after = page[-1].binding.name
        found += page
    return tuple(found)


def _entry(token: StandingToken) -> vault_entries.TokenKeptEntry:
    return vault_entries.TokenKeptEntry(
        name=token.binding.name,
        under=token.under,
        expires=token.expires_ms,
        provider=token.binding.provider,
        purposes=tuple([purpose.value for purpose in token.binding.purposes]),
    )


def _draft(kind: str, body: Wire, clock: Clock) -> Draft:
    encoded = cbor.encode_ordered(msgspec.to_builtins(body))
    return Draft(kind=kind, actor="box", time_ms=clock.now_ms(), body=encoded)
