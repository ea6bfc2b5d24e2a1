"""What the tests of the scrub share: a vault with files of every kind, and ways to damage it."""

from __future__ import annotations

import sqlite3

from backends.catalog import keys, segments, versions
from backends.catalog.segments import Due
from backends.scrub.finding import Kind
from backends.scrub.reading import Pace
from backends.scrub.rows import Rows
from backends.scrub.scrub import DueSegment
from gateway.model import SECOND_US, PropertyName
from gateway.paths import VirtualPath
from tests.backends.world import BLOCK, World, sample

BIG, OTHER_BIG = sample(3 * BLOCK), sample(3 * BLOCK, "other")
DAY_US = 24 * 3600 * SECOND_US
EDIT = f"x'{'17' * 32}'"
NAMES = ("big", "big2", "inline", "inline2", "f", "f/g", "f/g/deep")
FAST = Pace(None, lambda: 0, lambda _seconds: None)


def prop(name: str) -> dict[PropertyName, str]:
    return {PropertyName("urn:x", "of"): name}


def fill(world: World) -> World:
    """Put files of every kind into ``kept``: versions, properties, an unfinished upload."""
    world.write("/kept/big", BIG)
    world.write("/kept/big2", OTHER_BIG)
    world.write("/kept/inline", b"one")
    world.write("/kept/inline2", b"two")
    world.mkdir("/kept/f")
    world.mkdir("/kept/f/g")
    world.write("/kept/f/g/deep", b"deep")
    world.write("/small/other", b"of another share")
    world.clock.now_us += SECOND_US
    world.write("/kept/big", b"!", offset=BLOCK, keep=True)
    world.write("/kept/inline", b"one again")
    with world.catalog.begin() as tx:
        for name in ("big", "f"):
            node = world.node(tx, f"/kept/{name}")
            world.vault.put_properties(tx, node, prop(name))
        world.vault.delete(tx, world.node(tx, "/kept/inline2"), author="p1")
        root = world.node(tx, "/kept")
        draft = world.vault.draft(root.share, None)
        draft.write_at(0, sample(2 * BLOCK, "half"))
        world.vault.unfinished.keep(
            tx,
            root.share,
            root.id,
            "half",
            draft.seal(),
            principal_id="p1",
            base_id=b"",
            modified_us=0,
        )
    world.clock.now_us += 20 * SECOND_US
    return world


def judged(world: World, name: str = "kept") -> Rows:
    with world.catalog.snapshot() as tx:
        return world.vault.scrub.rows(tx, name, lambda _count: None)


def kinds(rows: Rows) -> set[Kind]:
    return {each.kind for each in rows.findings}


def tamper(world: World, *statements: str) -> None:
    """Edit the catalog past the gateway; ``[name]`` stands for a node's id, ``<name>`` its version."""
    with world.catalog.snapshot() as tx:
        found = {name: world.vault.find(tx, VirtualPath.parse(f"/kept/{name}")) for name in NAMES}
        share = keys.share_by_name(tx, "kept")
    assert share is not None
    connection = sqlite3.connect(world.catalog_file)
    for statement in statements:
        text = statement.replace("[share]", f"x'{share.id.hex()}'")
        text = text.replace("[root]", f"x'{share.root_id.hex()}'")
        for name, node in found.items():
            if node is not None:
                text = text.replace(f"[{name}]", f"x'{node.id.hex()}'")
                text = text.replace(f"<{name}>", f"x'{node.row.version_id.hex()}'")
        assert connection.execute(text).rowcount > 0, text
    connection.commit()
    connection.close()


def dump(world: World) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of content, and the ids of blobs."""
    connection = sqlite3.connect(world.catalog_file)
    tables = ("nodes", "versions", "extents", "segments", "properties", "unfinished")
    found = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    connection.close()
    found["blobs"] = sorted((blob_id,) for blob_id, _ in world.store.listing())
    return found


NODE_EDITS = {
    "a size": "UPDATE nodes SET size_bytes = size_bytes + 1 WHERE id = [big]",
    "a time": "UPDATE nodes SET modified_us = modified_us + 1 WHERE id = [big]",
    "a creator": "UPDATE nodes SET created_by = 'p2' WHERE id = [big]",
    "a file made a folder": "UPDATE nodes SET is_folder = 1, version_id = x'' WHERE id = [big]",
    "deleted": "UPDATE nodes SET deleted_us = 5, deleted_by = 'p1' WHERE id = [big]",
    "moved": "UPDATE nodes SET parent_id = [f] WHERE id = [big]",
    "renamed": f"UPDATE nodes SET name_sealed = {EDIT} WHERE id = [big]",
    "another version": "UPDATE nodes SET version_id = <big2> WHERE id = [big]",
    "a MAC": f"UPDATE nodes SET mac = {EDIT} WHERE id = [big]",
    "text for a MAC": "UPDATE nodes SET mac = 'text' WHERE id = [big]",
    "text for a size": "UPDATE nodes SET size_bytes = 'x' WHERE id = [big]",
    "text for a name": "UPDATE nodes SET name_sealed = 'x' WHERE id = [big]",
    "a number for a version": "UPDATE nodes SET version_id = 7 WHERE id = [big]",
    "bytes for a creator": "UPDATE nodes SET created_by = x'ff' WHERE id = [big]",
    "restored": "UPDATE nodes SET deleted_us = NULL WHERE deleted_us IS NOT NULL",
}


SHARE_EDITS = {
    "bytes used": "UPDATE shares SET used_bytes = used_bytes + 1 WHERE id = [share]",
    "nodes": "UPDATE shares SET node_count = 0 WHERE id = [share]",
    "an epoch": "UPDATE shares SET epoch = 7 WHERE id = [share]",
    "its state": f"UPDATE shares SET state_sealed = {EDIT} WHERE id = [share]",
    "its root": "UPDATE shares SET root_id = [f] WHERE id = [share]",
    "its name key": "UPDATE shares SET name_key_wrapped ="
    " (SELECT name_key_wrapped FROM shares WHERE name = 'small') WHERE id = [share]",
}


def all_due(world: World, share_id: bytes | None = None) -> list[DueSegment]:
    with world.catalog.snapshot() as tx:
        span = Due(1 << 62, world.clock(), share_id)
        return world.vault.scrub.due(tx, span, segments.START, 100)


def segment_of(world: World, path: str) -> DueSegment:
    """Return the segment that the first block of a file lies in."""
    with world.catalog.snapshot() as tx:
        version_id = world.node(tx, path).row.version_id
        segment_id = versions.extents_of(tx, version_id)[0].segment_id
    return next(each for each in all_due(world) if each.row.id == segment_id)
