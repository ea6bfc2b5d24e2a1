"""Locks between processes: every worker and SFTP keep them, and they survive a restart."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import paramiko
import psutil
import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.replies import Reply
from tests.support.users import until

LOCK = b"""<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype><D:owner>Alice at PC 7</D:owner></D:lockinfo>"""


@pytest.fixture(scope="module")
def own_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that these tests may stop."""
    with running_gateway(tmp_path_factory.mktemp("locks")) as running:
        yield running


@dataclass(frozen=True, slots=True)
class File:
    """A file, and a lock of Alice's on it."""

    gateway: RunningGateway
    path: str

    def lock(self, timeout: str = "Second-600") -> str:
        """Return the token."""
        headers = {"Timeout": timeout}
        locked = self.gateway.curl("alice", "LOCK", self.path, body=LOCK, headers=headers)
        assert locked.status == 200
        return locked.headers["lock-token"]

    def refresh(self, token: str) -> Reply:
        return self.gateway.curl("alice", "LOCK", self.path, headers={"If": f"({token})"})

    def unlock(self, token: str) -> None:
        headers = {"Lock-Token": token}
        assert self.gateway.curl("alice", "UNLOCK", self.path, headers=headers).status == 204

    def put(self, user: str, token: str = "") -> int:
        headers = {"If": f"({token})"} if token else {}
        return self.gateway.curl(user, "PUT", self.path, body=b"new", headers=headers).status


@pytest.fixture
def file(own_gateway: RunningGateway) -> File:
    """A new file."""
    path = f"/radiology/{uuid.uuid4().hex}"
    assert own_gateway.curl("alice", "PUT", path, body=b"old").status == 201
    return File(own_gateway, path)


def test_a_lock_binds_every_process(file: File) -> None:
    """Whichever worker a connection comes to, and over SFTP, in words that say who has it."""
    token = file.lock()
    assert {file.put(user) for user in ("alice", "admin") for _ in range(6)} == {423}
    refused = file.gateway.curl("admin", "LOCK", file.path, body=LOCK)
    assert refused.status == 423
    (conflict, message) = ET.fromstring(refused.body)
    assert conflict.findtext("{DAV:}href") == file.path
    assert "Locked by Alice" in str(message.text)
    assert token.strip("<>").encode() not in refused.body
    for user in ("alice", "admin"):
        with file.gateway.ssh_transport(user) as transport:
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None
            with pytest.raises(OSError, match="Locked by Alice"):
                client.open(file.path, "w")
            with pytest.raises(OSError, match="Locked by Alice"):
                client.remove(file.path)
    assert file.gateway.curl("admin", "GET", file.path).body == b"old"
    assert file.put("alice", token) == 204
    file.unlock(token)
    assert file.put("admin") == 204


def test_a_lock_survives_a_killed_worker_and_a_restart(file: File) -> None:
    """Its holder goes on with the same token."""
    token = file.lock()
    assert file.gateway.process is not None
    family = psutil.Process(file.gateway.process.pid).children(recursive=True)
    for worker in family:
        if {"gateway.worker", "webdav"} <= set(worker.cmdline()):
            os.kill(worker.pid, signal.SIGKILL)
    until(lambda: file.put("admin") == 423, "other workers serve", 30)
    assert file.gateway.stop() == 0
    file.gateway.start_serve()
    assert file.put("admin") == 423
    refreshed = file.refresh(token)
    assert refreshed.status == 200
    assert token.strip("<>").encode() in refreshed.body
    assert b"Alice at PC 7" in refreshed.body
    file.unlock(token)
    assert file.put("admin") == 204


def test_a_lock_that_ran_out_binds_nobody(file: File, tmp_path: Path) -> None:
    """Before anybody has tidied it away."""
    token = file.lock("Second-2")
    assert file.put("admin") == 423
    until(lambda: file.put("admin") == 204, "the lock has run out", 10)
    late = file.refresh(token)
    assert late.status == 412
    (tmp_path / "new").write_bytes(b"by sftp")
    done = file.gateway.sftp_batch("admin", [f"put {tmp_path / 'new'} {file.path}"])
    assert done.returncode == 0, done.stdout
