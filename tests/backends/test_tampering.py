"""Someone writes to the catalog file: what is detected when the data is next opened."""

from __future__ import annotations

import sqlite3
from hashlib import sha256

import pytest

from backends.errors import IntegrityError, KeyUnavailableError, StorageError
from gateway.model import SECOND_US, PropertyName
from gateway.paths import VirtualPath
from tests.backends.world import BLOCK, World, sample

BIG, OTHER_BIG = sample(3 * BLOCK), sample(3 * BLOCK, "other")
EDIT = f"x'{'17' * 32}'"


@pytest.fixture
def edited(world: World) -> World:
    """Two files in segments, two inline, and a second version of one of them."""
    world.write("/docs/big", BIG)
    world.write("/docs/big2", OTHER_BIG)
    world.write("/docs/inline", b"one")
    world.write("/docs/inline2", b"two")
    world.mkdir("/docs/f")
    world.clock.now_us += SECOND_US
    world.write("/docs/big", b"!", offset=BLOCK, keep=True)
    return world


def tamper(world: World, *statements: str) -> None:
    """Edit the catalog past the gateway; ``[name]`` stands for the id of ``/docs/name``."""
    with world.catalog.snapshot() as tx:
        found = {
            name: world.vault.find(tx, VirtualPath.parse(f"/docs/{name}"))
            for name in ("big", "big2", "inline", "inline2", "f")
        }
    connection = sqlite3.connect(world.catalog_file)
    for statement in statements:
        for name, node in found.items():
            if node is not None:
                current = f"x'{node.row.version_id.hex()}'"
                statement = statement.replace(f"[{name}]", f"x'{node.id.hex()}'")  # noqa: PLW2901
                statement = statement.replace(f"<{name}>", current)  # noqa: PLW2901
        assert connection.execute(statement).rowcount > 0, statement
    connection.commit()
    connection.close()


def test_without_edits_everything_opens(edited: World) -> None:
    """The other tests of this file fail for their own reason."""
    assert edited.read("/docs/big") == BIG[:BLOCK] + b"!" + BIG[BLOCK + 1 :]
    assert edited.read("/docs/big2") == OTHER_BIG
    assert edited.read("/docs/inline") == b"one"


VERSION_EDITS = {
    "a size": "UPDATE versions SET size_bytes = size_bytes - 1 WHERE id = <{}>",
    "a hash": f"UPDATE versions SET sha256_sealed = {EDIT} WHERE id = <{{}}>",
    "the hash of another version": "UPDATE versions SET sha256_sealed ="
    " (SELECT sha256_sealed FROM versions WHERE id = <inline2>) WHERE id = <{}>",
    "a time": "UPDATE versions SET created_us = created_us + 1 WHERE id = <{}>",
    "an author": "UPDATE versions SET author = 'p2' WHERE id = <{}>",
    "an epoch": "UPDATE versions SET epoch = 2 WHERE id = <{}>",
    "a share": "UPDATE versions SET share_id = (SELECT id FROM shares WHERE name = 'small')"
    " WHERE id = <{}>",
    "a MAC": f"UPDATE versions SET mac = {EDIT} WHERE id = <{{}}>",
    "an empty MAC": "UPDATE versions SET mac = x'' WHERE id = <{}>",
    "a node": "UPDATE versions SET node_id = [f] WHERE id = <{}>",
    "a dropped row": "DELETE FROM versions WHERE id = <{}>",
}


@pytest.mark.parametrize("name", ["big", "inline"])
@pytest.mark.parametrize("edit", VERSION_EDITS)
def test_an_edited_version_is_refused(edited: World, edit: str, name: str) -> None:
    """Every column of a version that the manifest covers, and the row itself."""
    tamper(edited, VERSION_EDITS[edit].format(name))
    with pytest.raises((IntegrityError, KeyUnavailableError)):
        edited.read(f"/docs/{name}")
    assert edited.read("/docs/big2") == OTHER_BIG


INLINE_EDITS = {
    "inline bytes of another file": "UPDATE versions SET inline_sealed ="
    " (SELECT inline_sealed FROM versions WHERE id = <inline2>) WHERE id = <inline>",
    "inline bytes cut": "UPDATE versions SET inline_sealed ="
    " substr(inline_sealed, 1, length(inline_sealed) - 1) WHERE id = <inline>",
    "inline bytes extended": "UPDATE versions SET inline_sealed ="
    " CAST(inline_sealed || x'00' AS BLOB) WHERE id = <inline>",
    "inline bytes emptied": "UPDATE versions SET inline_sealed = x'' WHERE id = <inline>",
    "a hash removed": "UPDATE versions SET sha256_sealed = NULL WHERE id = <inline>",
    "inline bytes removed": "UPDATE versions SET inline_sealed = NULL WHERE id = <inline>",
}


