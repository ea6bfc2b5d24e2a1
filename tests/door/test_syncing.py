"""Making durable what a file holds so far, and going on: what SFTP's fsync asks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.errors import NotFoundError, QuotaExceededError, StorageUnavailableError
from gateway.errors import LockedError, SealgateError
from gateway.handles import WriteHandle
from gateway.model import SECOND_US, Action, Wire
from gateway.monitor import Door
from tests.door.sharing import again, configure, content_after_a_crash, vault_of
from tests.door.support import FILE, Gate, at, get, names, opened, outline, put, staff, versions

EVERY_CATALOG = True

BIG = bytes(range(256)) * 1200
OTHER = "/radiology/other"
MIB = 1 << 20


@pytest.fixture
def alice(gate: Gate) -> Door:
    """By SFTP, the only one to have it."""
    return gate.door("alice", wire=Wire.SFTP)


def sizes(door: Door, path: str = FILE) -> list[int]:
    """Return the sizes of a file's versions, newest first."""
    return [version.size_bytes for version in door.versions(at(path))]


def require_sound(gate: Gate, share: str = "radiology") -> None:
    """Have the share's rows counted and verified, and compared with its sealed state."""
    vault = vault_of(gate)
    with gate.catalog.snapshot() as tx:
        rows = vault.scrub.rows(tx, share, lambda _count: None)
    assert rows.findings == ()
    assert rows.sound


@pytest.mark.parametrize("content", [b"small", BIG], ids=len)
def test_what_was_synced_survives_a_crash(
    gate: Gate, alice: Door, bob: Door, content: bytes
) -> None:
    """It is the current version, for all; what came later is not there."""
    handle = opened(alice, content=content)
    handle.sync()
    handle.append(b"lost")
    assert get(bob, FILE) == content
    if gate.catalog.dialect == "sqlite":
        assert content_after_a_crash(gate) == content
    handle.abort()
    assert get(bob, FILE) == content
    require_sound(gate)


def test_versions_of_one_files_syncs_replace_each_other(gate: Gate, alice: Door) -> None:
    """Of a program that syncs all day its file's history keeps one version, the last."""
    put(alice, FILE, b"old")
    handle = again(alice)
    for number in range(5):
        gate.clock.forward(1)
        handle.write_at(3 + number, b"x")
        handle.sync()
        assert sizes(alice) == [4 + number, 3]
    handle.append(b"end")
    handle.commit()
    assert sizes(alice) == [11, 3]
    assert get(alice, FILE) == b"oldxxxxxend"
    require_sound(gate)


def test_a_close_without_a_change_keeps_the_version_of_the_sync(gate: Gate, alice: Door) -> None:
    """An editor that syncs and closes has made one version, which later handles do not replace."""
    first, second = opened(alice, content=b"edited"), again(alice)
    first.sync()
    first.commit()
    assert versions(gate) == 1
    second.append(b" again")
    second.commit()
    assert sizes(alice) == [12, 6]


def test_versions_of_closes_are_never_replaced(alice: Door) -> None:
    """Nor those of other handles' syncs, once they are closed."""
    first, second, third = opened(alice, content=b"1"), again(alice), again(alice)
    first.commit()
    second.append(b"2")
    second.sync()
    second.append(b"3")
    second.commit()
    third.append(b"4")
    third.sync()
    third.commit()
    assert sizes(alice) == [4, 3, 1]


def test_a_version_that_others_have_built_upon_stays(gate: Gate, alice: Door, bob: Door) -> None:
    """What somebody else has seen and changed belongs to their history too."""
    handle = opened(alice, content=b"synced")
    handle.sync()
    put(bob, FILE, b"by bob!")
    handle.append(b" on")
    handle.sync()
    handle.append(b".")
    handle.commit()
    assert sizes(alice) == [10, 7, 6]
    require_sound(gate)


def test_a_sync_is_one_record_with_what_came_since_the_last(gate: Gate, alice: Door) -> None:
    """And none where nothing has changed since; then there is no version either."""
    handle = opened(alice, content=b"123")
    handle.sync()
    handle.sync()
    handle.append(b"45")
    handle.sync()
    handle.append(b"6")
    handle.commit()
    records = gate.new_records()
    assert outline(records) == [("create", "ok"), ("write", "ok"), ("write", "ok")]
    assert [record["bytes"] for record in records] == [3, 2, 1]
    assert len({record["version_id"] for record in records}) == 3
    assert versions(gate) == 1


