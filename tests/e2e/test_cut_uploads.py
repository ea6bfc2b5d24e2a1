"""An upload that is cut off changes nothing that others see, and the audit says so."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.support.gateway import RunningGateway
from tests.support.paramiko_sftp import sftp_over
from tests.support.users import until

ANNOUNCED_BYTES = 4 * 2**20


def put_and_cut(gateway: RunningGateway, path: str, sent_bytes: int) -> None:
    """Announce ANNOUNCED_BYTES in a PUT, send fewer, and drop the connection."""
    credentials = base64.b64encode(f"alice:{gateway.webdav_secret('alice')}".encode()).decode()
    head = (
        f"PUT {quote(path)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n"
        f"Content-Length: {ANNOUNCED_BYTES}\r\n\r\n"
    )
    with gateway.tls() as connection:
        connection.sendall(head.encode() + os.urandom(sent_bytes))


def wait_for_aborted(gateway: RunningGateway, path: str) -> None:
    record = gateway.wait_for_record(
        lambda record: record.path == path and record.outcome == "aborted", "the cut upload"
    )
    assert record.principal == "alice"


def seen_by_bob(gateway: RunningGateway, path: str) -> tuple[int, bytes]:
    reply = gateway.curl("bob", "GET", path)
    return reply.status, reply.body if reply.status == 200 else b""


@pytest.mark.parametrize("sent_bytes", [0, 1, 300_000, ANNOUNCED_BYTES - 1])
def test_cut_put_leaves_the_old_content(
    gateway: RunningGateway, folder: str, sent_bytes: int
) -> None:
    """A PUT dropped at any point leaves what was there, and one aborted record."""
    path = f"{folder}/kept"
    assert gateway.curl("alice", "PUT", path, body=b"old content").status == 201
    put_and_cut(gateway, path, sent_bytes)
    wait_for_aborted(gateway, path)
    assert gateway.curl("alice", "GET", path).body == b"old content"
    aborted = [
        one for one in gateway.audit_records() if one.path == path and one.outcome == "aborted"
    ]
    assert len(aborted) == 1


def test_cut_put_of_a_new_name_leaves_nothing(gateway: RunningGateway, folder: str) -> None:
    """No empty or partial file appears under a name whose first PUT was cut."""
    path = f"{folder}/never"
    put_and_cut(gateway, path, 300_000)
    wait_for_aborted(gateway, path)
    assert gateway.curl("alice", "GET", path).status == 404
    assert seen_by_bob(gateway, path)[0] == 404


@pytest.mark.parametrize("old", [b"old content", None])
def test_lost_sftp_connection_leaves_the_old_content(
    gateway: RunningGateway, folder: str, old: bytes | None
) -> None:
    """A dropped TCP connection before CLOSE shows others the old content or nothing."""
    path = f"{folder}/kept"
    if old is not None:
        assert gateway.curl("alice", "PUT", path, body=old).status == 201
    with gateway.ssh_transport("alice") as transport:
        file = sftp_over(transport).open(path, "wb")
        file.set_pipelined(True)
        file.write(os.urandom(300_000))
        file.flush()
        assert seen_by_bob(gateway, path) == ((200, old) if old else (404, b""))
        transport.sock.close()
    wait_for_aborted(gateway, path)
    assert seen_by_bob(gateway, path) == ((200, old) if old else (404, b""))


def test_killed_sftp_client_leaves_the_old_content(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """OpenSSH's client killed in the middle of a put leaves the old content."""
    path = f"{folder}/kept"
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20 * 2**20))
    assert gateway.curl("alice", "PUT", path, body=b"old content").status == 201
    with gateway.sftp("alice", [f"put {source} {path}"], flags=["-l", "8000"]) as client:
        whole = psutil.Process(client.pid)

        def ssh_has_sent() -> list[psutil.Process]:
            children = whole.children(recursive=True)
            return [one for one in children if one.io_counters().write_chars > 500_000]

        ssh = until(ssh_has_sent, "half a megabyte is on its way")[0]
        ssh.kill()
        client.kill()
        client.communicate()
    wait_for_aborted(gateway, path)
    assert seen_by_bob(gateway, path) == (200, b"old content")


def test_chunked_put_without_its_end_leaves_nothing(gateway: RunningGateway, folder: str) -> None:
    """A chunked body that stops before the last chunk is an abort too."""
    path = f"{folder}/never"
    credentials = base64.b64encode(f"alice:{gateway.webdav_secret('alice')}".encode()).decode()
    head = (
        f"PUT {quote(path)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with gateway.tls() as connection:
        connection.sendall(head.encode() + b"5\r\nhello\r\n")
    wait_for_aborted(gateway, path)
    assert gateway.curl("alice", "GET", path).status == 404
