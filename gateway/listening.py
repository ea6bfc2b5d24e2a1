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


def require_free(host: str, port: int, key: str) -> None:
    """Raise StartError when another program listens there.

    Binding with SO_REUSEPORT would succeed beside another gateway of the same user, and the
    kernel would then share the clients out between the two.
    """
    try:
        bind(host, port, shared=False).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} on {host} is taken by another program. Stop that one"
        elif error.errno == errno.EACCES:
            reason = f"Port {port} on {host} is reserved for root. Give CAP_NET_BIND_SERVICE"
        else:
            reason = f"Address {host} port {port} cannot be used ({error.strerror}). Mend it"
        raise StartError(f"{reason}, or change {key}.") from error


def bind(host: str, port: int, *, shared: bool) -> socket.socket:
    """Return a socket bound there; ``shared``: others of this process may be bound beside it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        if shared:
            # Not left to the worker: until someone listens, another gateway could bind it too.
            sock.listen()
    except OSError:
        sock.close()
        raise
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