def test_a_sync_of_an_unchanged_file_changes_nothing(gate: Gate, alice: Door) -> None:
    """What it holds is durable already."""
    put(alice, FILE, b"old")
    before = gate.content()
    gate.new_records()
    again(alice).sync()
    assert gate.new_records() == []
    assert gate.content()["versions"] == before["versions"]


def test_a_sync_keeps_the_time_that_was_set(gate: Gate, alice: Door) -> None:
    """Of an unchanged file too; the next change has its own."""
    put(alice, FILE, b"old")
    handle = again(alice)
    handle.set_modified(7 * SECOND_US)
    handle.sync()
    assert gate.door("bob").stat(at(FILE)).modified_us == 7 * SECOND_US
    handle.append(b"!")
    handle.sync()
    assert gate.door("bob").stat(at(FILE)).modified_us == gate.clock()
    assert sizes(alice) == [4, 3]


@pytest.mark.parametrize("versions_keep", [0, 1, 30])
def test_syncs_fit_a_share_that_holds_the_file_twice(
    gate: Gate, alice: Door, versions_keep: int
) -> None:
    """Each replaces the one before in the same moment, so there is room for any number."""
    configure(gate, "small", quota_bytes=1000, versions_keep=versions_keep)
    put(alice, "/small/a", b"x" * 400)
    handle = again(alice, "/small/a")
    for number in range(4):
        handle.write_at(number, b"y")
        gate.clock.forward(2)
        handle.sync()
    handle.commit()
    assert get(alice, "/small/a") == b"y" * 4 + b"x" * 396
    assert sizes(alice, "/small/a") == [400, 400][: versions_keep + 1]
    require_sound(gate, "small")


def test_a_sync_that_fails_fails_the_file(gate: Gate, alice: Door, bob: Door) -> None:
    """Its close fails too, and what was stored before stays."""
    first, second = opened(alice, content=b"stored"), again(alice)
    first.sync()
    lock, _ = bob.lock(at(FILE), exclusive=True, depth_infinity=False, owner="<o/>", timeout_s=60)
    first.append(b" lost")
    with pytest.raises(LockedError):
        first.sync()
    bob.unlock(at(FILE), lock.token)
    gate.new_records()
    attempts: tuple[Callable[[], object], ...] = (first.sync, first.commit, second.commit)
    for attempt in attempts:
        with pytest.raises(StorageUnavailableError):
            attempt()
    assert outline(gate.new_records()) == [("write", "aborted")] * 2
    assert get(alice, FILE) == b"stored"
    require_sound(gate)


def test_a_version_stays_when_the_one_that_would_replace_it_fails(gate: Gate, alice: Door) -> None:
    """Both happen in one transaction, or neither."""
    configure(gate, "small", quota_bytes=1000)
    handle = opened(alice, "/small/a", b"x" * 600)
    handle.sync()
    handle.append(b"x" * 500)
    with pytest.raises(QuotaExceededError):
        handle.sync()
    handle.abort()
    assert sizes(alice, "/small/a") == [600]
    assert get(alice, "/small/a") == b"x" * 600
    require_sound(gate, "small")


def test_the_room_of_an_upload_is_reserved_anew_after_a_sync(gate: Gate, alice: Door) -> None:
    """What was synced gives its room to what replaces it."""
    configure(gate, "small", quota_bytes=8 * MIB)
    handle = opened(alice, "/small/a", b"x" * 3 * MIB)
    gate.clock.forward(1)
    handle.append(b"x" * MIB)
    handle.sync()
    assert gate.sql("SELECT * FROM reservations") == []
    handle.append(b"x" * 3 * MIB)
    gate.clock.forward(1)
    handle.append(b"x")
    assert gate.sql("SELECT size_bytes FROM reservations") == [(4 * MIB,)]
    handle.commit()
    assert gate.sql("SELECT * FROM reservations") == []
    assert sizes(alice, "/small/a") == [7 * MIB + 1]


def test_who_may_only_create_may_sync_what_they_make(gate: Gate) -> None:
    """Until its close; then it is a file that is there, and theirs to change no more."""
    dora = gate.door("dora", wire=Wire.SFTP)
    handle = opened(dora, "/inbox/scan", b"one")
    handle.sync()
    gate.clock.forward(2)
    handle.append(b" two")
    handle.sync()
    handle.append(b" three")
    handle.commit()
    assert get(gate.door("alice"), "/inbox/scan") == b"one two three"
    assert sizes(gate.door("alice"), "/inbox/scan") == [13]


