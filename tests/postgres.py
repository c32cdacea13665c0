"""A real PostgreSQL for tests, or a skip that names what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from provisioning.sandbox.children import ChildFailed
from provisioning.sandbox.postgres_server import PostgresServer, postgres_server

Postgres = PostgresServer


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the length of the block."""
    try:
        with postgres_server() as server:
            yield server
    except ChildFailed as failure:
        pytest.skip(str(failure))
