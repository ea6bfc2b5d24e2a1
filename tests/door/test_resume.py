"""Uploads over SFTP that are cut off before their end, through the door."""

from __future__ import annotations

import pytest

from backends.errors import (
    ConflictError,
    NotFoundError,
    QuotaExceededError,
    StorageUnavailableError,
)
from backends.share import ShareSettings
from backends.unfinished import KEEP_US
from backends.vault import Vault
from gateway.errors import DeniedError, SealgateError, SessionEndedError
from gateway.handles import WriteHandle
from gateway.model import Wire
from gateway.monitor import Door
from tests.door.support import (
    FILE,
    IDLE_TIMEOUT_S,
    SHARES,
    Gate,
    at,
    get,
    names,
    open_gate,
    outline,
    put,
    versions,
)

BIG = bytes(range(256)) * 1200
PARTS = [b"part", BIG]
CUT = "disconnected"
MIB = 1 << 20


@pytest.fixture
def alice(gate: Gate) -> Door:
    """By SFTP, whose uploads can be continued."""
    return gate.door("alice", wire=Wire.SFTP)


@pytest.fixture
def bob(gate: Gate) -> Door:
    return gate.door("bob", wire=Wire.SFTP)


@pytest.mark.parametrize("content", PARTS, ids=len)
def test_a_cut_upload_is_kept_for_its_uploader(gate: Gate, content: bytes) -> None:
    """In every later SFTP session: stat, list and read show what arrived."""
    cut(gate.door("alice", wire=Wire.SFTP), FILE, content)
    again = gate.door("alice", wire=Wire.SFTP)
    assert again.stat(at(FILE)).size_bytes == len(content)
    assert [(one.name, one.size_bytes) for one in again.scandir(at("/radiology")).children] == [
        ("file", len(content))
    ]
    assert get(again, FILE) == content


@pytest.mark.parametrize("old", [None, b"old content"])
@pytest.mark.parametrize(("name", "wire"), [("bob", Wire.SFTP), ("alice", Wire.WEBDAV)])
def test_nobody_else_sees_a_cut_upload(
    gate: Gate, alice: Door, old: bytes | None, name: str, wire: Wire
) -> None:
    """Other principals, and its own over WebDAV, see the old content or nothing."""
    if old is not None:
        put(alice, FILE, old)
    cut(alice, FILE, BIG)
    other = gate.door(name, wire=wire)
    if old is not None:
        assert other.stat(at(FILE)).size_bytes == len(old)
        assert other.scandir(at("/radiology")).children[0].size_bytes == len(old)
        assert get(other, FILE) == old
        return
    assert names(other, "/radiology") == []
    for look in (other.stat, other.open_read, other.delete):
        with pytest.raises(NotFoundError):
            look(at(FILE))
    handle = other.open_write(at(FILE), keep=True)
    assert handle.size_bytes == 0
    handle.abort()
    assert get(alice, FILE) == BIG


def test_two_principals_keep_a_cut_upload_each(gate: Gate, alice: Door, bob: Door) -> None:
    """Under one name; when one has finished, the other cannot hide or replace that any more."""
    cut(alice, FILE, b"by alice")
    cut(bob, FILE, b"by bob")
    handle = resumed(bob, FILE, b" whole")
    handle.commit()
    assert get(bob, FILE) == b"by bob whole"
    assert get(alice, FILE) == b"by bob whole"
    alice.open_write(at(FILE), keep=True).commit()
    assert get(bob, FILE) == b"by bob whole"
    assert history_sizes(gate) == [12]


@pytest.mark.parametrize("content", PARTS, ids=len)
@pytest.mark.parametrize("old", [None, b"old content"])
def test_a_resumed_upload_makes_one_version(
    gate: Gate, alice: Door, content: bytes, old: bytes | None
) -> None:
    """Begun with what had arrived; the unfinished one is gone with the commit."""
    if old is not None:
        put(alice, FILE, old)
    cut(alice, FILE, content)
    handle = alice.open_write(at(FILE), keep=True)
    assert handle.size_bytes == len(content)
    handle.write_at(len(content), b"the rest")
    assert handle.read_at(0, len(content) + 8) == content + b"the rest"
    handle.commit()
    assert get(alice, FILE) == content + b"the rest"
    assert get(gate.door("bob"), FILE) == content + b"the rest"
    assert unfinished(gate) == 0
    assert history_sizes(gate) == [len(content) + 8] + ([] if old is None else [len(old)])


