"""Two sheets of paper give the key, one gives nothing, and a slip of the pen is found in its line."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from appliance.crypto.owner import OwnerKey
from appliance.model.errors import Rejected
from provisioning.owner.shares import join, read_share, split
from tests.unit.ledger.shop import owner


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_two_shares_typed_from_paper_give_the_key(passphrase: bytes | None) -> None:
    first, second = split(owner(), passphrase)
    typed = [re.sub(r" +", "  ", share.text().upper()) + "\n\n" for share in (second, first)]
    assert join(read_share(typed[0]), read_share(typed[1]), passphrase).public == owner().public
    assert first.content.hex() not in repr(first)


def test_passphrase_is_needed_beside_both_shares() -> None:
    first, second = split(owner(), b"correct horse")
    for wrong in (None, b"wrong"):
        with pytest.raises(Rejected, match="owner_passphrase_wrong"):
            join(first, second, wrong)


def test_a_share_alone_is_no_key_and_never_twice_the_same() -> None:
    first, second = split(owner(), None)
    again, _ = split(owner(), None)
    assert len({first.content, second.content, again.content}) == 3
    for share in (first, second):
        with pytest.raises(Rejected):
            OwnerKey.from_bytes(share.content, None)


def test_shares_that_do_not_belong_together_are_refused() -> None:
    first, second = split(owner(), None)
    third, _ = split(owner(), None)
    for one, other in (
        (first, first),
        (third, second),
        (first, replace(second, fingerprint="0" * 64)),
        (first, replace(second, content=second.content[:-1])),
    ):
        with pytest.raises(Rejected, match="owner_shares_differ"):
            join(one, other, None)


def test_a_wrong_digit_is_found_in_its_line() -> None:
    text = split(owner(), None)[0].text()
    lines = text.splitlines()
    digit = lines[6][5]
    lines[6] = lines[6][:5] + ("0" if digit != "0" else "1") + lines[6][6:]
    with pytest.raises(Rejected, match="line 5 does not fit"):
        read_share("\n".join(lines))
    swapped = text.splitlines()
    swapped[4], swapped[5] = swapped[5], swapped[4]
    with pytest.raises(Rejected, match="line 3"):
        read_share("\n".join(swapped))


@pytest.mark.parametrize(
    "text", ["", "end", "tillstone owner share 3 of 2\nowner 0\nend", "x" * 9_000, "tillstone owner share 1 of 2\nend"]
)
def test_other_text_is_no_share(text: str) -> None:
    with pytest.raises(Rejected, match="owner_share_malformed"):
        read_share(text)
