"""Unfinished uploads as the vault keeps them: sealed, owned by one principal, for a day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.catalog.sqlite import CATALOG_FILE
from backends.errors import ConflictError, IntegrityError
from backends.unfinished import BATCH_LIMIT, KEEP_US, UnfinishedUpload
from backends.vault import Node
from gateway.model import Kind
from gateway.paths import VirtualPath
from tests.backends.acts import delete, history, require_sound
from tests.backends.world import SETTINGS, World, running_world, sample

BIG = sample(200_000, "big")
PARTS = [b"", b"some bytes", BIG]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Every test leaves a ledger that holds, and no version that belongs to nothing."""
    with running_world(tmp_path) as made:
        yield made
        for share in SETTINGS:
            require_sound(made, share)


@pytest.mark.parametrize("content", PARTS, ids=len)
def test_what_arrived_is_kept(world: World, content: bytes) -> None:
    """Under its own id, with size and times; the tree and its nodes know nothing of it."""
    kept = keep(world, content)
    info = kept.info(VirtualPath.parse("/docs/a"))
    assert (info.kind, info.size_bytes, info.modified_us) == (Kind.FILE, len(content), 7)
    assert (info.node_id, info.created_us) == (kept.id.hex(), world.clock())
    assert found(world) == content
    assert world.names("/docs") == []
    assert world.counters("docs") == (len(content), 0)


def test_only_its_uploader_finds_it_by_its_name_in_its_folder(world: World) -> None:
    """One for each folder, name and principal."""
    world.mkdir("/docs/f")
    keep(world, b"mine")
    keep(world, b"other", principal_id="p2")
    keep(world, b"elsewhere", folder="/docs/f")
    keep(world, b"second", name="b")
    assert found(world) == b"mine"
    assert found(world, principal_id="p2") == b"other"
    assert found(world, folder="/docs/f") == b"elsewhere"
    assert found(world, name="c") is None
    assert found(world, principal_id="p3") is None
    assert listed(world) == ["a", "b"]
    assert listed(world, principal_id="p2") == ["a"]
    assert listed(world, principal_id="p3") == []


def test_a_later_try_takes_the_place_of_an_earlier_one(world: World) -> None:
    """Its versions and its room with it."""
    keep(world, BIG)
    keep(world, b"second try")
    assert found(world) == b"second try"
    assert world.counters("docs") == (10, 0)


@pytest.mark.parametrize("swept", [True, False])
def test_a_try_after_a_day_takes_the_place_of_an_expired_one(world: World, swept: bool) -> None:
    """Whether or not the janitor has been there."""
    keep(world, BIG)
    world.clock.now_us += KEEP_US + 1
    if swept:
        assert expire(world) == 1
    keep(world, b"second try")
    assert found(world) == b"second try"
    assert world.counters("docs") == (10, 0)


@pytest.mark.parametrize("content", PARTS, ids=len)
def test_going_on_keeps_what_was_there(world: World, content: bytes) -> None:
    """Only what comes after is sealed and stored; cut off again, it is one upload still."""
    keep(world, content)
    blobs = set(world.store._blobs)
    more = sample(150_000, "more")
    with world.catalog.begin() as tx:
        docs = world.node(tx, "/docs")
        upload = upload_at(world, docs, "a", "p1")
        assert upload is not None
        draft = world.vault.draft(docs.share, world.vault.unfinished.open(tx, upload))
        draft.write_at(len(content), more)
        world.vault.unfinished.keep(
            tx,
            docs.share,
            docs.id,
            "a",
            draft.seal(),
            principal_id="p1",
            base_id=b"",
            modified_us=7,
        )
    assert found(world) == content + more
    assert blobs <= set(world.store._blobs)
    for _ in range(3):
        world.collect()
        world.clock.now_us += KEEP_US // 4
    assert found(world) == content + more
    assert world.counters("docs") == (len(content + more), 0)


@pytest.mark.parametrize("content", PARTS, ids=len)
def test_finishing_makes_one_version_of_it(world: World, content: bytes) -> None:
    """Which takes the segments over from the unfinished one."""
    keep(world, content)
    with world.catalog.begin() as tx:
        docs = world.node(tx, "/docs")
        upload = upload_at(world, docs, "a", "p1")
        assert upload is not None
        draft = world.vault.draft(docs.share, world.vault.unfinished.open(tx, upload))
        draft.write_at(len(content), b"the end")
        sealed = draft.seal()
        world.vault.unfinished.remove(tx, upload)
        world.vault.add_file(tx, docs, "a", sealed, modified_us=7, author="p1")
    assert found(world) is None
    assert history(world, "/docs/a") == [content + b"the end"]
    assert world.counters("docs") == (len(content) + 7, 1)
    for _ in range(3):
        world.collect()
        world.clock.now_us += 2 * KEEP_US
    assert history(world, "/docs/a") == [content + b"the end"]


