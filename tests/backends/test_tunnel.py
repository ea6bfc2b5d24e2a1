"""Tunnelling: a name that is vacated and soon filled again goes on with its history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import gc
from backends.catalog import keys
from backends.errors import KeyUnavailableError
from backends.rotation import rotate_share
from backends.share import ShareSettings
from backends.tunnel import TUNNEL_US
from gateway.model import SECOND_US
from tests.backends.acts import (
    bring_back,
    delete,
    history,
    rename,
    require_sound,
    save,
    trash,
)
from tests.backends.world import SETTINGS, World, running_world, sample

ONE, TWO, THREE = b"one", sample(70_000, "two"), sample(200_000, "three")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Every test leaves a ledger that holds, and nothing that gc takes for used or unused."""
    with running_world(tmp_path) as made:
        yield made
        for share in SETTINGS:
            require_sound(made, share)


@pytest.mark.parametrize("share", ["docs", "kept"])
def test_renamed_away_and_written_anew(world: World, share: str) -> None:
    """The name keeps its history; what was renamed keeps its content, as a file of its own."""
    first = save(world, f"/{share}/a", ONE)
    later(world)
    save(world, f"/{share}/a", TWO)
    later(world)
    rename(world, f"/{share}/a", f"/{share}/a~")
    filled = save(world, f"/{share}/a", THREE)
    assert history(world, f"/{share}/a") == [THREE, TWO, ONE]
    assert history(world, f"/{share}/a~") == [TWO]
    assert filled.id != first.id
    assert filled.row.created_us == first.row.created_us
    assert world.counters(share) == (len(ONE) + 2 * len(TWO) + len(THREE), 2)


def test_deleted_and_written_anew(world: World) -> None:
    """What was deleted lives on as the past of what has its name; the trash has it no more."""
    save(world, "/kept/a", ONE)
    later(world)
    save(world, "/kept/a", TWO)
    delete(world, "/kept/a")
    save(world, "/kept/a", THREE)
    assert history(world, "/kept/a") == [THREE, TWO, ONE]
    assert trash(world) == []
    assert world.counters("kept") == (len(ONE) + len(TWO) + len(THREE), 1)


def test_deleted_where_there_is_no_trash(world: World) -> None:
    """Then a deletion is for good, and the name begins anew."""
    save(world, "/docs/a", ONE)
    delete(world, "/docs/a")
    save(world, "/docs/a", TWO)
    assert history(world, "/docs/a") == [TWO]
    assert world.counters("docs") == (len(TWO), 1)


@pytest.mark.parametrize("content", [ONE, TWO])
def test_renamed_away_and_another_renamed_in(world: World, content: bytes) -> None:
    """What comes in keeps its node and its own past too, and its content is the newest."""
    incoming = save(world, "/docs/tmp", b"draft")
    later(world)
    save(world, "/docs/a", content)
    later(world)
    save(world, "/docs/tmp", THREE)
    rename(world, "/docs/a", "/docs/a.old")
    filled = rename(world, "/docs/tmp", "/docs/a")
    assert filled.id == incoming.id
    assert history(world, "/docs/a") == [THREE, content, b"draft"]
    delete(world, "/docs/a.old")
    assert history(world, "/docs/a") == [THREE, content, b"draft"]


def test_what_comes_in_is_the_newest_though_it_is_older(world: World) -> None:
    """The current version comes first in the history, whenever it was written."""
    save(world, "/docs/tmp", ONE)
    later(world)
    save(world, "/docs/a", TWO)
    rename(world, "/docs/a", "/docs/b")
    rename(world, "/docs/tmp", "/docs/a")
    assert history(world, "/docs/a") == [ONE, TWO]
    later(world)
    save(world, "/docs/a", THREE)
    assert history(world, "/docs/a") == [THREE, ONE, TWO]


def test_a_copy_to_the_name_goes_on_with_its_history(world: World) -> None:
    """As any other way to fill it."""
    save(world, "/docs/a", ONE)
    save(world, "/docs/b", TWO)
    rename(world, "/docs/a", "/docs/a~")
    with world.catalog.begin() as tx:
        docs, source = world.node(tx, "/docs"), world.node(tx, "/docs/b")
        world.vault.copy(tx, source, docs, "a", author="p1", deep=True)
    assert history(world, "/docs/a") == [TWO, ONE]
    assert history(world, "/docs/b") == [TWO]


