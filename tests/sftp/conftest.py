"""A listener over the fake door, in a thread of its own, and keys to log in with."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import pytest

from gateway.sftp.server import SftpServer, serve
from gateway.sftp.settings import SftpSettings
from gateway.sftp.shown_key import key_line
from tests.sftp.fake_door import CODE, PASSWORD, FakeMonitor

T = TypeVar("T")

LIMIT_S = 30

ORDINARY = SftpSettings(watch_interval_s=0.02, transfer_threads=4)
"""Settings for tests: a session that ended is noticed at once."""


@dataclass(slots=True)
class Listener:
    """A running listener; its loop turns in another thread than the test's clients."""

    monitor: FakeMonitor
    host_key: Path
    user_key: Path
    settings: SftpSettings
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    server: SftpServer | None = None
    thread: threading.Thread | None = None
    port: int = 0

    def start(self) -> None:
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        sock = socket.create_server(("127.0.0.1", 0))
        monitor = self.monitor.facade()
        self.server = self.run(serve(sock, [self.host_key], monitor, self.settings))
        self.port = self.server.port

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        """Return what ``job`` returns, run on the listener's loop."""
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(LIMIT_S)

    def stop(self) -> None:
        assert self.server is not None
        assert self.thread is not None
        self.run(self.server.drain(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT_S)
        self.loop.close()

    async def connect(self, **changes: object) -> asyncssh.SSHClientConnection:
        """Return a logged-in client; ``changes`` override asyncssh's options."""
        options: dict[str, Any] = {
            "username": "alice",
            "client_keys": [str(self.user_key)],
            "known_hosts": None,
            "config": None,
            "agent_path": None,
            "connect_timeout": LIMIT_S,
        }
        return await asyncssh.connect("127.0.0.1", self.port, **{**options, **changes})

    async def connect_by_password(
        self, secret: str = PASSWORD + CODE, **changes: object
    ) -> asyncssh.SSHClientConnection:
        """Return a client that used the ``password`` method alone."""
        return await self.connect(
            client_keys=[], password=secret, preferred_auth="password", **changes
        )


@pytest.fixture(scope="session")
def host_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a host key's file."""
    path = tmp_path_factory.mktemp("host") / "host_key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    return path


@pytest.fixture(scope="session")
def user_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a user key's file."""
    path = tmp_path_factory.mktemp("user") / "user_key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    path.chmod(0o600)
    return path


@pytest.fixture
def start(host_key: Path, user_key: Path) -> Iterator[Callable[..., Listener]]:
    """Return a function that starts a listener with the settings given to it."""
    running: list[Listener] = []

    def begin(settings: SftpSettings = ORDINARY) -> Listener:
        monitor = FakeMonitor()
        monitor.keys["alice"] = key_line(asyncssh.read_private_key(user_key))
        listener = Listener(monitor, host_key, user_key, settings)
        listener.start()
        running.append(listener)
        return listener

    yield begin
    for one in running:
        one.stop()


@pytest.fixture
def listener(start: Callable[..., Listener]) -> Listener:
    """Return a listener with ordinary settings."""
    return start()
