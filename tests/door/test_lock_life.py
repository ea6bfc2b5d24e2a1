"""Locks at the door: what is told of them, how long they live, who renews and who returns them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auth.policy import PathRule, Policy
from backends.catalog import locks as lock_rows
from backends.errors import LimitError, NotFoundError
from gateway.errors import (
    LockConflictError,
    LockedError,
    LockHolderError,
    LockLimitError,
    LockTokenError,
)
from gateway.locking import LOCK_LIMIT
from gateway.model import SECOND_US, Action, Wire
from gateway.monitor import Door
from tests.door.locked import FILE, FOLDER, holding, lock, make_files
from tests.door.support import Gate, at, get, grant, group, opened, outline, put, staff

EVERY_CATALOG = True


@pytest.fixture(autouse=True)
def _files(alice: Door) -> None:
    make_files(alice)


def test_tokens_are_told_to_their_principal_alone(gate: Gate, alice: Door, bob: Door) -> None:
    """Others see that there is a lock, whose, and the owner element, but no token."""
    held = lock(alice, str(FOLDER), deep=True)
    assert held.token.startswith("urn:uuid:")
    for path in (FOLDER, FILE, at("/radiology/a/sub/deep")):
        (mine,), (theirs,) = alice.locks(path), bob.locks(path)
        assert mine.token == held.token
        assert (theirs.token, theirs.principal_name) == ("", "Alice")
        assert (theirs.path, theirs.owner) == (FOLDER, "<o>me</o>")
    assert gate.door("alice", wire=Wire.SFTP).locks(FILE)[0].token == held.token


def test_locks_on_children_show_when_asked_for(alice: Door) -> None:
    """Direct children only."""
    lock(alice)
    lock(alice, "/radiology/a/sub/deep")
    assert alice.locks(FOLDER) == []
    assert [info.path for info in alice.locks(FOLDER, below=True)] == [FILE]


def test_refresh_and_unlock_need_an_own_living_lock(gate: Gate, alice: Door, bob: Door) -> None:
    """A wrong token and a token of another place are one error, another's lock is denied."""
    held = lock(alice)
    for door, path, token, error in (
        (alice, FILE, "urn:uuid:none", LockTokenError),
        (bob, FILE, held.token, LockHolderError),
        (alice, at("/radiology/a/sub"), held.token, LockTokenError),
        (bob, at("/radiology/a/sub"), held.token, LockTokenError),
        (alice, at("/radiology/none"), held.token, NotFoundError),
    ):
        gate.new_records()
        with pytest.raises(error):
            door.refresh_lock(path, token, timeout_s=60)
        with pytest.raises(error):
            door.unlock(path, token)
        denied = "denied" if error is LockHolderError else "failed"
        assert [record["outcome"] for record in gate.new_records()] == [denied] * 2
    gate.clock.forward(100)
    assert alice.refresh_lock(FILE, held.token, timeout_s=60).expires_us == (
        gate.clock() + 60_000_000
    )
    alice.unlock(FILE, held.token)
    put(bob, str(FILE))
    with pytest.raises(LockTokenError):
        alice.unlock(FILE, held.token)


def test_a_deep_lock_is_refreshed_and_given_back_from_below(alice: Door, bob: Door) -> None:
    """Any address that the lock covers names it (RFC 4918 sections 9.10.2 and 9.11)."""
    held = lock(alice, str(FOLDER), deep=True)
    deep = at("/radiology/a/sub/deep")
    assert alice.refresh_lock(deep, held.token, timeout_s=70).path == FOLDER
    alice.unlock(deep, held.token)
    put(bob, str(FILE))


def test_a_refusal_tells_who_holds_the_lock_until_when_and_where(
    gate: Gate, alice: Door, bob: Door
) -> None:
    """In words for the person, and as what the protocol puts into its own answer."""
    held = lock(alice, str(FOLDER), deep=True)
    gate.clock.forward(10)
    held = alice.refresh_lock(FOLDER, held.token, timeout_s=300)
    for path, deep in ((FILE, False), (at("/radiology"), True)):
        with pytest.raises(LockConflictError) as caught:
            lock(bob, str(path), deep=deep)
        error = caught.value
        assert (error.holder, error.root, error.root_is_folder) == ("Alice", str(FOLDER), True)
        assert (error.renewed_us, error.expires_us) == (gate.clock(), held.expires_us)
        assert error.expires_us == gate.clock() + 300 * SECOND_US
        assert "Alice" in str(error)
        assert "UTC" in str(error)
        assert held.token not in str(error)
        assert str(FOLDER) not in str(error)


def test_a_holders_name_cannot_command_a_terminal() -> None:
    """SFTP programs print the status message as it comes."""
    assert str(LockedError("Al\x1b[2J\nice")).startswith("Locked by Al[2Jice. ")


def test_a_lock_in_a_hidden_place_refuses_without_telling_where(
    gate: Gate, alice: Door, bob: Door
) -> None:
    """What a listing would not show, a refusal does not name."""
    lock(alice, "/radiology/a/sub/deep")
    hide = PathRule("/a/sub/**", allow=frozenset({Action.LOCK}))
    gate.policy.replace(
        Policy(
            (
                group(
                    "staff",
                    grant("radiology", Action.LOCK, Action.LIST, paths=(hide,)),
                ),
            )
        )
    )
    with pytest.raises(LockConflictError) as caught:
        lock(bob, str(FOLDER), deep=True)
    assert caught.value.root == "/radiology/a/sub/deep"
    deny = PathRule("/a/sub/deep", deny=frozenset({Action.LIST, Action.READ, Action.WRITE}))
    gate.policy.replace(staff(deny))
    with pytest.raises(LockConflictError) as caught:
        lock(bob, str(FOLDER), deep=True)
    assert (caught.value.holder, caught.value.root) == ("Alice", "")


