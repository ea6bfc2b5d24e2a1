"""SSH and SFTP through paramiko, for what OpenSSH's client cannot be made to do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import paramiko


@contextlib.contextmanager
def logged_in(port: int, user: str, password: str, code: str) -> Iterator[paramiko.Transport]:
    """Log in by keyboard-interactive and yield the transport; it is closed at the end."""

    def answers(_title: str, _about: str, prompts: list[tuple[str, bool]]) -> list[str]:
        return [code if "code" in text.lower() else password for text, _ in prompts]

    plain = socket.create_connection(("127.0.0.1", port), 20)
    transport = paramiko.Transport(plain)
    try:
        transport.start_client(timeout=20)
        transport.auth_interactive(user, answers)
        yield transport
    finally:
        transport.close()
        plain.close()


def sftp_over(transport: paramiko.Transport) -> paramiko.SFTPClient:
    """Return an SFTP client on a logged-in transport."""
    client = paramiko.SFTPClient.from_transport(transport)
    assert client is not None
    return client
