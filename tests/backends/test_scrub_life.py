"""Scrubbing after a random life: in every kind of catalog everything verifies, and is cared for."""

from __future__ import annotations

import random

import pytest

from backends.catalog import segments
from backends.catalog.segments import Due
from backends.errors import QuotaExceededError
from backends.scrub.reading import digest_of
from backends.share import ShareSettings
from gateway.model import SECOND_US
from gateway.paths import VirtualPath
from tests.backends.scrubbing import DAY_US, FAST, all_due, judged, prop
from tests.backends.world import BLOCK, World, sample

EVERY_CATALOG = True


@pytest.mark.parametrize("seed", range(4))
def test_a_random_life_leaves_everything_clean(world: World, seed: int) -> None:
    """Writes, moves, copies, deletions, restorations, purges, rotation, pruning and expiry."""
    dice = random.Random(seed)
    world.vault.configure(
        {"kept": ShareSettings("kept", trash_s=100, versions_keep=3, versions_for_s=500)}
    )
    for _ in range(120):
        world.clock.now_us += dice.randrange(30) * SECOND_US
        try:
            live(world, dice)
        except QuotaExceededError:
            continue
    rows = judged(world)
    assert rows.findings == ()
    assert rows.drift is not None
    assert not any(rows.drift)
    for each in all_due(world):
        assert world.vault.scrub.verify(each, FAST) > 0


def live(world: World, dice: random.Random) -> None:
    """Do one random thing in the share ``kept``."""
    vault = world.vault
    name, other = (dice.choice(("a", "b", "c", "d")) for _ in range(2))
    author = dice.choice(("p1", "p2"))
    step = dice.randrange(10)
    if step < 3:
        size = dice.choice((0, 10, 20_000, 3 * BLOCK))
        world.write(f"/kept/{name}", sample(size, f"{dice.random()}"), keep=dice.random() < 0.5)
        return
    with world.catalog.begin() as tx:
        root = world.node(tx, "/kept")
        node = vault.find(tx, VirtualPath.parse(f"/kept/{name}"))
        free = vault.find(tx, VirtualPath.parse(f"/kept/{other}")) is None
        if step == 3 and node is not None:
            vault.delete(tx, node, author=author)
        elif step == 4 and node is not None and free:
            vault.move(tx, node, root, other, author=author)
        elif step == 5 and node is not None and free:
            vault.copy(tx, node, root, other, author=author, deep=True)
        elif step == 6 and node is not None:
            vault.put_properties(tx, node, prop(other) if dice.random() < 0.7 else {})
        elif step == 7 and node is not None:
            kept = vault.past.versions(tx, node.row)
            version_id = bytes.fromhex(dice.choice(kept).version_id)
            vault.restore(tx, node, version_id, author=author)
        elif step == 8:
            earlier = vault.unfinished.find(tx, root.share, root.id, name, principal_id=author)
            if earlier is not None:
                vault.unfinished.remove(tx, earlier)
            draft = vault.draft(root.share, None)
            draft.write_at(0, sample(40_000, name))
            vault.unfinished.keep(
                tx,
                root.share,
                root.id,
                name,
                draft.seal(),
                principal_id=author,
                base_id=b"",
                modified_us=0,
            )
        else:
            files, _after = vault.prunable(tx, "kept", b"")
            vault.prune(tx, "kept", files)
            vault.purge_next(tx, "kept")
            vault.unfinished.expire_next(tx, root.share)


def test_segments_are_due_noted_quarantined_and_released(kept: World) -> None:
    """What the scrub asks of the catalog; what is unused is not read."""
    first, *others = all_due(kept)
    with kept.catalog.begin() as tx:
        segments.note_verified(tx, [first.row.id], kept.clock() + 1)
        kept.vault.scrub.quarantine(tx, others[0].row, "damaged")
    with kept.catalog.begin() as tx:
        span = Due(1 << 62, kept.clock())
        left = [*others[1:], first]
        assert [each.row.id for each in all_due(kept)] == [each.row.id for each in left]
        assert segments.due_bytes(tx, span) == sum(each.size_bytes for each in left)
        ((damage, _),) = kept.vault.scrub.quarantined(tx)
        segments.release(tx, damage.segment_id)
        assert kept.vault.scrub.foreign_rows(tx) == []
    assert len(all_due(kept)) == len(others) + 1
    assert list(kept.vault.scrub.strays(kept.catalog)) == [(len(others) + 1, 0)]


def test_missing_hashes_are_computed(kept: World) -> None:
    """The rows stay as right as they were."""
    with kept.catalog.snapshot() as tx:
        (row,) = kept.vault.scrub.unhashed(tx, "kept", b"", 9)
        version, content = kept.vault.scrub.opened(tx, row)
    with kept.catalog.begin() as tx:
        digest = digest_of(content, FAST)
        assert kept.vault.scrub.note_hash(tx, "kept", version, digest)
    assert judged(kept).findings == ()


def test_unused_segments_go_and_everything_else_stays(kept: World) -> None:
    """Whatever the catalog is kept in."""
    before = len(all_due(kept))
    with kept.catalog.begin() as tx:
        node = kept.node(tx, "/kept/big2")
        kept.vault.delete(tx, node, author="p1")
        kept.vault.past.purge(tx, kept.vault.past.in_trash(tx, node.share, node.id))
    for _ in range(2):
        kept.collect()
        kept.clock.now_us += 9 * DAY_US
    assert len(list(kept.store.listing())) == before - 1
    assert judged(kept).findings == ()
