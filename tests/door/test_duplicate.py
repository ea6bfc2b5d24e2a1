"""A file that is being written begins with what another holds, without a byte being copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from auth.policy import PathRule
from backends.errors import NotFoundError, QuotaExceededError, StorageUnavailableError
from gateway.errors import DeniedError
from gateway.handles import ReadHandle, WriteHandle
from gateway.model import Action, Wire
from gateway.monitor import Door
from tests.door.support import Gate, at, get, outline, put, staff

SOURCE, TARGET = "/radiology/source", "/radiology/target"
LARGE = b"0123456789abcdef" * 20_000


@pytest.fixture
def sftp(gate: Gate) -> Door:
    """Alice by SFTP."""
    return gate.door("alice", wire=Wire.SFTP)


def both(door: Door, target: str = TARGET) -> tuple[ReadHandle, WriteHandle]:
    """Return a source to read from and a new target."""
    return door.open_read(at(SOURCE)), door.open_write(at(target))


@pytest.mark.parametrize("content", [b"", b"small", LARGE])
def test_a_duplicate_shares_its_content(gate: Gate, sftp: Door, content: bytes) -> None:
    """No blob is written; both have the same bytes and digest, and go on without each other."""
    put(sftp, SOURCE, content)
    blobs = gate.content()["blobs"]
    source, target = both(sftp)
    assert sftp.duplicate(source.info, target)
    assert target.size_bytes == len(content)
    target.commit()
    source.close()
    assert gate.content()["blobs"] == blobs
    assert sftp.stat(at(TARGET), digest=True).sha256 == hashlib.sha256(content).hexdigest()
    put(sftp, SOURCE, b"changed")
    assert get(sftp, TARGET) == content


def test_a_duplicate_is_recorded_before_it_is_made(gate: Gate, sftp: Door) -> None:
    """Which file it came from, where it went, and how much; then the file itself."""
    put(sftp, SOURCE, LARGE)
    source, target = both(sftp)
    gate.new_records()
    assert sftp.duplicate(source.info, target)
    copied = gate.new_records()
    target.commit()
    made = gate.new_records()
    assert outline(copied) == [("copy", "ok")]
    assert (copied[0]["path"], copied[0]["target"]) == (SOURCE, TARGET)
    assert copied[0]["bytes"] == len(LARGE)
    assert outline(made) == [("create", "ok")]
    assert made[0]["bytes"] == len(LARGE)


def test_a_duplicate_can_be_written_on(sftp: Door) -> None:
    """It is a draft like any other."""
    put(sftp, SOURCE, LARGE)
    source, target = both(sftp)
    assert sftp.duplicate(source.info, target)
    target.write_at(3, b"xyz")
    target.truncate(100_000)
    target.commit()
    assert get(sftp, TARGET) == b"012xyz" + LARGE[6:100_000]
    assert get(sftp, SOURCE) == LARGE


def written(door: Door) -> tuple[ReadHandle, WriteHandle]:
    source, target = both(door)
    target.write_at(0, b"x")
    return source, target


def kept(door: Door) -> tuple[ReadHandle, WriteHandle]:
    put(door, TARGET, b"old")
    return door.open_read(at(SOURCE)), door.open_write(at(TARGET), keep=True)


def replaced(door: Door) -> tuple[ReadHandle, WriteHandle]:
    source, target = both(door)
    put(door, SOURCE, b"newer")
    return source, target


def removed(door: Door) -> tuple[ReadHandle, WriteHandle]:
    source, target = both(door)
    door.delete(at(SOURCE))
    return source, target


def being_written(door: Door) -> tuple[ReadHandle, WriteHandle]:
    door.open_write(at(SOURCE), keep=True).write_at(0, b"x")
    return both(door)


def cut_off(door: Door) -> tuple[ReadHandle, WriteHandle]:
    handle = door.open_write(at(SOURCE))
    handle.write_at(0, b"arrived")
    handle.suspend("disconnected")
    return both(door)


def elsewhere(door: Door) -> tuple[ReadHandle, WriteHandle]:
    return both(door, "/archive/target")


@pytest.mark.parametrize(
    "scene", [written, kept, replaced, removed, being_written, cut_off, elsewhere]
)
def test_what_cannot_be_shared_is_left_to_be_copied(
    gate: Gate, sftp: Door, scene: Callable[[Door], tuple[ReadHandle, WriteHandle]]
) -> None:
    """False, with no record, and the target is as it was."""
    put(sftp, SOURCE, LARGE)
    source, target = scene(sftp)
    size_bytes = target.size_bytes
    gate.new_records()
    assert not sftp.duplicate(source.info, target)
    assert gate.new_records() == []
    assert target.size_bytes == size_bytes
    assert target.commit().size_bytes == size_bytes


def test_a_quota_that_does_not_hold_it_refuses(gate: Gate, sftp: Door) -> None:
    """And the target is never stored, though its client closes it."""
    put(sftp, "/small/source", b"x" * 600)
    source, target = sftp.open_read(at("/small/source")), sftp.open_write(at("/small/target"))
    gate.new_records()
    with pytest.raises(QuotaExceededError):
        sftp.duplicate(source.info, target)
    assert outline(gate.new_records()) == [("copy", "failed")]
    with pytest.raises(StorageUnavailableError):
        target.commit()
    with pytest.raises(NotFoundError):
        sftp.stat(at("/small/target"))


@pytest.mark.parametrize(("path", "right"), [("/source", Action.READ), ("/target", Action.CREATE)])
def test_a_right_that_was_taken_away_refuses(
    gate: Gate, sftp: Door, path: str, right: Action
) -> None:
    """Whether it is that to read the one or that to make the other."""
    put(sftp, SOURCE, LARGE)
    source, target = both(sftp)
    gate.policy.replace(staff(PathRule(path, deny=frozenset({right}))))
    gate.new_records()
    with pytest.raises(DeniedError):
        sftp.duplicate(source.info, target)
    assert outline(gate.new_records()) == [("copy", "denied")]
    with pytest.raises(StorageUnavailableError):
        target.commit()


def test_no_record_no_duplicate(gate: Gate, sftp: Door) -> None:
    """Where the trail cannot be written the target stays empty and is never stored."""
    put(sftp, SOURCE, LARGE)
    source, target = both(sftp)
    gate.refuse_records()
    with pytest.raises(Exception, match="audit"):
        sftp.duplicate(source.info, target)
    gate.accept_records()
    assert target.size_bytes == 0
    with pytest.raises(StorageUnavailableError):
        target.commit()


def test_what_a_failed_copy_left_is_not_kept_when_the_wire_is_cut(sftp: Door) -> None:
    """A mixture of two contents waits for nobody: its uploader would go on upon it."""
    handle = sftp.open_write(at(TARGET))
    handle.write_at(0, b"A" * 300_000)
    handle.write_at(0, b"B" * 100_000)
    handle.file.spoil()
    handle.suspend("disconnected")
    with pytest.raises(NotFoundError):
        sftp.stat(at(TARGET))
