"""The SFTP listener: accepts connections on a bound socket, and stops without losing work.

No file operation, no log-in. May import the door's types. The event loop is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.connection import SSHServerConnectionOptions

from gateway.sftp.connection import SftpConnection
from gateway.sftp.login import LoginDialogue
from gateway.sftp.service import Service
from gateway.sftp.settings import SOFTWARE, SftpSettings

if TYPE_CHECKING:
    from gateway.monitor import Monitor

_RESTART = "The server is about to restart; connect again."


class SftpServer:
    """A running listener. ``serve`` makes it; call ``drain`` or ``close`` once to end it."""

    def __init__(self, listener: asyncio.Server, service: Service) -> None:
        self._listener = listener
        self._service = service

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def connection_count(self) -> int:
        """How many connections are open, logged in or not."""
        return len(self._service.connections)

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let open files be closed for up to ``timeout_s``, then close.

        Connections without open files are told to come back at once. Files that are still open
        at the end are given up, uncommitted.
        """
        self._stop_accepting()
        for connection in tuple(self._service.connections):
            connection.request_answered()
        open_connections = [one.wait_closed() for one in self._service.connections]
        if open_connections:
            waiting = [asyncio.ensure_future(one) for one in open_connections]
            _, late = await asyncio.wait(waiting, timeout=timeout_s)
            for one in late:
                one.cancel()
        self.close()
        await self.wait_closed()

    def close(self) -> None:
        """Stop accepting and hang up on everyone; open files are given up, uncommitted."""
        self._stop_accepting()
        for connection in tuple(self._service.connections):
            connection.hang_up(_RESTART)

    async def wait_closed(self) -> None:
        """Wait until every connection has ended and every session is logged off."""
        for connection in tuple(self._service.connections):
            await connection.wait_closed()
        await self._service.settle()
        self._service.workers.shut_down()

    def _stop_accepting(self) -> None:
        self._service.draining = True
        self._listener.close()


async def serve(
    sock: socket.socket, host_keys: Sequence[Path], monitor: Monitor, settings: SftpSettings
) -> SftpServer:
    """Return a listener that serves SFTP on ``sock``, which is bound and stays the server's.

    ``host_keys`` are private key files, one of a type. Raises OSError when one cannot be read
    and asyncssh.KeyImportError when one is no key.
    """
    # At its INFO level asyncssh logs user names, and at DEBUG the paths of every request.
    asyncssh.set_log_level(logging.WARNING)
    loop = asyncio.get_running_loop()
    service = Service(monitor, settings)
    options = await _options(host_keys, service)

    def accept() -> SftpConnection:
        return SftpConnection(loop, options, service)

    sock.setblocking(False)  # noqa: FBT003  the library's signature
    # One connection at a time is accepted (asyncio takes ``backlog`` for that too), so that a
    # crowd spreads over the workers.
    listener = await loop.create_server(accept, sock=sock, backlog=1)
    sock.listen(settings.backlog)
    return SftpServer(listener, service)


async def _options(host_keys: Sequence[Path], service: Service) -> SSHServerConnectionOptions:
    """Return what all connections have in common; each narrows the algorithms for its client."""
    settings = service.settings
    options: SSHServerConnectionOptions = await SSHServerConnectionOptions.construct(
        None,
        server_factory=lambda: LoginDialogue(service),
        server_host_keys=[asyncssh.read_private_key(path) for path in host_keys],
        server_version=SOFTWARE,
        compression_algs=["none"],
        host_based_auth=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        allow_pty=False,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        encoding=None,
        login_timeout=settings.login_timeout_s,
        keepalive_interval=settings.keepalive_interval_s,
        keepalive_count_max=settings.keepalive_count,
    )
    return options
