"""What the vault sealed opens with FORMAT.md alone: key file, catalog file and blobs."""

from __future__ import annotations

import ast
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from backends.keyfile import MasterKeys
from backends.rotation import prepare_master, rewrap, rotate_share
from backends.segment import sealed_size_bytes
from backends.share import system_key
from gateway.model import SECOND_US, PropertyName
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


def key_file_of(world: World) -> Path:
    path = world.catalog_file.parent / "master.key"
    if not path.exists():
        world.master.write(path)
        with world.catalog.begin() as tx:
            system_key(tx, world.master)
    return path


def blobs_of(world: World) -> sealed_reader.ReadBlob:
    return lambda blob_id: world.store.read(blob_id, 0, world.store.size(blob_id))


def read_by_the_other(world: World, path: str) -> bytes:
    return sealed_reader.read_file(key_file_of(world), world.catalog_file, blobs_of(world), path)


@contextlib.contextmanager
def opened(world: World, name: str) -> Iterator[sealed_reader.Share]:
    share = sealed_reader.open_share(key_file_of(world), world.catalog_file, blobs_of(world), name)
    try:
        yield share
    finally:
        share.catalog.close()


def edit(world: World, statement: str) -> None:
    with sqlite3.connect(world.catalog_file) as connection:
        assert connection.execute(statement).rowcount
    connection.close()


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
        "dataclasses",
        "pathlib",
        "sqlite3",
        "struct",
        "typing",
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


def test_a_whole_share_opens_without_the_project(world: World) -> None:
    """Its tree with names, every version of every file, its trash, and the digest over its rows."""
    world.mkdir("/kept/Röntgen")
    world.write("/kept/Röntgen/a", b"one")
    world.clock.now_us += SECOND_US
    world.write("/kept/Röntgen/a", sample(3 * BLOCK))
    world.write("/kept/gone", b"two")
    with world.catalog.begin() as tx:
        world.vault.put_properties(
            tx, world.node(tx, "/kept/Röntgen"), {PropertyName("urn:x", "colour"): "red"}
        )
        world.vault.delete(tx, world.node(tx, "/kept/gone"), author="p1")
    with opened(world, "kept") as share:
        share.verify_rows()
        tree = dict(share.tree())
        assert set(tree) == {"/kept", "/kept/Röntgen", "/kept/Röntgen/a"}
        versions = share.versions(tree["/kept/Röntgen/a"]["id"])
        assert [share.read(version) for version in versions] == [sample(3 * BLOCK), b"one"]
        (gone,) = share.rows("SELECT * FROM nodes WHERE deleted_us IS NOT NULL")
        assert share.current(gone) == b"two"


def test_what_was_written_before_and_after_a_rotation_opens(world: World) -> None:
    """A second epoch of the share, and a second master key in the file."""
    key_file = key_file_of(world)
    world.write("/docs/before", sample(100))
    masters = MasterKeys(key_file)
    with masters.changing():
        new = prepare_master(masters, world.master.key_id, world.random_bytes)
    with world.catalog.begin() as tx:
        row = world.vault.share(tx, "docs").row
        rotate_share(tx, masters, row, world.clock(), world.random_bytes)
        rewrap(tx, masters, new)
    world.restart(new)
    world.write("/docs/after", sample(200))
    assert read_by_the_other(world, "/docs/before") == sample(100)
    assert read_by_the_other(world, "/docs/after") == sample(200)
    with opened(world, "docs") as share:
        share.verify_rows()


REFUSED = {
    "a size": "UPDATE versions SET size_bytes = size_bytes + 1",
    "a time": "UPDATE versions SET created_us = created_us + 1",
    "a node": "UPDATE nodes SET modified_us = modified_us + 1",
    "a dropped node": "DELETE FROM nodes WHERE is_folder = 0",
    "a dropped version": "DELETE FROM versions",
    "dropped properties": "DELETE FROM properties",
    "a counter": "UPDATE shares SET used_bytes = used_bytes + 1",
    "another root": "UPDATE shares SET root_id = randomblob(16)",
    "another name": "UPDATE shares SET name = 'docs' WHERE name = 'small'",
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_other_reader_verifies_rows(world: World, what: str) -> None:
    """It is a reader, not only a decoder: edited and dropped rows are refused."""
    world.write("/docs/a", sample(100))
    with world.catalog.begin() as tx:
        colours = {PropertyName("urn:x", "colour"): "red"}
        world.vault.put_properties(tx, world.node(tx, "/docs/a"), colours)
    key_file_of(world)
    if what == "another name":
        edit(world, "UPDATE shares SET name = 'was docs' WHERE name = 'docs'")
    edit(world, REFUSED[what])
    with pytest.raises((ValueError, InvalidTag)), opened(world, "docs") as share:
        share.verify_rows()


@pytest.mark.parametrize("moved", MOVED_KEYS)
def test_the_other_reader_opens_no_key_in_another_place(world: World, moved: str) -> None:
    """Wrapped keys are bound to their share and epoch."""
    world.write("/docs/a", sample(100))
    key_file_of(world)
    edit(world, MOVED_KEYS[moved])
    edit(world, "UPDATE versions SET epoch = (SELECT max(epoch) FROM epochs)")
    with pytest.raises(InvalidUnwrap):
        read_by_the_other(world, "/docs/a")