def test_a_resumed_upload_may_write_anywhere(alice: Door) -> None:
    """Clients send the last part that they are not sure of again."""
    cut(alice, FILE, BIG)
    handle = alice.open_write(at(FILE), keep=True)
    handle.write_at(len(BIG) - 100, b"y" * 200)
    handle.commit()
    assert get(alice, FILE) == BIG[:-100] + b"y" * 200


def test_an_upload_that_is_cut_twice_goes_on_where_it_was_cut_last(gate: Gate, alice: Door) -> None:
    """One unfinished upload, with all that ever arrived of it."""
    cut(alice, FILE, BIG)
    resumed(alice, FILE, b"more").suspend(CUT)
    assert unfinished(gate) == 1
    assert get(alice, FILE) == BIG + b"more"


@pytest.mark.parametrize("keep", [True, False])
def test_a_try_of_which_nothing_arrives_leaves_what_was_there(alice: Door, keep: bool) -> None:
    """A client that connects and is cut again at once must not lose an hour's upload."""
    cut(alice, FILE, BIG)
    alice.open_write(at(FILE), keep=keep).suspend(CUT)
    assert get(alice, FILE) == BIG


def test_putting_anew_starts_over(gate: Gate, alice: Door) -> None:
    """What arrived before waits until the new try is worth more: finished, or cut itself."""
    cut(alice, FILE, BIG)
    handle = alice.open_write(at(FILE))
    assert handle.size_bytes == 0
    handle.write_at(0, b"anew")
    handle.abort()
    assert get(alice, FILE) == BIG
    cut(alice, FILE, b"anew")
    assert get(alice, FILE) == b"anew"
    put(alice, FILE, b"whole")
    assert get(alice, FILE) == b"whole"
    assert unfinished(gate) == 0
    assert history_sizes(gate) == [5]


@pytest.mark.parametrize("old", [None, b"old content"])
def test_deleting_the_name_removes_the_upload(gate: Gate, alice: Door, old: bytes | None) -> None:
    """What the client sees there goes, and what everyone else sees stays."""
    if old is not None:
        put(alice, FILE, old)
    cut(alice, FILE, BIG)
    gate.new_records()
    alice.delete(at(FILE))
    assert names(alice, "/radiology") == ([] if old is None else ["file"])
    assert unfinished(gate) == 0
    assert outline(gate.new_records()) == [("delete", "ok"), ("list", "ok")]
    assert old is None or get(alice, FILE) == old


def test_a_cut_upload_is_not_renamed(alice: Door) -> None:
    """Half a file under its final name would look whole."""
    cut(alice, FILE, BIG)
    with pytest.raises(ConflictError):
        alice.move(at(FILE), at("/radiology/other"))
    assert get(alice, FILE) == BIG


def test_a_name_that_was_changed_while_it_was_written_is_the_one_kept(alice: Door) -> None:
    """The upload follows its rename, cut or not."""
    handle = alice.open_write(at("/radiology/file.part"))
    handle.write_at(0, b"part")
    alice.move(at("/radiology/file.part"), at(FILE))
    handle.suspend(CUT)
    assert names(alice, "/radiology") == ["file"]
    assert get(alice, FILE) == b"part"


def test_an_edit_that_is_cut_leaves_nothing(gate: Gate, alice: Door) -> None:
    """Half an edit in place is no beginning of a file: the old content stays, for all."""
    put(alice, FILE, BIG)
    blobs = gate.content()["blobs"]
    gate.new_records()
    handle = alice.open_write(at(FILE), keep=True)
    handle.write_at(70_000, b"half an edit" * 10_000)
    handle.suspend(CUT)
    assert outline(gate.new_records()) == [("write", "aborted")]
    assert get(alice, FILE) == BIG
    assert unfinished(gate) == 0
    assert gate.content()["blobs"] == blobs


def test_it_waits_for_a_day(gate: Gate, alice: Door) -> None:
    """From the last cut on; then it is gone from sight, and from the catalog with the sweep."""
    cut(alice, FILE, BIG)
    gate.clock.now_us += KEEP_US // 2
    resumed(gate.door("alice", wire=Wire.SFTP), FILE, b"more").suspend(CUT)
    gate.clock.now_us += KEEP_US - 1
    assert get(gate.door("alice", wire=Wire.SFTP), FILE) == BIG + b"more"
    gate.clock.now_us += 2
    with pytest.raises(NotFoundError):
        gate.door("alice", wire=Wire.SFTP).stat(at(FILE))
    with gate.catalog.begin() as tx:
        vault = vault_of(gate)
        assert vault.unfinished.expire_next(tx, vault.share(tx, "radiology")) == 1
    assert versions(gate) == 0


