"""Any ML-DSA behind the verifier keeps one contract: the default one, and liboqs where it is installed."""

from __future__ import annotations

import ctypes.util

import pytest

from appliance.crypto import cose, signature, signing_key
from provisioning.commands.outcome import CannotDo
from provisioning.verify import second_opinion
from provisioning.verify.receipt_check import check_receipt
from provisioning.verify.second_opinion import Verify
from tests.fakes.log import shop_log

KEY = signing_key.ml_dsa_87_from_seed(bytes(range(32)))
MESSAGE = b"a head"


@pytest.fixture(params=["default", "oqs"])
def verify(request: pytest.FixtureRequest) -> Verify:
    if request.param == "default":
        return signature.verify
    if second_opinion.find_liboqs() is None:
        pytest.skip("optional: liboqs is not installed")
    return second_opinion.load()


def test_a_right_signature_is_accepted(verify: Verify) -> None:
    assert verify(cose.ML_DSA_87, KEY.public_key, MESSAGE, KEY.sign(MESSAGE))


def test_another_message_key_or_signature_is_refused(verify: Verify) -> None:
    signed = KEY.sign(MESSAGE)
    other = signing_key.ml_dsa_87_from_seed(bytes(32))
    assert not verify(cose.ML_DSA_87, KEY.public_key, MESSAGE + b"!", signed)
    assert not verify(cose.ML_DSA_87, other.public_key, MESSAGE, signed)
    assert not verify(cose.ML_DSA_87, KEY.public_key, MESSAGE, signed[:-1] + bytes([signed[-1] ^ 1]))
    assert not verify(cose.ML_DSA_87, KEY.public_key, MESSAGE, signed[:-1])


def test_it_agrees_about_a_receipt(verify: Verify) -> None:
    assert check_receipt(shop_log().sale, shop_log().trust, verify).ok


def test_a_library_that_is_not_liboqs_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OQS_INSTALL_PATH", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: "libc.so.6")
    assert second_opinion.find_liboqs() is None
    with pytest.raises(CannotDo, match="no liboqs"):
        second_opinion.load()
