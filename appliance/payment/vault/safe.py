"""The safe: seals tokens under data keys, opens them again, and moves them from one data key to the next.

Owns the data keys in memory and the thread of `vault.db`. Must never keep a token, and never decide who may have one.

* A data key is 32 random bytes, wrapped by the HSM's key-encryption key before its first use. It is unwrapped once and
  stays in memory while the HSM answers; where the HSM is away the data keys are dropped, and no token opens.
* What a token is bound to (name, provider, purposes) and its data key's number are authenticated with it: a row that
  was put in the place of another, or whose binding was changed in any table, does not open.
* A file or HSM that fails closes the vault and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from appliance.crypto import cbor
from appliance.crypto.disclosure import SUBJECT_KEY_SIZE, open_value, seal_value
from appliance.crypto.envelope import EnvelopeCipher
from appliance.model.errors import Corrupt, OutcomeUnknown, Rejected, Unavailable
from appliance.model.provider_token import TokenBinding, TokenName
from appliance.payment.vault.file import DataKey, FoundToken, SealedToken, VaultFile

_T = TypeVar("_T")

FILE_NAME: Final = "vault.db"
RESEALED_MAX: Final = 32
"""Tokens in one step of a rotation: some hundred microseconds of the event loop."""
_TOKEN_DOMAIN: Final = b"tillstone/vault/token/v1\x00"
_KEY_DOMAIN: Final = b"tillstone/vault/data-key/v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a rotation.

    Attributes:
        after: the name at which the next step goes on; None when this was the last.
        unreadable: tokens that do not open and stay where they are.
    """

    after: str | None
    unreadable: tuple[TokenName, ...]


class Safe:
    """Sealed tokens of this box.

    Args:
        cipher: the HSM's key-encryption key.
        is_ready: whether the HSM answers, as its last call showed.
    """

    def __init__(self, *, folder: Path, cipher: EnvelopeCipher, is_ready: Callable[[], bool]) -> None:
        self._path = folder / FILE_NAME
        self._cipher = cipher
        self._is_ready = is_ready
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vault")
        self._file: VaultFile | None = None
        self._opened: dict[int, bytes] = {}

    async def put(self, binding: TokenBinding, token: bytes, key_id: int) -> bool:
        """Keep `token`, durable on return; False where the data key `key_id` takes none any more."""
        keys = {each.key_id: each for each in await self.keys()}
        if key_id not in keys:
            return False
        sealed = _seal(await self._data_key(key_id, keys[key_id].wrapped), key_id, binding.name, _bound(binding), token)
        return await self._on_file(lambda file: file.put(sealed))

    async def open(self, binding: TokenBinding) -> bytes:
        """The token that was kept with this binding.

        Raises:
            Rejected: `token_unreadable`: it is not here, or was changed; a person must look.
            Unavailable: `vault_closed`.
        """
        found = await self._on_file(lambda file: file.find(binding.name))
        if found is None:
            raise Rejected("token_unreadable", f"the vault does not hold {binding.name}, which the log says it does")
        return _open(await self._data_key(found.token.key_id, found.wrapped), found.token, _bound(binding))

    async def names(self) -> frozenset[TokenName]:
        """Every token that is here."""
        return await self._on_file(lambda file: file.names())

    async def drop(self, names: Iterable[TokenName]) -> None:
        """Forget tokens."""
        gone = tuple(names)
        await self._on_file(lambda file: file.drop(gone))

    async def keys(self) -> tuple[DataKey, ...]:
        """Every data key that is here, the oldest first."""
        return await self._on_file(lambda file: file.keys())

    async def make_key(self, now_ms: int) -> int:
        """A new data key, wrapped and durable; nothing lies under it yet."""
        # Random, not counted: a restored file must not give a number a second time.
        key_id, key = secrets.randbits(62), os.urandom(SUBJECT_KEY_SIZE)
        wrapped = await wrap_key(self._cipher, key_id, key)
        await self._on_file(lambda file: file.add_key(key_id, wrapped, now_ms))
        return key_id

    async def close_key(self, key_id: int) -> bool:
        """Let a data key take no more tokens; False while some lie under it."""
        return await self._on_file(lambda file: file.close_key(key_id))

    async def remove_key(self, key_id: int) -> None:
        """Destroy a closed data key, here and in memory."""
        await self._on_file(lambda file: file.remove_key(key_id))
        self._opened.pop(key_id, None)

    async def reseal(self, key_id: int, *, after: str) -> Step:
        """Move the next tokens behind the name `after` under `key_id`: all of the step or nothing."""
        found = await self._on_file(lambda file: file.under_other_keys(key_id, after=after, limit=RESEALED_MAX))
        if not found:
            return Step(after=None, unreadable=())
        wrapped = next((each.wrapped for each in await self.keys() if each.key_id == key_id), b"")
        newest = await self._data_key(key_id, wrapped)
        moved, unreadable = [], []
        for each in found:
            try:
                moved.append((each.token, await self._moved(each, newest, key_id)))
            except Rejected:
                unreadable.append(each.token.name)
        await self._on_file(lambda file: file.reseal(moved))
        is_last = len(found) < RESEALED_MAX
        return Step(after=None if is_last else found[-1].token.name, unreadable=tuple(unreadable))

    async def close(self) -> None:
        """Close the file and drop the keys."""
        self._opened.clear()
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        if self._file is not None:
            self._file.close()

    async def _moved(self, found: FoundToken, newest: bytes, key_id: int) -> SealedToken:
        old = found.token
        token = _open(await self._data_key(old.key_id, found.wrapped), old, old.bound)
        return _seal(newest, key_id, old.name, old.bound, token)

    async def _data_key(self, key_id: int, wrapped: bytes) -> bytes:
        if not self._is_ready():
            self._opened.clear()
        if key_id not in self._opened:
            self._opened[key_id] = await unwrap_key(self._cipher, key_id, wrapped)
        return self._opened[key_id]

    async def _on_file(self, work: Callable[[VaultFile], _T]) -> _T:
        def run() -> _T:
            if self._file is None:
                self._file = VaultFile(self._path)
            return work(self._file)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except (sqlite3.Error, OSError) as cause:
            raise Unavailable("vault_closed", f"the vault's file fails ({type(cause).__name__})") from cause


