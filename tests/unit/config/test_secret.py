"""A secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import pickle

import pytest

from appliance.config.secret import Secret


def test_no_way_of_printing_shows_the_value() -> None:
    secret = Secret(b"planted")
    assert {repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s" % secret} == {"[secret]"}  # noqa: UP031  # the old way too
    assert "planted" not in repr([secret, {"pin": secret}])


def test_secret_is_neither_pickled_copied_nor_hashed() -> None:
    secret = Secret(b"planted")
    for attempt in (pickle.dumps, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            attempt(secret)


def test_secrets_compare_by_value_and_only_with_secrets() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"


def test_reveal_gives_the_value() -> None:
    assert Secret(b"1234").reveal() == b"1234"
    assert Secret(b"1234").reveal_text() == "1234"
