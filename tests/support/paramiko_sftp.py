"""SFTP through paramiko, for what OpenSSH's client cannot be made to do."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import paramiko

from tests.support.gateway import RunningGateway


@contextlib.contextmanager
def paramiko_transport(gateway: RunningGateway, user: str) -> Iterator[paramiko.Transport]:
    """Log in by keyboard-interactive and yield the transport; it is closed at the end."""
    login = gateway.sftp_login(user)

    def answers(_title: str, _about: str, prompts: list[tuple[str, bool]]) -> list[str]:
        return [login.code if "code" in text.lower() else login.password for text, _ in prompts]

    plain = socket.create_connection(("127.0.0.1", gateway.sftp_port), 20)
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
