"""Fixtures of the door's tests: a gateway over a fresh copy of a prepared catalog."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.monitor import Door
from tests.door.support import Gate, open_gate, prepare_catalog


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


@pytest.fixture
def gate(gate_folder: Path) -> Iterator[Gate]:
    """A gateway that nobody has used yet."""
    with open_gate(gate_folder) as opened:
        yield opened


@pytest.fixture
def alice(gate: Gate) -> Door:
    """May do everything."""
    return gate.door("alice")


@pytest.fixture
def bob(gate: Gate) -> Door:
    """May do everything, and is somebody else."""
    return gate.door("bob")
