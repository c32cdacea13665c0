"""A real IPFS node for tests, or a skip that names what is missing."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from appliance.evidence.cid import cid_text
from appliance.model.ids import Cid
from provisioning.sandbox.children import ChildFailed
from provisioning.sandbox.ipfs_node import IpfsNode, ipfs_node

FETCH_S_MAX: Final = 60


@contextmanager
def running_node(folder: Path) -> Iterator[IpfsNode]:
    """A fresh node in `folder`."""
    try:
        with ipfs_node(folder) as node:
            yield node
    except ChildFailed as failure:
        pytest.skip(str(failure))


def export(node: IpfsNode, cid: Cid) -> bytes:
    """`ipfs dag export`: the CAR of everything under `cid`, as an auditor fetches it."""
    url = f"{node.api_base}/api/v0/dag/export?arg={cid_text(cid)}&timeout=10s"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=FETCH_S_MAX) as answer:
        exported: bytes = answer.read()
        return exported
