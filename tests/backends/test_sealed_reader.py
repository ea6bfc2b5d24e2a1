"""What the vault sealed opens with FORMAT.md alone: key file, catalog file and blobs."""

from __future__ import annotations

import ast
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from backends.segment import sealed_size_bytes
from tests.backends.world import BLOCK, World, sample
from tests.support import sealed_reader

SMALL = "name = 'small'"
OF_SMALL = f"share_id = (SELECT id FROM shares WHERE {SMALL})"
MOVED_KEYS = {
    "to another epoch": "UPDATE epochs SET epoch = 2",
    "an epoch key to another share": "UPDATE epochs SET key_wrapped ="
    f" (SELECT key_wrapped FROM epochs WHERE {OF_SMALL})",
    "a name key to another share": "UPDATE shares SET name_key_wrapped ="
    f" (SELECT name_key_wrapped FROM shares WHERE {SMALL})",
}


def read_by_the_other(world: World, path: str) -> bytes:
    key_file = world.catalog_file.parent / "master.key"
    if not key_file.exists():
        world.master.write(key_file)

    def blob(blob_id: bytes) -> bytes:
        return world.store.read(blob_id, 0, world.store.size(blob_id))

    return sealed_reader.read_file(key_file, world.catalog_file, blob, path)


def test_the_reader_shares_nothing_with_the_project() -> None:
    """It imports the standard library and ``cryptography`` only."""
    tree = ast.parse(Path(sealed_reader.__file__).read_text("utf-8"))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    roots = {(name or "").split(".")[0] for name in imported}
    assert roots <= {"__future__", "collections", "cryptography", "hashlib", "hmac"} | {
        "pathlib",
        "sqlite3",
        "struct",
    }


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, BLOCK - 1, BLOCK, BLOCK + 1, 3_000_000])
def test_a_file_opens_without_the_project(world: World, size: int) -> None:
    """Inline and in segments, in a folder, under a name that is not ASCII."""
    world.mkdir("/docs/Röntgen")
    world.write("/docs/Röntgen/a", sample(size))
    assert read_by_the_other(world, "/docs/Röntgen/a") == sample(size)


def test_a_file_of_two_segments_opens_without_the_project(world: World) -> None:
    """16 MiB and a byte."""
    plain = sample(16 * 1024 * 1024 + 1)
    world.write("/docs/a", plain)
    assert read_by_the_other(world, "/docs/a") == plain
    sizes = sorted(world.store.size(blob_id) for blob_id, _ in world.store.listing())
    assert sizes == [sealed_size_bytes(1), sealed_size_bytes(1 << 24)]


def test_a_file_changed_in_place_with_a_hole_opens_without_the_project(world: World) -> None:
    """Extents of two versions' segments, a hole, and an unknown hash."""
    world.write("/docs/a", sample(5 * BLOCK))
    world.write("/docs/a", b"!", offset=2 * BLOCK + 9, keep=True)
    world.write("/docs/a", b"end", offset=9 * BLOCK + 1, keep=True)
    expected = world.read("/docs/a")
    assert len(expected) == 9 * BLOCK + 4
    assert read_by_the_other(world, "/docs/a") == expected


@pytest.mark.parametrize("column", ["size_bytes", "created_us"])
def test_the_other_reader_verifies_manifests(world: World, column: str) -> None:
    """It is a reader, not only a decoder: an edited row is refused."""
    world.write("/docs/a", sample(100))
    with sqlite3.connect(world.catalog_file) as connection:
        connection.execute(f"UPDATE versions SET {column} = {column} + 1")
    connection.close()
    with pytest.raises(ValueError, match="edited row"):
        read_by_the_other(world, "/docs/a")


@pytest.mark.parametrize("edit", MOVED_KEYS)
def test_the_other_reader_opens_no_key_in_another_place(world: World, edit: str) -> None:
    """Wrapped keys are bound to their share and epoch."""
    world.write("/docs/a", sample(100))
    with sqlite3.connect(world.catalog_file) as connection:
        connection.execute(MOVED_KEYS[edit])
        connection.execute("UPDATE versions SET epoch = (SELECT max(epoch) FROM epochs)")
    connection.close()
    with pytest.raises(InvalidUnwrap):
        read_by_the_other(world, "/docs/a")