def test_going_on_too_late_is_a_conflict(world: World) -> None:
    """What it was based on expired and was collected while it was written."""
    keep(world, BIG)
    with world.catalog.snapshot() as tx:
        docs = world.node(tx, "/docs")
        upload = upload_at(world, docs, "a", "p1")
        assert upload is not None
        draft = world.vault.draft(docs.share, world.vault.unfinished.open(tx, upload))
    world.clock.now_us += KEEP_US + 1
    expire(world)
    world.collect()
    world.clock.now_us += KEEP_US + 1
    world.collect()
    draft.write_at(len(BIG) // 65_536 * 65_536 + 65_536, b"more")
    sealed = draft.seal()
    with pytest.raises(ConflictError), world.catalog.begin() as tx:
        world.vault.add_file(tx, docs, "a", sealed, modified_us=7, author="p1")
    draft.discard()


def test_after_a_day_it_is_gone(world: World) -> None:
    """To the microsecond from sight, and from the catalog when the janitor comes."""
    keep(world, BIG)
    world.clock.now_us += KEEP_US - 1
    assert expire(world) == 0
    assert found(world) == BIG
    world.clock.now_us += 1
    assert found(world) is None
    assert listed(world) == []
    world.clock.now_us += 1
    assert expire(world) == 1
    assert world.counters("docs") == (0, 0)
    world.collect()
    world.clock.now_us += KEEP_US + 1
    world.collect()
    assert world.store._blobs == {}


def test_each_share_expires_its_own_in_batches(world: World) -> None:
    """However many there are."""
    for number in range(BATCH_LIMIT + 1):
        keep(world, b"x", name=f"{number}")
    keep(world, b"x", folder="/kept")
    world.clock.now_us += KEEP_US + 1
    assert [expire(world) for _ in range(3)] == [BATCH_LIMIT, 1, 0]
    with world.catalog.snapshot() as tx:
        assert world.vault.usage(tx, "kept").used_bytes == 1


def test_it_outlives_the_process(world: World) -> None:
    """Nothing of it lies in memory."""
    keep(world, BIG)
    world.restart()
    assert found(world) == BIG


def test_it_does_no_harm_when_its_folder_goes(world: World) -> None:
    """It waits where nobody can look, and expires like any other."""
    world.mkdir("/docs/f")
    keep(world, BIG, folder="/docs/f")
    delete(world, "/docs/f")
    assert world.counters("docs") == (len(BIG), 0)
    world.clock.now_us += KEEP_US + 1
    assert expire(world) == 1
    assert world.counters("docs") == (0, 0)


def test_nothing_of_it_lies_readable(world: World, tmp_path: Path) -> None:
    """Neither its name nor what arrived, in the catalog or in the blob store."""
    keep(world, b"SECRET CONTENT", name="SECRET NAME")
    keep(world, b"SECRET CONTENT" * 10_000, name="SECRET TOO")
    world.vault.close()
    for file in tmp_path.glob(f"{CATALOG_FILE}*"):
        assert b"SECRET" not in file.read_bytes()
    assert all(b"SECRET" not in blob for blob in world.store._blobs.values())


@pytest.mark.parametrize(
    "change",
    [
        "principal_id = 'p2'",
        "size_bytes = size_bytes + 1",
        "expires_us = expires_us + 1",
        "modified_us = -1",
        "version_id = zeroblob(16)",
        "id = zeroblob(16)",
        "mac = zeroblob(32)",
    ],
)
def test_an_edited_row_is_passed_over(world: World, change: str) -> None:
    """Nobody's upload becomes somebody else's, or lives for ever, by the catalog's hand."""
    keep(world, BIG)
    before = dump(world)
    with world.catalog.begin() as tx:
        tx.connection.execute(f"UPDATE unfinished SET {change}")
    principal_id = "p2" if "principal_id" in change else "p1"
    assert found(world, principal_id=principal_id) is None
    assert not listed(world, principal_id=principal_id)
    with world.catalog.begin() as tx:
        tx.connection.execute("DELETE FROM unfinished")
        marks = ", ".join("?" * len(before[0]))
        tx.connection.executemany(f"INSERT INTO unfinished VALUES ({marks})", before)


def test_the_version_of_a_node_is_no_upload(world: World) -> None:
    """Its content opens only by the upload that it belongs to."""
    world.write("/docs/secret", BIG)
    kept = keep(world, b"mine")
    with world.catalog.snapshot() as tx:
        stolen = world.node(tx, "/docs/secret").row.version_id
        forged = UnfinishedUpload(kept.share, kept.row._replace(version_id=stolen), "a")
        with pytest.raises(IntegrityError):
            world.vault.unfinished.open(tx, forged)


def keep(
    world: World,
    content: bytes,
    *,
    folder: str = "/docs",
    name: str = "a",
    principal_id: str = "p1",
) -> UnfinishedUpload:
    """Keep ``content`` as what arrived of an upload."""
    with world.catalog.begin() as tx:
        node = world.node(tx, folder)
        draft = world.vault.draft(node.share, None)
        draft.write_at(0, content)
        return world.vault.unfinished.keep(
            tx,
            node.share,
            node.id,
            name,
            draft.seal(),
            principal_id=principal_id,
            base_id=b"",
            modified_us=7,
        )


def upload_at(world: World, folder: Node, name: str, principal_id: str) -> UnfinishedUpload | None:
    with world.catalog.snapshot() as tx:
        return world.vault.unfinished.find(
            tx, folder.share, folder.id, name, principal_id=principal_id
        )


def found(
    world: World, *, folder: str = "/docs", name: str = "a", principal_id: str = "p1"
) -> bytes | None:
    """Return what arrived of an upload, None when the principal has none there."""
    with world.catalog.snapshot() as tx:
        upload = upload_at(world, world.node(tx, folder), name, principal_id)
        if upload is None:
            return None
        content = world.vault.unfinished.open(tx, upload)
    assert content.size_bytes == upload.row.size_bytes
    return content.read_at(0, content.size_bytes)


def listed(world: World, principal_id: str = "p1") -> list[str]:
    with world.catalog.snapshot() as tx:
        docs = world.node(tx, "/docs")
        uploads = world.vault.unfinished.in_folder(
            tx, docs.share, docs.id, principal_id=principal_id
        )
    return sorted(one.name for one in uploads)


def expire(world: World, share: str = "docs") -> int:
    with world.catalog.begin() as tx:
        return world.vault.unfinished.expire_next(tx, world.vault.share(tx, share))


def dump(world: World) -> list[tuple[object, ...]]:
    with world.catalog.snapshot() as tx:
        return list(tx.connection.execute("SELECT * FROM unfinished").fetchall())
