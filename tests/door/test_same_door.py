"""Both protocols pass the same door: what they do leaves the same records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import DeniedError
from gateway.model import Wire
from gateway.monitor import Door
from tests.door.support import Gate, at, get, put

# What says when, by whom's connection and where in the chain; all else must be equal.
OF_ONE_TRY = frozenset(
    {
        "time",
        "journal",
        "seq",
        "session",
        "protocol",
        "node_id",
        "version_id",
        "request_id",
        "detail_hash",
        "salt",
        "hash",
    }
)


def _write(door: Door) -> None:
    put(door, "/radiology/file", b"x" * 100_000)


def _refused(door: Door) -> None:
    with pytest.raises(DeniedError):
        door.mkdir(at("/none/folder"))


def _several(door: Door) -> None:
    put(door, "/radiology/file")
    get(door, "/radiology/file")
    door.scandir(at("/radiology"))
    door.move(at("/radiology/file"), at("/radiology/renamed"))
    door.open_write(at("/radiology/cut")).abort("cut")
    door.delete(at("/radiology/renamed"))


@pytest.mark.parametrize("act", [_write, _refused, _several])
def test_both_protocols_leave_the_same_records(gate: Gate, act: Callable[[Door], None]) -> None:
    """Equal but for the protocol and what is new with every try."""
    told: list[list[dict[str, Any]]] = []
    for wire in (Wire.WEBDAV, Wire.SFTP):
        act(gate.door("alice", wire=wire))
        records = gate.new_records()
        assert {record["protocol"] for record in records} == {wire.value}
        told.append(
            [
                {name: value for name, value in record.items() if name not in OF_ONE_TRY}
                for record in records
            ]
        )
        for name in ("/radiology/file",):
            cleaner = gate.door("bob")
            if gate.sql("SELECT count(*) FROM nodes WHERE NOT is_folder") != [(0,)]:
                cleaner.delete(at(name))
        gate.new_records()
    assert told[0] == told[1]
    assert told[0]
