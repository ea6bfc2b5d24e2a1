"""A vault whose catalog file is edited past the gateway, and who notices that.

``share``: any access to the share. ``reading``: opening the file. ``listing``: the folder that it
lies in. ``use``: whatever else works with the row. ``scrub``: the digest over all rows alone.
``nobody``: what FORMAT.md section 11 says is not noticed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.errors import IntegrityError, KeyUnavailableError
from gateway.model import SECOND_US, PropertyName
from gateway.paths import VirtualPath
from tests.backends.digest import require_rows
from tests.backends.world import BLOCK, World, running_world, sample

FIRST, OTHER = sample(3 * BLOCK), sample(3 * BLOCK, "other")
SECOND = FIRST[:BLOCK] + b"!" + FIRST[BLOCK + 1 :]
# What may be read of each file: anything that was its content once, and nothing else.
CONTENTS = {"big": {FIRST, SECOND}, "big2": {OTHER}, "inline": {b"one"}, "inline2": {b"two"}}

SHARE_TABLES = (
    "shares",
    "epochs",
    "nodes",
    "versions",
    "extents",
    "segments",
    "properties",
    "unfinished",
    "vacated",
)
Rows = dict[str, list[tuple[Any, ...]]]


@dataclass
class Edited:
    """A vault whose catalog a test edits past the gateway; ``earlier`` is how it was before."""

    world: World
    connection: sqlite3.Connection
    names: dict[str, bytes]
    earlier: Rows

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; ``[name]`` stands for the id of what has that name."""
        for name, each in self.names.items():
            statement = statement.replace(f"[{name}]", f"x'{each.hex()}'")
        cursor = self.connection.execute(statement, values)
        found = cursor.fetchall()
        assert found or cursor.rowcount > 0, statement
        self.connection.commit()
        return found

    def rows(self) -> Rows:
        return {
            table: self.connection.execute(f"SELECT * FROM {table}").fetchall()
            for table in SHARE_TABLES
        }

    def put_back(self, rows: Rows) -> None:
        """Replace all rows of the shares."""
        for table, values in rows.items():
            self.connection.execute(f"DELETE FROM {table}")
            for row in values:
                marks = ", ".join("?" * len(row))
                self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        self.connection.commit()

    @contextlib.contextmanager
    def mended(self) -> Iterator[None]:
        """Undo afterwards whatever a test edits."""
        right = self.rows()
        yield
        self.put_back(right)
        self.world.restart()

    def earlier_row(self, table: str, key: bytes) -> tuple[Any, ...]:
        return next(row for row in self.earlier[table] if row[0] == key)

    def replace(self, table: str, row: tuple[Any, ...]) -> None:
        """Put an earlier row in the place of the one that has its key now."""
        marks = ", ".join("?" * len(row))
        self.sql(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", *row)


def colour(world: World, value: str) -> None:
    with world.catalog.begin() as tx:
        for name in ("big", "inline"):
            node = world.node(tx, f"/kept/{name}")
            world.vault.put_properties(tx, node, {PropertyName("urn:x", name): value})


# Who notices


def open_share(world: World) -> None:
    with world.catalog.snapshot() as tx:
        world.vault.share(tx, "kept")


def read(world: World) -> None:
    for name, contents in CONTENTS.items():
        if world.exists(f"/kept/{name}"):
            assert world.read(f"/kept/{name}") in contents


def list_folders(world: World) -> None:
    for path in ("/kept", "/kept/f"):
        if world.exists(path):
            world.names(path)


class UndoneError(Exception):
    """Ends a transaction that shall leave nothing."""


def use(world: World) -> None:
    """Look at properties, histories, trash and unfinished uploads; fill the vacated name."""
    vault = world.vault
    with world.catalog.snapshot() as tx:
        root = world.node(tx, "/kept")
        for name in CONTENTS:
            node = vault.find(tx, VirtualPath.parse(f"/kept/{name}"))
            if node is not None:
                vault.properties(tx, node)
                for version in vault.past.versions(tx, node.row):
                    if version.damaged:
                        vault.past.open(tx, node.row, bytes.fromhex(version.version_id))
        list(vault.past.trash(tx, root.share))
        vault.unfinished.in_folder(tx, root.share, root.id, principal_id="p2")
        vault.unfinished.find(tx, root.share, root.id, "coming", principal_id="p2")
    if world.exists("/kept/gone"):
        return
    with contextlib.suppress(UndoneError), world.catalog.begin() as tx:
        root = world.node(tx, "/kept")
        draft = vault.draft(root.share, None)
        draft.write_at(0, b"new")
        vault.add_file(tx, root, "gone", draft.seal(), modified_us=0, author="p1")
        raise UndoneError


def scrub(world: World) -> None:
    require_rows(world, "kept")


PROBES: dict[str, Callable[[World], None]] = {
    "share": open_share,
    "reading": read,
    "listing": list_folders,
    "use": use,
    "scrub": scrub,
}


def who_notices(edited: Edited) -> tuple[str, str]:
    """Return the first who notices, and what the error says."""
    edited.world.restart()
    for name, probe in PROBES.items():
        try:
            probe(edited.world)
        except (IntegrityError, KeyUnavailableError) as error:
            return name, str(error)
    return "nobody", ""


@contextlib.contextmanager
def edited_world(folder: Path) -> Iterator[Edited]:
    """A share with something in every table, and another one beside it."""
    with running_world(folder) as world:
        vault, clock = world.vault, world.clock
        world.mkdir("/kept/f")
        for name, content in (("big", FIRST), ("big2", OTHER), ("inline", b"one")):
            world.write(f"/kept/{name}", content)
        for path in ("/kept/inline2", "/kept/f/deep", "/kept/gone", "/docs/elsewhere"):
            world.write(path, b"two")
        colour(world, "first")
        connection = sqlite3.connect(world.catalog_file)
        edited = Edited(world, connection, {}, {})
        edited.earlier = edited.rows()
        clock.now_us += SECOND_US
        world.write("/kept/big", b"!", offset=BLOCK, keep=True)
        colour(world, "second")
        clock.now_us += SECOND_US
        with world.catalog.begin() as tx:
            vault.delete(tx, world.node(tx, "/kept/gone"), author="p1")
            root = world.node(tx, "/kept")
            draft = vault.draft(root.share, None)
            draft.write_at(0, sample(2 * BLOCK, "coming"))
            vault.unfinished.keep(
                tx,
                root.share,
                root.id,
                "coming",
                draft.seal(),
                principal_id="p2",
                base_id=b"",
                modified_us=clock(),
            )
        with world.catalog.snapshot() as tx:
            for path in ("/kept", *(f"/kept/{name}" for name in (*CONTENTS, "f"))):
                node = world.node(tx, path)
                edited.names[path.split("/")[-1]] = node.id
                edited.names[f"{path.split('/')[-1]} version"] = node.row.version_id
            edited.names["share"] = root.share.id
            edited.names["elsewhere"] = world.node(tx, "/docs/elsewhere").id
        yield edited
        connection.close()
