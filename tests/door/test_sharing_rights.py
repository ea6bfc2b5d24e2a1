"""Handles that share a file: who may have one, and what is read beside them."""

from __future__ import annotations

import pytest

from backends.errors import IsAFolderError, StorageUnavailableError
from gateway.errors import DeniedError, LockedError, SessionEndedError
from gateway.model import Action, Wire
from gateway.monitor import Door
from tests.door.sharing import again, configure
from tests.door.support import (
    FILE,
    IDLE_TIMEOUT_S,
    Gate,
    at,
    get,
    opened,
    outline,
    put,
    staff,
    versions,
)

BIG = b"x" * 300_000


@pytest.fixture
def alice(gate: Gate) -> Door:
    """By SFTP, whose clients open a file again before its close has arrived."""
    return gate.door("alice", wire=Wire.SFTP)


# Who may


def test_policy_is_asked_at_every_open(gate: Gate, alice: Door) -> None:
    """A refusal leaves its record, and the open handles as they were."""
    first = opened(alice)
    gate.policy.replace(staff(without=frozenset({Action.CREATE})))
    gate.new_records()
    with pytest.raises(DeniedError):
        again(alice)
    assert outline(gate.new_records()) == [("create", "denied")]
    gate.policy.replace(staff())
    first.append(b"!")
    first.commit()
    assert get(alice, FILE) == b"new!"


def test_locks_are_looked_at_at_every_open(alice: Door, bob: Door) -> None:
    """A WebDAV lock binds SFTP here too."""
    put(alice, FILE)
    first = again(alice)
    bob.lock(at(FILE), exclusive=True, depth_infinity=False, owner="<o/>", timeout_s=60)
    with pytest.raises(LockedError):
        again(alice)
    first.abort()


def test_a_folder_that_came_between_refuses_a_further_open(alice: Door, bob: Door) -> None:
    """As it will the commit."""
    first = opened(alice)
    bob.mkdir(at(FILE))
    with pytest.raises(IsAFolderError):
        again(alice)
    first.abort()


def test_the_right_to_create_lasts_until_the_last_close(gate: Gate) -> None:
    """Whoever may only drop files closes all handles on the one that they are making."""
    dora = gate.door("dora", wire=Wire.SFTP)
    first = opened(dora, "/inbox/scan", b"one")
    second = again(dora, "/inbox/scan")
    first.commit()
    gate.clock.forward(2)
    second.append(b" two")
    second.commit()
    assert get(gate.door("alice"), "/inbox/scan") == b"one two"
    with pytest.raises(DeniedError):
        again(dora, "/inbox/scan")


def test_the_right_to_create_does_not_replace_what_others_wrote(gate: Gate) -> None:
    """Not even through a handle that made the file."""
    dora = gate.door("dora", wire=Wire.SFTP)
    first = opened(dora, "/inbox/scan", b"one")
    second = again(dora, "/inbox/scan")
    first.commit()
    put(gate.door("alice"), "/inbox/scan", b"by alice")
    second.append(b" two")
    with pytest.raises(DeniedError):
        second.commit()
    assert get(gate.door("alice"), "/inbox/scan") == b"by alice"


def test_each_handle_needs_the_right_to_read_what_was_there(gate: Gate, alice: Door) -> None:
    """Each reading back is a read with its end."""
    put(alice, FILE, b"old content")
    first, second = again(alice), again(alice)
    gate.new_records()
    for handle in (first, second):
        assert handle.read_at(0, 3) == b"old"
        handle.commit()
    reads = [("read", "ok"), ("write", "ok"), ("read_end", "ok")]
    assert outline(gate.new_records()) == reads * 2


@pytest.mark.parametrize("how", ["another session", "webdav", "a size"])
def test_nothing_else_is_shared(gate: Gate, alice: Door, how: str) -> None:
    """Other sessions, WebDAV, and opens that say what the content must be have it alone."""
    door = {"another session": gate.door("alice", wire=Wire.SFTP)}.get(how, alice)
    if how == "webdav":
        door = alice = gate.door("alice")
    put(alice, FILE, b"old")
    first = opened(alice, content=b"first")
    if how == "a size":
        second = door.open_write(at(FILE), expected_size=3)
        second.write_at(0, b"old")
    else:
        second = again(door)
    assert second.read_at(0, 10) == b"old"
    assert first.read_at(0, 10) == b"first"
    first.abort()
    second.abort()


def test_what_must_be_of_a_size_is_joined_by_nobody(alice: Door) -> None:
    """What such a handle commits is what it was sent, and nothing else."""
    first = alice.open_write(at(FILE), expected_size=5)
    first.write_at(0, b"first")
    second = alice.open_write(at(FILE), keep=True)
    assert second.size_bytes == 0
    first.commit()
    second.abort()
    assert get(alice, FILE) == b"first"


def test_every_handle_keeps_the_session_alive(gate: Gate, alice: Door) -> None:
    """And when it has ended, all of them are over."""
    first, second = opened(alice), again(alice)
    for handle in (first, second) * 2:
        gate.clock.forward(IDLE_TIMEOUT_S - 1)
        handle.append(b"x")
    assert gate.alive(alice.session)
    gate.clock.forward(IDLE_TIMEOUT_S)
    for handle in (first, second):
        with pytest.raises(SessionEndedError):
            handle.append(b"x")


# Reading beside


def test_a_reader_follows_what_its_session_writes(gate: Gate, alice: Door, bob: Door) -> None:
    """Through a close of one handle, and after that of the last: then it reads what was stored."""
    first, second = opened(alice, content=b"one"), again(alice)
    reader = alice.open_read(at(FILE))
    assert reader.read_at(0, 10) == b"one"
    first.commit()
    second.append(b" two")
    assert reader.read_at(0, 10) == b"one two"
    assert reader.present_info.size_bytes == reader.size_bytes == 7
    second.commit()
    put(bob, FILE, b"by bob")
    assert reader.read_at(4, 10) == b"two"
    assert reader.size_bytes == 7
    gate.new_records()
    reader.close()
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["bytes"]) == ("read_end", "ok", 13)


@pytest.mark.parametrize("content", [b"small", BIG], ids=len)
def test_a_reader_reads_on_though_no_old_version_is_kept(
    gate: Gate, alice: Door, bob: Door, content: bytes
) -> None:
    """As one does that was opened after the close."""
    configure(gate, "radiology", versions_keep=0)
    first = opened(alice, content=content)
    reader = alice.open_read(at(FILE))
    first.commit()
    put(bob, FILE, b"by bob")
    assert versions(gate) == 1
    assert reader.read_at(0, len(content)) == content


def test_a_reader_of_what_was_never_stored_is_told_so(alice: Door) -> None:
    """There is nothing that it could read."""
    first = opened(alice)
    reader = alice.open_read(at(FILE))
    first.abort()
    with pytest.raises(StorageUnavailableError):
        reader.read_at(0, 10)


def test_a_reader_without_the_right_to_read_sees_the_own_file_alone(gate: Gate) -> None:
    """What somebody else has written since is not shown through it."""
    dora = gate.door("dora", wire=Wire.SFTP)
    first = opened(dora, "/inbox/scan", b"by dora")
    reader = dora.open_read(at("/inbox/scan"))
    first.commit()
    put(gate.door("alice"), "/inbox/scan", b"by alice")
    assert reader.read_at(0, 10) == b"by dora"