@pytest.mark.parametrize("edit", INLINE_EDITS)
def test_edited_inline_content_is_refused(edited: World, edit: str) -> None:
    """Swapped, cut, extended or removed."""
    tamper(edited, INLINE_EDITS[edit])
    with pytest.raises(IntegrityError):
        edited.read("/docs/inline")


EXTENT_EDITS = {
    "dropped": "DELETE FROM extents WHERE version_id = <big> AND block_start = 0",
    "all dropped": "DELETE FROM extents WHERE version_id = <big>",
    "moved": "UPDATE extents SET block_start = 3 WHERE version_id = <big> AND block_start = 0",
    "longer": "UPDATE extents SET block_count = block_count + 1 WHERE version_id = <big>",
    "another chunk": "UPDATE extents SET chunk_start = chunk_start + 1 WHERE version_id = <big>",
    "another segment": "UPDATE extents SET segment_id = (SELECT segment_id FROM extents"
    " WHERE version_id = <big2>) WHERE version_id = <big>",
    "added": "INSERT INTO extents SELECT version_id, 9, 1, segment_id, 0 FROM extents"
    " WHERE version_id = <big> LIMIT 1",
    "given to another": "UPDATE extents SET version_id = <big2>, block_start = block_start + 50"
    " WHERE version_id = <big>",
}


@pytest.mark.parametrize("edit", EXTENT_EDITS)
def test_edited_extents_are_refused(edited: World, edit: str) -> None:
    """Each change to what lies where breaks the manifest."""
    tamper(edited, EXTENT_EDITS[edit])
    with pytest.raises(IntegrityError, match="manifest"):
        edited.read("/docs/big")


SEGMENT_EDITS = {
    "dropped": "DELETE FROM segments WHERE id IN"
    " (SELECT segment_id FROM extents WHERE version_id = <big>)",
    "a size": "UPDATE segments SET size_sealed_bytes = size_sealed_bytes - 65552 WHERE id IN"
    " (SELECT segment_id FROM extents WHERE version_id = <big>)",
    "an impossible size": "UPDATE segments SET size_sealed_bytes = 5 WHERE id IN"
    " (SELECT segment_id FROM extents WHERE version_id = <big>)",
    "an epoch": "UPDATE segments SET epoch = 2 WHERE id IN"
    " (SELECT segment_id FROM extents WHERE version_id = <big>)",
}


@pytest.mark.parametrize("edit", SEGMENT_EDITS)
def test_edited_segment_rows_are_refused(edited: World, edit: str) -> None:
    """They are in no manifest, but a segment opens only as what it is."""
    tamper(edited, SEGMENT_EDITS[edit])
    with pytest.raises((IntegrityError, KeyUnavailableError)):
        edited.read("/docs/big")


def test_segments_swapped_in_the_store_are_refused(edited: World) -> None:
    """Each blob under the other's id."""
    blobs = {
        blob_id: edited.store.read(blob_id, 0, 1 << 30) for blob_id, _ in edited.store.listing()
    }
    first, second = (blob_id for blob_id, data in blobs.items() if len(data) > 2 * BLOCK)
    for blob_id, data in ((first, blobs[second]), (second, blobs[first])):
        edited.store.delete(blob_id)
        edited.store.keep(blob_id, data)
    for name in ("big", "big2"):
        with pytest.raises(IntegrityError, match="swapped"):
            edited.read(f"/docs/{name}")


@pytest.mark.parametrize("pair", [("big", "big2"), ("inline", "inline2"), ("big", "inline")])
def test_the_version_of_another_node_is_refused(edited: World, pair: tuple[str, str]) -> None:
    """A node shows only content that was written to it."""
    one, two = pair
    tamper(edited, f"UPDATE nodes SET version_id = <{two}> WHERE id = [{one}]")
    with pytest.raises(IntegrityError):
        edited.read(f"/docs/{one}")


@pytest.mark.parametrize("name", ["big", "inline"])
def test_a_node_with_another_size_than_its_version_is_refused(edited: World, name: str) -> None:
    """The size that listings show is the size of what is read."""
    tamper(edited, f"UPDATE nodes SET size_bytes = size_bytes - 1 WHERE id = [{name}]")
    with pytest.raises(IntegrityError, match="catalog was edited"):
        edited.read(f"/docs/{name}")


NAME_EDITS = {
    "moved to another folder": "UPDATE nodes SET parent_id = [f] WHERE id = [inline]",
    "replaced": f"UPDATE nodes SET name_sealed = {EDIT} WHERE id = [inline]",
    "unsealed": "UPDATE nodes SET name_sealed = CAST('plain' AS BLOB) WHERE id = [inline]",
    "empty": "UPDATE nodes SET name_sealed = x'' WHERE id = [inline]",
}


