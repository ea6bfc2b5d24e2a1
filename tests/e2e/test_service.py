"""The gateway as systemd runs it: readiness, reload, and a gentle end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.users import until


@dataclass(frozen=True, slots=True)
class Notified:
    """A gateway started with a socket on which it reports, as systemd gives one."""

    gateway: RunningGateway
    reports: socket.socket

    def wait_for(self, state: str) -> None:
        """Return once the gateway has reported ``state``; others before it are dropped."""

        def reported() -> bool:
            with contextlib.suppress(BlockingIOError):
                return state in self.reports.recv(4096).decode().splitlines()
            return False

        until(reported, f"the gateway reports {state}", timeout_s=60)


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[Notified]:
    # A socket's path may be at most 107 bytes long, which pytest's own folders exceed.
    with (
        tempfile.TemporaryDirectory() as short,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reports,
        running_gateway(tmp_path) as gateway,
    ):
        reports.bind(f"{short}/notify")
        reports.setblocking(False)
        gateway.stop()
        gateway.start_serve({"NOTIFY_SOCKET": f"{short}/notify"})
        yield Notified(gateway, reports)


def test_readiness_reload_and_end_are_reported(notified: Notified) -> None:
    """READY comes when it serves, again after a reload, and STOPPING when it is told to end."""
    gateway = notified.gateway
    notified.wait_for("READY=1")
    assert gateway.curl("alice", "PUT", "/radiology/file", body=b"kept").status == 201

    assert gateway.process is not None
    os.kill(gateway.process.pid, signal.SIGHUP)
    notified.wait_for("READY=1")
    assert gateway.curl("alice", "GET", "/radiology/file").body == b"kept"

    assert gateway.stop() == 0, gateway.log()
    notified.wait_for("STOPPING=1")


def test_wrong_configuration_leaves_the_old_one_in_force(notified: Notified) -> None:
    """A reload of a broken file changes nothing; one of a mended file takes effect whole."""
    gateway = notified.gateway
    notified.wait_for("READY=1")
    good = gateway.config.read_text()
    assert gateway.process is not None

    gateway.config.write_text(good + "\nno_such_key: true\n")
    os.kill(gateway.process.pid, signal.SIGHUP)
    notified.wait_for("READY=1")
    assert gateway.curl("bob", "PUT", "/radiology/by-bob", body=b"x").status == 403
    assert gateway.curl("alice", "PUT", "/radiology/file", body=b"x").status == 201

    gateway.config.write_text(good.replace("allow: [list, read]", "allow: [list, read, create]"))
    os.kill(gateway.process.pid, signal.SIGHUP)
    notified.wait_for("READY=1")
    until(
        lambda: gateway.curl("bob", "PUT", "/radiology/by-bob", body=b"x").status == 201,
        "the new policy is in force",
    )
