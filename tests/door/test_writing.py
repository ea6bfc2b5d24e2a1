"""Writing: nothing shows before the commit, and what the commit still demands."""

from __future__ import annotations

import pytest

from auth.policy import Policy
from backends.errors import (
    AlreadyExistsError,
    ConflictError,
    IsAFolderError,
    LengthMismatchError,
    NotFoundError,
    ParentMissingError,
    QuotaExceededError,
    StorageError,
)
from gateway.errors import DeniedError, SessionEndedError
from gateway.model import Action, Kind, Wire
from gateway.monitor import Door
from tests.door.support import (
    FILE,
    IDLE_TIMEOUT_S,
    QUOTA_BYTES,
    Gate,
    at,
    conditional,
    get,
    names,
    opened,
    outline,
    put,
    staff,
    versions,
)

EVERY_CATALOG = True

BIG = b"x" * 300_000


def test_nothing_shows_before_the_commit(alice: Door, bob: Door) -> None:
    """Others see the old content, or nothing, until then; afterwards the new."""
    put(alice, FILE, b"old")
    present, new = opened(alice), opened(alice, "/radiology/new")
    assert get(bob, FILE) == b"old"
    assert names(bob, "/radiology") == ["file"]
    with pytest.raises(NotFoundError):
        bob.stat(at("/radiology/new"))
    present.commit()
    new.commit()
    assert get(bob, FILE) == b"new"
    assert get(bob, "/radiology/new") == b"new"


@pytest.mark.parametrize("reason", ["aborted", "cut"])
def test_abort_leaves_the_old_content_and_one_record(gate: Gate, alice: Door, reason: str) -> None:
    """A cut connection is an abort: recorded with what had arrived, and no version."""
    put(alice, FILE, b"old")
    before = gate.content()
    gate.new_records()
    handle = opened(alice, content=BIG)
    handle.abort(reason)
    handle.abort("again")
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["rule"]) == ("write", "aborted", reason)
    assert record["bytes"] == len(BIG)
    assert gate.content() == before
    assert get(alice, FILE) == b"old"


def test_abort_of_a_new_file_leaves_nothing(gate: Gate, alice: Door) -> None:
    """Not even an empty file, and the record says that it was to be made."""
    before = gate.content()
    opened(alice, content=BIG).abort()
    assert outline(gate.new_records()) == [("create", "aborted")]
    assert gate.content() == before
    assert names(alice, "/radiology") == []


def test_abort_after_the_commit_does_nothing(gate: Gate, alice: Door) -> None:
    """A front end may close whatever happened."""
    handle = opened(alice)
    handle.commit()
    handle.abort()
    assert outline(gate.new_records()) == [("create", "ok")]
    assert get(alice, FILE) == b"new"


def test_commit_twice_is_one_version(gate: Gate, alice: Door) -> None:
    """The second commit tells what the first did."""
    handle = opened(alice)
    assert handle.commit() == handle.commit()
    assert versions(gate) == 1
    assert outline(gate.new_records()) == [("create", "ok")]


def test_write_after_the_end_is_refused(alice: Door) -> None:
    """Neither a committed nor an aborted handle takes more."""
    committed, aborted = opened(alice), opened(alice, "/radiology/other")
    committed.commit()
    aborted.abort()
    for handle in (committed, aborted):
        with pytest.raises(StorageError):
            handle.write_at(0, b"late")
    assert get(alice, FILE) == b"new"


# Conditions


def test_conditions_at_open(gate: Gate, alice: Door) -> None:
    """create, replace and the client's own refuse at once, each with its error and one record."""
    version = put(alice, FILE).version_id
    gate.new_records()
    with pytest.raises(NotFoundError):
        alice.open_write(at("/radiology/new"), create=False)
    with pytest.raises(AlreadyExistsError):
        alice.open_write(at(FILE), replace=False)
    for other in ("", "00" * 16):
        with pytest.raises(ConflictError):
            conditional(alice, FILE, other).open_write(at(FILE))
    with pytest.raises(ConflictError):
        conditional(alice, "/radiology/new", version).open_write(at("/radiology/new"))
    with pytest.raises(IsAFolderError):
        alice.open_write(at("/radiology"), replace=True)
    with pytest.raises(ParentMissingError):
        alice.open_write(at("/radiology/none/new"))
    assert [record["outcome"] for record in gate.new_records()] == ["failed"] * 7


def test_a_condition_is_judged_again_at_the_commit(gate: Gate, alice: Door, bob: Door) -> None:
    """Of two editors that began alike the second to finish is refused; nothing is lost."""
    version = put(alice, FILE, b"old").version_id
    mine = conditional(alice, FILE, version).open_write(at(FILE))
    theirs = conditional(bob, FILE, version).open_write(at(FILE))
    mine.write_at(0, b"mine")
    theirs.write_at(0, b"theirs" * 10_000)
    mine.commit()
    blobs = gate.content()["blobs"]
    gate.new_records()
    with pytest.raises(ConflictError):
        theirs.commit()
    assert outline(gate.new_records()) == [("write", "failed")]
    assert get(alice, FILE) == b"mine"
    assert gate.content()["blobs"] == blobs


@pytest.mark.parametrize("how", ["by its condition", "by not replacing"])
def test_a_name_that_must_be_absent_is_so_at_the_commit(alice: Door, bob: Door, how: str) -> None:
    """Of two that make one name the second is refused and the first stays."""
    if how == "by its condition":
        handle = conditional(alice, FILE, "").open_write(at(FILE))
    else:
        handle = alice.open_write(at(FILE), replace=False)
    handle.write_at(0, b"second")
    put(bob, FILE, b"first")
    with pytest.raises((ConflictError, AlreadyExistsError)):
        handle.commit()
    assert get(alice, FILE) == b"first"


