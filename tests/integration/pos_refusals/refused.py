"""What every refusal must look like, and the words that several tests use."""

from __future__ import annotations

import pytest

from appliance.model.limits import MINUTE_MS
from provisioning.terminal.signing import Encoding
from tests.integration.till import Reply, now_ms

BOTH = pytest.mark.parametrize("encoding", list(Encoding))
CARD_NUMBER = "4242424242424242"
COSE = {"Content-Type": "application/cose"}
JOSE = {"Content-Type": "application/jose"}


def assert_refused(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.code) == (status, code), reply.raw[:300]
    assert reply.body["status"] == status
    assert abs(reply.body["now_ms"] - now_ms()) < MINUTE_MS
    assert CARD_NUMBER.encode() not in reply.raw
