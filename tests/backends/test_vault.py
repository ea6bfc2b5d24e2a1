"""The vault: a tree of sealed nodes, its versions and its counters."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from backends.catalog import versions
from backends.catalog.statement import Tx
from backends.errors import (
    KeyUnavailableError,
    LimitError,
    NotAFolderError,
    NotFoundError,
)
from backends.keyring import MasterKey
from backends.properties import PROPERTIES_LIMIT_BYTES
from gateway.model import SECOND_US, Kind, PropertyName
from gateway.paths import VirtualPath
from tests.backends.world import SETTINGS, START_US, World, running_world, sample

EVERY_CATALOG = True
BIG = sample(200_000)
COLOUR, SIZE = PropertyName("urn:x", "colour"), PropertyName("", "größe")


def test_a_file_reads_back_with_what_was_told_of_it(world: World) -> None:
    """Content, size, times, kind and ids."""
    world.write("/docs/a", BIG)
    assert world.read("/docs/a") == BIG
    with world.catalog.snapshot() as tx:
        info = world.node(tx, "/docs/a").info()
    assert (info.kind, info.size_bytes, info.name) == (Kind.FILE, len(BIG), "a")
    assert info.created_us == info.modified_us == START_US
    assert len(bytes.fromhex(info.node_id)) == len(bytes.fromhex(info.version_id)) == 16


def test_an_unknown_share_or_name_is_not_found(world: World) -> None:
    """A share that is not configured does not exist, whatever the catalog has."""
    with world.catalog.snapshot() as tx:
        assert world.vault.find(tx, VirtualPath.parse("/docs/absent/deeper")) is None
        with pytest.raises(NotFoundError):
            world.vault.find(tx, VirtualPath.parse("/absent"))
        world.vault.configure({"docs": SETTINGS["docs"]})
        with pytest.raises(NotFoundError):
            world.vault.find(tx, VirtualPath.parse("/kept"))


def test_a_file_in_the_way_is_no_folder(world: World) -> None:
    """A path through a file leads nowhere."""
    world.write("/docs/a", b"x")
    with world.catalog.snapshot() as tx, pytest.raises(NotAFolderError):
        world.vault.find(tx, VirtualPath.parse("/docs/a/b"))


def test_a_folder_lists_its_children_and_all_below(world: World) -> None:
    """Children are direct; descendants come after their parents."""
    world.mkdir("/docs/f")
    world.mkdir("/docs/f/g")
    world.write("/docs/f/a", b"1")
    world.write("/docs/f/g/ü", b"2")
    assert world.names("/docs") == ["f"]
    assert world.names("/docs/f") == ["a", "g"]
    with world.catalog.snapshot() as tx:
        folder = world.node(tx, "/docs/f")
        below = [str(node.path) for node in world.vault.descendants(tx, folder)]
        assert not world.vault.is_empty(tx, folder)
    assert sorted(below) == ["/docs/f/a", "/docs/f/g", "/docs/f/g/ü"]
    assert below.index("/docs/f/g") < below.index("/docs/f/g/ü")


def test_lineage_leads_from_the_share_as_far_as_the_path_exists(world: World) -> None:
    """The caller sees where the path ends."""
    world.mkdir("/docs/f")
    with world.catalog.snapshot() as tx:
        lineage = world.vault.lineage(tx, VirtualPath.parse("/docs/f/absent/deeper"))
    assert [str(node.path) for node in lineage] == ["/docs", "/docs/f"]


def test_a_new_version_replaces_the_content_and_keeps_the_node(world: World) -> None:
    """The node's id stays, the version's changes, the old version is kept."""
    world.write("/docs/a", b"one")
    with world.catalog.snapshot() as tx:
        before = world.node(tx, "/docs/a")
    world.clock.now_us += SECOND_US
    world.write("/docs/a", BIG)
    with world.catalog.snapshot() as tx:
        after = world.node(tx, "/docs/a")
        history = versions.of_node(tx, after.id)
    assert after.id == before.id
    assert [row.id for row in history] == [after.row.version_id, before.row.version_id]
    records = after.share.key.records
    hashes = [records.unseal(row.sha256_sealed or b"", b"sha256" + row.id) for row in history]
    assert hashes == [sha256(BIG).digest(), sha256(b"one").digest()]
    assert world.read("/docs/a") == BIG
    assert world.counters("docs") == (len(BIG) + 3, 1)


def test_a_moved_node_keeps_id_content_and_properties(world: World) -> None:
    """Within a folder, into another, and with everything below it."""
    world.mkdir("/docs/f")
    world.mkdir("/docs/g")
    world.write("/docs/f/a", BIG)
    with world.catalog.begin() as tx:
        file = world.node(tx, "/docs/f/a")
        world.vault.put_properties(tx, file, {COLOUR: "red"})
        moved = world.vault.move(tx, file, world.node(tx, "/docs/g"), "b", author="p1")
        world.vault.move(tx, world.node(tx, "/docs/g"), world.node(tx, "/docs/f"), "h", author="p1")
    assert not world.exists("/docs/f/a")
    assert not world.exists("/docs/g")
    assert world.read("/docs/f/h/b") == BIG
    with world.catalog.snapshot() as tx:
        found = world.node(tx, "/docs/f/h/b")
        assert (found.id, str(moved.path)) == (file.id, "/docs/g/b")
        assert world.vault.properties(tx, found) == {COLOUR: "red"}
        located = world.vault.locate(tx, "docs", file.id)
        assert located is not None
        assert str(located.path) == "/docs/f/h/b"
    assert world.counters("docs") == (len(BIG), 3)


@pytest.mark.parametrize("content", [b"", b"inline", BIG], ids=len)
def test_a_copy_shares_the_segments_and_nothing_else(world: World, content: bytes) -> None:
    """It has its own id, version and properties, and lives on without the original."""
    world.write("/docs/a", content)
    blobs = len(list(world.store.listing()))
    with world.catalog.begin() as tx:
        source = world.node(tx, "/docs/a")
        world.vault.put_properties(tx, source, {COLOUR: "red"})
        made = world.vault.copy(tx, source, world.node(tx, "/docs"), "b", author="p2", deep=True)
    assert len(list(world.store.listing())) == blobs
    assert (made.id != source.id, made.row.version_id != source.row.version_id) == (True, True)
    assert world.counters("docs") == (2 * len(content), 2)
    with world.catalog.begin() as tx:
        world.vault.put_properties(tx, source, {})
        world.vault.delete(tx, source, author="p1")
    assert world.read("/docs/b") == content
    with world.catalog.snapshot() as tx:
        assert world.vault.properties(tx, world.node(tx, "/docs/b")) == {COLOUR: "red"}
    assert world.counters("docs") == (len(content), 1)


def test_replacing_content_adds_a_version_and_leaves_the_source(world: World) -> None:
    """What an overwriting copy does: both have the content, the target its history."""
    world.write("/docs/a", BIG)
    world.write("/docs/b", b"old")
    with world.catalog.begin() as tx:
        source, target = world.node(tx, "/docs/a"), world.node(tx, "/docs/b")
        world.vault.put_properties(tx, target, {SIZE: "1"})
        world.vault.replace_content(tx, target, source, author="p1")
        assert world.vault.properties(tx, target) == {}
        assert versions.count_of_node(tx, target.id) == 2
    assert world.read("/docs/a") == world.read("/docs/b") == BIG
    assert world.counters("docs") == (2 * len(BIG) + 3, 2)


@pytest.mark.parametrize("deep", [False, True])
def test_a_folder_is_copied_with_or_without_what_it_holds(world: World, deep: bool) -> None:
    """WebDAV's depth 0 and infinity."""
    world.mkdir("/docs/f")
    world.mkdir("/docs/f/g")
    world.write("/docs/f/g/a", BIG)
    with world.catalog.begin() as tx:
        docs = world.node(tx, "/docs")
        world.vault.copy(tx, world.node(tx, "/docs/f"), docs, "h", author="p1", deep=deep)
    assert world.names("/docs/h") == (["g"] if deep else [])
    if deep:
        assert world.read("/docs/h/g/a") == BIG
    assert world.counters("docs") == (len(BIG) * (2 if deep else 1), 6 if deep else 4)