@pytest.mark.parametrize("after_us", [KEEP_US, KEEP_US + 1])
def test_an_expired_upload_is_in_nobodys_way(gate: Gate, alice: Door, after_us: int) -> None:
    """Though no sweep has been there yet, the name can be written and cut again."""
    cut(alice, FILE, BIG)
    gate.clock.now_us += after_us
    again = gate.door("alice", wire=Wire.SFTP)
    cut(again, FILE, b"anew")
    assert get(again, FILE) == b"anew"
    assert unfinished(gate) == 1


# What is recorded


def test_a_cut_upload_is_recorded_as_aborted(gate: Gate, alice: Door) -> None:
    """One record, which says how much arrived and that it is kept; resuming adds its own."""
    gate.new_records()
    cut(alice, FILE, BIG)
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["rule"]) == ("create", "aborted", CUT)
    assert (record["path"], record["bytes"]) == (FILE, len(BIG))
    assert str(len(BIG)) in record["note"]
    assert "kept" in record["note"]
    resumed(alice, FILE, b"more").commit()
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"], record["bytes"]) == ("create", "ok", 4)


def test_what_cannot_be_recorded_is_not_kept(gate: Gate, alice: Door) -> None:
    """No unfinished upload without its record."""
    handle = alice.open_write(at(FILE))
    handle.write_at(0, BIG)
    gate.refuse_records()
    with pytest.raises(SealgateError):
        handle.suspend(CUT)
    gate.accept_records()
    assert unfinished(gate) == 0
    assert names(alice, "/radiology") == []


def test_a_handle_is_over_once_it_was_cut(gate: Gate, alice: Door) -> None:
    """Later writes are refused; another end of it changes and records nothing."""
    handle = cut(alice, FILE, b"part")
    gate.new_records()
    with pytest.raises(StorageUnavailableError):
        handle.write_at(4, b"more")
    with pytest.raises(StorageUnavailableError):
        handle.commit()
    handle.suspend(CUT)
    handle.abort()
    assert gate.new_records() == []
    assert get(alice, FILE) == b"part"


def test_a_committed_file_is_cut_no_more(gate: Gate, alice: Door) -> None:
    """The connection may go as soon as the close was answered."""
    handle = alice.open_write(at(FILE))
    handle.write_at(0, b"whole")
    handle.commit()
    gate.new_records()
    handle.suspend(CUT)
    assert gate.new_records() == []
    assert unfinished(gate) == 0


# Sessions, rights and room


def test_what_an_idle_session_was_uploading_is_kept(gate: Gate) -> None:
    """Whoever went to lunch goes on afterwards, once they have logged in again."""
    session = gate.session("alice", wire=Wire.SFTP)
    handle = gate.monitor.bind(session).open_write(at(FILE))
    handle.write_at(0, BIG)
    gate.clock.forward(IDLE_TIMEOUT_S + 1)
    with pytest.raises(SessionEndedError):
        handle.write_at(len(BIG), b"more")
    handle.suspend(CUT)
    assert not gate.alive(session)
    with pytest.raises(SessionEndedError):
        gate.monitor.bind(session).stat(at(FILE))
    again = gate.door("alice", wire=Wire.SFTP)
    resumed(again, FILE, b"more").commit()
    assert get(again, FILE) == BIG + b"more"


def test_who_may_only_create_sees_and_resumes_the_own_upload(gate: Gate) -> None:
    """A drop box takes large files too; what others dropped stays out of sight."""
    path = "/inbox/scan"
    dora, dirk = (gate.door(name, wire=Wire.SFTP) for name in ("dora", "dirk"))
    cut(dora, path, BIG)
    assert dora.stat(at(path)).size_bytes == len(BIG)
    with pytest.raises(NotFoundError):
        dirk.stat(at(path))
    with pytest.raises(DeniedError):
        dora.scandir(at("/inbox"))
    resumed(dora, path, b"more").commit()
    with pytest.raises(DeniedError):
        dora.open_read(at(path))
    assert history_sizes(gate) == [len(BIG) + 4]