@pytest.mark.parametrize("vacate", ["rename", "delete"])
def test_never_across_principals(world: World, vacate: str) -> None:
    """Somebody else's new file is nobody's past, and the first one's chance is over."""
    node_id = save(world, "/kept/a", ONE).id
    if vacate == "rename":
        rename(world, "/kept/a", "/kept/a~")
    else:
        delete(world, "/kept/a")
    save(world, "/kept/a", TWO, "p2")
    assert history(world, "/kept/a") == [TWO]
    delete(world, "/kept/a", "p2")
    save(world, "/kept/a", THREE, "p1")
    assert history(world, "/kept/a") == [THREE]
    if vacate == "delete":
        bring_back(world, node_id, "/kept/a~")
    assert history(world, "/kept/a~") == [ONE]


@pytest.mark.parametrize(("wait_us", "expected"), [(0, [TWO, ONE]), (1, [TWO])])
def test_only_for_fifteen_seconds(world: World, wait_us: int, expected: list[bytes]) -> None:
    """To the microsecond."""
    save(world, "/docs/a", ONE)
    rename(world, "/docs/a", "/docs/a~")
    world.clock.now_us += TUNNEL_US + wait_us
    save(world, "/docs/a", TWO)
    assert history(world, "/docs/a") == expected


def test_a_forgotten_name_begins_anew(world: World) -> None:
    """The janitor forgets names whose time is over, and no others."""
    save(world, "/docs/a", ONE)
    save(world, "/docs/b", ONE)
    rename(world, "/docs/a", "/docs/a~")
    later(world, 10)
    rename(world, "/docs/b", "/docs/b~")
    later(world, 6)
    with world.catalog.begin() as tx:
        gc.forget(tx, world.clock())
        assert tx.connection.execute("SELECT count(*) FROM vacated").fetchone() == (1,)
    save(world, "/docs/a", TWO)
    save(world, "/docs/b", TWO)
    assert history(world, "/docs/a") == [TWO]
    assert history(world, "/docs/b") == [TWO, ONE]


def test_a_file_that_went_to_another_folder_keeps_its_past(world: World) -> None:
    """It was moved, not replaced: its old content must not stay behind for others to read."""
    world.mkdir("/docs/f")
    save(world, "/docs/a", ONE)
    rename(world, "/docs/a", "/docs/f/a")
    save(world, "/docs/a", TWO)
    assert history(world, "/docs/a") == [TWO]
    assert history(world, "/docs/f/a") == [ONE]


def test_the_same_name_in_another_folder_has_another_history(world: World) -> None:
    """A history belongs to a folder and a name."""
    world.mkdir("/docs/f")
    save(world, "/docs/a", ONE)
    rename(world, "/docs/a", "/docs/a~")
    save(world, "/docs/f/a", TWO)
    assert history(world, "/docs/f/a") == [TWO]


def test_a_folder_takes_no_history(world: World) -> None:
    """Neither a new one, nor does one that goes leave any."""
    save(world, "/docs/a", ONE)
    rename(world, "/docs/a", "/docs/a~")
    world.mkdir("/docs/a")
    assert history(world, "/docs/a~") == [ONE]
    save(world, "/docs/a/inside", TWO)
    rename(world, "/docs/a", "/docs/f")
    later(world, 16)
    save(world, "/docs/a", THREE)
    assert history(world, "/docs/a") == [THREE]
    assert history(world, "/docs/f/inside") == [TWO]


def test_a_clock_that_goes_back_ends_the_tunnel(world: World) -> None:
    """Nobody knows then how long the name was free; nothing is lost."""
    save(world, "/docs/a", ONE)
    rename(world, "/docs/a", "/docs/a~")
    world.clock.now_us -= 1
    save(world, "/docs/a", TWO)
    assert history(world, "/docs/a") == [TWO]
    assert history(world, "/docs/a~") == [ONE]