def test_a_deleted_folder_takes_everything_below_with_it(world: World) -> None:
    """Without a trash no row of it stays, and the counters return to what they were."""
    world.mkdir("/docs/f")
    world.mkdir("/docs/f/g")
    world.write("/docs/f/g/a", BIG)
    world.write("/docs/f/g/a", b"second")
    with world.catalog.begin() as tx:
        world.vault.put_properties(tx, world.node(tx, "/docs/f/g/a"), {COLOUR: "red"})
        world.vault.delete(tx, world.node(tx, "/docs/f"), author="p1")
    assert world.names("/docs") == []
    assert world.counters("docs") == (0, 0)
    world.mkdir("/docs/f")
    assert world.names("/docs/f") == []


def test_a_changed_folder_gets_a_new_time(world: World) -> None:
    """Adding, moving and deleting touch the folders concerned, which caches rely on."""
    world.mkdir("/docs/f")
    world.mkdir("/docs/g")

    def times() -> tuple[int, int]:
        with world.catalog.snapshot() as tx:
            rows = [world.node(tx, path).row.modified_us for path in ("/docs/f", "/docs/g")]
        return (rows[0] - START_US) // SECOND_US, (rows[1] - START_US) // SECOND_US

    world.clock.now_us += SECOND_US
    world.write("/docs/f/a", b"x")
    assert times() == (1, 0)
    world.clock.now_us += SECOND_US
    with world.catalog.begin() as tx:
        world.vault.move(
            tx, world.node(tx, "/docs/f/a"), world.node(tx, "/docs/g"), "a", author="p1"
        )
    assert times() == (2, 2)
    world.clock.now_us += SECOND_US
    with world.catalog.begin() as tx:
        world.vault.delete(tx, world.node(tx, "/docs/g/a"), author="p1")
    assert times() == (2, 3)