def test_a_folder_that_came_between_refuses_the_commit(alice: Door, bob: Door) -> None:
    """A file cannot take the place of a folder."""
    handle = opened(alice)
    bob.mkdir(at(FILE))
    with pytest.raises(IsAFolderError):
        handle.commit()
    assert bob.stat(at(FILE)).kind is Kind.FOLDER


@pytest.mark.parametrize("received", [b"", b"four", b"sixsix"], ids=["none", "short", "long"])
def test_a_length_unlike_the_announced_is_refused(gate: Gate, alice: Door, received: bytes) -> None:
    """Fewer or more bytes commit nothing, leave one record and no unfinished file."""
    before = gate.content()
    handle = alice.open_write(at(FILE), expected_size=5)
    if len(received) > 5:
        with pytest.raises(LengthMismatchError):
            handle.write_at(0, received)
    else:
        handle.write_at(0, received)
        with pytest.raises(LengthMismatchError):
            handle.commit()
    handle.abort()
    assert len(gate.new_records()) == 1
    assert gate.content() == before
    assert names(alice, "/radiology") == []


def test_quota_refuses_at_open_and_at_commit(gate: Gate, alice: Door) -> None:
    """What was announced is refused before it is sent, what was not at the end."""
    put(alice, "/small/file", b"x" * (QUOTA_BYTES - 10))
    before = gate.content()
    with pytest.raises(QuotaExceededError):
        alice.open_write(at("/small/more"), expected_size=11)
    handle = opened(alice, "/small/more", BIG)
    with pytest.raises(QuotaExceededError):
        handle.commit()
    with pytest.raises(QuotaExceededError):
        alice.copy(at("/small/file"), at("/small/copy"))
    assert gate.content() == before
    put(alice, "/small/more", b"x" * 10)


# What changes during an upload


def test_commit_follows_a_folder_that_was_renamed(alice: Door, bob: Door) -> None:
    """The file lands where its folder is now, new and present ones alike."""
    alice.mkdir(at("/radiology/a"))
    node_id = put(alice, "/radiology/a/present").node_id
    present, new = opened(alice, "/radiology/a/present"), opened(alice, "/radiology/a/new")
    bob.move(at("/radiology/a"), at("/radiology/b"))
    assert str(new.commit().path) == "/radiology/b/new"
    committed = present.commit()
    assert (str(committed.path), committed.node_id) == ("/radiology/b/present", node_id)
    assert get(bob, "/radiology/b/new") == b"new"
    assert names(bob, "/radiology") == ["b"]


@pytest.mark.parametrize("share", ["radiology", "archive"])
def test_commit_into_a_deleted_folder_is_a_clear_error(
    gate: Gate, alice: Door, bob: Door, share: str
) -> None:
    """With and without a trash: refused, recorded, and nothing else is touched."""
    put(alice, f"/{share}/beside", b"beside")
    alice.mkdir(at(f"/{share}/a"))
    put(alice, f"/{share}/a/present")
    present, new = opened(alice, f"/{share}/a/present"), opened(alice, f"/{share}/a/new")
    bob.delete(at(f"/{share}/a"))
    gate.new_records()
    before = gate.content()
    for handle in (present, new):
        with pytest.raises(ParentMissingError):
            handle.commit()
    assert [record["outcome"] for record in gate.new_records()] == ["failed"] * 2
    assert gate.content() == before
    assert get(bob, f"/{share}/beside") == b"beside"


def test_upload_to_a_file_that_was_deleted_makes_it_anew(alice: Door, bob: Door) -> None:
    """The whole new content was sent, so nothing of it is lost."""
    old = put(alice, FILE)
    handle = opened(alice)
    bob.delete(at(FILE))
    assert handle.commit().node_id != old.node_id
    assert get(bob, FILE) == b"new"


def test_unchanged_file_that_was_deleted_is_a_clear_error(
    gate: Gate, alice: Door, bob: Door
) -> None:
    """Opened for update, not written to, and deleted by someone else: there is nothing to keep."""
    put(alice, FILE)
    handle = alice.open_write(at(FILE), keep=True)
    bob.delete(at(FILE))
    gate.new_records()
    with pytest.raises(NotFoundError):
        handle.commit()
    assert [record["outcome"] for record in gate.new_records()] == ["failed"]


def test_rights_lost_during_an_upload_refuse_the_commit(gate: Gate, alice: Door) -> None:
    """Policy is asked again at the end, and what was sent is dropped."""
    put(alice, FILE, b"old")
    present = opened(alice, content=BIG)
    new = opened(alice, "/radiology/new", BIG)
    gate.policy.replace(staff(without=frozenset({Action.WRITE, Action.CREATE})))
    gate.new_records()
    before = gate.content()
    for handle in (present, new):
        with pytest.raises(DeniedError):
            handle.commit()
    assert outline(gate.new_records()) == [("write", "denied"), ("create", "denied")]
    assert gate.content() == before


def test_all_rights_lost_end_reading_at_once(gate: Gate, alice: Door) -> None:
    """A reloaded policy binds sessions that were open before."""
    put(alice, FILE)
    gate.policy.replace(Policy(()))
    with pytest.raises(DeniedError):
        alice.open_read(at(FILE))


def test_session_that_ended_cannot_commit(gate: Gate) -> None:
    """What was sent is dropped, and the record says what it was to be."""
    handle = opened(gate.door("alice", wire=Wire.SFTP), content=BIG)
    before = gate.content()
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(SessionEndedError):
        handle.commit()
    assert outline(gate.new_records()) == [("logoff", "expired"), ("create", "expired")]
    assert gate.content()["nodes"] == before["nodes"]
    assert gate.content()["blobs"] == []
