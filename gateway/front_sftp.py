"""SFTP as a worker runs it: the listener of ``gateway.sftp`` on the supervisor's sockets.

A module of its own so that a worker loads one protocol's libraries and not the other's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from gateway.app import Gateway
from gateway.sftp.server import SftpServer, serve
from gateway.sftp.settings import SftpSettings


class SftpFront:
    """SFTP on all the sockets in one event loop."""

    def __init__(self, gateway: Gateway, sockets: list[socket.socket]) -> None:
        config = gateway.config.server.sftp
        assert config is not None
        self._host_keys = config.host_keys
        # The supervisor bound a socket for each endpoint, in order.
        self._settings = [
            SftpSettings(
                login_timeout_s=config.login_timeout_s,
                banner=config.banner or "",
                algorithms=config.offered_at(endpoint),
            )
            for endpoint in config.listen
        ]
        self._gateway = gateway
        self._sockets = sockets
        self._loop = asyncio.new_event_loop()
        self._stop_after_s: asyncio.Future[float] = self._loop.create_future()

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until drained."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(on_ready))

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        servers: list[SftpServer] = [
            await serve(sock, self._host_keys, self._gateway.monitor, settings)
            for sock, settings in zip(self._sockets, self._settings, strict=True)
        ]
        on_ready()
        timeout_s = await self._stop_after_s
        await asyncio.gather(*(server.drain(timeout_s) for server in servers))

    def drain(self, timeout_s: float) -> None:
        """Stop; see ``gateway.worker.Front``."""

        def stop() -> None:
            if not self._stop_after_s.done():
                self._stop_after_s.set_result(timeout_s)

        self._loop.call_soon_threadsafe(stop)

    def reload(self) -> None:
        """Nothing here is read anew: host keys stay for the life of the process."""
