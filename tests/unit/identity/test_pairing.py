"""An invitation's life: ten minutes, and so many at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.crypto import jws
from appliance.crypto.signing_key import TerminalKey
from appliance.identity.pairing import ALPHABET, request_proof
from appliance.identity.signed import SignedRequest
from appliance.model.errors import Rejected
from appliance.model.limits import PAIRING_CODE_AGE_MAX_MS
from tests.unit.payment.shop import CERTIFICATE, Shop, open_shop


def request(shop: Shop, name: str, code: str) -> SignedRequest:
    key = shop.keys.setdefault(name, TerminalKey.generate())
    body = {
        "name": name,
        "public_key": jws.to_base64url(key.public_key).decode(),
        "proof": request_proof(code.replace("-", ""), CERTIFICATE, key.public_key),
    }
    return shop.request("pair", body, terminal=name)


async def test_code_is_twelve_characters_and_new_each_time(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        codes = {shop.pairing.invite("till-2") for _ in range(50)}
    assert len(codes) == 50
    for code in codes:
        assert [len(group) for group in code.split("-")] == [4, 4, 4]
        assert set(code) <= {*ALPHABET, "-"}


async def test_expired_code_pairs_nobody(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = shop.pairing.invite("till-2")
        shop.clock.pass_time(PAIRING_CODE_AGE_MAX_MS - 1)
        other = shop.pairing.invite("till-3")
        await shop.pairing.pair(request(shop, "till-2", code))
        shop.clock.pass_time(PAIRING_CODE_AGE_MAX_MS)
        with pytest.raises(Rejected, match="pairing_refused"):
            await shop.pairing.pair(request(shop, "till-3", other))
        assert {terminal.terminal_id for terminal in shop.terminals.all} == {"till-1", "till-2"}


async def test_clock_step_does_not_keep_a_code_alive(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        code = shop.pairing.invite("till-2")
        shop.clock.step(-PAIRING_CODE_AGE_MAX_MS)
        shop.clock.pass_time(PAIRING_CODE_AGE_MAX_MS)
        with pytest.raises(Rejected, match="pairing_refused"):
            await shop.pairing.pair(request(shop, "till-2", code))


async def test_open_codes_are_bounded_and_expired_ones_make_room(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        for number in range(16):
            shop.pairing.invite(f"till-{number}")
        with pytest.raises(Rejected, match="too_many_invitations"):
            shop.pairing.invite("till-16")
        shop.pairing.invite("till-3")
        shop.clock.pass_time(PAIRING_CODE_AGE_MAX_MS)
        shop.pairing.invite("till-16")