def test_properties_are_replaced_as_a_whole_and_listed_with_the_children(world: World) -> None:
    """What was put last is what there is; none left removes the row."""
    world.write("/docs/a", b"x")
    world.write("/docs/b", b"y")

    def listed(tx: Tx) -> dict[str, dict[PropertyName, str]]:
        folder = world.node(tx, "/docs")
        rows = world.vault.entries(tx, folder, b"", 10, properties=True)
        return {name: world.vault.properties_of(folder, row) for name, row in rows}

    with world.catalog.begin() as tx:
        file = world.node(tx, "/docs/a")
        world.vault.put_properties(tx, file, {COLOUR: "<c>red</c>", SIZE: "1"})
        world.vault.put_properties(tx, file, {COLOUR: "<c>blau ü</c>"})
        expected = {COLOUR: "<c>blau ü</c>"}
        assert world.vault.properties(tx, file) == expected
        assert listed(tx) == {"a": expected, "b": {}}
        world.vault.put_properties(tx, file, {})
        assert listed(tx) == {"a": {}, "b": {}}


def test_properties_have_a_limit(world: World) -> None:
    """64 KiB for a node; what it had before stays."""
    world.write("/docs/a", b"x")
    with world.catalog.begin() as tx:
        file = world.node(tx, "/docs/a")
        world.vault.put_properties(tx, file, {COLOUR: "red"})
        with pytest.raises(LimitError):
            world.vault.put_properties(tx, file, {COLOUR: "x" * PROPERTIES_LIMIT_BYTES})
        assert world.vault.properties(tx, file) == {COLOUR: "red"}


def test_what_a_failed_transaction_did_is_gone(world: World) -> None:
    """A crash between the steps of one operation leaves the tree as it was."""
    world.write("/docs/a", b"x")

    def half_done() -> None:
        with world.catalog.begin() as tx:
            docs = world.node(tx, "/docs")
            world.vault.add_folder(tx, docs, "f", author="p1")
            world.vault.delete(tx, world.node(tx, "/docs/a"), author="p1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_done()
    assert world.names("/docs") == ["a"]
    assert world.counters("docs") == (1, 1)


def test_everything_is_there_after_a_restart(world: World) -> None:
    """Another set of objects over the same catalog and blobs reads the same."""
    world.mkdir("/docs/f")
    world.write("/docs/f/a", BIG)
    world.restart()
    with world.catalog.begin() as tx:
        assert world.shares.create_missing(tx, world.clock) == []
    assert world.read("/docs/f/a") == BIG


def test_another_master_key_opens_no_share(world: World) -> None:
    """Even when the check of its id was passed by."""
    world.restart(MasterKey(b"x" * 32))
    with world.catalog.snapshot() as tx, pytest.raises(KeyUnavailableError):
        world.vault.find(tx, VirtualPath.parse("/docs"))


def test_canaries_appear_nowhere_in_the_catalog_or_the_blobs(tmp_path: Path) -> None:
    """Names, contents and properties, in any encoding a person would search for."""
    canary = "KANARIENVOGEL"
    with running_world(tmp_path) as world:
        world.mkdir(f"/docs/{canary}-folder")
        world.write(f"/docs/{canary}-folder/{canary}.txt", canary.encode() * 10)
        world.write(f"/docs/{canary}-big", canary.encode() * 10_000)
        with world.catalog.begin() as tx:
            file = world.node(tx, f"/docs/{canary}-big")
            world.vault.put_properties(tx, file, {PropertyName("urn:x", canary): canary})
            world.vault.move(tx, file, world.node(tx, "/docs"), f"{canary}-moved", author="p1")
        stored = b"".join(file.read_bytes() for file in sorted(tmp_path.glob("catalog*")))
        for blob_id, _ in world.store.listing():
            stored += world.store.read(blob_id, 0, 1 << 30)
    stored += (tmp_path / "catalog.sqlite").read_bytes()
    assert len(stored) > 100_000
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        assert canary.encode(encoding) not in stored
        assert canary.lower().encode(encoding) not in stored
    assert canary.encode().hex().encode() not in stored
    assert world.master._key not in stored