def test_policy_is_asked_at_every_sync(gate: Gate, alice: Door) -> None:
    """A right that is gone stores nothing any more."""
    put(alice, FILE, b"old")
    handle = opened(alice)
    gate.policy.replace(staff(without=frozenset({Action.WRITE})))
    gate.new_records()
    with pytest.raises(SealgateError):
        handle.sync()
    assert outline(gate.new_records())[-1] == ("write", "denied")
    gate.policy.replace(staff())
    handle.abort()
    assert get(alice, FILE) == b"old"


def test_an_upload_that_is_cut_after_a_sync_leaves_what_was_synced(gate: Gate, alice: Door) -> None:
    """That is the file now, for its uploader too: what came since is an edit, and goes."""
    handle = opened(alice, content=BIG)
    handle.sync()
    handle.append(b"more")
    gate.new_records()
    handle.suspend("disconnected")
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["bytes"]) == ("write", "aborted", 4)
    assert get(alice, FILE) == get(gate.door("bob"), FILE) == BIG
    assert gate.sql("SELECT count(*) FROM unfinished") == [(0,)]


def test_a_cut_upload_that_goes_on_and_is_synced_is_finished(gate: Gate, alice: Door) -> None:
    """Its unfinished part goes with the first version."""
    opened(alice, content=BIG).suspend("disconnected")
    handle = alice.open_write(at(FILE), keep=True)
    handle.sync()
    assert names(gate.door("bob"), "/radiology") == []
    handle.append(b"more")
    handle.sync()
    assert gate.sql("SELECT count(*) FROM unfinished") == [(0,)]
    handle.append(b" and more")
    handle.commit()
    assert get(alice, FILE) == BIG + b"more and more"
    assert sizes(alice) == [len(BIG) + 13]


def test_a_reader_of_the_own_file_can_sync_it(gate: Gate, alice: Door) -> None:
    """A client may ask it of any handle on a file; for what is stored there is nothing to do."""
    handle = opened(alice, content=b"own")
    reader = alice.open_read(at(FILE))
    reader.sync()
    assert get(gate.door("bob"), FILE) == b"own"
    handle.append(b"!")
    handle.commit()
    reader.sync()
    alice.open_read(at(FILE)).sync()
    assert reader.read_at(0, 10) == b"own!"


def test_a_synced_file_is_renamed_and_replaced(gate: Gate, alice: Door) -> None:
    """Its versions go with it; a rename over another makes one that is not replaced."""
    put(alice, OTHER, b"other")
    handle = opened(alice, content=b"1")
    handle.sync()
    alice.move(at(FILE), at("/radiology/renamed"))
    handle.append(b"2")
    handle.sync()
    assert sizes(alice, "/radiology/renamed") == [2]
    alice.move(at("/radiology/renamed"), at(OTHER), replace=True)
    handle.append(b"3")
    handle.sync()
    handle.commit()
    assert sizes(alice, OTHER) == [3, 2, 5]
    assert names(alice, "/radiology") == ["other"]
    require_sound(gate)


def test_a_synced_file_that_others_delete_is_made_anew(gate: Gate, alice: Door, bob: Door) -> None:
    """By the next change; without one it stays deleted."""
    handle = opened(alice, content=b"1")
    handle.sync()
    bob.delete(at(FILE))
    handle.sync()
    with pytest.raises(NotFoundError):
        bob.stat(at(FILE))
    handle.append(b"2")
    handle.commit()
    assert get(bob, FILE) == b"12"
    require_sound(gate)


@pytest.mark.parametrize("end", [WriteHandle.commit, WriteHandle.abort])
def test_a_handle_that_is_over_syncs_nothing(
    alice: Door, end: Callable[[WriteHandle], object]
) -> None:
    """It must be opened again."""
    handle = opened(alice)
    end(handle)
    with pytest.raises(StorageUnavailableError):
        handle.sync()


def test_what_was_replaced_is_read_on_by_who_has_it_open(alice: Door, bob: Door) -> None:
    """As any version that is cleared away."""
    handle = opened(alice, content=BIG)
    handle.sync()
    reader = bob.open_read(at(FILE))
    handle.write_at(0, b"y" * len(BIG))
    handle.commit()
    assert reader.read_at(0, len(BIG)) == BIG