@pytest.mark.parametrize("edit", NAME_EDITS)
def test_an_edited_name_is_refused_when_listed(edited: World, edit: str) -> None:
    """And it is not found under any name meanwhile."""
    tamper(edited, NAME_EDITS[edit])
    with pytest.raises(IntegrityError):
        edited.names("/docs/f" if "parent_id" in NAME_EDITS[edit] else "/docs")
    assert not edited.exists("/docs/inline")
    assert not edited.exists("/docs/f/inline")


def test_properties_carried_to_another_node_are_refused(edited: World) -> None:
    """Swapped between two files."""
    with edited.catalog.begin() as tx:
        for name in ("big", "inline"):
            node = edited.node(tx, f"/docs/{name}")
            edited.vault.put_properties(tx, node, {PropertyName("urn:x", "of"): name})
    tamper(
        edited,
        "UPDATE properties SET node_id = x'00' WHERE node_id = [big]",
        "UPDATE properties SET node_id = [big] WHERE node_id = [inline]",
    )
    with edited.catalog.snapshot() as tx, pytest.raises(IntegrityError):
        edited.vault.properties(tx, edited.node(tx, "/docs/big"))


def test_a_destroyed_epoch_key_makes_content_unreadable_for_good(edited: World) -> None:
    """Crypto-erasure: the error says so; another share goes on."""
    edited.write("/small/a", b"kept")
    tamper(
        edited,
        "UPDATE epochs SET key_wrapped = NULL WHERE share_id ="
        " (SELECT id FROM shares WHERE name = 'docs')",
    )
    with pytest.raises(KeyUnavailableError, match="destroyed"):
        edited.read("/docs/big")
    assert edited.read("/small/a") == b"kept"


@pytest.mark.parametrize("column", ["name_key_wrapped", "key_wrapped"])
def test_keys_exchanged_between_shares_open_nothing(edited: World, column: str) -> None:
    """A wrapped key opens in its own place only, so that not even a name is looked up."""
    table, key = ("shares", "id") if column == "name_key_wrapped" else ("epochs", "share_id")
    tamper(
        edited,
        f"UPDATE {table} SET {column} = (SELECT {column} FROM {table} WHERE {key} ="
        f" (SELECT id FROM shares WHERE name = 'small')) WHERE {key} ="
        " (SELECT id FROM shares WHERE name = 'docs')",
    )
    edited.restart()
    with pytest.raises(KeyUnavailableError, match="catalog was edited"):
        edited.exists("/docs/big")
    edited.write("/small/a", b"kept")
    assert edited.read("/small/a") == b"kept"


def test_keys_exchanged_between_epochs_open_nothing(edited: World) -> None:
    """What one epoch's key sealed is not written or read under another's number."""
    tamper(
        edited,
        "INSERT INTO epochs (share_id, epoch, key_wrapped, created_us)"
        " SELECT share_id, 2, key_wrapped, created_us FROM epochs",
        "UPDATE shares SET epoch = 2 WHERE name = 'docs'",
    )
    with pytest.raises(IntegrityError, match="edited in the catalog"):
        edited.write("/docs/new", b"x")


ODD_EDITS = {
    "a negative size": "UPDATE versions SET size_bytes = -1",
    "text for a size": "UPDATE versions SET size_bytes = 'x'",
    "a negative time": "UPDATE versions SET created_us = -1",
    "an endless author": "UPDATE versions SET author = printf('%.*c', 70000, 'x')",
    "bytes for an author": "UPDATE versions SET author = x'ff'",
    "text for a hash": "UPDATE versions SET sha256_sealed = 'text'",
    "a number for a hash": "UPDATE versions SET sha256_sealed = 7",
    "text for inline bytes": "UPDATE versions SET inline_sealed = 'text'",
    "text for a node's size": "UPDATE nodes SET size_bytes = 'x' WHERE id = [big2]",
    "text for a MAC": "UPDATE versions SET mac = 'text'",
    "a negative block": "UPDATE extents SET block_start = -1 - block_start",
    "a chunk beyond 32 bits": "UPDATE extents SET chunk_start = 1 << 40",
    "text for a segment's size": "UPDATE segments SET size_sealed_bytes = 'x'",
}


@pytest.mark.parametrize("edit", ODD_EDITS)
def test_a_value_of_the_wrong_kind_is_a_storage_error(edited: World, edit: str) -> None:
    """SQLite keeps any kind of value in any column; no such row ends in a traceback."""
    tamper(edited, ODD_EDITS[edit])
    with pytest.raises(StorageError):
        edited.read("/docs/big2")


def test_the_hash_of_a_content_is_not_readable(edited: World) -> None:
    """It would confirm a known file and give away a short one."""
    digest = sha256(b"one").digest()
    stored = b"".join(file.read_bytes() for file in edited.catalog_file.parent.glob("catalog*"))
    assert digest not in stored
