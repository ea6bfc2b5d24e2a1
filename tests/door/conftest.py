"""Fixtures of the door's tests: a gateway over a fresh copy of a prepared catalog."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.catalog.postgres import open_catalog
from gateway.monitor import Door
from tests.door.support import Gate, open_gate, prepare_catalog
from tests.support.postgres import PostgresServer

DRIVERS = ("sqlite", "postgres")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a module with ``EVERY_CATALOG`` once for every driver of the catalog."""
    if getattr(metafunc.module, "EVERY_CATALOG", False) and "gate" in metafunc.fixturenames:
        metafunc.parametrize("gate", DRIVERS, indirect=True)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with the shares, made once because migrating takes a while."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare_catalog(folder)
    return folder


@pytest.fixture
def gate_folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared catalog."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))


@pytest.fixture(scope="session")
def gate_database(postgres: PostgresServer) -> str:
    """A database that one gateway after the other uses."""
    return postgres.new_catalog()


@pytest.fixture
def postgres_gate(postgres: PostgresServer, gate_database: str, tmp_path: Path) -> Iterator[Gate]:
    """A gateway with a catalog in PostgreSQL."""
    postgres.empty(gate_database)
    settings = postgres.settings(gate_database)
    prepare_catalog(tmp_path, open_catalog(settings))
    with open_gate(tmp_path, catalog=open_catalog(settings)) as opened:
        yield opened


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Iterator[Gate]:
    """A gateway that nobody has used yet."""
    if getattr(request, "param", "sqlite") == "postgres":
        yield request.getfixturevalue("postgres_gate")
        return
    with open_gate(request.getfixturevalue("gate_folder")) as opened:
        yield opened


@pytest.fixture
def alice(gate: Gate) -> Door:
    """May do everything."""
    return gate.door("alice")


@pytest.fixture
def bob(gate: Gate) -> Door:
    """May do everything, and is somebody else."""
    return gate.door("bob")