def test_a_history_stays_in_order_when_the_clock_goes_back(world: World) -> None:
    """What is saved now comes first, whatever the clock said when the rest was."""
    save(world, "/docs/a", ONE)
    world.clock.now_us -= 3600 * SECOND_US
    rename(world, "/docs/a", "/docs/a~")
    save(world, "/docs/a", TWO)
    save(world, "/docs/a", THREE)
    assert history(world, "/docs/a") == [THREE, TWO, ONE]


def test_a_name_vacated_twice(world: World) -> None:
    """Each time what had the name last hands on the whole history."""
    save(world, "/docs/a", ONE)
    rename(world, "/docs/a", "/docs/x")
    save(world, "/docs/a", TWO)
    rename(world, "/docs/a", "/docs/y")
    save(world, "/docs/a", THREE)
    assert history(world, "/docs/a") == [THREE, TWO, ONE]
    assert history(world, "/docs/x") == [ONE]
    assert history(world, "/docs/y") == [TWO]


def test_a_file_that_comes_back_to_its_name_is_as_before(world: World) -> None:
    """It has its history already, and keeps it to itself."""
    save(world, "/docs/a", ONE)
    later(world)
    save(world, "/docs/a", TWO)
    rename(world, "/docs/a", "/docs/b")
    rename(world, "/docs/b", "/docs/a")
    save(world, "/docs/b", THREE)
    assert history(world, "/docs/b") == [THREE]
    assert history(world, "/docs/a") == [TWO, ONE]


def test_a_name_that_was_left_long_ago_is_no_hindrance(world: World) -> None:
    """A file that came from its backup's name may go there again with the next save."""
    save(world, "/docs/a~", ONE)
    rename(world, "/docs/a~", "/docs/a")
    later(world, 16)
    rename(world, "/docs/a", "/docs/a~")
    save(world, "/docs/a", TWO)
    assert history(world, "/docs/a") == [TWO, ONE]


def test_saving_again_at_once_doubles_nothing(world: World) -> None:
    """An editor that keeps a backup under one name saves three times within fifteen seconds."""
    save(world, "/kept/a", ONE)
    for content in (TWO, THREE, b"four"):
        later(world)
        rename(world, "/kept/a", "/kept/a~")
        save(world, "/kept/a", content)
        delete(world, "/kept/a~")
    assert history(world, "/kept/a") == [b"four", THREE, TWO, ONE]
    assert len(trash(world)) == 1


def test_what_is_continued_is_pruned_as_ever(world: World) -> None:
    """However it grows, a history holds no more than the share keeps."""
    world.vault.configure({"docs": ShareSettings("docs", versions_keep=2)})
    for number in range(3):
        save(world, "/docs/a", sample(1000, str(number)))
        later(world)
    rename(world, "/docs/a", "/docs/a~")
    save(world, "/docs/a", THREE)
    expected = [THREE, sample(1000, "2"), sample(1000, "1")]
    assert history(world, "/docs/a") == expected
    assert world.counters("docs") == (len(THREE) + 3000, 2)
    world.vault.configure(SETTINGS)


def test_saving_in_a_full_share(world: World) -> None:
    """Where there is no room for the past it stays where it is, and the rename succeeds."""
    save(world, "/small/a", sample(45_000, "a"))
    save(world, "/small/tmp", sample(45_000, "b"))
    rename(world, "/small/a", "/small/a~")
    rename(world, "/small/tmp", "/small/a")
    assert world.counters("small") == (2 * 45_000, 2)
    assert len(history(world, "/small/a")) == 1


# What cannot be read, or was put there by somebody else


