"""The page of entry kinds says what the code does."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import msgspec
import pytest

from appliance.crypto import cbor
from appliance.crypto.disclosure import commit
from appliance.ledger.entry import Entry, EntryHash
from appliance.wire import entries, vault_entries
from appliance.wire.requests import LineBody, TenderBody, Wire
from provisioning.exports.rows import rows_of
from provisioning.verify.bodies import SHAPES, read_body
from provisioning.verify.sentences import sentence

PAGE = Path(__file__).parents[3] / "appliance" / "docs" / "formats" / "entry-kinds.md"


def test_every_kind_and_every_member_is_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = {*SHAPES, "genesis", "epoch", "erased", "rotation", "distrust"}
    shapes: list[type[Wire]] = [*SHAPES.values(), entries.Asked, entries.SaleFacts, entries.OperationFacts]
    for shape in shapes:
        names.update(field.encode_name for field in msgspec.structs.fields(shape))
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_the_example_on_the_page_is_the_encoding() -> None:
    body = entries.SaleEntry(
        asked=entries.Asked(
            key=uuid.UUID("01a0c450-6c00-7000-8000-000000000001").bytes,
            commitments={"cashier": commit(bytes(16), b"Ada"), "payload": commit(bytes(16), bytes(32))},
        ),
        sale=entries.SaleFacts(
            currency="EUR",
            total=1250,
            tenders=(TenderBody(kind="cash", amount_minor=1250),),
            lines=(LineBody(sku="A1", unit_price_minor=1250),),
            sold_at_ms=1_790_000_000_000,
        ),
    )
    example = PAGE.read_text(encoding="utf-8").split("```")[1]
    # Bytes stand before the first word of explanation: two blanks or a quotation mark.
    written = "".join(re.split(r"\s{2,}|\"|[g-z]", line.strip())[0].replace(" ", "") for line in example.splitlines())
    assert written == cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,))).hex()


def test_a_body_is_read_as_its_shape_and_as_plain_values_at_once() -> None:
    asked = entries.Asked(key=bytes(range(16)), commitments={})
    body = entries.TombstoneEntry(asked=asked, payment=bytes(16))

    read, plain = read_body(entry_of(entries.TOMBSTONE, body))

    assert read == body
    assert plain["payment"] == "00" * 16
    assert msgspec.json.encode(plain)


def test_an_auditors_row_decodes_its_body_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = entries.Asked(key=bytes(range(16)), commitments={})
    sale = entries.SaleFacts(currency="EUR", total=1, lines=(), tenders=(), sold_at_ms=0)
    entry = entry_of(entries.SALE, entries.SaleEntry(asked=asked, sale=sale))
    decoded: list[bytes] = []
    decode = cbor.decode

    def counted(octets: bytes, *, size_max: int) -> object:
        decoded.append(octets)
        return decode(octets, size_max=size_max)

    monkeypatch.setattr(cbor, "decode", counted)
    assert len(rows_of(entry)) == 2
    assert decoded == [entry.body]


def test_a_data_key_is_named_by_all_of_its_digits() -> None:
    entry = entry_of(vault_entries.KEY_MADE, vault_entries.VaultKeyMadeEntry(key=0xABC))
    assert sentence(entry, vault_entries.VaultKeyMadeEntry(key=0xABC)).endswith("data key 0000000000000abc")


def entry_of(kind: str, body: Wire) -> Entry:
    encoded = cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,)))
    return Entry(
        seq=4, time_ms=0, kind=kind, actor="box", body=encoded, salt=bytes(16), prev=EntryHash(bytes(32)), encoded=b""
    )
