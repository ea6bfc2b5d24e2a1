"""Scrubbing the catalog: whatever somebody did to its rows is found and named."""

from __future__ import annotations

import sqlite3

import pytest

from backends.errors import (
    KeyUnavailableError,
)
from backends.rotation import rotate_share
from backends.scrub import finding as findings
from backends.scrub import rows as row_check
from backends.scrub.finding import Kind
from backends.scrub.reading import StoppedError
from gateway.model import SECOND_US
from tests.backends.scrubbing import (
    EDIT,
    NODE_EDITS,
    SHARE_EDITS,
    judged,
    kinds,
    prop,
    tamper,
)
from tests.backends.world import BLOCK, SETTINGS, World


def test_what_nobody_touched_is_clean(kept: World) -> None:
    """The other tests of this file fail for their own reason; every row was looked at."""
    for name in SETTINGS:
        rows = judged(kept, name)
        assert rows.findings == ()
        assert rows.sound
        assert rows.drift is not None
        assert not any(rows.drift)
    # Eight nodes with the root, of which six are files or in the trash; ten rows of content.
    assert judged(kept).row_count == 8 + 2 + 8 + 1
    with kept.catalog.snapshot() as tx:
        assert kept.vault.scrub.foreign_rows(tx) == []


@pytest.mark.parametrize("edit", NODE_EDITS)
def test_an_edited_node_is_named(kept: World, edit: str) -> None:
    """Every column, with share, node and path; nothing may then be sealed anew."""
    with kept.catalog.snapshot() as tx:
        node = kept.node(tx, "/kept/big")
    tamper(kept, NODE_EDITS[edit])
    rows = judged(kept)
    named = [each for each in rows.findings if each.kind is Kind.NODE]
    assert len(named) == 1
    assert named[0].share == "kept"
    if edit != "restored":
        assert named[0].node_id == node.id.hex()
    if edit in {"a size", "a time", "a creator", "deleted", "a MAC"}:
        assert named[0].path == "/kept/big"
    assert not rows.sound


def test_nodes_whose_names_were_swapped_are_named(kept: World) -> None:
    """Both names verify in their folder, and neither row does."""
    tamper(
        kept,
        "UPDATE nodes SET deleted_us = 1 WHERE id = [big2]",
        "UPDATE nodes SET name_sealed = (SELECT name_sealed FROM nodes WHERE id = [big2])"
        " WHERE id = [big]",
    )
    assert sum(each.kind is Kind.NODE for each in judged(kept).findings) == 2


VERSION_EDITS = {
    "a size": "UPDATE versions SET size_bytes = size_bytes - 1 WHERE id = <big>",
    "a hash": f"UPDATE versions SET sha256_sealed = {EDIT} WHERE id = <big2>",
    "a time": "UPDATE versions SET created_us = created_us + 1 WHERE id = <big>",
    "an author": "UPDATE versions SET author = 'p2' WHERE id = <big>",
    "a MAC": f"UPDATE versions SET mac = {EDIT} WHERE id = <big>",
    "text for a MAC": "UPDATE versions SET mac = 'x' WHERE id = <big>",
    "text for a size": "UPDATE versions SET size_bytes = 'x' WHERE id = <big>",
    "a node": "UPDATE versions SET node_id = [big2] WHERE id = <big>",
    "inline bytes removed": "UPDATE versions SET inline_sealed = NULL WHERE id = <inline>",
    "an extent dropped": "DELETE FROM extents WHERE version_id = <big> AND block_start = 0",
    "an extent moved": "UPDATE extents SET chunk_start = 9 WHERE version_id = <big2>",
    "an extent to another segment": "UPDATE extents SET segment_id = (SELECT segment_id FROM"
    " extents WHERE version_id = <big2>) WHERE version_id = <big>",
    "an extent added": "INSERT INTO extents SELECT version_id, 9, 1, segment_id, 0 FROM extents"
    " WHERE version_id = <big> LIMIT 1",
}


@pytest.mark.parametrize("edit", VERSION_EDITS)
def test_an_edited_version_is_named(kept: World, edit: str) -> None:
    """Every column that its manifest covers, and its extents."""
    tamper(kept, VERSION_EDITS[edit])
    rows = judged(kept)
    assert Kind.VERSION in kinds(rows)
    assert not rows.sound


