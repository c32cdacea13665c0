"""CIDs: published addresses, texts of nodes, nothing but raw and dag-cbor by SHA-256."""

from __future__ import annotations

import pytest

from appliance.evidence.cid import cid_text, dag_cbor_cid, is_of, is_raw, parse_cid, raw_cid, read_cid
from appliance.model.errors import Rejected

# The empty raw block and the empty dag-cbor map, as every IPFS implementation prints them.
EMPTY_RAW = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
EMPTY_MAP = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"


def test_addresses_are_the_published_ones() -> None:
    assert cid_text(raw_cid(b"")) == EMPTY_RAW
    assert cid_text(dag_cbor_cid(b"\xa0")) == EMPTY_MAP


def test_an_address_names_its_bytes_alone() -> None:
    cid = raw_cid(b"one")
    assert is_of(cid, b"one")
    assert not is_of(cid, b"two")
    assert is_raw(cid)
    assert not is_raw(dag_cbor_cid(b"one"))


def test_text_and_bytes_come_back() -> None:
    cid = parse_cid(EMPTY_RAW)
    assert cid == raw_cid(b"")
    assert read_cid(bytes(cid)) == cid


def test_both_bases_of_nodes_name_the_same_bytes() -> None:
    # As a js-ipfs node answers to an import and to a pin listing.
    of_import = parse_cid("bafyreiddpylvmhww4ugy6jiusknbhsrdyvpjf76idd7j25dwrndvou4icq")
    assert parse_cid("zdpuAs7pMqCrMbwmeR9NnnMoHC2cgj3RV5ub8E51iNKfxFzpB") == of_import


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY_RAW.upper(),
        EMPTY_RAW[:-1],
        EMPTY_RAW[:-1] + "v",  # stray bits behind the last byte
        EMPTY_RAW[:-1] + "1",
        "z" + EMPTY_RAW[1:],
        "k" + EMPTY_RAW[1:],
        "z" + "2" * 100,
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
        "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    ],
    ids=[
        "empty",
        "upper case",
        "short",
        "stray bits",
        "not base32",
        "not base58",
        "another base",
        "long",
        "version 0",
        "dag-pb",
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        parse_cid(text)
    assert refusal.value.code == "cid_malformed"


@pytest.mark.parametrize("encoded", [b"", bytes(36), bytes(raw_cid(b"")) + b"\x00", bytes(raw_cid(b""))[:-1]])
def test_any_other_bytes_are_refused(encoded: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        read_cid(encoded)
    assert refusal.value.code == "cid_malformed"
