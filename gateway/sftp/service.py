"""What all connections of one SFTP listener share: the monitor, the threads, the head count.

No protocol lives here. May import the door's types.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING

from auth.errors import LoginRefusedError
from gateway.addresses import client_host
from gateway.model import Attempt, Client, Session
from gateway.sftp.admission import Admission
from gateway.sftp.packets import SealingRoom
from gateway.sftp.settings import SftpSettings
from gateway.sftp.workers import Workers

if TYPE_CHECKING:
    from gateway.monitor import Monitor
    from gateway.sftp.connection import SftpConnection

log = logging.getLogger(__name__)


class Service:
    """One listener's shared state; used on its event loop alone."""

    def __init__(self, monitor: Monitor, settings: SftpSettings) -> None:
        self.monitor = monitor
        self.settings = settings
        self.workers = Workers(settings.transfer_threads, settings.login_threads)
        self.room = SealingRoom()
        self.draining = False
        self.connections: dict[SftpConnection, None] = {}
        self._strangers: Admission[SftpConnection] = Admission(
            settings.max_pending_logins, settings.max_pending_per_address
        )
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._in_line: Counter[str] = Counter()
        self._jobs: set[asyncio.Task[None]] = set()

    def admit(self, connection: SftpConnection, address: str) -> bool:
        """Return whether a new connection may stay; a stranger may be dropped to make room."""
        if self.draining or len(self.connections) >= self.settings.max_connections:
            return False
        victim = self._strangers.admit(connection, address)
        if victim is not None:
            victim.abort()
        self.connections[connection] = None
        return True

    def logging_in(self, connection: SftpConnection) -> None:
        """Note that a stranger has begun to say who they are."""
        self._strangers.begun(connection)

    def logged_in(self, connection: SftpConnection) -> None:
        """Note that a connection is no stranger any more."""
        self._strangers.leave(connection)

    def gone(self, connection: SftpConnection) -> None:
        """Note that a connection is over."""
        self._strangers.leave(connection)
        self.connections.pop(connection, None)

    @contextlib.asynccontextmanager
    async def _turn(self, address: str) -> AsyncIterator[None]:
        """Wait until few enough log-ins of this address are being decided."""
        address = client_host(address)
        turn = self._turns.setdefault(address, asyncio.Semaphore(self.settings.logins_per_address))
        self._in_line[address] += 1
        try:
            async with turn:
                yield
        finally:
            self._in_line[address] -= 1
            if not self._in_line[address]:
                del self._in_line[address], self._turns[address]

    async def log_in(self, attempt: Attempt, wanted: Callable[[], bool]) -> Session:
        """Return the session that the monitor opens or joins; raises what it raises.

        An attempt that nobody waits for (``wanted``) any more when its turn comes is refused.
        """
        async with self._turn(attempt.client.address):
            if not wanted():
                raise LoginRefusedError("abandoned")
            return await self.workers.login(self.monitor.login, attempt)

    async def key_may_log_in(self, name: str, ssh_key: str, client: Client) -> bool:
        """Return whether the key is listed for the user; it is not proven yet."""
        async with self._turn(client.address):
            return await self.workers.login(self.monitor.key_may_log_in, name, ssh_key, client)

    async def leave(self, session: Session) -> None:
        """Tell the monitor that a connection has left its session; the last one ends it.

        A failure is logged, since nobody is left to be told: the session then idles out.
        """
        try:
            await self.workers.door(self.monitor.end, session, "disconnected")
        except Exception as error:  # noqa: BLE001  see above
            log.error("leaving session %s failed with %s", session.id, type(error).__name__)

    def spawn(self, job: Coroutine[object, object, None]) -> None:
        """Run ``job`` to its end even when the connection that asked for it is gone."""
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def settle(self) -> None:
        """Wait until every spawned job is done."""
        while self._jobs:
            await asyncio.wait(set(self._jobs))
