"""From entries to a slip, on a real log: each standing from its entries, and the link that proves it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from appliance.crypto import cbor, cose, signature
from appliance.ledger.draft import Disclosure
from appliance.ledger.entry import ENTRY_BYTES_MAX, Entry, decode, entry_hash
from appliance.ledger.merkle import leaf_hash, root_from_inclusion
from appliance.model.errors import Rejected
from appliance.slip.link import PREFIX, fragment, proof_link
from appliance.slip.slip import OfSale, Standing, is_told_by_link, read_slip
from appliance.wire import entries
from provisioning.cli import main
from tests.fakes.log import CASHIER, asked, key, shop_log
from tests.unit.ledger.shop import signers

RECEIPT_BYTES_MAX = 1 << 20


def found(*seqs: int) -> list[Entry]:
    whole = {proven.seq: decode(proven.entry) for proven in shop_log().whole.entries}
    return [whole[seq] for seq in seqs]


def reversal_wanted(payment: int) -> Entry:
    body = entries.ReversalWantedEntry(asked=asked(9), payment=key(payment).octets)
    (like,) = found(7)
    encoded = cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,)))
    return replace(like, seq=like.seq - 1, kind=entries.REVERSAL_WANTED, body=encoded)


@pytest.mark.parametrize(
    ("seqs", "standing"),
    [
        ((4,), Standing.PAID),
        ((6,), Standing.CHECKING),
        ((6, 7), Standing.PAID),
        ((8, 9), Standing.DECLINED),
        ((5, 10), Standing.REFUNDED),
        ((11,), Standing.CANCELLED),
    ],
)
def test_newest_entry_decides_the_standing(seqs: Sequence[int], standing: Standing) -> None:
    slip = read_slip(found(*seqs))
    assert slip.standing is standing
    assert slip.entry_seq == seqs[-1]
    assert slip.entry_hash == entry_hash(found(seqs[-1])[0].encoded)
    assert (slip.sale is None) == (standing is Standing.CANCELLED)


def test_charge_whose_reversal_is_still_to_come_is_being_checked() -> None:
    (intent, outcome) = found(6, 7)
    story = [intent, reversal_wanted(3), outcome]
    slip = read_slip(story)
    assert slip.standing is Standing.CHECKING
    assert not is_told_by_link(slip, story)  # a link has no room for the reversal, and would say "paid"
    assert is_told_by_link(read_slip([intent, outcome]), [intent, outcome])


@pytest.mark.parametrize("seqs", [(), (4, 5), (2,), (6, 9)])
def test_entries_of_no_or_several_payments_are_no_slip(seqs: Sequence[int]) -> None:
    with pytest.raises(Rejected, match=r"one payment|no payment"):
        read_slip(found(*seqs))


def test_person_is_named_only_when_the_value_was_opened() -> None:
    opened = Disclosure(name="cashier", salt=bytes(16), value=CASHIER, subject=None)
    request = Disclosure(name="request", salt=bytes(16), value=b"{}", subject=None)
    assert read_slip(found(4)).personal == ()
    assert read_slip(found(4), [opened, request]).personal == (("cashier", CASHIER.decode()),)


def test_fragment_holds_a_receipt_that_the_classical_key_signed() -> None:
    file = unpack(fragment(shop_log().card))
    whole = shop_log().whole
    (receipt,) = file["receipts"]
    assert len(receipt) < 1_000  # without ML-DSA-87
    for entry, size, index, path in proven(file):
        assert index == decode(entry).seq
        assert root_from_inclusion(leaf_hash(entry), index, size, path) == whole.head.root
    message = cose.decode_sign1(receipt, size_max=RECEIPT_BYTES_MAX)
    pinned = signers().classical
    signed = message.to_be_signed(whole.head.root)
    assert signature.verify(pinned.algorithm, pinned.public_key, signed, message.signature)


def test_fragment_takes_first_and_newest_entry_and_no_personal_value() -> None:
    whole = fragment(shop_log().whole.encode())
    assert [decode(entry).seq for entry in unpack(whole)["entries"]] == [0, 14]
    opened = unpack(fragment(shop_log().disclosed))
    assert opened["disclosures"] == []
    assert CASHIER not in cbor.encode(opened)


def test_link_that_fits_no_code_is_left_out() -> None:
    assert proof_link("https://shop.example/", shop_log().card) is not None
    assert proof_link("https://shop.example/" + "x" * 2_000, shop_log().card) is None


@pytest.mark.parametrize("file", [b"", b"\xa0", b"\xff" * 40])
def test_other_bytes_are_no_receipt(file: bytes) -> None:
    with pytest.raises(Rejected):
        fragment(file)


def unpack(text: str) -> dict[str, list[bytes]]:
    packed = text.removeprefix(PREFIX)
    encoded = zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), -zlib.MAX_WBITS)
    file = cbor.decode(encoded, size_max=RECEIPT_BYTES_MAX)
    assert isinstance(file, dict)
    assert file.pop("version") == 1
    return msgspec.convert(file, dict[str, list[bytes]])


def proven(file: dict[str, list[bytes]]) -> Iterator[tuple[bytes, int, int, list[bytes]]]:
    """Each entry with tree size, index and path of its proof."""
    (receipt,) = file["receipts"]
    message = cose.decode_sign1(receipt, size_max=RECEIPT_BYTES_MAX)
    proofs = msgspec.convert(message.unprotected[cose.VDP], dict[int, list[bytes]])[-1]
    for entry, proof in zip(file["entries"], proofs, strict=True):
        size, index, path = msgspec.convert(
            cbor.decode(proof, size_max=RECEIPT_BYTES_MAX), tuple[int, int, list[bytes]]
        )
        yield entry, size, index, path


def test_command_prints_what_a_file_proves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "receipt.cbor").write_bytes(shop_log().disclosed)
    (tmp_path / "trust.json").write_bytes(shop_log().trust)
    told = ["receipt", "--file", f"{tmp_path}/receipt.cbor", "--trust", f"{tmp_path}/trust.json"]
    assert main([*told, "--shop", "Corner Shop", "-o", f"{tmp_path}/slip.txt", "--page-url", "https://s.example/"]) == 0
    assert capsys.readouterr().out == ""
    text = (tmp_path / "slip.txt").read_text()
    assert "Corner Shop" in text
    assert "PAID" in text
    assert "Augusta Ada King" in text
    assert "https://s.example/#1." in text


def test_command_says_nothing_of_a_file_that_does_not_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = bytearray(shop_log().sale)
    damaged[200] ^= 1
    (tmp_path / "receipt.cbor").write_bytes(damaged)
    (tmp_path / "trust.json").write_bytes(shop_log().trust)
    assert main(["receipt", "--file", f"{tmp_path}/receipt.cbor", "--trust", f"{tmp_path}/trust.json"]) == 2
    assert main(["receipt", "--file", f"{tmp_path}/receipt.cbor"]) == 2
    assert main(["receipt"]) == 2
    assert capsys.readouterr().out == ""


def part(seq: int, *, remaining: int = 0, part_of: bytes | None = None) -> tuple[Entry, int]:
    """A card sale's intent as the first or a later part of a sale; and the sale's total."""
    (like,) = found(seq)
    intent = msgspec.convert(cbor.decode(like.body, size_max=ENTRY_BYTES_MAX), entries.IntentEntry)
    assert intent.sale is not None
    sale = msgspec.structs.replace(intent.sale, remaining=remaining, part_of=part_of)
    body = msgspec.structs.replace(intent, sale=sale)
    return replace(like, body=cbor.encode(msgspec.to_builtins(body, builtin_types=(bytes,)))), sale.total


def test_a_part_says_by_itself_what_it_pays_of_its_sale() -> None:
    first, total = part(6, remaining=100)
    slip = read_slip([first, *found(7)])
    assert slip.of_sale == OfSale(key=slip.key, covers_minor=total - 100, number=1, total_minor=total)
    later, _ = part(6, part_of=key(1).octets)
    assert read_slip([later, *found(7)]).of_sale == OfSale(key=str(key(1)), covers_minor=total)
    assert read_slip(found(6, 7)).of_sale is None