CONTENT_EDITS = {
    "inline bytes": "UPDATE versions SET inline_sealed = CAST(inline_sealed || x'00' AS BLOB)"
    " WHERE id = <inline>",
    "inline bytes of another": "UPDATE versions SET inline_sealed ="
    " (SELECT inline_sealed FROM versions WHERE id = <f/g/deep>) WHERE id = <inline>",
    "inline bytes emptied": "UPDATE versions SET inline_sealed = x'' WHERE id = <inline>",
    "a segment's row dropped": "DELETE FROM segments WHERE id IN"
    " (SELECT segment_id FROM extents WHERE version_id = <big2>)",
    "a segment's size": "UPDATE segments SET size_sealed_bytes = size_sealed_bytes - 65552"
    " WHERE id IN (SELECT segment_id FROM extents WHERE version_id = <big2>)",
    "a segment's impossible size": "UPDATE segments SET size_sealed_bytes = 5",
    "text for a segment's size": "UPDATE segments SET size_sealed_bytes = 'x'",
    "a segment's share": "UPDATE segments SET share_id ="
    " (SELECT id FROM shares WHERE name = 'small')",
}


@pytest.mark.parametrize("edit", CONTENT_EDITS)
def test_content_that_cannot_be_read_is_named(kept: World, edit: str) -> None:
    """The bytes in the catalog, and rows of segments, which no manifest covers."""
    tamper(kept, CONTENT_EDITS[edit])
    rows = judged(kept)
    assert Kind.CONTENT in kinds(rows)
    assert all(each.node_id and each.version_id for each in rows.findings)
    if edit.startswith("a segment"):
        assert all(each.segment_id for each in rows.findings if each.kind is Kind.CONTENT)


PROPERTY_EDITS = {
    "edited": f"UPDATE properties SET properties_sealed = {EDIT} WHERE node_id = [big]",
    "text": "UPDATE properties SET properties_sealed = 'x' WHERE node_id = [big]",
    "carried to another node": "UPDATE properties SET node_id = [big2] WHERE node_id = [big]",
}


@pytest.mark.parametrize("edit", PROPERTY_EDITS)
def test_edited_properties_are_named(kept: World, edit: str) -> None:
    """They verify at their own node alone."""
    tamper(kept, PROPERTY_EDITS[edit])
    assert {Kind.PROPERTIES, Kind.ROWS} <= kinds(judged(kept))


UPLOAD_EDITS = {
    "a principal": "UPDATE unfinished SET principal_id = 'p2'",
    "bytes for a principal": "UPDATE unfinished SET principal_id = x'ff'",
    "a name": f"UPDATE unfinished SET name_sealed = {EDIT}",
    "a folder": "UPDATE unfinished SET folder_id = [f]",
    "a time": "UPDATE unfinished SET expires_us = expires_us + 1",
    "text for a time": "UPDATE unfinished SET created_us = 'x'",
    "a MAC": f"UPDATE unfinished SET mac = {EDIT}",
    "its content dropped": "DELETE FROM versions WHERE node_id IN (SELECT id FROM unfinished)",
}


@pytest.mark.parametrize("edit", UPLOAD_EDITS)
def test_an_edited_unfinished_upload_is_found(kept: World, edit: str) -> None:
    """What its MAC covers, and its content."""
    tamper(kept, UPLOAD_EDITS[edit])
    assert Kind.UPLOAD in kinds(judged(kept))


DROPS = {
    "a file": (["DELETE FROM nodes WHERE id = [big]"], Kind.VERSION, "-1 files"),
    "a file with all of it": (
        [
            "DELETE FROM extents WHERE version_id IN (SELECT id FROM versions WHERE node_id = [big])",
            "DELETE FROM versions WHERE node_id = [big]",
            "DELETE FROM properties WHERE node_id = [big]",
            "DELETE FROM nodes WHERE id = [big]",
        ],
        Kind.ROWS,
        f"{-6 * BLOCK:+d} bytes",
    ),
    "a folder": (["DELETE FROM nodes WHERE id = [f]"], Kind.LOST, "-1 files"),
    "a current version": (["DELETE FROM versions WHERE id = <inline>"], Kind.VERSION, "-9 bytes"),
    "an old version": (
        ["DELETE FROM versions WHERE node_id = [inline] AND id <> <inline>"],
        Kind.ROWS,
        "-3 bytes",
    ),
    "properties": (["DELETE FROM properties WHERE node_id = [big]"], Kind.ROWS, "+0 bytes"),
    "the trash": (["DELETE FROM nodes WHERE deleted_us IS NOT NULL"], Kind.VERSION, "-1 files"),
    "an upload": (["DELETE FROM unfinished"], Kind.VERSION, ""),
    "the root": (["DELETE FROM nodes WHERE id = [root]"], Kind.SHARE, "+0 files"),
}


