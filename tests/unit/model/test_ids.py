"""Keys tell their age; names are plain."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import Rejected
from appliance.model.ids import new_request_key, request_key, terminal_id


@given(st.integers(0, 2**48 - 1))
def test_new_key_is_a_uuidv7_that_tells_its_time(now_ms: int) -> None:
    key = new_request_key(now_ms, os.urandom(10))
    assert key.created_ms == now_ms
    assert request_key(str(key)) == key


@pytest.mark.parametrize(
    "text", [str(uuid.UUID(int=0)), str(uuid.uuid4()), "x", "0192F3A0-0000-7000-8000-000000000000"]
)
def test_what_is_not_a_canonical_uuidv7_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="key_not_uuidv7"):
        request_key(text)


@pytest.mark.parametrize("name", ["", "Till", "-a", "a-", "a" * 33, "a\n", "ä"])
def test_odd_terminal_names_are_refused(name: str) -> None:
    with pytest.raises(Rejected, match="terminal_name_invalid"):
        terminal_id(name)
