"""A gateway in this process, and its listener, for every test of what clients do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.webdav.settings import TlsFiles
from tests.clients.exchange import Site, listening
from tests.door.support import Gate, open_gate, prepare_catalog
from tests.webdav.support import make_tls_files


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with the shares, made once because migrating takes a while."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare_catalog(folder)
    return folder


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost and its key."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def gate(prepared: Path, tmp_path: Path) -> Iterator[Gate]:
    """A gateway that nobody has used yet."""
    with open_gate(Path(shutil.copytree(prepared, tmp_path / "data"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(
    prepared: Path, tls_files: TlsFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A listening gateway that the tests of one program share, each in a folder of its own."""
    data = tmp_path_factory.mktemp("listening") / "data"
    with (
        open_gate(Path(shutil.copytree(prepared, data))) as gate,
        listening(gate, tls_files) as running,
    ):
        yield running
