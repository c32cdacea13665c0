"""The vault on its way to another box: data keys out of one HSM's wrapping and into another's; tokens stay as they are.

Owns both ways. Must never open a token: it is sealed under its data key, and lies in the new file as in the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from appliance.crypto.envelope import EnvelopeCipher
from appliance.payment.vault.file import DataKey, SealedToken, VaultFile
from appliance.payment.vault.safe import FILE_NAME, unwrap_key, wrap_key


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedKey:
    """A data key in the clear; it is written nowhere but into a sealed backup."""

    key_id: int
    key: bytes
    made_ms: int
    is_closed: bool


async def take_out_keys(folder: Path, cipher: EnvelopeCipher) -> tuple[MovedKey, ...]:
    """Every data key of the vault in `folder`; none where there is no vault.

    Raises:
        Unavailable: `vault_closed`.
    """
    return tuple(
        [
            MovedKey(
                key_id=each.key_id,
                key=await unwrap_key(cipher, each.key_id, each.wrapped),
                made_ms=each.made_ms,
                is_closed=each.is_closed,
            )
            for each in await asyncio.to_thread(_held_keys, folder)
        ]
    )


def _held_keys(folder: Path) -> tuple[DataKey, ...]:
    if not (folder / FILE_NAME).exists():
        return ()
    with closing(VaultFile(folder / FILE_NAME)) as file:
        return file.keys()


def token_page(folder: Path, *, after: str, limit: int) -> tuple[SealedToken, ...]:
    """The next sealed tokens behind the name `after`."""
    if not (folder / FILE_NAME).exists():
        return ()
    with closing(VaultFile(folder / FILE_NAME)) as file:
        return file.tokens(after=after, limit=limit)


def put_tokens(folder: Path, tokens: Sequence[SealedToken]) -> None:
    """Into the vault in `folder`, whose data keys follow."""
    with closing(VaultFile(folder / FILE_NAME)) as file:
        file.put_all(tokens)


async def put_keys(folder: Path, cipher: EnvelopeCipher, keys: Iterable[MovedKey]) -> None:
    """Wrap the data keys under this box's HSM and keep them.

    Raises:
        Unavailable: `vault_closed`.
    """
    wrapped = [(each, await wrap_key(cipher, each.key_id, each.key)) for each in keys]

    def keep() -> None:
        with closing(VaultFile(folder / FILE_NAME)) as file:
            for each, under_kek in wrapped:
                file.add_key(each.key_id, under_kek, each.made_ms)
                if each.is_closed:
                    file.close_key(each.key_id)

    if wrapped:
        await asyncio.to_thread(keep)
