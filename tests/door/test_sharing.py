"""Several handles on one file in a session of SFTP: they share it, as POSIX has it."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from auth.policy import Policy
from backends.errors import AlreadyExistsError, QuotaExceededError
from gateway.errors import SealgateError
from gateway.model import Wire
from gateway.monitor import Door, Monitor
from tests.door.sharing import again, configure
from tests.door.support import FILE, Gate, at, get, opened, put

MIB = 1 << 20


@pytest.fixture
def alice(gate: Gate) -> Door:
    """By SFTP, whose clients open a file again before its close has arrived."""
    return gate.door("alice", wire=Wire.SFTP)


# One file


@pytest.mark.parametrize("old", [None, b"old content"])
@pytest.mark.parametrize("size", [10, 300_000])
def test_handles_see_what_the_others_write(alice: Door, old: bytes | None, size: int) -> None:
    """Bytes, sizes and cuts, whichever handle they come through."""
    if old is not None:
        put(alice, FILE, old)
    first = opened(alice, content=b"x" * size)
    second = again(alice)
    assert second.size_bytes == size
    second.write_at(2, b"second")
    assert first.read_at(0, 10) == b"xxsecondxx"
    first.write_at(size, b"end")
    assert second.read_at(size - 1, 10) == b"xend"
    second.truncate(4)
    assert first.size_bytes == alice.stat(at(FILE)).size_bytes == 4
    first.set_modified(7)
    assert second.present_info.modified_us == 7
    first.append(b"!")
    second.append(b"?")
    assert first.read_at(0, 10) == get(alice, FILE) == b"xxse!?"


def test_the_file_is_there_before_the_close_of_its_first_handle(alice: Door) -> None:
    """What sshfs does: the close of a new file may come after the next open of it."""
    first = opened(alice, content=b"0123456789")
    second = again(alice)
    first.commit()
    second.write_at(4, b"xy")
    second.commit()
    assert get(alice, FILE) == b"0123xy6789"


def test_an_edit_goes_on_upon_an_edit_that_is_still_open(alice: Door) -> None:
    """It would otherwise begin with the old content and undo the first one at its end."""
    put(alice, FILE, b"0123456789")
    first = again(alice)
    first.write_at(0, b"AB")
    second = again(alice)
    second.write_at(8, b"YZ")
    first.commit()
    second.commit()
    assert get(alice, FILE) == b"AB234567YZ"


def test_opening_to_truncate_cuts_the_file_for_all(alice: Door, bob: Door) -> None:
    """The first handle's close then commits what is there: nothing yet."""
    first = opened(alice, content=b"long content")
    second = alice.open_write(at(FILE))
    assert first.size_bytes == 0
    first.commit()
    assert get(bob, FILE) == b""
    second.write_at(0, b"new")
    second.commit()
    assert get(bob, FILE) == b"new"


@pytest.mark.parametrize("old", [None, b"old"])
def test_opening_a_file_that_must_be_new_is_refused(alice: Door, old: bytes | None) -> None:
    """For its session the name is taken as soon as it is being written."""
    if old is not None:
        put(alice, FILE, old)
    first = opened(alice)
    with pytest.raises(AlreadyExistsError):
        alice.open_write(at(FILE), replace=False)
    first.commit()
    assert get(alice, FILE) == b"new"


def test_a_file_that_had_to_be_new_may_be_joined(alice: Door) -> None:
    """It was new; and it is no obstacle to itself once it is there."""
    first = alice.open_write(at(FILE), replace=False)
    first.write_at(0, b"first")
    second = again(alice)
    first.commit()
    second.append(b" second")
    second.commit()
    assert get(alice, FILE) == b"first second"


def test_what_is_set_for_one_version_is_not_for_the_next(gate: Gate, alice: Door) -> None:
    """The time that a client gave goes with what was committed under it."""
    first, second = opened(alice), again(alice)
    first.set_modified(7)
    assert first.commit().modified_us == 7
    assert second.present_info.modified_us == 7
    second.append(b"more")
    assert second.commit().modified_us == gate.clock()


# Room


