"""Owns the promises of a voucher's code: one code, one voucher, however it is typed, and a slip of the hand is seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import Rejected
from appliance.model.voucher import SECRET_SIZE, VoucherId, code_of, voucher_of

SECRET = bytes(range(SECRET_SIZE))


def test_a_code_has_one_form_and_is_read_however_it_was_typed() -> None:
    code = code_of(SECRET)
    assert code == "000G-40R4-0M30-E209-185G-R38E-H03W"  # openssl dgst -sha256, and base32 of coreutils
    same = (code.lower(), code.replace("-", ""), f" {code} ", code.replace("0", "O"), code.replace("1", "l"))
    assert {voucher_of(each) for each in same} == {voucher_of(code)}
    assert voucher_of(code).hex() == "e8231bfee3d5793141a3896948efc2d7b58807195ec0271e3a743e428c394f99"


@given(st.binary(min_size=SECRET_SIZE, max_size=SECRET_SIZE), st.integers(0, 27), st.sampled_from("0123456789ABCDXYZ"))
def test_one_wrong_character_is_no_code(secret: bytes, at: int, other: str) -> None:
    typed = list(code_of(secret).replace("-", ""))
    if typed[at] != other:
        typed[at] = other
        assert _opened("".join(typed)) != voucher_of(code_of(secret)), "one in a million is another voucher, none this"


def _opened(code: str) -> VoucherId | None:
    try:
        return voucher_of(code)
    except Rejected:
        return None


@pytest.mark.parametrize("typed", ["", "V", "U" * 28, "0" * 28, code_of(SECRET) + "0", "é" * 28])
def test_what_is_no_code_is_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(Rejected) as refused:
        voucher_of(typed)
    assert refused.value.code == "voucher_code_invalid"
    assert not typed or typed not in refused.value.detail
