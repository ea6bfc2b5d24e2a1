"""Someone drops, adds, exchanges or puts back whole rows of the catalog: who notices.

The verdicts are those of ``tests.backends.edited``. What is done to single columns is in
``test_catalog_tampering``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backends.errors import IntegrityError
from backends.ledger import Ledger
from tests.backends.digest import require_rows
from tests.backends.edited import Edited, edited_world, who_notices


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    """A share with something in every table, and another one beside it."""
    with edited_world(tmp_path_factory.mktemp("rows")) as opened:
        yield opened


@pytest.fixture
def edited(made: Edited) -> Iterator[Edited]:
    """The same, mended afterwards."""
    with made.mended():
        yield made


OTHER_SHARE = "(SELECT id FROM shares WHERE name = 'docs')"
DROPPED = {
    "a file": ("DELETE FROM nodes WHERE id = [big]", "scrub"),
    "a folder": ("DELETE FROM nodes WHERE id = [f]", "scrub"),
    "what lies in the trash": ("DELETE FROM nodes WHERE deleted_us IS NOT NULL", "scrub"),
    "the root": ("DELETE FROM nodes WHERE id = [kept]", "reading"),
    "the current version": ("DELETE FROM versions WHERE id = [big version]", "reading"),
    "an older version": (
        "DELETE FROM versions WHERE node_id = [big] AND id != [big version]",
        "scrub",
    ),
    "the content of an upload": (
        "DELETE FROM versions WHERE id = (SELECT version_id FROM unfinished)",
        "scrub",
    ),
    "an extent": (
        "DELETE FROM extents WHERE version_id = [big version] AND block_start = 1",
        "reading",
    ),
    "all extents": ("DELETE FROM extents WHERE version_id = [big version]", "reading"),
    "a segment": (
        (
            "DELETE FROM segments WHERE id IN"
            " (SELECT segment_id FROM extents WHERE version_id = [big version])"
        ),
        "reading",
    ),
    "properties": ("DELETE FROM properties WHERE node_id = [big]", "scrub"),
    "an epoch": ("DELETE FROM epochs WHERE share_id = [share]", "share"),
    "the key of an epoch": (
        "UPDATE epochs SET key_wrapped = NULL WHERE share_id = [share]",
        "share",
    ),
    "a vacated name": ("DELETE FROM vacated", "nobody"),
}


@pytest.mark.parametrize("row", DROPPED)
def test_a_dropped_row_is_noticed(edited: Edited, row: str) -> None:
    """At once where something refers to it, otherwise by the digest."""
    statement, noticed = DROPPED[row]
    edited.sql(statement)
    assert who_notices(edited)[0] == noticed


ADDED = {
    "a file again, under a longer id": (
        (
            "INSERT INTO nodes SELECT CAST(id || x'00' AS BLOB), share_id, parent_id, name_sealed,"
            " is_folder, version_id, size_bytes, created_us, modified_us, created_by, deleted_us,"
            " deleted_by, mac FROM nodes WHERE deleted_us IS NOT NULL"
        ),
        "scrub",
    ),
    "a file again, in another folder": (
        (
            "INSERT INTO nodes SELECT randomblob(16), share_id, [f], name_sealed,"
            " is_folder, version_id, size_bytes, created_us, modified_us, created_by, deleted_us,"
            " deleted_by, mac FROM nodes WHERE id = [big]"
        ),
        "listing",
    ),
    "a version again, under a longer id": (
        (
            "INSERT INTO versions SELECT CAST(id || x'00' AS BLOB), node_id, share_id, epoch,"
            " size_bytes, sha256_sealed, modified_us, created_us, author, inline_sealed, mac"
            " FROM versions WHERE id = [big version]"
        ),
        "use",
    ),
    "a version again, under another id": (
        (
            "INSERT INTO versions SELECT randomblob(16), node_id, share_id, epoch,"
            " size_bytes, sha256_sealed, modified_us, created_us, author, inline_sealed, mac"
            " FROM versions WHERE id = [inline version]"
        ),
        "use",
    ),
    "an extent": (
        (
            "INSERT INTO extents SELECT version_id, 9, 1, segment_id, 0 FROM extents"
            " WHERE version_id = [big version] AND block_start = 1"
        ),
        "reading",
    ),
    "the properties of another file": (
        (
            "INSERT INTO properties SELECT [big2], properties_sealed FROM properties"
            " WHERE node_id = [big]"
        ),
        "use",
    ),
    "the key of another epoch": (
        (
            "INSERT INTO epochs SELECT share_id, 2, key_wrapped, created_us, NULL FROM epochs"
            " WHERE share_id = [share]"
        ),
        "nobody",
    ),
    "a vacated name": (
        (
            "INSERT INTO vacated SELECT [f], name_sealed, node_id, version_id, principal_id,"
            " vacated_us, mac FROM vacated"
        ),
        "nobody",
    ),
}


@pytest.mark.parametrize("row", ADDED)
def test_an_added_row_is_noticed(edited: Edited, row: str) -> None:
    """As soon as anything looks at it; a key that nothing is sealed under changes nothing."""
    statement, noticed = ADDED[row]
    edited.sql(statement)
    assert who_notices(edited)[0] == noticed


EXCHANGED = {
    "contents of two files": ("nodes", "version_id", "big", "big2", "reading"),
    "contents of two small files": ("nodes", "version_id", "inline", "inline2", "reading"),
    "MACs of two files": ("nodes", "mac", "big", "big2", "reading"),
    "names in one folder": ("nodes", "name_sealed", "big", "big2", "reading"),
    "names in two folders": ("nodes", "name_sealed", "big", "elsewhere", "listing"),
    "folders": ("nodes", "parent_id", "big", "elsewhere", "listing"),
    "ids": ("nodes", "id", "inline", "inline2", "reading"),
    "versions of two files": ("versions", "node_id", "big version", "big2 version", "reading"),
    "MACs of two versions": ("versions", "mac", "big version", "big2 version", "reading"),
    "hashes": ("versions", "sha256_sealed", "inline version", "inline2 version", "reading"),
    "small contents": ("versions", "inline_sealed", "inline version", "inline2 version", "reading"),
}
KEYS = {"nodes": "id", "versions": "id"}


@pytest.mark.parametrize("what", EXCHANGED)
def test_what_was_exchanged_is_noticed(edited: Edited, what: str) -> None:
    """Between two files of a share, and between two shares."""
    table, column, one, two, noticed = EXCHANGED[what]
    select = f"SELECT {column} FROM {table} WHERE id = [{{}}]"
    ((first,),), ((second,),) = edited.sql(select.format(one)), edited.sql(select.format(two))
    keys = (one, two)
    for key, value in zip(keys, (b"meanwhile", b"meantime"), strict=True):
        edited.sql(f"UPDATE {table} SET {column} = ? WHERE id = [{key}]", value)
        if column == "id":
            edited.names[key], value = value, edited.names[key]  # noqa: PLW2901
    for key, value in zip(keys, (second, first), strict=True):
        edited.sql(f"UPDATE {table} SET {column} = ? WHERE id = [{key}]", value)
    if column == "id":
        edited.names[one], edited.names[two] = first, second
    assert who_notices(edited)[0] == noticed


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("shares", "name_key_wrapped"),
        ("shares", "state_sealed"),
        ("shares", "root_id"),
        ("epochs", "key_wrapped"),
    ],
)
def test_what_two_shares_exchanged_is_noticed(edited: Edited, table: str, column: str) -> None:
    """Keys, states and roots are bound to their share."""
    key = "id" if table == "shares" else "share_id"
    mine = f"(SELECT {column} FROM {table} WHERE {key} = [share])"
    ((other,),) = edited.sql(f"SELECT {column} FROM {table} WHERE {key} = {OTHER_SHARE}")
    edited.sql(f"UPDATE {table} SET {column} = {mine} WHERE {key} = {OTHER_SHARE}")
    edited.sql(f"UPDATE {table} SET {column} = ? WHERE {key} = [share]", other)
    assert who_notices(edited)[0] == "share"


PUT_BACK = {
    "a file": ("nodes", "big", "scrub"),
    "a folder": ("nodes", "kept", "scrub"),
    "properties": ("properties", "big", "scrub"),
    "the share alone": ("shares", "share", "scrub"),
}


@pytest.mark.parametrize("what", PUT_BACK)
def test_a_row_put_back_is_noticed_by_the_digest_alone(edited: Edited, what: str) -> None:
    """It was right once, so that its own MAC is: only the set of all rows tells."""
    table, name, noticed = PUT_BACK[what]
    edited.replace(table, edited.earlier_row(table, edited.names[name]))
    assert who_notices(edited)[0] == noticed


def test_a_share_put_back_with_all_its_rows_is_noticed_by_nobody(edited: Edited) -> None:
    """FORMAT.md section 11: of that the audit trail's anchor tells, and nothing in the vault."""
    edited.put_back(edited.earlier)
    assert who_notices(edited) == ("nobody", "")


def test_what_was_put_back_stays_noticed(edited: Edited) -> None:
    """Later changes keep the digest by differences, and so keep what is wrong with it."""
    edited.replace("nodes", edited.earlier_row("nodes", edited.names["big"]))
    edited.world.write("/kept/big", b"newer")
    edited.world.write("/kept/more", b"more")
    with pytest.raises(IntegrityError, match="dropped, added or put back"):
        require_rows(edited.world, "kept")


def test_an_edited_row_is_not_signed_again(edited: Edited) -> None:
    """Changing a file must not make what somebody wrote into its row right."""
    edited.sql("UPDATE nodes SET created_by = 'p2' WHERE id = [big]")
    with edited.world.catalog.begin() as tx:
        share = edited.world.vault.share(tx, "kept")
        ledger = Ledger(tx, share.id, share.seal)
        with pytest.raises(IntegrityError):
            ledger.put_node(edited.names["big"], modified_us=1)