def test_the_room_of_an_upload_comes_back_with_each_close(gate: Gate, alice: Door) -> None:
    """A reservation belongs to what is still to be committed."""
    configure(gate, "small", quota_bytes=20 * MIB)
    first, second = opened(alice, "/small/a", b"x" * 2 * MIB), again(alice, "/small/a")
    gate.clock.forward(1)
    first.append(b"x")
    assert gate.sql("SELECT count(*) FROM reservations") == [(1,)]
    first.commit()
    assert gate.sql("SELECT count(*) FROM reservations") == [(0,)]
    gate.clock.forward(1)
    second.append(b"x")
    gate.clock.forward(1)
    second.append(b"x")
    assert gate.sql("SELECT count(*) FROM reservations") == [(1,)]
    second.abort()
    assert gate.sql("SELECT count(*) FROM reservations") == [(0,)]


@pytest.mark.parametrize("kept", [0, 30])
def test_the_next_version_needs_room_of_its_own(gate: Gate, alice: Door, kept: int) -> None:
    """Unless the share keeps no old ones: then the one before makes room for it."""
    configure(gate, "small", quota_bytes=1000, versions_keep=kept)
    first, second = opened(alice, "/small/a", b"x" * 600), again(alice, "/small/a")
    first.commit()
    second.write_at(0, b"y")
    gate.clock.forward(1)
    if kept:
        with pytest.raises(QuotaExceededError):
            second.write_at(1, b"y")
        with pytest.raises(SealgateError):
            second.commit()
    else:
        second.write_at(1, b"y")
        second.commit()


def test_reading_through_a_handle_needs_no_room(gate: Gate, alice: Door) -> None:
    """A file that fills more than half of its share can be opened for both."""
    configure(gate, "small", quota_bytes=1000)
    put(alice, "/small/a", b"x" * 600)
    handle = again(alice, "/small/a")
    gate.clock.forward(2)
    assert handle.read_at(0, 3) == b"xxx"
    handle.commit()


# At once


def test_an_open_during_a_close_begins_with_its_result(gate: Gate, alice: Door) -> None:
    """Two channels of one session: the open waits, and loses nothing of what is being stored."""
    first = opened(alice, content=b"first")
    found: list[bytes] = []

    def join() -> None:
        second = again(alice)
        found.append(second.read_at(0, 10))
        second.append(b" second")
        second.commit()

    joining = threading.Thread(target=join)
    with first.file.lock:
        joining.start()
        while not gate.monitor._surroundings.writes._being_opened:
            pass
        first.commit()
    joining.join()
    assert found == [b"first"]
    assert get(alice, FILE) == b"first second"


@pytest.mark.parametrize("old", [None, b"old"])
def test_an_open_whose_snapshot_is_older_than_a_close_looks_again(
    gate: Gate, alice: Door, old: bytes | None
) -> None:
    """It would begin with what was there before, and undo the close with its own."""
    if old is not None:
        put(alice, FILE, old)
    ending = [opened(alice, content=b"first")]

    def policy() -> Policy:
        # Asked for when the snapshot of the open has been taken.
        if ending:
            ending.pop().commit()
        return gate.policy()

    late = Monitor(replace(gate.monitor._surroundings, policy=policy)).bind(alice.session)
    second = again(late)
    assert not ending
    second.append(b" second")
    second.commit()
    assert get(alice, FILE) == b"first second"


def test_handles_of_many_threads_lose_nothing(gate: Gate, alice: Door) -> None:
    """Opening, appending and closing at once, whatever falls together."""
    rounds, threads = 12, 4
    errors: list[BaseException] = []

    def work(number: int) -> None:
        door = gate.monitor.bind(alice.session)
        try:
            for turn in range(rounds):
                handle = door.open_write(at(FILE), keep=True)
                handle.append(f"{number}:{turn};".encode())
                if turn % 3 == 1:
                    handle.sync()
                handle.commit()
        except BaseException as error:  # noqa: BLE001  shown by the assertion
            errors.append(error)

    working = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for each in working:
        each.start()
    for each in working:
        each.join()
    assert errors == []
    said = get(alice, FILE).decode().split(";")[:-1]
    assert sorted(said) == sorted(f"{one}:{two}" for one in range(threads) for two in range(rounds))
    assert gate.monitor._surroundings.writes._shown == {}