@pytest.mark.parametrize("drop", DROPS)
def test_dropped_rows_are_found(kept: World, drop: str) -> None:
    """No MAC tells of them; the share's sealed digest and what else names them do."""
    statements, kind, text = DROPS[drop]
    tamper(kept, *statements)
    rows = judged(kept)
    assert kind in kinds(rows)
    assert rows.sound
    if drop != "an upload":
        (summed,) = (each for each in rows.findings if each.kind is Kind.ROWS)
        assert text in summed.text
        assert "kept" in summed.text


OLD_ROWS = {
    "a file": ("nodes", "/kept/big2"),
    "a version": ("versions", "/kept/big2"),
    "properties": ("properties", "/kept/big"),
}


@pytest.mark.parametrize("what", OLD_ROWS)
def test_a_row_put_back_is_found(kept: World, what: str) -> None:
    """Its MAC was right once; the digest has moved on."""
    table, path = OLD_ROWS[what]
    column = "id" if table == "nodes" else "node_id"
    with kept.catalog.snapshot() as tx:
        node_id = kept.node(tx, path).id
    connection = sqlite3.connect(kept.catalog_file)
    old = connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (node_id,)).fetchone()
    with kept.catalog.begin() as tx:
        node = kept.node(tx, path)
        kept.vault.put_properties(tx, node, prop("changed"))
        kept.vault.set_modified(tx, node, 77)
        if table == "versions":
            kept.vault.delete(tx, node, author="p1")
            doomed = kept.vault.past.in_trash(tx, node.share, node.id)
            kept.vault.past.purge(tx, doomed)
    assert judged(kept).findings == ()
    marks = ",".join("?" * len(old))
    connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", old)
    connection.commit()
    connection.close()
    assert Kind.ROWS in kinds(judged(kept))


def test_an_older_version_made_current_again_is_named(kept: World) -> None:
    """The whole node row as it was before the last write: its MAC is right."""
    connection = sqlite3.connect(kept.catalog_file)
    with kept.catalog.snapshot() as tx:
        node = kept.node(tx, "/kept/inline")
    old = connection.execute("SELECT * FROM nodes WHERE id = ?", (node.id,)).fetchone()
    kept.clock.now_us += SECOND_US
    kept.write("/kept/inline", b"newest")
    connection.execute(f"INSERT OR REPLACE INTO nodes VALUES ({','.join('?' * len(old))})", old)
    connection.commit()
    connection.close()
    rows = judged(kept)
    (named,) = (each for each in rows.findings if each.kind is Kind.VERSION)
    assert (named.node_id, named.path) == (node.id.hex(), "/kept/inline")
    assert "not its newest" in named.text
    assert Kind.ROWS in kinds(rows)


def test_an_added_row_is_found(kept: World) -> None:
    """A copy of a file under another id: made without the key, it cannot verify."""
    tamper(
        kept,
        "INSERT INTO nodes SELECT x'00112233445566778899aabbccddeeff', share_id, parent_id,"
        " name_sealed, is_folder, version_id, size_bytes, created_us, modified_us, created_by, 1,"
        " 'p1', mac FROM nodes WHERE id = [big]",
    )
    assert {Kind.NODE, Kind.ROWS} <= kinds(judged(kept))


def test_a_cycle_of_folders_is_named_once(kept: World) -> None:
    """Made of rows that verify, as an old backup may have it; nothing in it can be reached."""
    with kept.catalog.begin() as tx:
        share = kept.vault.share(tx, "kept")
        outer, inner = kept.node(tx, "/kept/f"), kept.node(tx, "/kept/f/g")
        row = share.seal.signed(outer.row._replace(parent_id=inner.id))
    connection = sqlite3.connect(kept.catalog_file)
    connection.execute(
        "UPDATE nodes SET parent_id = ?, mac = ? WHERE id = ?", (inner.id, row.mac, outer.id)
    )
    connection.commit()
    connection.close()
    rows = judged(kept)
    assert set(rows.lost) == {min(outer.id, inner.id)}


