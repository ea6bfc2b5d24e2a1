"""Someone writes to the catalog file: every column of every row has a verdict on who notices.

The verdicts are those of ``tests.backends.edited``. No wrong byte is ever read. What is done to whole
rows is in ``test_row_tampering``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.catalog import schema
from backends.errors import StorageError
from tests.backends.edited import SHARE_TABLES, Edited, edited_world, read, who_notices


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    """A share with something in every table, and another one beside it."""
    with edited_world(tmp_path_factory.mktemp("edited")) as opened:
        yield opened


@pytest.fixture
def edited(made: Edited) -> Iterator[Edited]:
    """The same, mended afterwards."""
    with made.mended():
        yield made


def test_nobody_notices_what_was_not_edited(edited: Edited) -> None:
    """The other tests of this file fail for their own reason."""
    assert who_notices(edited) == ("nobody", "")


# Every column

NOTICED = {
    "shares.id": "share",
    "shares.name": "share",
    "shares.root_id": "share",
    "shares.name_key_wrapped": "share",
    "shares.epoch": "share",
    "shares.used_bytes": "share",
    "shares.node_count": "share",
    "shares.created_us": "nobody",
    "shares.state_sealed": "share",
    "epochs.share_id": "share",
    "epochs.epoch": "share",
    "epochs.key_wrapped": "share",
    "epochs.created_us": "nobody",
    "epochs.destroyed_us": "nobody",
    **{f"nodes.{column.name}": "reading" for column in schema.nodes.c},
    "nodes.parent_id": "scrub",
    "nodes.name_sealed": "listing",
    "nodes.deleted_us": "scrub",
    **{f"versions.{column.name}": "reading" for column in schema.versions.c},
    "versions.modified_us": "nobody",
    **{f"extents.{column.name}": "reading" for column in schema.extents.c},
    "segments.id": "reading",
    "segments.share_id": "nobody",
    "segments.epoch": "reading",
    "segments.size_sealed_bytes": "reading",
    "segments.created_us": "nobody",
    "segments.orphaned_us": "nobody",
    "segments.verified_us": "nobody",
    "properties.node_id": "scrub",
    "properties.properties_sealed": "use",
    **{f"unfinished.{column.name}": "scrub" for column in schema.unfinished.c},
    "unfinished.share_id": "nobody",
    # An edited note of who left a name when finds nothing to continue; edited to fit, it is refused.
    "vacated.folder_id": "nobody",
    "vacated.name_sealed": "nobody",
    "vacated.node_id": "nobody",
    "vacated.version_id": "nobody",
    "vacated.principal_id": "nobody",
    "vacated.vacated_us": "nobody",
    "vacated.mac": "nobody",
}
PLACES = {
    "shares": "id = [share]",
    "epochs": "share_id = [share]",
    "nodes": "id = [big]",
    "versions": "id = [big version]",
    "extents": "version_id = [big version] AND block_start = 2",
    "segments": "id = (SELECT segment_id FROM extents WHERE version_id = [big version]"
    " AND block_start = 0)",
    "properties": "node_id = [big]",
    "unfinished": "share_id = [share]",
    "vacated": "folder_id = [kept]",
}


def another(value: object) -> object:
    """Return a value of the same kind."""
    match value:
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1]) if value else bytes(16)
        case int():
            return value + 1
        case str():
            return value + "x"
    raise AssertionError(value)


OF_NULL = {
    "epochs.destroyed_us": 1,
    "nodes.deleted_us": 1,
    "nodes.deleted_by": "p1",
    "versions.sha256_sealed": bytes(60),
    "versions.inline_sealed": bytes(144),
    "segments.orphaned_us": 1,
}


def edit_column(edited: Edited, column: str) -> None:
    table, name = column.split(".")
    if column == "shares.name":
        edited.sql("UPDATE shares SET name = 'x' WHERE name = 'docs'")
        edited.sql("UPDATE shares SET name = 'docs' WHERE name = 'kept'")
        edited.sql("UPDATE shares SET name = 'kept' WHERE name = 'x'")
        return
    if column == "shares.root_id":
        edited.sql("UPDATE shares SET root_id = [f] WHERE id = [share]")
        return
    ((value,),) = edited.sql(f"SELECT {name} FROM {table} WHERE {PLACES[table]}")
    new = OF_NULL[column] if value is None else another(value)
    edited.sql(f"UPDATE {table} SET {name} = ? WHERE {PLACES[table]}", new)


def test_every_column_has_a_verdict() -> None:
    """A new column is one that somebody must think about."""
    columns = {
        f"{table}.{column.name}"
        for table in SHARE_TABLES
        for column in schema.metadata.tables[table].c
    }
    assert NOTICED.keys() == columns


@pytest.mark.parametrize("column", NOTICED)
def test_an_edited_column_is_noticed(edited: Edited, column: str) -> None:
    """By whom the table says; the error names the share, unless that is what was edited."""
    edit_column(edited, column)
    noticed, text = who_notices(edited)
    assert noticed == NOTICED[column], text
    if noticed in {"reading", "scrub"} and column not in {"versions.share_id", "nodes.share_id"}:
        assert edited.names["share"].hex() in text


# Values of another kind

ODD_EDITS = {
    "a negative size": "UPDATE versions SET size_bytes = -1",
    "text for a size": "UPDATE versions SET size_bytes = 'x'",
    "a size beyond 64 bits": "UPDATE versions SET size_bytes = 1e30",
    "a negative time": "UPDATE versions SET created_us = -1",
    "an endless author": "UPDATE versions SET author = printf('%.*c', 70000, 'x')",
    "bytes for an author": "UPDATE versions SET author = x'ff'",
    "an author that is no UTF-8": "UPDATE versions SET author = CAST(x'ff' AS TEXT)",
    "text for a hash": "UPDATE versions SET sha256_sealed = 'text'",
    "a number for a hash": "UPDATE versions SET sha256_sealed = 7",
    "text for inline bytes": "UPDATE versions SET inline_sealed = 'text'",
    "text for a MAC": "UPDATE versions SET mac = 'text'",
    "an empty MAC": "UPDATE versions SET mac = x''",
    "text for a node's size": "UPDATE nodes SET size_bytes = 'x' WHERE id = [big2]",
    "a negative node's size": "UPDATE nodes SET size_bytes = -1 WHERE id = [big2]",
    "text for a node's MAC": "UPDATE nodes SET mac = 'text' WHERE id = [big2]",
    "bytes for a creator": "UPDATE nodes SET created_by = x'ff' WHERE id = [big2]",
    "a creator that is no UTF-8": "UPDATE nodes SET created_by = CAST(x'ff' AS TEXT)",
    "neither file nor folder": "UPDATE nodes SET is_folder = 300 WHERE id = [big2]",
    "a longer id of a version": "UPDATE nodes SET version_id = version_id || x'00'"
    " WHERE id = [big2]",
    "a longer id of a share": "UPDATE nodes SET share_id = CAST(share_id || x'00' AS BLOB)"
    " WHERE id = [big2]",
    "a negative block": "UPDATE extents SET block_start = -1 - block_start",
    "a chunk beyond 32 bits": "UPDATE extents SET chunk_start = 1 << 40",
    "text for a segment's size": "UPDATE segments SET size_sealed_bytes = 'x'",
    "an impossible segment's size": "UPDATE segments SET size_sealed_bytes = 5",
    "text for an epoch": "UPDATE segments SET epoch = 'x'",
    "text for a wrapped key": "UPDATE epochs SET key_wrapped = 'text'",
    "a number for a name key": "UPDATE shares SET name_key_wrapped = 7",
    "text for bytes used": "UPDATE shares SET used_bytes = 'x'",
    "text for a state": "UPDATE shares SET state_sealed = 'text'",
    "a number for a state": "UPDATE shares SET state_sealed = 7",
    "text for a root": "UPDATE shares SET root_id = 'text'",
    "text for an epoch of a share": "UPDATE shares SET epoch = 'x'",
}


@pytest.mark.parametrize("edit", ODD_EDITS)
def test_a_value_of_the_wrong_kind_is_a_storage_error(edited: Edited, edit: str) -> None:
    """SQLite keeps any kind of value in any column; no such row ends in a traceback."""
    edited.sql(ODD_EDITS[edit])
    edited.world.restart()
    with pytest.raises(StorageError):
        read(edited.world)


ODD_ROWS = {
    "text for when a name was left": "UPDATE vacated SET vacated_us = 'x'",
    "a name left before 1970": "UPDATE vacated SET vacated_us = -1",
    "bytes for who left a name": "UPDATE vacated SET principal_id = x'ff'",
    "text for a node that left a name": "UPDATE vacated SET node_id = 'text'",
    "text for a size of an upload": "UPDATE unfinished SET size_bytes = 'x'",
    "text for the end of an upload": "UPDATE unfinished SET expires_us = 'x'",
    "text for an upload's version": "UPDATE unfinished SET version_id = 'text'",
    "text for an upload's MAC": "UPDATE unfinished SET mac = 'text'",
    "text for properties": "UPDATE properties SET properties_sealed = 'text'",
}


@pytest.mark.parametrize("edit", ODD_ROWS)
def test_odd_rows_of_other_tables_are_storage_errors_too(edited: Edited, edit: str) -> None:
    """They are refused, or nothing comes of them."""
    edited.sql(ODD_ROWS[edit])
    assert who_notices(edited)[0] in {"use", "scrub", "nobody"}