@pytest.mark.parametrize("vacate", ["rename", "delete"])
def test_an_edited_version_keeps_nobody_from_saving(world: World, vacate: str) -> None:
    """The past stays where it is, for whoever repairs it."""
    node_id = save(world, "/kept/a", ONE).id
    later(world)
    save(world, "/kept/a", TWO)
    with world.catalog.begin() as tx:
        mine = tx.connection.execute(
            "SELECT id, mac FROM versions WHERE size_bytes = ?", (len(ONE),)
        ).fetchone()
        tx.connection.execute("UPDATE versions SET mac = zeroblob(32) WHERE id = ?", mine[:1])
    if vacate == "rename":
        rename(world, "/kept/a", "/kept/a~")
    else:
        delete(world, "/kept/a")
    save(world, "/kept/a", THREE)
    assert history(world, "/kept/a") == [THREE]
    with world.catalog.begin() as tx:
        tx.connection.execute("UPDATE versions SET mac = ? WHERE id = ?", mine[::-1])
    if vacate == "delete":
        bring_back(world, node_id, "/kept/a~")
    assert history(world, "/kept/a~") == [TWO, ONE]


def test_a_damaged_current_content_keeps_nobody_from_saving(world: World) -> None:
    """It cannot be copied to the new file, so the old one keeps its past."""
    save(world, "/docs/a", ONE)
    later(world)
    save(world, "/docs/a", b"two")
    with world.catalog.begin() as tx:
        current = world.node(tx, "/docs/a").row.version_id
        tx.connection.execute(
            "UPDATE versions SET inline_sealed = zeroblob(length(inline_sealed)) WHERE id = ?",
            (current,),
        )
    rename(world, "/docs/a", "/docs/a~")
    save(world, "/docs/a", THREE)
    assert history(world, "/docs/a") == [THREE]
    with world.catalog.snapshot() as tx:
        assert len(world.vault.past.versions(tx, world.node(tx, "/docs/a~").row)) == 2


def test_a_past_whose_key_was_destroyed_keeps_nobody_from_saving(world: World) -> None:
    """What was erased stays erased, and the name goes on without it."""
    save(world, "/docs/a", ONE)
    with world.catalog.begin() as tx:
        share = world.vault.share(tx, "docs")
        rotate_share(tx, world.master, share.row, world.clock(), world.random_bytes)
        old = keys.epochs_of(tx, share.id)[0]
        keys.put_epoch(tx, old._replace(key_wrapped=None))
    rename(world, "/docs/a", "/docs/a~")
    save(world, "/docs/a", TWO)
    assert history(world, "/docs/a") == [TWO]
    with pytest.raises(KeyUnavailableError):
        world.read("/docs/a~")


@pytest.mark.parametrize("column", ["principal_id", "node_id", "vacated_us"])
def test_an_edited_note_hands_nobody_a_history(world: World, column: str) -> None:
    """Whoever can write to the catalog cannot make one principal's past another's."""
    save(world, "/docs/a", ONE)
    other = save(world, "/docs/secret", b"secret")
    rename(world, "/docs/a", "/docs/a~")
    forged = {"principal_id": "p2", "node_id": other.id, "vacated_us": world.clock() - 1}
    with world.catalog.begin() as tx:
        tx.connection.execute(f"UPDATE vacated SET {column} = ?", (forged[column],))
    save(world, "/docs/a", TWO, "p2" if column == "principal_id" else "p1")
    assert history(world, "/docs/a") == [TWO]
    assert history(world, "/docs/a~") == [ONE]
    assert history(world, "/docs/secret") == [b"secret"]


def test_what_was_restored_from_the_trash_keeps_its_history(world: World) -> None:
    """It is wanted where it is now: what fills its old name begins anew."""
    node_id = save(world, "/kept/a", ONE).id
    later(world)
    save(world, "/kept/a", TWO)
    delete(world, "/kept/a")
    bring_back(world, node_id, "/kept/b")
    save(world, "/kept/a", THREE)
    assert history(world, "/kept/a") == [THREE]
    assert history(world, "/kept/b") == [TWO, ONE]


def test_what_was_handed_over_outlives_the_file_that_had_it(world: World) -> None:
    """Segments stay as long as any version lies in them."""
    save(world, "/docs/a", TWO)
    rename(world, "/docs/a", "/docs/a~")
    save(world, "/docs/a", THREE)
    delete(world, "/docs/a~")
    for _ in range(3):
        assert world.collect() == 0
        later(world, 2 * 24 * 3600)
    assert history(world, "/docs/a") == [THREE, TWO]


def later(world: World, seconds: int = 1) -> None:
    world.clock.now_us += seconds * SECOND_US
