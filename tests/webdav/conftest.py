"""Sites over a fake and a real door, and certificates for the tests that need TLS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.webdav.settings import TlsFiles
from tests.door.support import Gate, open_gate, prepare_catalog
from tests.webdav.office import Office, open_office
from tests.webdav.real_site import FILE, FOLDER, OTHER, RealSite
from tests.webdav.support import Site, make_tls_files


@pytest.fixture
def site() -> Site:
    """The application over an empty share ``/share``."""
    return Site()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with the shares of ``tests.door.support``, made once."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare_catalog(folder)
    return folder


@pytest.fixture
def gate(prepared: Path, tmp_path: Path) -> Iterator[Gate]:
    """A real gateway without its listeners, which nobody has used yet."""
    with open_gate(Path(shutil.copytree(prepared, tmp_path / "data"))) as opened:
        yield opened


@pytest.fixture
def real(gate: Gate) -> RealSite:
    """A folder with two files, and one in a folder below."""
    site = RealSite(gate)
    for target in (FOLDER, f"{FOLDER}/sub"):
        assert site.ask("MKCOL", target).status == 201
    for target in (FILE, OTHER, f"{FOLDER}/sub/deep"):
        assert site.ask("PUT", target, b"0123456789").status == 201
    return site


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost and its key."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def office(gate: Gate) -> Iterator[Office]:
    """A folder with two files, and people who lock them."""
    with open_office(gate) as opened:
        yield opened