def test_a_lock_runs_out(gate: Gate, alice: Door, bob: Door) -> None:
    """At its end it binds nobody, shows to nobody and cannot be refreshed."""
    held = lock(alice)
    gate.clock.forward(299)
    with pytest.raises(LockedError):
        put(bob, str(FILE))
    gate.clock.forward(1)
    put(bob, str(FILE))
    assert alice.locks(FILE) == []
    with pytest.raises(LockTokenError):
        alice.refresh_lock(FILE, held.token, timeout_s=60)


@pytest.mark.parametrize(
    ("asked_s", "given_s"), [(0, 1), (-5, 1), (60, 60), (3601, 3600), (2**32, 3600)]
)
def test_the_timeout_is_bounded(alice: Door, asked_s: int, given_s: int) -> None:
    """``Infinite`` and nonsense become what policy lets one have, an hour if it says nothing."""
    info, _ = alice.lock(FILE, exclusive=True, depth_infinity=False, owner="", timeout_s=asked_s)
    assert info.timeout_s == given_s
    assert alice.refresh_lock(FILE, info.token, timeout_s=asked_s).timeout_s == given_s


def test_policy_caps_the_timeout_by_the_strictest_group(gate: Gate, alice: Door) -> None:
    """A reload reaches the next refresh of a lock that was taken before."""
    held = lock(alice)
    assert held.timeout_s == 300
    everything = grant("radiology", *Action)
    wide = group("staff", everything, lock_timeout_s=200)
    narrow = replace(wide, name="narrow", grants=(), lock_timeout_s=100)
    gate.policy.replace(Policy((wide, narrow)))
    assert alice.refresh_lock(FILE, held.token, timeout_s=300).timeout_s == 100
    gate.policy.replace(Policy((wide,)))
    assert alice.refresh_lock(FILE, held.token, timeout_s=300).timeout_s == 200


def test_the_number_of_locks_is_bounded(gate: Gate, alice: Door, bob: Door) -> None:
    """One principal's many locks keep nobody else from locking."""
    with gate.catalog.begin() as tx:
        for number in range(LOCK_LIMIT):
            row = lock_rows.LockRow(
                token=f"urn:uuid:{number}",
                node_id=number.to_bytes(16, "big"),
                exclusive=True,
                depth_infinity=False,
                principal_id="id-alice",
                principal_name="Alice",
                owner_sealed=b"",
                timeout_s=60,
                expires_us=gate.clock() + 60_000_000,
            )
            lock_rows.insert_lock(tx, row)
    gate.new_records()
    before = gate.content()
    with pytest.raises(LockLimitError):
        lock(alice, "/radiology/a/new")
    assert outline(gate.new_records()) == [("lock", "failed")]
    assert gate.content() == before
    lock(bob)
    gate.clock.forward(60)
    lock(alice, "/radiology/a/new")


def test_the_owner_element_is_bounded(gate: Gate, alice: Door) -> None:
    """A client's own text in our tables has a limit."""
    before = gate.content()
    with pytest.raises(LimitError):
        alice.lock(FILE, exclusive=True, depth_infinity=False, owner="x" * 9000, timeout_s=60)
    assert gate.content() == before


def test_the_owner_element_is_sealed(gate: Gate, alice: Door) -> None:
    """It often holds a person's name."""
    alice.lock(FILE, exclusive=True, depth_infinity=False, owner="<o>Dr Secret</o>", timeout_s=60)
    assert all(b"Secret" not in bytes(row[0]) for row in gate.sql("SELECT owner_sealed FROM locks"))
    assert alice.locks(FILE)[0].owner == "<o>Dr Secret</o>"


def test_locks_of_shares_show_at_the_root(alice: Door, bob: Door) -> None:
    """Of the shares that the asker may list."""
    lock(alice, "/radiology")
    assert bob.locks(at("/")) == []
    (info,) = bob.locks(at("/"), below=True)
    assert (str(info.path), info.token) == ("/radiology", "")


def test_a_lock_outlives_the_session_that_took_it(gate: Gate, alice: Door, bob: Door) -> None:
    """Drives reconnect: the same principal goes on with its token in another session."""
    held = lock(alice)
    gate.monitor.expire(alice.session, "idle")
    with pytest.raises(LockedError):
        put(bob, str(FILE))
    put(holding(gate.door("alice"), held), str(FILE), b"new")


def test_a_write_that_outlasts_its_lock_is_kept_unless_another_came(
    gate: Gate, alice: Door, bob: Door
) -> None:
    """A long upload under a lock that ran out does no harm while nobody else took one."""
    held = lock(alice)
    handle = opened(holding(alice, held), str(FILE), b"first")
    gate.clock.forward(301)
    handle.commit()
    handle = opened(holding(alice, held), str(FILE), b"second")
    lock(bob)
    with pytest.raises(LockedError):
        handle.commit()
    assert get(bob, str(FILE)) == b"first"
