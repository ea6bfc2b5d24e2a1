"""One gateway for all attacks of a pytest process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.attacks.support import Target, attacked


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A running gateway with one WebDAV worker."""
    with attacked(tmp_path_factory.mktemp("attacked")) as running:
        yield running


@pytest.fixture
def folder(target: Target) -> str:
    """The path of a new folder on ``radiology``, where alice may do everything."""
    path = f"/radiology/{uuid.uuid4().hex[:12]}"
    assert target.ask("MKCOL", path).status == 201
    return path
