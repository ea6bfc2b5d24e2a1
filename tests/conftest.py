"""Fixtures that tests of several subjects share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A demo gateway that all tests of this pytest process share."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def folder(gateway: RunningGateway) -> str:
    """The path of a new folder on ``radiology`` that no other test uses."""
    path = f"/radiology/test-{uuid.uuid4().hex[:12]}"
    assert gateway.curl("alice", "MKCOL", path).status == 201
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all tests of this pytest process share, each by its database."""
    with running_postgres() as running:
        yield running
