"""A worker process: serves one protocol on sockets that the supervisor bound.

Started by the supervisor as ``python -m gateway.worker WIRE SOURCE CONTROL_FD SOCKET_FD...``; it
ends when told to drain, or when the supervisor is gone. Imports the wiring and the front ends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.app import Gateway, open_gateway
from gateway.config import ConfigError, GatewayConfig, parse_config
from gateway.control import Control, Message
from gateway.errors import SealgateError
from gateway.log import configure_logging
from gateway.model import Wire
from gateway.sftp.server import SftpServer
from gateway.sftp.server import serve as serve_sftp
from gateway.sftp.settings import SftpSettings
from gateway.webdav.server import WebdavServer
from gateway.webdav.settings import TlsFiles, WebdavSettings

log = logging.getLogger(__name__)


class Front(Protocol):
    """A protocol being served in this process."""

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until drained; call ``on_ready`` once connections are accepted."""

    def drain(self, timeout_s: float) -> None:
        """Accept no more, let what runs finish for ``timeout_s``, then cut it. From any thread."""

    def reload(self) -> None:
        """Read certificates anew."""


class WebdavFront:
    """WebDAV on each of the sockets, one thread of acceptance each."""

    def __init__(self, gateway: Gateway, sockets: list[socket.socket]) -> None:
        config = gateway.config.server.webdav
        assert config is not None
        settings = WebdavSettings(public_url=config.public_url or "")
        tls = TlsFiles(config.certificate, config.private_key)
        self._servers = [WebdavServer(sock, tls, gateway.monitor, settings) for sock in sockets]

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until drained."""
        threads = [threading.Thread(target=server.serve, name="webdav") for server in self._servers]
        for thread in threads:
            thread.start()
        on_ready()
        for thread in threads:
            thread.join()

    def drain(self, timeout_s: float) -> None:
        """Stop; see ``Front``."""
        for server in self._servers:
            server.drain(timeout_s)

    def reload(self) -> None:
        """Read the certificate anew; a bad one is reported and the old one stays."""
        for server in self._servers:
            try:
                server.reload_tls()
            except OSError as error:
                log.error("The new TLS certificate cannot be used: %s", error)


class SftpFront:
    """SFTP on all the sockets in one event loop."""

    def __init__(self, gateway: Gateway, sockets: list[socket.socket]) -> None:
        config = gateway.config.server.sftp
        assert config is not None
        self._host_keys = config.host_keys
        self._settings = SftpSettings(
            login_timeout_s=config.login_timeout_s, banner=config.banner or ""
        )
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
            await serve_sftp(sock, self._host_keys, self._gateway.monitor, self._settings)
            for sock in self._sockets
        ]
        on_ready()
        timeout_s = await self._stop_after_s
        await asyncio.gather(*(server.drain(timeout_s) for server in servers))

    def drain(self, timeout_s: float) -> None:
        """Stop; see ``Front``."""

        def stop() -> None:
            if not self._stop_after_s.done():
                self._stop_after_s.set_result(timeout_s)

        self._loop.call_soon_threadsafe(stop)

    def reload(self) -> None:
        """Nothing here is read anew: host keys stay for the life of the process."""


def main(arguments: list[str]) -> int:
    """Serve as the supervisor says; return the exit status."""
    wire, source, control_fd, *socket_fds = arguments
    configure_logging(f"{wire} worker")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = Control(socket.socket(fileno=int(control_fd)))
    sockets = [socket.socket(fileno=int(number)) for number in socket_fds]
    first = next(control.messages(), None)
    if first is None:
        return 0
    try:
        gateway = open_gateway(parse_config(first.text.encode("utf-8"), Path(source)))
        front: Front = (WebdavFront if Wire(wire) is Wire.WEBDAV else SftpFront)(gateway, sockets)
    except (SealgateError, OSError) as error:
        control.send(Message("failed", str(error)))
        return 1
    drain_timeout_s = float(gateway.config.server.drain_timeout_s)
    signal.signal(signal.SIGTERM, lambda *_: _in_background(front.drain, drain_timeout_s))
    listener = threading.Thread(
        target=_obey, args=(control, gateway, front, Path(source)), name="control", daemon=True
    )
    front.run(lambda: _announce(control, listener))
    gateway.close()
    return 0


def _announce(control: Control, listener: threading.Thread) -> None:
    listener.start()
    control.send(Message("ready"))


def _obey(control: Control, gateway: Gateway, front: Front, source: Path) -> None:
    """Carry out the supervisor's messages; when it is gone, stop as if told to."""
    for message in control.messages():
        if message.verb == "reload":
            _reload(gateway, front, message.text, source)
        elif message.verb == "drain":
            _in_background(front.drain, float(message.text))
    _in_background(front.drain, float(gateway.config.server.drain_timeout_s))


def _reload(gateway: Gateway, front: Front, text: str, source: Path) -> None:
    try:
        config: GatewayConfig = parse_config(text.encode("utf-8"), source)
        gateway.reload(config)
    except (ConfigError, SealgateError) as error:
        log.error("The new configuration was not taken over: %s", error)
    front.reload()


def _in_background(drain: Callable[[float], None], timeout_s: float) -> None:
    threading.Thread(target=drain, args=(timeout_s,), name="drain").start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
