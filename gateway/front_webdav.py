"""WebDAV as a worker runs it: the listener of ``gateway.webdav`` on the supervisor's sockets.

A module of its own so that a worker loads one protocol's libraries and not the other's.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from gateway.app import Gateway
from gateway.webdav.server import WebdavServer
from gateway.webdav.settings import TlsFiles, WebdavSettings

log = logging.getLogger(__name__)


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
        """Stop; see ``gateway.worker.Front``."""
        for server in self._servers:
            server.drain(timeout_s)

    def reload(self) -> None:
        """Read the certificate anew; a bad one is reported and the old one stays."""
        for server in self._servers:
            try:
                server.reload_tls()
            except OSError as error:
                log.error("The new TLS certificate cannot be used: %s", error)
