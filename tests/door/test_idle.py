"""The idle clock: what counts as activity, when a session ends, and what is over then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from auth.policy import Policy
from gateway.errors import DeniedError, LockedError, SessionEndedError
from gateway.model import SECOND_US, Wire
from gateway.monitor import Door
from tests.door.support import (
    IDLE_TIMEOUT_S,
    SESSION_TIMEOUT_S,
    Gate,
    at,
    get,
    outline,
    put,
)

FILE = at("/radiology/file")


@pytest.fixture
def token(alice: Door) -> str:
    """A file with a lock of alice's."""
    put(alice, str(FILE))
    info, _ = alice.lock(FILE, exclusive=True, depth_infinity=False, owner="", timeout_s=3600)
    return info.token


def last_active_us(gate: Gate, door: Door) -> int:
    ((value,),) = gate.sql("SELECT last_active_us FROM sessions WHERE id = ?", door.session.id)
    return int(value)


QUIET: dict[str, Callable[[Door, str], object]] = {
    "stat": lambda door, _: door.stat(FILE),
    "look": lambda door, _: door.look(FILE),
    "usage": lambda door, _: door.usage(FILE),
    "locks": lambda door, _: door.locks(FILE, below=True),
    "refresh_lock": lambda door, token: door.refresh_lock(FILE, token, timeout_s=3600),
    "refused": lambda door, _: door.move(FILE, at("/none/file")),
    "locked": lambda door, _: door.delete(FILE),
}
ACTIVE: dict[str, Callable[[Door, str], object]] = {
    "scandir": lambda door, _: door.scandir(at("/radiology")),
    "look": lambda door, _: door.look(at("/radiology")),
    "open_read": lambda door, _: door.open_read(FILE),
    "write": lambda door, _: put(door, "/radiology/new"),
    "mkdir": lambda door, _: door.mkdir(at("/radiology/new")),
    "delete": lambda door, token: door.with_tokens(frozenset({token})).delete(FILE),
    "copy": lambda door, _: door.copy(FILE, at("/radiology/new")),
    "unlock": lambda door, token: door.unlock(FILE, token),
}


@pytest.mark.parametrize("call", QUIET.values(), ids=QUIET)
def test_metadata_and_refusals_are_no_activity(
    gate: Gate, alice: Door, token: str, call: Callable[[Door, str], object]
) -> None:
    """A mounted drive that only looks is logged off all the same."""
    before_us = last_active_us(gate, alice)
    gate.clock.forward(100)
    with contextlib.suppress(DeniedError, LockedError):
        call(alice, token)
    assert last_active_us(gate, alice) == before_us


@pytest.mark.parametrize("call", ACTIVE.values(), ids=ACTIVE)
def test_content_and_namespace_operations_are_activity(
    gate: Gate, alice: Door, token: str, call: Callable[[Door, str], object]
) -> None:
    """Each sets the idle clock back."""
    gate.clock.forward(100)
    call(alice, token)
    assert last_active_us(gate, alice) == gate.clock()


def test_a_running_transfer_is_activity_once_a_second(gate: Gate, alice: Door) -> None:
    """A download longer than the idle timeout goes on; between pulses nothing is written."""
    put(alice, str(FILE), b"x" * 100)
    handle = alice.open_read(FILE)
    for _ in range(5):
        gate.clock.forward(IDLE_TIMEOUT_S - 1)
        handle.read_at(0, 10)
        assert last_active_us(gate, alice) == gate.clock()
    pulsed_us = gate.clock()
    gate.clock.forward(0.5)
    handle.read_at(10, 10)
    assert last_active_us(gate, alice) == pulsed_us
    gate.clock.forward(0.5)
    handle.read_at(20, 10)
    assert last_active_us(gate, alice) == pulsed_us + SECOND_US


def test_an_open_file_alone_is_no_activity(gate: Gate, alice: Door) -> None:
    """A handle that nobody reads from does not keep its session."""
    put(alice, str(FILE))
    handle = alice.open_read(FILE)
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(SessionEndedError):
        handle.read_at(0, 10)


def test_the_idle_end_comes_exactly_then(gate: Gate, alice: Door) -> None:
    """A moment before it the session lives and can be kept; then it is over, once."""
    gate.clock.forward(IDLE_TIMEOUT_S - 0.001)
    alice.scandir(at("/radiology"))
    gate.new_records()
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(SessionEndedError) as caught:
        alice.stat(at("/radiology"))
    assert caught.value.reason == "idle"
    logoff = gate.new_records()[0]
    assert (logoff["action"], logoff["outcome"], logoff["rule"]) == ("logoff", "expired", "idle")


