"""However a gateway ends, no work that it began is lost and no process of it stays."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator

import psutil
import pytest

from tests.process.support import ServedGateway, prepared
from tests.support.paramiko_sftp import sftp_over
from tests.support.users import until

HALF = b"0123456789abcdef" * 8192


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """A gateway that each test starts and ends in its own way."""
    made = prepared(tmp_path_factory.mktemp("stopping"))
    yield made
    if made.process is not None:
        made.stop()
    made.notified.close()


def family(gateway: ServedGateway) -> list[psutil.Process]:
    """Return the supervisor and all of its workers."""
    supervisor = psutil.Process(gateway.pid())
    return [supervisor, *supervisor.children(recursive=True)]


def ended(processes: list[psutil.Process]) -> None:
    """Return once none of the processes lives; a zombie no longer does."""
    until(
        lambda: (
            not [
                one
                for one in processes
                if one.is_running() and one.status() != psutil.STATUS_ZOMBIE
            ]
        ),
        "every process of the gateway has ended",
        timeout_s=30,
    )


def refuses(port: int) -> bool:
    """Return whether nobody listens on a port any more."""
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def begin_put(gateway: ServedGateway, path: str) -> ssl.SSLSocket:
    """Begin to store twice ``HALF`` at ``path``; return the connection when half is on its way."""
    secret = gateway.webdav_secret("alice")
    basic = b64encode(f"alice:{secret}".encode()).decode()
    connection = gateway.tls()
    connection.sendall(
        f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {basic}\r\n"
        f"Content-Length: {2 * len(HALF)}\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 100 ")
    connection.sendall(HALF)
    return connection


def test_drain_finishes_what_runs_and_takes_nothing_new(gateway: ServedGateway) -> None:
    """After SIGTERM uploads under way over both protocols are committed, others are refused."""
    gateway.serve()
    everyone = family(gateway)
    with (
        begin_put(gateway, "/radiology/put") as connection,
        gateway.ssh_transport("admin") as transport,
        sftp_over(transport).open("/radiology/sent", "wb") as file,
    ):
        file.write(HALF)
        os.kill(gateway.pid(), signal.SIGTERM)
        until(lambda: "STOPPING=1" in gateway.notified.received(), "STOPPING=1 is told")
        until(lambda: refuses(gateway.webdav_port), "new WebDAV connections are refused")
        until(lambda: refuses(gateway.sftp_port), "new SFTP connections are refused")
        connection.sendall(HALF)
        assert connection.recv(64).startswith(b"HTTP/1.1 201 ")
        file.write(HALF)
        file.close()
        gateway.held.close()
    assert gateway.stop() == 0, gateway.log()
    ended(everyone)
    assert "Traceback" not in gateway.log()

    gateway.serve()
    for name in ("put", "sent"):
        reply = gateway.curl("alice", "GET", f"/radiology/{name}")
        assert (reply.status, reply.body) == (200, HALF * 2)


def test_upload_that_outlasts_the_drain_limit_is_cut(gateway: ServedGateway) -> None:
    """When the drain limit is over the gateway ends all the same, and half a file is none."""
    gateway.write_config(lambda config: config["server"].update(drain_timeout="1s"))
    gateway.serve()
    everyone = family(gateway)
    with begin_put(gateway, "/radiology/cut"):
        assert gateway.stop() == 0, gateway.log()
    ended(everyone)
    assert "Traceback" not in gateway.log()
    records = gateway.audit_records()
    assert [record.outcome for record in records if record.path == "/radiology/cut"] == ["aborted"]
    assert [record.action for record in records][-1] == "stop"


def test_workers_end_when_their_supervisor_was_killed(gateway: ServedGateway) -> None:
    """Nobody goes on serving without a supervisor, and the next start finds the ports free."""
    gateway.serve()
    workers = gateway.workers()
    assert len(workers) == 2
    os.kill(gateway.pid(), signal.SIGKILL)
    assert gateway.process is not None
    assert gateway.process.wait(20) == -signal.SIGKILL
    ended(workers)
    assert refuses(gateway.webdav_port)
    assert refuses(gateway.sftp_port)


def test_stop_during_the_start_leaves_nothing_and_is_never_ready(gateway: ServedGateway) -> None:
    """SIGTERM while the workers still start ends everything in order, without a READY."""
    gateway.spawn()
    until(lambda: len(family(gateway)) == 3, "the workers are being started", timeout_s=60)
    everyone = family(gateway)
    assert gateway.stop() == 0, gateway.log()
    ended(everyone)
    assert gateway.notified.received() == ["STOPPING=1"]
    assert "Traceback" not in gateway.log()


def test_of_two_starts_at_once_one_is_refused(gateway: ServedGateway) -> None:
    """Two gateways never share the clients of one port, however close together they start."""
    gateway.spawn()
    first = gateway.process
    gateway.spawn()
    second = gateway.process
    assert first is not None
    assert second is not None
    until(
        lambda: first.poll() is not None or second.poll() is not None,
        "one of the two has ended",
        timeout_s=60,
    )
    gateway.process, loser = (first, second) if first.poll() is None else (second, first)
    assert loser.wait() == 2
    assert "is taken by another program" in gateway.log()
    until(lambda: gateway.told_or_ended(0, "READY=1"), "the other one serves", timeout_s=60)
