"""Owns the promises of post-quantum TLS: what is required is proven by handshakes, and a library without it says so.

The mechanism is proven with classic groups on every library; hybrid groups need OpenSSL 3.5.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest

from appliance.crypto import tls_groups
from appliance.crypto.tls_groups import CLASSIC, HYBRID, require_hybrid, set_groups, shakes_hands
from appliance.model.errors import Corrupt, Rejected
from provisioning.certificate import issue

HAS_HYBRID = ssl.OPENSSL_VERSION_INFO >= (3, 5)
needs_hybrid = pytest.mark.skipif(not HAS_HYBRID, reason=f"optional: OpenSSL 3.5, this is {ssl.OPENSSL_VERSION}")


@pytest.fixture
def door(tmp_path: Path) -> ssl.SSLContext:
    files = issue(tmp_path, now=datetime.datetime.now(datetime.UTC), shop="Corner Shop")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    return context


def test_a_restricted_context_refuses_all_other_groups(door: ssl.SSLContext) -> None:
    assert shakes_hands(door, CLASSIC)
    assert set_groups(door, "P-384")
    assert shakes_hands(door, "P-384")
    assert shakes_hands(door, CLASSIC)  # after a retry request, because P-384 is one of them
    assert not shakes_hands(door, "X25519:P-256")


def test_an_unknown_group_is_told_and_changes_nothing(door: ssl.SSLContext) -> None:
    assert not set_groups(door, "X25519MLKEM769")
    assert shakes_hands(door, CLASSIC)


@pytest.mark.skipif(HAS_HYBRID, reason="optional: OpenSSL before 3.5")
def test_a_library_without_hybrid_groups_says_what_is_needed(door: ssl.SSLContext) -> None:
    with pytest.raises(Rejected, match="Debian 13") as refused:
        require_hybrid(door)
    assert refused.value.code == "post_quantum_unavailable"


@needs_hybrid
def test_a_door_that_requires_hybrid_groups_refuses_a_classic_handshake(door: ssl.SSLContext) -> None:
    require_hybrid(door)
    assert not shakes_hands(door, CLASSIC)
    assert all(shakes_hands(door, group) for group in HYBRID.split(":"))


def test_a_library_that_only_says_so_is_found_out(door: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with a configuration file that is not read: the call succeeds and nothing changes.
    monkeypatch.setattr(tls_groups, "HYBRID", CLASSIC)
    with pytest.raises(Corrupt) as refused:
        require_hybrid(door)
    assert refused.value.code == "classic_handshake_accepted"


def test_a_door_that_nobody_gets_through_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_groups, "HYBRID", "P-521")
    without_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(Corrupt) as refused:
        require_hybrid(without_certificate)
    assert refused.value.code == "hybrid_handshake_refused"