def test_the_absolute_end_comes_whatever_happens(gate: Gate, alice: Door) -> None:
    """Activity does not move it."""
    for _ in range(SESSION_TIMEOUT_S // 400):
        alice.scandir(at("/radiology"))
        gate.clock.forward(400)
    with pytest.raises(SessionEndedError) as caught:
        alice.scandir(at("/radiology"))
    assert caught.value.reason == "absolute"


def test_the_deadline_is_the_earlier_end(gate: Gate, alice: Door) -> None:
    """What listeners time their connections by."""
    assert gate.monitor.deadline_us(alice.session) == gate.clock() + IDLE_TIMEOUT_S * SECOND_US
    for _ in range(SESSION_TIMEOUT_S // 400 - 1):
        gate.clock.forward(400)
        alice.scandir(at("/radiology"))
    assert gate.monitor.deadline_us(alice.session) == alice.session.ends_us
    gate.clock.forward(400)
    assert gate.monitor.deadline_us(alice.session) is None


@pytest.mark.parametrize("how", ["idle", "logged off"])
def test_an_ended_session_is_over_for_every_object_of_the_door(gate: Gate, how: str) -> None:
    """Open handles of both kinds, other doors and doors with tokens; by any process."""
    alice = gate.door("alice", wire=Wire.SFTP)
    put(alice, str(FILE), b"x" * 100)
    reading, writing = alice.open_read(FILE), alice.open_write(at("/radiology/new"))
    reading.read_at(0, 1)
    writing.write_at(0, b"x")
    others = (alice.with_tokens(frozenset({"t"})), gate.monitor.bind(alice.session))
    if how == "idle":
        gate.clock.forward(IDLE_TIMEOUT_S)
    else:
        gate.login.log_off(alice.session, "ended-by-administrator")
        gate.clock.forward(1)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: reading.read_at(1, 1),
        lambda: writing.write_at(1, b"x"),
        lambda: writing.read_at(0, 1),
        lambda: writing.truncate(0),
        writing.commit,
        lambda: alice.stat(FILE),
        lambda: others[0].scandir(at("/radiology")),
        lambda: others[1].scandir(at("/radiology")),
    )
    for attempt in attempts:
        with pytest.raises(SessionEndedError):
            attempt()
    assert not gate.alive(alice.session)


@pytest.mark.parametrize("reaped", [False, True])
def test_an_upload_over_http_outlasts_the_sessions_time(
    gate: Gate, alice: Door, *, reaped: bool
) -> None:
    """A client that cannot send a large body again may finish it, and then must sign in."""
    put(alice, str(FILE), b"x" * 100)
    reading, writing = alice.open_read(FILE), alice.open_write(at("/radiology/new"))
    writing.write_at(0, b"x")
    gate.clock.forward(IDLE_TIMEOUT_S)
    if reaped:
        gate.login.end_overdue()
    with pytest.raises(SessionEndedError):
        reading.read_at(1, 1)
    writing.write_at(1, b"y")
    assert writing.commit().size_bytes == 2
    assert not gate.alive(alice.session)
    with pytest.raises(SessionEndedError):
        alice.open_write(at("/radiology/other"))


@pytest.mark.parametrize("reason", ["ended-by-administrator", "disabled", "disconnected"])
def test_an_upload_does_not_outlast_a_session_that_somebody_ended(
    gate: Gate, alice: Door, reason: str
) -> None:
    """A user who is disabled in the middle stores nothing more, whenever their time was up."""
    writing = alice.open_write(at("/radiology/new"))
    writing.write_at(0, b"x")
    gate.login.log_off(alice.session, reason)
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(SessionEndedError):
        writing.write_at(1, b"y")
    with pytest.raises(SessionEndedError):
        writing.commit()


def test_open_files_of_an_ended_session_are_closed_with_their_records(
    gate: Gate, alice: Door
) -> None:
    """The closing record of a read and the abort of a write are written after the end too."""
    put(alice, str(FILE))
    reading, writing = alice.open_read(FILE), alice.open_write(at("/radiology/new"))
    gate.login.log_off(alice.session, "ended-by-administrator")
    gate.new_records()
    reading.close(complete=False)
    writing.abort("session-ended")
    assert outline(gate.new_records()) == [("read_end", "aborted"), ("create", "aborted")]


def test_overdue_sessions_are_ended_without_being_asked(gate: Gate, alice: Door) -> None:
    """The janitor's round ends and records each once, and leaves the living ones."""
    gate.clock.forward(IDLE_TIMEOUT_S - 1)
    living = gate.door("bob")
    gate.clock.forward(1)
    assert [session.id for session in gate.login.end_overdue()] == [alice.session.id]
    assert gate.login.end_overdue() == []
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["rule"]) == ("logoff", "expired", "idle")
    assert gate.alive(living.session)


def test_one_sessions_end_is_not_anothers(gate: Gate, alice: Door, bob: Door) -> None:
    """Logging one off leaves others, of the same user too, as they were."""
    second = gate.door("alice")
    gate.monitor.end(alice.session, "disconnected")
    gate.monitor.end(alice.session, "disconnected")
    assert outline(gate.new_records()) == [("logoff", "ok")]
    second.scandir(at("/radiology"))
    bob.scandir(at("/radiology"))
    with pytest.raises(SessionEndedError):
        alice.scandir(at("/radiology"))


def test_locks_outlive_the_session_that_took_them(
    gate: Gate, alice: Door, bob: Door, token: str
) -> None:
    """A drive that was logged off signs in again and unlocks what it had locked."""
    gate.login.log_off(alice.session, "idle")
    with pytest.raises(LockedError):
        bob.delete(FILE)
    again = gate.door("alice")
    again.unlock(FILE, token)
    assert get(again, str(FILE)) == b"content"


def test_ended_session_is_told_so_before_policy_is_asked(gate: Gate, alice: Door) -> None:
    """Signing in again helps, asking for rights would not."""
    gate.policy.replace(Policy(()))
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(SessionEndedError):
        alice.scandir(at("/radiology"))
