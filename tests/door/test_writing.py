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
from gateway.errors import DeniedError, SealgateError, SessionEndedError
from gateway.handles import WriteHandle
from gateway.model import Action, Kind, Wire
from gateway.monitor import Door
from tests.door.support import (
    IDLE_TIMEOUT_S,
    QUOTA_BYTES,
    Gate,
    at,
    get,
    names,
    outline,
    put,
    staff,
)

FILE = "/radiology/file"
BIG = b"x" * 300_000


def opened(door: Door, path: str = FILE, content: bytes = b"new") -> WriteHandle:
    """Return a handle that has received ``content`` and is not committed."""
    handle = door.open_write(at(path))
    handle.write_at(0, content)
    return handle


def versions(gate: Gate) -> int:
    """Return how many versions are kept in all."""
    return int(gate.sql("SELECT count(*) FROM versions")[0][0])


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
def test_abort_leaves_the_old_content_and_one_record(
    gate: Gate, alice: Door, reason: str
) -> None:
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
    """create, replace and base refuse at once, each with its error and one record."""
    version = put(alice, FILE).version_id
    gate.new_records()
    with pytest.raises(NotFoundError):
        alice.open_write(at("/radiology/new"), create=False)
    with pytest.raises(AlreadyExistsError):
        alice.open_write(at(FILE), replace=False)
    for base in ("", "00" * 16):
        with pytest.raises(ConflictError):
            alice.open_write(at(FILE), base=base)
    with pytest.raises(ConflictError):
        alice.open_write(at("/radiology/new"), base=version)
    with pytest.raises(IsAFolderError):
        alice.open_write(at("/radiology"), replace=True)
    with pytest.raises(ParentMissingError):
        alice.open_write(at("/radiology/none/new"))
    assert [record["outcome"] for record in gate.new_records()] == ["failed"] * 7


def test_base_is_judged_again_at_the_commit(gate: Gate, alice: Door, bob: Door) -> None:
    """Of two editors that began alike the second to finish is refused; nothing is lost."""
    version = put(alice, FILE, b"old").version_id
    mine = alice.open_write(at(FILE), base=version)
    theirs = bob.open_write(at(FILE), base=version)
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


@pytest.mark.parametrize("absent", [{"base": ""}, {"replace": False}], ids=str)
def test_a_name_that_must_be_absent_is_so_at_the_commit(
    alice: Door, bob: Door, absent: dict[str, str | bool]
) -> None:
    """Of two that make one name the second is refused and the first stays."""
    handle = alice.open_write(at(FILE), **absent)  # type: ignore[arg-type]
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
def test_a_length_unlike_the_announced_is_refused(
    gate: Gate, alice: Door, received: bytes
) -> None:
    """Fewer or more bytes commit nothing, leave one record and no unfinished file."""
    before = gate.content()
    handle = alice.open_write(at(FILE), expected_size=5)
    with pytest.raises(LengthMismatchError):
        handle.write_at(0, received)
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


def test_session_that_ended_cannot_commit(gate: Gate, alice: Door) -> None:
    """What was sent is dropped, and the record says what it was to be."""
    handle = opened(alice, content=BIG)
    before = gate.content()
    gate.clock.forward(IDLE_TIMEOUT_S)
    with pytest.raises(SessionEndedError):
        handle.commit()
    assert outline(gate.new_records()) == [("logoff", "expired"), ("create", "expired")]
    assert gate.content()["nodes"] == before["nodes"]
    assert gate.content()["blobs"] == []


# The own unfinished file


def test_own_unfinished_file_shows_to_its_session_alone(gate: Gate, alice: Door) -> None:
    """stat, list and read tell the writing session of it, and no other, of the same user either."""
    handle = opened(alice, content=b"part")
    other = gate.door("alice", wire=Wire.SFTP)
    assert alice.stat(at(FILE)).size_bytes == 4
    assert names(alice, "/radiology") == ["file"]
    assert get(alice, FILE) == b"part"
    assert names(other, "/radiology") == []
    with pytest.raises(NotFoundError):
        other.open_read(at(FILE))
    handle.write_at(4, b"ly")
    assert get(alice, FILE) == b"partly"
    assert alice.scandir(at("/radiology")).children[0].size_bytes == 6


def test_own_unfinished_file_of_a_present_one_hides_it(alice: Door, bob: Door) -> None:
    """The writer reads what it wrote, all others what was there."""
    put(alice, FILE, b"old content")
    handle = opened(alice, content=b"part")
    assert alice.stat(at(FILE)).size_bytes == 4
    assert get(alice, FILE) == b"part"
    assert get(bob, FILE) == b"old content"
    handle.abort()
    assert get(alice, FILE) == b"old content"


def test_own_unfinished_file_is_renamed(gate: Gate, alice: Door, bob: Door) -> None:
    """It shows under its new name, is committed there, and leaves nothing at the old one."""
    handle = opened(alice)
    assert alice.move(at(FILE), at("/radiology/renamed"))
    assert str(alice.stat(at("/radiology/renamed")).path) == "/radiology/renamed"
    assert names(alice, "/radiology") == ["renamed"]
    with pytest.raises(NotFoundError):
        alice.stat(at(FILE))
    assert str(handle.commit().path) == "/radiology/renamed"
    assert names(bob, "/radiology") == ["renamed"]
    assert outline(gate.new_records())[-1] == ("create", "ok")


