"""Codes as people type them, and proofs that both sides compute alike."""

from __future__ import annotations

import pytest

from appliance.identity import pairing as box
from appliance.model.errors import Rejected
from provisioning.terminal import pairing


@pytest.mark.parametrize("typed", ["K3QF-7M2Z-9XH1", "k3qf7m2z9xh1", " K3QF 7M2Z 9XHI ", "k3qf-7m2z-9xhl"])
def test_code_is_read_as_people_type_it(typed: str) -> None:
    assert pairing.read_code(typed) == "K3QF7M2Z9XH1"


@pytest.mark.parametrize("typed", ["", "K3QF-7M2Z-9XH", "K3QF-7M2Z-9XH12", "K3QF-7M2Z-9XHU", "K3QF_7M2Z_9XH1"])
def test_mistyped_code_never_travels(typed: str) -> None:
    with pytest.raises(Rejected, match="pairing_code_malformed"):
        pairing.read_code(typed)


def test_terminal_and_box_agree_on_alphabet_and_contexts() -> None:
    assert all(pairing.read_code(character * 12) == character * 12 for character in box.ALPHABET)
    message = pairing.REQUEST_CONTEXT + b"c" * 32 + b"spki"
    assert pairing.proof("K3QF7M2Z9XH1", message) == box.request_proof("K3QF7M2Z9XH1", b"c" * 32, b"spki")


def test_qr_code_carries_address_code_and_certificate() -> None:
    read = pairing.read_qr("tillstone:pair?url=https://192.0.2.1:8443&code=K3QF-7M2Z-9XH1&cert=" + "ab" * 32)
    assert read == pairing.Invitation(url="https://192.0.2.1:8443", code="K3QF7M2Z9XH1", certificate_sha256="ab" * 32)


@pytest.mark.parametrize(
    "content",
    [
        "https://192.0.2.1/pair",
        "tillstone:pair?url=https://x&code=K3QF-7M2Z-9XH1",
        "tillstone:pair?url=http://x&code=K3QF-7M2Z-9XH1&cert=" + "ab" * 32,
        "tillstone:pair?url=https://x&code=K3QF-7M2Z-9XH1&cert=zz",
    ],
)
def test_foreign_qr_code_is_refused(content: str) -> None:
    with pytest.raises(Rejected, match="pairing_qr_malformed"):
        pairing.read_qr(content)
