"""The parts of the check-up that need no installation."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.catalog.checkpoints import insert_checkpoint
from backends.catalog.engine import Catalog
from backends.catalog.sqlite import open_catalog
from gateway.config import GatewayConfig, parse_config
from gateway.config.scalars import Endpoint
from gateway.doctor.finding import days_left
from gateway.doctor.listening import reachable
from gateway.doctor.ssh import NoSshError, ask
from gateway.doctor.storage import check_data_folder, file_system
from gateway.doctor.trail import check_times, last_number
from gateway.model import SECOND_US

LIMIT_S = 20.0


def said(answer: bytes) -> Callable[[], None]:
    """Return a function that asks a server which says ``answer`` and hangs up."""

    def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def speak() -> None:
                caller, _ = server.accept()
                with caller:
                    caller.sendall(answer)

            thread = threading.Thread(target=speak)
            thread.start()
            try:
                ask(server.getsockname(), LIMIT_S)
            finally:
                thread.join(LIMIT_S)

    return run


HELLO = b"SSH-2.0-x\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"x" * 300,
        b"hello\r\n" * 60,
        HELLO,
        HELLO + bytes(4),
        HELLO + bytes(5),
        HELLO + b"\xff\xff\xff\xff\x04" + bytes(100),
        HELLO + b"\x00\x00\x00\x0c\x04" + bytes(11),
        HELLO + b"\x00\x00\x00\x0c\x04\x14" + bytes(10),
        HELLO + b"\x00\x00\x00\x1c\x04\x14" + bytes(16) + b"\x00\x00\xff\xff" + bytes(6),
    ],
)
def test_what_is_no_ssh_is_said_so(answer: bytes) -> None:
    """Whatever the other end says, the answer is NoSshError or a lost connection."""
    with pytest.raises((NoSshError, OSError)):
        said(answer)()


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    """Spaces in the mount point are escaped; without a table nobody can tell."""
    mounts = tmp_path / "mounts"
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", "\\040")
    mounts.write_text(f"x / ext4 rw 0 0\nserver:/ {escaped} nfs4 rw 0 0\n")
    assert file_system(inner, mounts) == "nfs4"
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "none") == ""


def test_the_anchors_last_number(tmp_path: Path) -> None:
    """A line that a full disk cut short is passed over."""
    anchor = tmp_path / "anchor"
    assert last_number(anchor) == 0
    anchor.write_text('{"number": 1}\n{"number": 2}\n{"numb')
    assert last_number(anchor) == 2
    anchor.write_text("x\n[1]\n")
    assert last_number(anchor) == 0


def test_days_left_are_whole_days() -> None:
    """Today is 0, what is over is negative."""
    day_us = 86_400 * 1_000_000
    assert [
        days_left(ends, 10 * day_us) for ends in (12 * day_us, 10 * day_us, 10 * day_us - 1)
    ] == [
        2,
        0,
        -1,
    ]


TEXT = """\
server: {sftp: {listen: "127.0.0.1:%d", host_keys: host_key}}
storage: {data_dir: data}
keys: {master_key: {file: master.key}}
directory: {file: {users: users.yaml}}
shares: {files: }
groups: {staff: {members: {users: alice}, shares: {files: {allow: read}}}}
"""
NOW_US = 1_800_000_000 * SECOND_US


def config_at(folder: Path, port: int = 1) -> GatewayConfig:
    (folder / "data").mkdir(mode=0o700, exist_ok=True)
    return parse_config((TEXT % port).encode(), folder / "config.yaml")


@pytest.mark.parametrize(
    ("kind", "verdict", "word"),
    [("ext4", "ok", "ext4"), ("nfs4", "problem", "SQLite"), ("tmpfs", "warning", "forgets")],
)
def test_the_data_folder_needs_a_disk(tmp_path: Path, kind: str, verdict: str, word: str) -> None:
    """SQLite's log is no use over a network, and some file systems forget."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x / {kind} rw 0 0\n")
    first = next(iter(check_data_folder(config_at(tmp_path), mounts)))
    assert (first.verdict, word in first.message) == (verdict, True)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog whose newest checkpoint was made at NOW_US."""
    made = open_catalog(tmp_path)
    made.migrate()
    with made.begin() as tx:
        insert_checkpoint(tx, 1, NOW_US, "{}")
    yield made
    made.close()


def test_a_clock_before_the_trail_is_a_problem(tmp_path: Path, catalog: Catalog) -> None:
    """Codes and leases go by it; a little is allowed, for machines that are not quite in step."""
    config = config_at(tmp_path)
    (found,) = check_times(config, catalog, NOW_US - 60 * SECOND_US)
    assert (found.verdict, "set back" in found.message) == ("problem", True)
    near = check_times(config, catalog, NOW_US - 2 * SECOND_US)
    assert not [each for each in near if each.verdict == "problem"]


def test_late_checkpoints_are_told_of_while_something_answers(
    tmp_path: Path, catalog: Catalog
) -> None:
    """A gateway that is stopped makes none."""
    later_us = NOW_US + 3600 * SECOND_US
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = config_at(tmp_path, server.getsockname()[1])
        found = [each.subject for each in check_times(config, catalog, later_us)]
        assert "audit checkpoints" in found
    found = [each.subject for each in check_times(config, catalog, later_us)]
    assert "audit checkpoints" not in found


def test_wildcards_are_asked_on_this_machine() -> None:
    """Nobody can connect to an address that means all of them."""
    asked = [reachable(Endpoint(host, 1))[0] for host in ("0.0.0.0", "::", "10.0.0.1")]
    assert asked == ["127.0.0.1", "::1", "10.0.0.1"]
