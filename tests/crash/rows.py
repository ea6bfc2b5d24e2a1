"""The catalog's file read past the gateway: do its tables and the blobs agree with one another?

Plain SQL over the tables of FORMAT.md section 6, so that the code under test is not its own judge.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

# Each statement finds rows that must not exist.
_CONTRADICTIONS = {
    "a node without its parent": """
        SELECT id FROM nodes WHERE parent_id NOT IN (SELECT id FROM nodes)
        AND parent_id NOT IN (SELECT id FROM shares)""",
    "a file without its current version": """
        SELECT nodes.id FROM nodes LEFT JOIN versions ON versions.id = nodes.version_id
        WHERE NOT nodes.is_folder AND (versions.id IS NULL OR versions.node_id != nodes.id
        OR versions.size_bytes != nodes.size_bytes)""",
    "a version without its file": """
        SELECT id FROM versions WHERE node_id NOT IN (SELECT id FROM nodes)
        AND node_id NOT IN (SELECT id FROM unfinished)""",
    "an extent without its version": """
        SELECT version_id FROM extents WHERE version_id NOT IN (SELECT id FROM versions)""",
    "an extent without its segment": """
        SELECT version_id FROM extents WHERE segment_id NOT IN (SELECT id FROM segments)""",
    "properties without their node": """
        SELECT node_id FROM properties WHERE node_id NOT IN (SELECT id FROM nodes)""",
    "a lock without its node": """
        SELECT node_id FROM locks WHERE node_id NOT IN (SELECT id FROM nodes)""",
    "a share that counts its bytes wrongly": """
        SELECT id FROM shares WHERE used_bytes != (SELECT coalesce(sum(size_bytes), 0)
        FROM versions WHERE versions.share_id = shares.id)""",
    "a share that counts its nodes wrongly": """
        SELECT id FROM shares WHERE node_count != (SELECT count(*) - 1 FROM nodes
        WHERE nodes.share_id = shares.id)""",
}


@contextlib.contextmanager
def reading(catalog: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that sees one moment of the catalog's file."""
    with contextlib.closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield connection


def contradictions(connection: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    """Yield what contradicts itself in the catalog, and segments whose blob is not there whole."""
    for what, statement in _CONTRADICTIONS.items():
        for (row_id,) in connection.execute(statement):
            yield f"catalog: {what}: {bytes(row_id).hex()}"
    for segment_id, size in connection.execute("SELECT id, size_sealed_bytes FROM segments"):
        name = bytes(segment_id).hex()
        blob = blobs / name[:2] / name
        found = blob.stat().st_size if blob.exists() else None
        if found != size:
            yield f"blob: segment {name} has {found} bytes, the catalog says {size}"


def damage(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what SQLite itself finds wrong with the file."""
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"catalog: {line}"


def histories(connection: sqlite3.Connection) -> dict[str, list[tuple[str, int]]]:
    """Return (version id, size in bytes) of the versions of each node, newest first."""
    found: dict[str, list[tuple[str, int]]] = {}
    statement = "SELECT node_id, id, size_bytes FROM versions ORDER BY created_us DESC, id DESC"
    for node_id, version_id, size in connection.execute(statement):
        found.setdefault(bytes(node_id).hex(), []).append((bytes(version_id).hex(), size))
    return found


def journals_since(connection: sqlite3.Connection, since_us: int) -> set[str]:
    """Return the journals that began at or after ``since_us``."""
    rows = connection.execute("SELECT id FROM journals WHERE started_us >= ?", (since_us,))
    return {journal for (journal,) in rows}


def referenced(connection: sqlite3.Connection) -> set[str]:
    """Return the segments that versions need."""
    rows = connection.execute("SELECT DISTINCT segment_id FROM extents")
    return {bytes(segment_id).hex() for (segment_id,) in rows}


def blobs_in(folder: Path) -> set[str]:
    """Return the names of all files in the blob store."""
    return {path.name for path in folder.glob("??/*")}