def test_own_unfinished_file_is_renamed_over_a_present_one(alice: Door, bob: Door) -> None:
    """The target keeps its node; its old content shows until the commit."""
    node_id = put(alice, "/radiology/target", b"old").node_id
    handle = opened(alice)
    with pytest.raises(AlreadyExistsError):
        alice.move(at(FILE), at("/radiology/target"))
    assert not alice.move(at(FILE), at("/radiology/target"), replace=True)
    assert get(bob, "/radiology/target") == b"old"
    assert handle.commit().node_id == node_id
    assert get(bob, "/radiology/target") == b"new"


def test_present_file_is_renamed_over_another_while_it_is_written(
    alice: Door, bob: Door
) -> None:
    """The upload follows its file, as an open file does everywhere; the old name stays free."""
    put(alice, FILE, b"old")
    put(alice, "/radiology/target", b"target")
    handle = opened(alice)
    alice.move(at(FILE), at("/radiology/target"), replace=True)
    handle.commit()
    assert get(bob, "/radiology/target") == b"new"
    assert names(bob, "/radiology") == ["target"]


def test_exclusively_made_file_is_renamed_over_a_present_one(alice: Door) -> None:
    """What had to be absent was the temporary name, and it was; the rename said to replace."""
    put(alice, "/radiology/target", b"old")
    handle = alice.open_write(at("/radiology/tmp"), replace=False)
    handle.write_at(0, b"new")
    alice.move(at("/radiology/tmp"), at("/radiology/target"), replace=True)
    handle.commit()
    assert get(alice, "/radiology/target") == b"new"


def test_own_unfinished_file_is_deleted(gate: Gate, alice: Door) -> None:
    """It is gone at once and stays so when the handle is committed; the deletion is recorded."""
    handle = opened(alice, content=BIG)
    alice.delete(at(FILE))
    assert names(alice, "/radiology") == []
    handle.commit()
    assert names(alice, "/radiology") == []
    assert outline(gate.new_records())[0] == ("delete", "ok")
    assert gate.content()["blobs"] == []


def test_times_of_an_unfinished_file_are_the_committed_ones(alice: Door) -> None:
    """Clients set the time before they close."""
    handle = opened(alice)
    alice.set_times(at(FILE), modified_us=7)
    assert alice.stat(at(FILE)).modified_us == 7
    assert handle.commit().modified_us == 7


def test_times_whose_record_fails_are_not_set(gate: Gate, alice: Door) -> None:
    """An unfinished file is no exception to fail closed."""
    handle = opened(alice)
    gate.refuse_records()
    with pytest.raises(SealgateError):
        alice.set_times(at(FILE), modified_us=7)
    gate.accept_records()
    assert handle.present_info.modified_us != 7


# Updates and history


def test_update_keeps_what_was_not_written(alice: Door) -> None:
    """keep=True begins with the present content; without it the file begins empty."""
    put(alice, FILE, b"0123456789")
    handle = alice.open_write(at(FILE), keep=True)
    handle.write_at(4, b"xy")
    handle.commit()
    assert get(alice, FILE) == b"0123xy6789"
    put(alice, FILE, b"ab")
    assert get(alice, FILE) == b"ab"


def test_update_that_changes_nothing_makes_no_version(gate: Gate, alice: Door) -> None:
    """Opening for update and closing is recorded and leaves the version as it was."""
    version = put(alice, FILE).version_id
    assert alice.open_write(at(FILE), keep=True).commit().version_id == version
    assert versions(gate) == 1


def test_reading_back_an_update_needs_the_right_to_read(gate: Gate, alice: Door) -> None:
    """Whoever may only write does not see the old content through a write handle."""
    put(alice, FILE, b"secret")
    gate.policy.replace(staff(without=frozenset({Action.READ, Action.LIST})))
    handle = alice.open_write(at(FILE), keep=True)
    gate.new_records()
    with pytest.raises(DeniedError):
        handle.read_at(0, 10)
    assert outline(gate.new_records()) == [("read", "denied")]
    fresh = alice.open_write(at(FILE))
    fresh.write_at(0, b"mine")
    assert fresh.read_at(0, 10) == b"mine"


def test_rename_over_a_file_adds_to_its_history(gate: Gate, alice: Door) -> None:
    """Saving through a temporary file keeps node and versions of the target."""
    target = put(alice, FILE, b"old")
    put(alice, "/radiology/tmp", b"new")
    assert not alice.move(at("/radiology/tmp"), at(FILE), replace=True)
    after = alice.stat(at(FILE))
    assert (after.node_id, after.size_bytes) == (target.node_id, 3)
    kept = gate.sql("SELECT count(*) FROM versions WHERE node_id = ?", bytes.fromhex(after.node_id))
    assert kept == [(2,)]
    assert names(alice, "/radiology") == ["file"]
    assert get(alice, FILE) == b"new"


def test_read_handle_is_closed_once_and_for_all(gate: Gate, alice: Door) -> None:
    """After its closing record no byte leaves any more."""
    put(alice, FILE)
    gate.new_records()
    handle = alice.open_read(at(FILE))
    assert handle.read_at(2, 3) == b"nte"
    handle.close(complete=False)
    handle.close()
    read, end = gate.new_records()
    assert (read["action"], read["outcome"], read["bytes"]) == ("read", "ok", None)
    assert (end["action"], end["outcome"], end["bytes"]) == ("read_end", "aborted", 3)
    with pytest.raises(SealgateError):
        handle.read_at(0, 10)
