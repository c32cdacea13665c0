"""Owns the promise of the door's certificate: it is taken for the hosts that it names, and for no other."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest

from provisioning.certificate import DoorFiles, issue

NOW = datetime.datetime.now(datetime.UTC)


def shake_hands(files: DoorFiles, host: str) -> None:
    """A handshake in memory, by a till that trusts the box's authority. Raises ssl.SSLCertVerificationError."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(files.certificate, files.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    trusting = ssl.create_default_context(cafile=str(files.authority))
    client = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    for end in (client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("host", ["10.77.0.10", "box.shop.example"])
def test_till_takes_the_certificate_for_the_host_that_it_was_made_for(tmp_path: Path, host: str) -> None:
    files = issue(tmp_path, now=NOW, shop="Shop", host=host)
    shake_hands(files, host)
    shake_hands(files, "127.0.0.1")
    shake_hands(files, "localhost")


@pytest.mark.parametrize("host", ["10.77.0.11", "other.shop.example"])
def test_till_refuses_it_for_another(tmp_path: Path, host: str) -> None:
    files = issue(tmp_path, now=NOW, shop="Shop", host="10.77.0.10")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(files, host)