@pytest.mark.parametrize("edit", SHARE_EDITS)
def test_an_edited_share_is_found(kept: World, edit: str) -> None:
    """Also where nothing in it can be opened any more."""
    tamper(kept, SHARE_EDITS[edit])
    kept.restart()
    if edit == "its name key":
        with pytest.raises(KeyUnavailableError):
            judged(kept)
        return
    rows = judged(kept)
    assert Kind.SHARE in kinds(rows)


def test_a_state_put_back_is_found(kept: World) -> None:
    """An old row of the share verifies by itself; its digest is not that of the rows."""
    connection = sqlite3.connect(kept.catalog_file)
    old = connection.execute("SELECT * FROM shares WHERE name = 'kept'").fetchone()
    kept.write("/kept/new", b"new")
    connection.execute(f"INSERT OR REPLACE INTO shares VALUES ({','.join('?' * len(old))})", old)
    connection.commit()
    connection.close()
    rows = judged(kept)
    assert kinds(rows) == {Kind.ROWS}
    assert "+1 files and folders, +3 bytes" in rows.findings[0].text


def test_a_share_whose_row_is_gone_is_found_by_its_nodes(kept: World) -> None:
    """Starting makes the configured share anew, empty; what it held is still there."""
    tamper(kept, "DELETE FROM shares WHERE id = [share]")
    kept.restart()
    with kept.catalog.begin() as tx:
        kept.shares.create_missing(tx, kept.clock)
    assert judged(kept).findings == ()
    with kept.catalog.snapshot() as tx:
        (found,) = kept.vault.scrub.foreign_rows(tx)
    assert found.kind is Kind.SHARE


def test_properties_of_nothing_are_found(kept: World) -> None:
    """Their node was dropped."""
    tamper(kept, "DELETE FROM nodes WHERE id = [big]")
    with kept.catalog.snapshot() as tx:
        assert [each.kind for each in kept.vault.scrub.foreign_rows(tx)] == [Kind.PROPERTIES]


def test_a_destroyed_epoch_is_reported_as_such(kept: World) -> None:
    """Once for the epoch, with how much it takes along; not once for each version."""
    with kept.catalog.begin() as tx:
        rotate_share(tx, kept.master, kept.vault.share(tx, "kept").row, 1, kept.random_bytes)
    tamper(
        kept,
        "UPDATE epochs SET key_wrapped = NULL, destroyed_us = 9 WHERE share_id = [share]"
        " AND epoch = 1",
    )
    rows = judged(kept)
    (found,) = rows.findings
    assert found.kind is Kind.KEY
    assert "epoch 1 was destroyed: 8 versions" in found.text
    assert found.error == "KeyUnavailableError"


def test_a_key_that_does_not_open_is_found(kept: World) -> None:
    """Exchanged for another share's."""
    with kept.catalog.begin() as tx:
        rotate_share(tx, kept.master, kept.vault.share(tx, "kept").row, 1, kept.random_bytes)
    tamper(
        kept,
        "UPDATE epochs SET key_wrapped = (SELECT key_wrapped FROM epochs WHERE share_id <> [share]"
        " LIMIT 1) WHERE share_id = [share] AND epoch = 1",
    )
    kept.restart()
    found = judged(kept).findings
    assert {each.kind for each in found} == {Kind.KEY}


def test_findings_are_bounded_and_counted(kept: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog edited all over does not fill the memory; what concerns all of it is kept."""
    monkeypatch.setattr(findings, "FINDING_LIMIT", 2)
    tamper(kept, "UPDATE nodes SET modified_us = 1", "DELETE FROM properties")
    rows = judged(kept)
    assert [each.kind for each in rows.findings] == [Kind.NODE, Kind.NODE, Kind.ROWS]
    assert rows.more_findings > 3


def test_rows_are_read_in_pages(kept: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a page, each row is judged once, and whoever asked may stop it."""
    whole = judged(kept)
    monkeypatch.setattr(row_check, "PAGE_LIMIT", 2)
    monkeypatch.setattr(row_check, "VERSION_PAGE_LIMIT", 3)
    assert judged(kept) == whole

    def stop(_count: int) -> None:
        raise StoppedError("enough")

    with kept.catalog.snapshot() as tx, pytest.raises(StoppedError):
        kept.vault.scrub.rows(tx, "kept", stop)


def test_a_segment_under_a_key_that_is_gone_is_counted_with_its_epoch(kept: World) -> None:
    """Its versions verify, and cannot be read."""
    tamper(kept, "UPDATE segments SET epoch = 9")
    rows = judged(kept)
    assert kinds(rows) == {Kind.KEY}
    assert rows.sound
