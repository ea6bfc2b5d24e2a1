"""A gateway that is told to end lets OpenSSH's transfers finish, and tells whom it cannot wait for."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.support import ServedGateway, prepared
from tests.support import openssh

KIB = 1024
CONTENT = os.urandom(1500 * KIB)
SLOW_KBIT = "3000"
"""So that the content takes about four seconds."""
TOO_SLOW_KBIT = "500"
SCANNER = "scanner@127.0.0.1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """A gateway that is not running between the tests."""
    made = prepared(tmp_path_factory.mktemp("draining"))
    yield made
    made.notified.close()


@pytest.fixture
def gateway(made: ServedGateway) -> Iterator[ServedGateway]:
    """A gateway that each test starts and ends in its own way."""
    yield made
    if made.process is not None:
        made.stop()


def begin(gateway: ServedGateway, place: Path, command: str, kbit: str) -> subprocess.Popen[bytes]:
    """Start OpenSSH's sftp with one slow transfer after a small one."""
    place.mkdir()
    (place / "small").write_bytes(b"small")
    (place / "batch").write_text(f"put small /scans/{place.name}-small\n{command}\n")
    options = [*gateway.ssh_options("scanner", method="publickey"), "-oLogLevel=INFO"]
    return subprocess.Popen(
        ["sftp", *options, "-l", kbit, "-b", "batch", SCANNER],
        env=openssh.environment(place, "", ""),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=place,
        start_new_session=True,
    )


def wait_until_slow(gateway: ServedGateway, *places: Path) -> None:
    """Wait for the records of the small transfers: the slow ones come next."""
    for place in places:
        small = ("create", f"/scans/{place.name}-small")
        gateway.wait_for_record(lambda one, small=small: (one.action, one.path) == small, "it")  # type: ignore[misc]


def test_slow_transfers_are_finished(gateway: ServedGateway, tmp_path: Path) -> None:
    """One up and one down, each longer than the rest of the gateway takes to end."""
    gateway.serve()
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(CONTENT)
    assert gateway.curl("admin", "PUT", "/scans/down", body=source).status == 201
    with (
        begin(gateway, tmp_path / "a", f"get /scans/down {back}", SLOW_KBIT) as down,
        begin(gateway, tmp_path / "b", f"put {source} /scans/up", SLOW_KBIT) as up,
    ):
        wait_until_slow(gateway, tmp_path / "a", tmp_path / "b")
        os.kill(gateway.pid(), signal.SIGTERM)
        told = [process.communicate(timeout=60)[0] for process in (down, up)]
        assert [process.returncode for process in (down, up)] == [0, 0], told
    assert back.read_bytes() == CONTENT
    assert gateway.stop() == 0, gateway.log()
    gateway.serve()
    assert gateway.curl("admin", "GET", "/scans/up").body == CONTENT


def test_a_transfer_that_is_too_slow_is_given_up(gateway: ServedGateway, tmp_path: Path) -> None:
    """Its client prints why; others see nothing of it, and its uploader can go on."""
    gateway.write_config(lambda config: config["server"].update(drain_timeout="1s"))
    gateway.serve()
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    with begin(gateway, tmp_path / "c", f"put {source} /scans/slow", TOO_SLOW_KBIT) as process:
        wait_until_slow(gateway, tmp_path / "c")
        assert gateway.stop() == 0, gateway.log()
        told = process.communicate(timeout=60)[0].decode()
    assert process.returncode != 0
    assert "The server is about to restart; connect again." in told
    gateway.serve()
    assert gateway.curl("admin", "GET", "/scans/slow").status == 404
    records = [one for one in gateway.audit_records() if one.path == "/scans/slow"]
    assert [one.outcome for one in records if one.action == "create"] == ["aborted"]
    command = ["sftp", *gateway.ssh_options("scanner", method="publickey"), "-b", "-", SCANNER]
    done = subprocess.run(
        command,
        input=f"reput {source} /scans/slow\n".encode(),
        capture_output=True,
        check=True,
        env=openssh.environment(tmp_path, "", ""),
        timeout=60,
    )
    assert done.returncode == 0
    assert gateway.curl("admin", "GET", "/scans/slow").body == CONTENT
