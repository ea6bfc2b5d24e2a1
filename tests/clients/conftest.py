"""A gateway in this process for every test of what clients do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.door.support import Gate, open_gate, prepare_catalog


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with the shares, made once because migrating takes a while."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare_catalog(folder)
    return folder


@pytest.fixture
def gate(prepared: Path, tmp_path: Path) -> Iterator[Gate]:
    """A gateway that nobody has used yet."""
    with open_gate(Path(shutil.copytree(prepared, tmp_path / "data"))) as opened:
        yield opened
