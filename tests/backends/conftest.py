"""Fixtures that the tests of the storage layer share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.catalog.postgres import open_catalog
from tests.backends.scrubbing import fill
from tests.backends.world import Bench, World, running_bench, running_world
from tests.support.postgres import PostgresServer

DRIVERS = ("sqlite", "postgres")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a module with ``EVERY_CATALOG`` once for every driver of the catalog."""
    if getattr(metafunc.module, "EVERY_CATALOG", False) and "world" in metafunc.fixturenames:
        metafunc.parametrize("world", DRIVERS, indirect=True)


@pytest.fixture(scope="session")
def world_database(postgres: PostgresServer) -> str:
    """A database that one world after the other uses."""
    return postgres.new_catalog()


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    """A vault with a catalog in a file and a blob store in memory."""
    with running_world(tmp_path) as made:
        yield made


@pytest.fixture
def postgres_world(
    postgres: PostgresServer, world_database: str, tmp_path: Path
) -> Iterator[World]:
    """A vault with a catalog in PostgreSQL and a blob store in memory."""
    postgres.empty(world_database)
    catalog = open_catalog(postgres.settings(world_database))
    with running_world(tmp_path, catalog=catalog) as made:
        yield made


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """A vault with a real catalog and a blob store in memory."""
    made: World = request.getfixturevalue(f"{getattr(request, 'param', 'sqlite')}_world")
    return made


@pytest.fixture
def bench() -> Iterator[Bench]:
    """What a draft needs, without a catalog."""
    with running_bench() as made:
        yield made


@pytest.fixture
def kept(world: World) -> World:
    """A vault whose share ``kept`` holds files of every kind."""
    return fill(world)
