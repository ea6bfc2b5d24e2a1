"""Binding the sockets that workers share, and telling systemd how things stand.

Imports the errors of starting only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time

from gateway.starting import StartError


def bind(host: str, port: int, key: str) -> socket.socket:
    """Return a socket that listens there and nobody else's does; StartError, which names ``key``.

    One socket for all workers of a protocol, so that whoever is free takes the next client, and
    none waits for a worker that has died. Not SO_REUSEPORT, by which another gateway of the same
    user could listen there too.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        # Not left to the workers: until someone listens, another gateway could bind it too.
        sock.listen()
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} on {host} is taken by another program. Stop that one"
        elif error.errno == errno.EACCES:
            reason = f"Port {port} on {host} is reserved for root. Give CAP_NET_BIND_SERVICE"
        else:
            reason = f"Address {host} port {port} cannot be used ({error.strerror}). Mend it"
        raise StartError(f"{reason}, or change {key}.") from error
    return sock


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); does nothing when it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    if state == "RELOADING=1":
        state += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.sendall(state.encode("utf-8"))
