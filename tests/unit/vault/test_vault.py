"""Owns the promises of the vault's file: what is bound stays bound, rotations end, what is gone leaves nothing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import ProviderName
from appliance.model.limits import DAY_MS
from appliance.model.provider_token import TokenBinding, TokenName, TokenPurpose
from appliance.payment.vault.data_keys import PAUSE_MS
from appliance.payment.vault.rows import require_token, standing_keys
from appliance.payment.vault.safe import FILE_NAME, RESEALED_MAX
from appliance.payment.vault.vault import KEY_AGE_MAX_MS
from tests.unit.payment.shop import Shop, open_shop, rebuilt_equal
from tests.unit.till.kept import SECRET, keep, pay, told_provider


@contextmanager
def vault_rows(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / FILE_NAME, isolation_level=None)) as connection:
        yield connection


async def key_count(shop: Shop) -> int:
    return len(await shop.safe.keys())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE tokens SET sealed = (SELECT sealed FROM tokens WHERE name <> ?1) WHERE name = ?1",
        "UPDATE tokens SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE name = ?1",
        "UPDATE tokens SET sealed = x'00' WHERE name = ?1",
        "UPDATE tokens SET key_id = (SELECT id FROM data_keys WHERE id <> key_id LIMIT 1) WHERE name = ?1",
        "DELETE FROM tokens WHERE name = ?1",
    ],
    ids=["another row", "a flipped bit", "cut", "another data key", "gone"],
)
async def test_a_changed_row_opens_nothing_and_harms_no_other(tmp_path: Path, change: str) -> None:
    async with open_shop(tmp_path) as shop:
        name, other = await keep(shop), await keep(shop, "pm_1TheOtherToken")
        await shop.vault.rotate("operator")  # a second data key
        with vault_rows(tmp_path) as connection:
            connection.execute(change, (name,))
        with pytest.raises(Rejected, match="token_unreadable"):
            await pay(shop, name)
        assert shop.provider.asked == []
        assert (await pay(shop, other)).state == "approved"
        assert (await pay(shop, "pm_card_visa")).state == "approved"


async def test_a_binding_that_was_changed_in_the_tables_opens_nothing(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)
        binding = (await shop.ledger.read(lambda found: require_token(found, TokenName(name)))).binding
        for changed in (
            replace(binding, purposes=(TokenPurpose.HOLD, TokenPurpose.SALE)),
            replace(binding, provider=ProviderName("paypal")),
        ):
            with pytest.raises(Rejected, match="token_unreadable"):
                await shop.safe.open(changed)
        assert await shop.safe.open(binding) == SECRET.encode()


async def test_a_data_key_of_another_box_closes_the_vault_and_nothing_else(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)
        await shop.safe.close()
    with vault_rows(tmp_path) as connection:
        connection.execute("UPDATE data_keys SET wrapped = zeroblob(60)")
    async with open_shop(tmp_path) as shop:
        with pytest.raises(Unavailable, match="vault_closed"):
            await pay(shop, name)
        assert (await pay(shop, "pm_card_visa")).state == "approved"


async def test_a_damaged_file_closes_the_vault_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 100)
    async with open_shop(tmp_path) as shop:
        with pytest.raises(Unavailable, match="vault_closed"):
            await keep(shop)
        assert (await pay(shop, "pm_card_visa")).state == "approved"


async def test_a_rotation_moves_every_token_and_destroys_the_old_key(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        names = [await keep(shop, f"pm_1Token{number:04}") for number in range(RESEALED_MAX + 5)]
        (old,) = await shop.safe.keys()
        made = await shop.vault.rotate("operator")
        await keep(shop, "pm_1KeptMeanwhile")
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(shop.vault.look())
            while not looking.done():
                await shop.clock.advance(PAUSE_MS)
        (new,) = await shop.safe.keys()
        assert (new.key_id, new.tokens) == (made, len(names) + 1)
        assert old.wrapped not in (tmp_path / FILE_NAME).read_bytes()
        assert (await pay(shop, names[0])).state == (await pay(shop, names[-1])).state == "approved"
        assert told_provider(shop) == ["pm_1Token0000", f"pm_1Token{RESEALED_MAX + 4:04}"]
        kinds = [kind for (kind,) in await shop.rows("SELECT kind FROM entries WHERE kind LIKE 'vault%' ORDER BY seq")]
        assert kinds == ["vault_key_made", "vault_key_made", "vault_key_destroyed"]
        await rebuilt_equal(shop)


async def test_a_key_that_is_old_is_followed_by_itself(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)
        (old,) = await shop.safe.keys()
        shop.clock.pass_time(KEY_AGE_MAX_MS)
        await shop.vault.look()
        (new,) = await shop.safe.keys()
        assert new.key_id != old.key_id
        assert (await pay(shop, name)).state == "approved"


async def test_what_does_not_open_keeps_its_old_key_until_it_is_forgotten(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        bad, good = await keep(shop), await keep(shop, "pm_1Good")
        with vault_rows(tmp_path) as connection:
            connection.execute("UPDATE tokens SET sealed = zeroblob(64) WHERE name = ?", (bad,))
        await shop.vault.rotate("operator")
        await shop.vault.look()
        assert await key_count(shop) == 2
        assert (await pay(shop, good)).state == "approved"
        await shop.vault.forget(TokenName(bad), actor="operator", reason="does not open")
        await shop.vault.look()
        assert await key_count(shop) == 1


async def test_an_expired_token_is_forgotten_by_the_box(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        await keep(shop, expires_ms=shop.clock.now_ms() + DAY_MS)
        stays = await keep(shop)
        shop.clock.pass_time(DAY_MS)
        await shop.vault.look()
        assert await shop.safe.names() == {stays}
        assert await shop.rows("SELECT count(*) FROM tokens WHERE state = 'forgotten'") == [(1,)]


async def test_what_the_log_does_not_know_is_swept_and_a_data_key_of_nothing_too(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        stays = await keep(shop)
        await shop.safe.make_key(shop.clock.now_ms())  # the power went before its entry
        with vault_rows(tmp_path) as connection:
            connection.execute(
                "INSERT INTO tokens SELECT 'tok_' || hex(randomblob(13)), key_id, bound, sealed FROM tokens"
            )
        await shop.vault.look()
        assert await shop.safe.names() == {stays}
        assert await key_count(shop) == 1
        assert (await pay(shop, stays)).state == "approved"
        assert await shop.rows("SELECT count(*) FROM entries WHERE kind = 'vault_key_destroyed'") == [(0,)]


async def test_after_the_file_was_lost_new_tokens_are_kept_and_the_old_keys_end_is_told(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        lost = await keep(shop)
        await shop.safe.close()
    os.unlink(tmp_path / FILE_NAME)
    async with open_shop(tmp_path) as shop:
        kept = await keep(shop)
        await shop.vault.look()
        with pytest.raises(Rejected, match="token_unreadable"):
            await pay(shop, lost)
        assert (await pay(shop, kept)).state == "approved"
        assert len(await shop.ledger.read(standing_keys)) == 1


async def test_a_closed_vault_forgets_in_the_log_at_once_and_on_the_disk_later(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        name = await keep(shop)
        blocker = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        await shop.vault.forget(TokenName(name), actor="operator", reason="asked for")
        blocker.execute("ROLLBACK")
        blocker.close()
        assert await shop.safe.names() == {name}
        with pytest.raises(Rejected, match="token_forgotten"):
            await pay(shop, name)
        await shop.vault.look()
        assert await shop.safe.names() == frozenset()


async def test_the_bytes_are_those_of_the_format_page(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        wrapped = await shop.hsm.wrap(bytes(range(32)), b"tillstone/vault/data-key/v1\x00" + (1).to_bytes(8))
        await shop.safe.keys()  # makes the file
        with vault_rows(tmp_path) as connection:
            connection.execute("INSERT INTO data_keys VALUES (1, ?, 0, 0)", (wrapped,))
            connection.execute("INSERT INTO tokens VALUES ('tok_' || ?, 1, x'', ?)", ("a" * 26, bytes.fromhex(_VECTOR)))
        binding = TokenBinding(
            name=TokenName("tok_" + "a" * 26), provider=ProviderName("stripe"), purposes=(TokenPurpose.SALE,)
        )
        assert await shop.safe.open(binding) == b"pm_1"


_VECTOR = "0000000000000000000000007ed1eaefc01b818ffa10a4fd7a991d4bcc686d4c"