async def wrap_key(cipher: EnvelopeCipher, key_id: int, key: bytes) -> bytes:
    """A data key as the file keeps it. Raises Unavailable `vault_closed`."""
    return await _asked(cipher.wrap(key, _KEY_DOMAIN + _number(key_id)))


async def unwrap_key(cipher: EnvelopeCipher, key_id: int, wrapped: bytes) -> bytes:
    """The data key itself. Raises Unavailable `vault_closed`."""
    return await _asked(cipher.unwrap(wrapped, _KEY_DOMAIN + _number(key_id)))


async def _asked(answer: Awaitable[bytes]) -> bytes:
    """What the HSM says; wrapping moves nothing, so a lost answer is no more than a refusal."""
    try:
        return await answer
    except (Unavailable, OutcomeUnknown) as away:
        raise Unavailable("vault_closed", "the HSM that opens the vault does not answer; take another tender") from away
    except Corrupt as foreign:
        # Of this vault alone: cash and cards at readers need nothing of it.
        raise Unavailable("vault_closed", f"the HSM does not open the vault's data key ({foreign.code})") from foreign


def _seal(key: bytes, key_id: int, name: TokenName, bound: bytes, token: bytes) -> SealedToken:
    return SealedToken(
        name=name, key_id=key_id, bound=bound, sealed=seal_value(key, _authenticated(name, bound, key_id), token)
    )


def _open(key: bytes, sealed: SealedToken, bound: bytes) -> bytes:
    try:
        return open_value(key, _authenticated(sealed.name, bound, sealed.key_id), sealed.sealed)
    except Corrupt:
        raise Rejected(
            "token_unreadable", f"{sealed.name} was changed in the vault, or is bound to something else"
        ) from None


def _authenticated(name: TokenName, bound: bytes, key_id: int) -> bytes:
    return _TOKEN_DOMAIN + _number(key_id) + name.encode() + b"\x00" + bound


def _bound(binding: TokenBinding) -> bytes:
    return cbor.encode([binding.provider, *(purpose.value for purpose in binding.purposes)])


def _number(key_id: int) -> bytes:
    return key_id.to_bytes(8, "big")
