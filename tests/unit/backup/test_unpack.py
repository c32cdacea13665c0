"""Owns the promises of a backup: what the box had is in it, nobody can change or thin it out, and nobody else reads."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.crypto import hpke
from appliance.crypto.hpke import Recipient
from appliance.crypto.owner import OwnerKey
from appliance.crypto.sealed_stream import SEALED_CHUNK_BYTES, SEALED_KEY_BYTES
from appliance.device.backup import STORE_KEY as STORE_KEY_NAME
from appliance.ledger import backup_file
from appliance.ledger.backup_file import END, BackupReader, BackupWriter, Record, read_header
from appliance.ledger.database import connect_reader
from appliance.ledger.disclosures import DisclosureVault
from appliance.ledger.export import write_log
from appliance.ledger.opening import with_own
from appliance.ledger.projection import tables_digest
from appliance.ledger.trust import encode_trust, load_trust
from appliance.model.errors import Rejected, Unavailable
from appliance.model.ids import TerminalId
from appliance.payment.vault.moving import token_page
from provisioning.restore.unpack import Unpacked
from provisioning.verify.ledger_folder import open_folder
from tests.fakes.cipher import FakeCipher
from tests.unit.backup.made import API_KEY, PLACE, SEED, SETTINGS, bytes_of, make, sell_some, taken_out, whole
from tests.unit.ledger.shop import STORE_KEY
from tests.unit.payment.shop import PROJECTIONS, Shop, open_shop
from tests.unit.till.kept import CUSTOMER, SECRET

VECTOR = Path(__file__).parents[2] / "vectors" / "backup.json"
REFUSALS = {
    "backup_malformed",
    "backup_truncated",
    "backup_wrong_key",
    "backup_changed",
    "backup_of_another_owner",
    "backup_not_genuine",
}


def refusal(content: bytes, folder: Path, **more: Any) -> str:
    with pytest.raises(Rejected) as refused:
        taken_out(content, folder, **more)
    return refused.value.code


def body_at(content: bytes, folder: Path) -> int:
    """Where the first chunk begins."""
    file = folder / "whole"
    file.write_bytes(content)
    with file.open("rb") as opened:
        read_header(opened)
        return opened.tell() + SEALED_KEY_BYTES


def records_of(content: bytes, folder: Path) -> tuple[backup_file.BackupHeader, list[Record]]:
    file = folder / "to-read"
    file.write_bytes(content)
    with file.open("rb") as opened:
        reader = BackupReader(opened, SEED)
        return reader.header, list(reader.records())


def sealed_anew(header: backup_file.BackupHeader, records: list[Record]) -> bytes:
    """What somebody seals who has the public key, as everybody may."""
    writer = BackupWriter(Recipient(hpke.public_key_of(SEED)), header)
    return b"".join(
        [writer.beginning, *(writer.write(each.kind, each.value) for each in records), writer.end()],
    )


async def test_everything_the_box_had_comes_out(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "log") as shop:
        name = await sell_some(shop)
        content = await bytes_of(make(shop.ledger, tmp_path / "log"))
        size = shop.ledger.head.size - 1  # but for the entry about it
        out = await asyncio.to_thread(taken_out, content, tmp_path / "out")
        kept, tables = await asyncio.to_thread(values_and_tables, tmp_path / "log")
    assert (out.header.size, out.settings, out.store_key) == (size, SETTINGS, STORE_KEY)
    assert await asyncio.to_thread(values_and_tables, out.folder) == (kept, tables), (
        "the tables are what a replay gives"
    )
    assert await asyncio.to_thread(customers_in, out, kept) == {CUSTOMER}
    assert [len(each.key) for each in out.data_keys] == [32]
    assert [each.name for each in await asyncio.to_thread(token_page, out.folder, after="", limit=10)] == [name]
    assert await asyncio.to_thread(out.files[PLACE].read_bytes) == API_KEY
    for secret in (SECRET.encode(), API_KEY.strip(), CUSTOMER.encode(), STORE_KEY):
        assert secret not in content


def values_and_tables(folder: Path) -> tuple[list[Any], bytes]:
    with closing(connect_reader(folder)) as connection:
        values = connection.execute("SELECT * FROM disclosures ORDER BY seq, name").fetchall()
        return values, tables_digest(connection, with_own(PROJECTIONS))


def customers_in(out: Unpacked, values: list[Any]) -> set[str]:
    vault = DisclosureVault(out.folder, out.store_key)
    try:
        opened = vault.open_now([row[1:] for row in values if row[1] == "customer"])
    finally:
        vault.close()
    return {each.value.decode() for each in opened}


async def test_the_log_goes_on_while_it_is_backed_up(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "log") as shop:
        await sell_some(shop, 5)
        size = shop.ledger.head.size
        backup = make(shop.ledger, tmp_path / "log")
        pieces = backup.stream()
        content = await anext(pieces)
        await sell_some(shop, 5)
        with pytest.raises(Unavailable, match="backup_running"):
            await bytes_of(backup)
        content += b"".join([piece async for piece in pieces])
        assert (await asyncio.to_thread(taken_out, content, tmp_path / "out")).header.size == size
        assert (await asyncio.to_thread(taken_out, await bytes_of(backup), tmp_path / "again")).header.size > size


async def test_a_person_erased_before_the_backup_is_not_in_it(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "log") as shop:
        await sell_some(shop, 1)
        await shop.ledger.erase(f"customer:{CUSTOMER}", actor="operator")
        out = await asyncio.to_thread(taken_out, await bytes_of(make(shop.ledger, tmp_path / "log")), tmp_path / "out")
        assert shop.ledger.vault is not None
        alias = shop.ledger.vault.alias_of(f"customer:{CUSTOMER}")
    assert alias not in await asyncio.to_thread(aliases, out.folder)


def aliases(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "keys.db")) as connection:
        return {row[0] for row in connection.execute("SELECT subject FROM keys")}


async def exported(shop: Shop, folder: Path) -> bytes:
    """The log as it stands, under a signed head."""
    receipt = await shop.ledger.receipts((shop.ledger.head.size - 1,), 10_000)
    assert receipt is not None
    file = io.BytesIO()
    write_log(file, await asyncio.to_thread(entries_of, folder, receipt.head.size), receipt.head)
    return file.getvalue()


def entries_of(folder: Path, size: int) -> list[bytes]:
    with open_folder(folder) as opened:
        return list(opened.entries(size))


async def test_an_exported_log_that_goes_further_brings_what_came_after(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "log") as shop:
        await shop.pair("till-2")
        name = await sell_some(shop, 1)
        too_short = await exported(shop, tmp_path / "log")
        content = await bytes_of(make(shop.ledger, tmp_path / "log"))
        await shop.ledger.erase(f"customer:{CUSTOMER}", actor="operator")
        await shop.terminals.revoke(TerminalId("till-2"), "stolen")
        await sell_some(shop, 1)
        further = await exported(shop, tmp_path / "log")
        size = shop.ledger.head.size
        alias = shop.ledger.vault.alias_of(f"customer:{CUSTOMER}") if shop.ledger.vault is not None else ""
    out = await asyncio.to_thread(taken_out, content, tmp_path / "out", further=further)
    assert (out.size, out.header.size < size) == (size, True)
    assert alias not in await asyncio.to_thread(aliases, out.folder), "erased after the backup, erased here"
    assert await asyncio.to_thread(tokens_kept, out.folder, name) == "erased"
    changed = further.replace(b"stolen", b"STOLEN")
    for number, log in enumerate((too_short, changed, content)):
        assert await asyncio.to_thread(refusal, content, tmp_path / f"u{number}", further=log) == "restore_log_unfit"


async def test_an_exported_log_that_goes_on_from_elsewhere_is_a_fork(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "log") as shop:
        await sell_some(shop, 1)
    await asyncio.to_thread(shutil.copytree, tmp_path / "log", tmp_path / "fork")
    async with open_shop(tmp_path / "log") as shop:
        await sell_some(shop, 1)
        content = await bytes_of(make(shop.ledger, tmp_path / "log"))
    async with open_shop(tmp_path / "fork") as shop:
        await sell_some(shop, 4)
        other = await exported(shop, tmp_path / "fork")
    assert await asyncio.to_thread(refusal, content, tmp_path / "out", further=other) == "backup_forked"


def tokens_kept(folder: Path, name: str) -> str:
    with closing(connect_reader(folder)) as connection:
        (state,) = connection.execute("SELECT state FROM tokens WHERE name = ?", (name,)).fetchone()
        assert connection.execute("SELECT is_revoked FROM terminals WHERE terminal = 'till-2'").fetchone() == (1,)
        return str(state)


def test_half_a_backup_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    content = whole()
    first = body_at(content, tmp_path)
    edges = list(range(first, len(content) - len(END), SEALED_CHUNK_BYTES))
    assert len(edges) > 2
    for number, at in enumerate([0, 10, first - 1, *edges, *[edge + 77 for edge in edges], len(content) - 1]):
        assert refusal(content[:at], tmp_path / f"cut-{number}") in ("backup_malformed", "backup_truncated")
        ended = content[:at] + END  # as somebody would who wants it to look whole
        assert refusal(ended, tmp_path / f"ended-{number}") in REFUSALS


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    content = whole()
    first = body_at(content, tmp_path)
    places = {
        *range(0, first, 41),
        *range(first, len(content), 4_099),
        *range(len(content) - len(END), len(content), 5),
    }
    for at in sorted(places):
        changed = bytearray(content)
        changed[at] ^= 1 << (at % 8)
        assert refusal(bytes(changed), tmp_path / f"flipped-{at}") in REFUSALS


def test_another_key_reads_nothing_and_is_named(tmp_path: Path) -> None:
    content = whole()
    assert refusal(content, tmp_path / "out", seed=bytes(32)) == "backup_wrong_key"


def test_a_backup_of_another_owner_is_refused(tmp_path: Path) -> None:
    content = whole()
    other = load_trust(encode_trust(OwnerKey.generate().public, []))
    assert refusal(content, tmp_path / "out", known=other) == "backup_of_another_owner"


def _without(kind: str) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [each for each in records if each.kind != kind]


def _with(kind: str, value: object) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [Record(kind, value) if each.kind == kind else each for each in records]


def _fewer_entries(records: list[Record]) -> list[Record]:
    (entries,) = [each for each in records if each.kind == backup_file.ENTRIES]
    fewer = list(backup_file.split_entries(entries.value))[:-1]
    return _with(backup_file.ENTRIES, backup_file.join_entries(fewer))(records)


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (_with(backup_file.SETTINGS, {"provider": {"stripe": {"api_base": "https://thief.example"}}}), "not_genuine"),
        (_with(backup_file.SECRETS, {STORE_KEY_NAME: bytes(32)}), "not_genuine"),
        (_with(backup_file.FILE, [PLACE, b"sk_live_ofAThief"]), "not_genuine"),
        (_without(backup_file.DISCLOSURES), "not_genuine"),
        (_without(backup_file.TOKENS), "not_genuine"),
        (_without(backup_file.RECEIPT), "not_genuine"),
        (_fewer_entries, "not_genuine"),
        (lambda records: [*records, records[0]], "malformed"),
        (_with(backup_file.FILE, ["../../etc/passwd", b"x"]), "malformed"),
        (_with(backup_file.ENTRIES, b"\x00\x00\x00\x09short"), "malformed"),
        (_with(backup_file.DISCLOSURES, [["seq", "name", 1, b""]]), "malformed"),
        (lambda records: [Record("unheard", 1), *records], "malformed"),
    ],
    ids=[
        "another provider",
        "another store key",
        "another secret",
        "no values",
        "no tokens",
        "no receipt",
        "fewer entries",
        "something behind the receipt",
        "a path that leads out",
        "entries cut short",
        "rows of another shape",
        "an unknown record",
    ],
)
def test_what_somebody_else_sealed_is_not_believed(
    tmp_path: Path, forge: Callable[[list[Record]], list[Record]], code: str
) -> None:
    header, records = records_of(whole(), tmp_path)
    assert refusal(sealed_anew(header, forge(records)), tmp_path / "out") == f"backup_{code}"


async def test_the_receipt_of_an_older_backup_proves_no_newer_one(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "log") as shop:
        await sell_some(shop, 2)
        backup = make(shop.ledger, tmp_path / "log")
        _, older = await asyncio.to_thread(records_of, await bytes_of(backup), tmp_path)
        await sell_some(shop, 2)
        header, newer = await asyncio.to_thread(records_of, await bytes_of(backup), tmp_path)
    forged = sealed_anew(header, [*newer[:-1], older[-1]])
    assert await asyncio.to_thread(refusal, forged, tmp_path / "out") == "backup_not_genuine"


async def test_without_the_hsm_there_is_no_backup_and_the_next_try_makes_one(tmp_path: Path) -> None:
    cipher = FakeCipher(STORE_KEY)
    async with open_shop(tmp_path / "log") as shop:
        await sell_some(shop, 1)
        backup = make(shop.ledger, tmp_path / "log", cipher=cipher)
        cipher.is_there = False
        with pytest.raises(Unavailable, match="vault_closed"):
            await bytes_of(backup)
        cipher.is_there = True
        assert (await asyncio.to_thread(taken_out, await bytes_of(backup), tmp_path / "out")).header.size


def test_a_backup_of_version_1_is_read_for_ever(tmp_path: Path) -> None:
    vector = msgspec.json.decode(VECTOR.read_bytes())
    seed, known = bytes.fromhex(vector["seed"]), load_trust(json.dumps(vector["trust"]).encode())
    out = taken_out(base64.b64decode(vector["file"]), tmp_path / "out", seed=seed, known=known)
    header = out.header
    assert (header.origin, header.size, header.root.hex()) == (vector["origin"], vector["size"], vector["root"])
    assert [each.name for each in token_page(out.folder, after="", limit=10)] == [vector["token"]]