def test_a_cut_upload_counts_in_the_quota(alice: Door) -> None:
    """Until it is deleted, finished or expired."""
    cut(alice, "/small/a", b"x" * 600)
    with pytest.raises(QuotaExceededError):
        put(alice, "/small/b", b"x" * 401)
    put(alice, "/small/b", b"x" * 400)
    alice.delete(at("/small/a"))
    put(alice, "/small/a", b"x" * 600)


def test_what_the_quota_does_not_hold_is_not_kept(gate: Gate, alice: Door, bob: Door) -> None:
    """It is aborted as ever, and leaves nothing in the blob store."""
    configure(gate, quota_bytes=MIB)
    handle = alice.open_write(at("/small/a"))
    handle.write_at(0, BIG)
    put(bob, "/small/b", b"x" * (MIB - len(BIG) + 1))
    blobs = gate.content()["blobs"]
    gate.new_records()
    handle.suspend(CUT)
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"]) == ("create", "aborted")
    assert not record["note"]
    assert names(alice, "/small") == ["b"]
    assert gate.content()["blobs"] == blobs


@pytest.mark.parametrize("fits", [True, False])
def test_a_cut_upload_gives_back_what_it_had_reserved(
    gate: Gate, alice: Door, bob: Door, fits: bool
) -> None:
    """Kept or not: nobody is waiting for the rest of it."""
    configure(gate, quota_bytes=8 * MIB)
    handle = alice.open_write(at("/small/a"))
    handle.write_at(0, b"x" * 2 * MIB)
    gate.clock.forward(1)
    handle.write_at(2 * MIB, b"x")
    assert gate.sql("SELECT size_bytes FROM reservations") == [(8 * MIB,)]
    if not fits:
        configure(gate, quota_bytes=MIB)
    handle.suspend(CUT)
    assert gate.sql("SELECT * FROM reservations") == []
    assert unfinished(gate) == int(fits)
    if fits:
        put(bob, "/small/b", b"x" * (6 * MIB - 1))


def test_a_killed_worker_leaves_nothing_to_be_seen(gate: Gate, alice: Door) -> None:
    """It could keep nothing: another process shows the old content, and no unfinished upload."""
    put(alice, FILE, b"old")
    handle = alice.open_write(at(FILE))
    handle.write_at(0, b"half")
    new = alice.open_write(at("/radiology/new"))
    new.write_at(0, b"half")
    with open_gate(gate.folder) as other:
        door = other.door("alice", wire=Wire.SFTP)
        assert names(door, "/radiology") == ["file"]
        assert get(door, FILE) == b"old"
    assert unfinished(gate) == 0
    for one in (handle, new):
        one.abort()


def test_another_process_goes_on_with_a_cut_upload(gate: Gate, alice: Door) -> None:
    """What is kept is kept in the catalog and the blob store alone."""
    cut(alice, FILE, b"first half, ")
    with open_gate(gate.folder) as other:
        door = other.door("alice", wire=Wire.SFTP)
        resumed(door, FILE, b"second half").commit()
        assert get(door, FILE) == b"first half, second half"


def cut(door: Door, path: str, content: bytes) -> WriteHandle:
    """Upload ``content`` from its beginning and lose the connection."""
    handle = door.open_write(at(path))
    handle.write_at(0, content)
    handle.suspend(CUT)
    return handle


def resumed(door: Door, path: str, more: bytes) -> WriteHandle:
    """Return a handle that appended ``more`` to what had arrived."""
    handle = door.open_write(at(path), keep=True)
    handle.write_at(handle.size_bytes, more)
    return handle


def unfinished(gate: Gate) -> int:
    """Return how many unfinished uploads are kept in all."""
    return int(gate.sql("SELECT count(*) FROM unfinished")[0][0])


def history_sizes(gate: Gate) -> list[int]:
    """Return the sizes of all versions of nodes, newest first."""
    rows = gate.sql(
        "SELECT size_bytes FROM versions WHERE node_id IN (SELECT id FROM nodes)"
        " ORDER BY created_us DESC"
    )
    return [row[0] for row in rows]


def vault_of(gate: Gate) -> Vault:
    return gate.monitor._surroundings.vault


def configure(gate: Gate, *, quota_bytes: int) -> None:
    """Give the share ``small`` another quota."""
    vault_of(gate).configure(SHARES | {"small": ShareSettings("small", quota_bytes=quota_bytes)})
