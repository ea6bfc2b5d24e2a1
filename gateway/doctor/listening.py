"""Where the listeners of a configuration are found, and whether anything answers there.

Imports the configuration.
"""

from __future__ import annotations

import contextlib
import socket

from gateway.config import GatewayConfig
from gateway.config.scalars import Endpoint

TIMEOUT_S = 5.0
"""How long a listener may take to answer."""


def reachable(endpoint: Endpoint) -> tuple[str, int]:
    """Return where a client on this machine finds the listener at ``endpoint``."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  looked up, not bound
    return anywhere.get(endpoint.host, endpoint.host), endpoint.port


def answers(config: GatewayConfig) -> bool:
    """Return whether anything answers at a listener of ``config``: the gateway runs, it seems."""
    for door in (config.server.webdav, config.server.sftp):
        for endpoint in door.listen if door is not None else ():
            with contextlib.suppress(OSError):
                socket.create_connection(reachable(endpoint), TIMEOUT_S).close()
                return True
    return False
