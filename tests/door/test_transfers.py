"""What happens to a transfer while it runs: rights go, room ends, content turns out damaged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.errors import IntegrityError, QuotaExceededError
from gateway.errors import DeniedError
from gateway.model import Action, Wire
from gateway.monitor import Door
from tests.door.support import QUOTA_BYTES, Gate, at, put, staff

FILE = at("/radiology/file")
LARGE = bytes(200_000)


def outcomes(gate: Gate) -> list[tuple[str, str, str]]:
    """Return what was recorded since the last call, without look-ups."""
    found = gate.new_records()
    return [
        (line["action"], line["outcome"], line["error"])
        for line in found
        if line["action"] != "stat"
    ]


@pytest.mark.parametrize("without", [Action.READ, Action.WRITE])
def test_right_that_a_reload_takes_away_ends_transfers(
    gate: Gate, alice: Door, without: Action
) -> None:
    """Within a second, with a record; also for a file that was opened before."""
    put(alice, str(FILE), LARGE)
    reading, writing = alice.open_read(FILE), alice.open_write(FILE)
    reading.read_at(0, 10)
    writing.write_at(0, b"x")
    gate.new_records()
    gate.policy.replace(staff(without=frozenset({without})))
    gate.clock.forward(1)
    go_on: dict[Action, Callable[[], object]] = {
        Action.READ: lambda: reading.read_at(10, 10),
        Action.WRITE: lambda: writing.write_at(1, b"x"),
    }
    with pytest.raises(DeniedError):
        go_on[without]()
    assert outcomes(gate) == [(without.value, "denied", "DeniedError")]


def test_upload_that_outgrows_its_share_is_stopped_on_its_way(gate: Gate, alice: Door) -> None:
    """A client that announces no size cannot fill the disk before its commit is refused."""
    handle = alice.open_write(at("/small/file"))
    handle.write_at(0, bytes(QUOTA_BYTES + 1))
    gate.clock.forward(1)
    with pytest.raises(QuotaExceededError):
        handle.write_at(QUOTA_BYTES + 1, b"x")
    handle.abort("quota")
    assert gate.blobs.available_bytes() == 1 << 40


def test_reading_back_while_writing_is_a_read_with_its_end(gate: Gate) -> None:
    """A file open for both, as sshfs opens it, records the read and how much of it left."""
    door = gate.door("alice", wire=Wire.SFTP)
    put(door, str(FILE), b"old content")
    gate.new_records()
    handle = door.open_write(FILE, keep=True)
    assert handle.read_at(0, 3) == b"old"
    assert handle.read_at(4, 7) == b"content"
    handle.write_at(0, b"new")
    handle.commit()
    lines = gate.new_records()
    assert [(one["action"], one["outcome"], one["bytes"]) for one in lines] == [
        ("read", "ok", None),
        ("write", "ok", 3),
        ("read_end", "ok", 10),
    ]


def test_damaged_content_is_an_error_in_the_trail(gate: Gate, alice: Door) -> None:
    """A flipped bit is served to nobody, and the read's closing record names what happened."""
    put(alice, str(FILE), LARGE)
    gate.new_records()
    (blob_id,) = gate.blobs._blobs
    damaged = bytearray(gate.blobs._blobs[blob_id])
    damaged[70_000] ^= 1
    gate.blobs._blobs[blob_id] = bytes(damaged)
    handle = alice.open_read(FILE)
    with pytest.raises(IntegrityError):
        handle.read_at(0, len(LARGE))
    handle.close(complete=False)
    assert outcomes(gate) == [("read", "ok", ""), ("read_end", "failed", "IntegrityError")]
