"""Faults of the catalog at the worst moment: a commit that succeeded and was reported as failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.catalog.engine import Catalog
from backends.catalog.sqlite import SqliteDriver
from backends.catalog.statement import Tx
from backends.errors import StorageUnavailableError
from gateway.errors import SealgateError
from tests.door.support import Gate, at, get, open_gate

BIG = b"x" * 300_000


class LyingCatalog(Catalog):
    """A catalog whose next commit reaches the disk and reports failure, and that may then fail."""

    lie = False
    down = False
    down_after_lie = False

    @contextlib.contextmanager
    def begin(self) -> Iterator[Tx]:
        if self.down:
            raise StorageUnavailableError("The catalog failed.")
        with super().begin() as tx:
            yield tx
        if self.lie:
            self.lie, self.down = False, self.down_after_lie
            raise StorageUnavailableError("The catalog failed.")


@pytest.fixture
def lying(gate_folder: Path) -> Iterator[tuple[Gate, LyingCatalog]]:
    """A gateway over such a catalog."""
    catalog = LyingCatalog(SqliteDriver(gate_folder))
    with open_gate(gate_folder, catalog=catalog) as gate:
        yield gate, catalog
        catalog.lie = catalog.down = False


@pytest.mark.parametrize("goes_down", [True, False])
def test_commit_that_succeeded_unseen_keeps_its_segments(
    lying: tuple[Gate, LyingCatalog], *, goes_down: bool
) -> None:
    """The catalog may refer to what was written, so nothing of it may be removed."""
    gate, catalog = lying
    alice = gate.door("alice")
    handle = alice.open_write(at("/radiology/file"))
    handle.write_at(0, BIG)
    catalog.lie, catalog.down_after_lie = True, goes_down
    with pytest.raises(SealgateError):
        handle.commit()
    handle.abort("cut")
    catalog.down = False
    assert get(gate.door("alice"), "/radiology/file") == BIG
