"""A site over a fake door, and certificates for the tests that need TLS."""

from __future__ import annotations

import pytest

from gateway.webdav.settings import TlsFiles
from tests.webdav.support import Site, make_tls_files


@pytest.fixture
def site() -> Site:
    """The application over an empty share ``/share``."""
    return Site()


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost and its key."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))
