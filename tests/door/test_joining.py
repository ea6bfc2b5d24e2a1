"""Joining a session with the secret that opened it, and being slowed down by wrong ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from auth.errors import LoginRefusedError
from gateway.model import Attempt, Client, Session, Wire
from tests.door.attempts import CLIENT, STEP_S, basic, live_sessions, prompted
from tests.door.support import IDLE_TIMEOUT_S, OFFICE, Gate, open_gate, outline


def test_the_same_header_joins_its_session(gate: Gate) -> None:
    """HTTP sends it with every request; joining leaves no record of its own."""
    attempt = basic(gate)
    first = gate.monitor.login(attempt)
    gate.clock.forward(IDLE_TIMEOUT_S - 1)
    assert gate.monitor.login(attempt).id == first.id
    assert outline(gate.new_records()) == [("login", "ok")]


def test_an_old_header_is_refused_after_the_idle_end(gate: Gate) -> None:
    """The replayed code is stale; the drive asks for a new one."""
    attempt = basic(gate)
    session = gate.monitor.login(attempt)
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(LoginRefusedError):
        gate.monitor.login(attempt)
    assert not gate.alive(session)
    record = gate.new_records()[-1]
    assert (record["outcome"], record["rule"]) == ("denied", "session-over")


def test_an_old_header_is_refused_at_once_after_logging_off(gate: Gate) -> None:
    """Within the code's own life too: it was used."""
    attempt = basic(gate)
    gate.monitor.end(gate.monitor.login(attempt), "disconnected")
    with pytest.raises(LoginRefusedError) as caught:
        gate.monitor.login(attempt)
    assert caught.value.reason == "session-over"


def test_a_header_from_another_address_does_not_join(gate: Gate) -> None:
    """A stolen header is of no use elsewhere, nor under another protocol or name."""
    attempt = basic(gate)
    gate.monitor.login(attempt)
    for other in (
        Attempt("alice", Wire.WEBDAV, Client("10.0.0.6"), secret=attempt.secret),
        Attempt("alice", Wire.SFTP, CLIENT, secret=attempt.secret),
        Attempt("bob", Wire.WEBDAV, CLIENT, secret=attempt.secret),
    ):
        with pytest.raises(LoginRefusedError):
            gate.monitor.login(other)


@pytest.mark.parametrize("attempt", [basic, prompted])
def test_the_same_secret_twice_at_once_is_one_session(
    gate: Gate, attempt: Callable[[Gate], Attempt]
) -> None:
    """Clients that open two connections at once come in by both."""
    tried = attempt(gate)
    together = threading.Barrier(2)
    opened: list[Session] = []

    def come_in() -> None:
        together.wait()
        opened.append(gate.monitor.login(tried))

    threads = [threading.Thread(target=come_in) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({session.id for session in opened}) == 1
    assert len(opened) == 2
    assert len(live_sessions(gate)) == 1


@pytest.mark.parametrize("attempt", [prompted, lambda gate: basic(gate, wire=Wire.SFTP)])
def test_sftp_connections_join_within_the_window(
    gate: Gate, attempt: Callable[[Gate], Attempt]
) -> None:
    """Each is recorded; the session ends with the last of them."""
    tried = attempt(gate)
    first = gate.monitor.login(tried)
    gate.clock.forward(59)
    assert gate.monitor.login(tried).id == first.id
    login, joined = gate.new_records()
    assert (login["rule"], joined["rule"]) == ("password+totp", "joined")
    assert outline([joined]) == [("login", "ok")]
    gate.monitor.end(first, "disconnected")
    assert gate.alive(first)
    gate.clock.forward(1)
    with pytest.raises(LoginRefusedError):
        gate.monitor.login(tried)
    gate.monitor.end(first, "disconnected")
    assert not gate.alive(first)


def test_ten_sftp_connections_share_a_session(gate: Gate) -> None:
    """The eleventh is refused and recorded, until one of them leaves."""
    tried = prompted(gate)
    session = gate.monitor.login(tried)
    for _ in range(9):
        gate.monitor.login(tried)
    gate.new_records()
    with pytest.raises(LoginRefusedError):
        gate.monitor.login(tried)
    (record,) = gate.new_records()
    assert (record["outcome"], record["rule"]) == ("denied", "join-limit")
    gate.monitor.end(session, "disconnected")
    assert gate.monitor.login(tried).id == session.id


def test_a_join_window_of_zero_turns_joining_off(gate_folder: Path) -> None:
    """For SFTP; HTTP cannot do without."""
    with open_gate(gate_folder, join_window_s=0) as gate:
        tried = prompted(gate)
        gate.monitor.login(tried)
        with pytest.raises(LoginRefusedError):
            gate.monitor.login(tried)
        header = basic(gate, "bob")
        assert gate.monitor.login(header).id == gate.monitor.login(header).id


# Throttling


def _fail(gate: Gate, times: int, address: str = OFFICE) -> None:
    for _ in range(times):
        with pytest.raises(LoginRefusedError):
            gate.monitor.login(Attempt("alice", Wire.WEBDAV, Client(address), secret="wrong123456"))


def test_many_failures_block_for_a_while(gate: Gate) -> None:
    """Then the right secret is refused too, with a reason of its own; later it is let in."""
    _fail(gate, 9)
    gate.new_records()
    with pytest.raises(LoginRefusedError) as caught:
        gate.monitor.login(basic(gate))
    assert caught.value.reason == "throttled"
    (record,) = gate.new_records()
    assert (record["outcome"], record["rule"]) == ("denied", "throttled")
    gate.clock.forward(70)
    gate.monitor.login(basic(gate))


def test_a_throttled_attempt_asks_no_directory_and_burns_no_code(gate: Gate) -> None:
    """Nor does it make the wait longer."""
    _fail(gate, 9)
    gate.directory.down = True
    attempt = basic(gate)
    for _ in range(2):
        with pytest.raises(LoginRefusedError):
            gate.monitor.login(attempt)
    gate.directory.down = False
    gate.clock.forward(20)
    gate.monitor.login(attempt)


def test_failures_elsewhere_do_not_lock_the_user_out(gate: Gate) -> None:
    """An attacker in another network slows down itself alone."""
    _fail(gate, 20, address="198.51.100.9")
    gate.monitor.login(basic(gate))


def test_a_good_login_forgets_the_failures(gate: Gate) -> None:
    """Mistyping now and then never adds up."""
    for _ in range(4):
        _fail(gate, 4)
        gate.clock.forward(2 * STEP_S)
        gate.monitor.login(basic(gate))
