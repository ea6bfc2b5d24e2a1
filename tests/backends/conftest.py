"""Fixtures that the tests of the storage layer share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.world import Bench, World, running_bench, running_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A vault with a real catalog and a blob store in memory."""
    with running_world(tmp_path) as made:
        yield made


@pytest.fixture
def bench() -> Iterator[Bench]:
    """What a draft needs, without a catalog."""
    with running_bench() as made:
        yield made
