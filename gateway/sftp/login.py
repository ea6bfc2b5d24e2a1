# ruff: noqa: ARG002  the methods keep the library's signatures
"""The log-in dialogue: what an SSH client says about itself, collected into one ``Attempt``.

Collecting proves nothing: each method here answers "go on", and the connection asks the monitor
before any success is sent (``SftpConnection.send_userauth_success``). May import the shared
nouns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncssh
from asyncssh.constants import DEFAULT_LANG

from gateway.model import CERT_AUTHORITY, Attempt, Wire
from gateway.sftp.shown_key import ShownKey

if TYPE_CHECKING:
    from gateway.sftp.connection import SftpConnection
    from gateway.sftp.service import Service

Challenge = tuple[str, str, str, list[tuple[str, bool]]]

PASSWORD_PROMPT = "Password: "  # noqa: S105  a prompt, not a secret
CODE_PROMPT = "Verification code: "


class LoginDialogue(asyncssh.SSHServer):
    """One connection's dialogue. A change of the user name starts it anew."""

    _connection: SftpConnection

    def __init__(self, service: Service) -> None:
        self._service = service
        self._greeted = False
        self._password: str | None = None
        self._accepted = ""
        self._proven: Attempt | None = None
        self._attempt: Attempt | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Take the connection in, or drop it when there are too many."""
        self._connection = conn  # type: ignore[assignment]  # the listener makes no other
        self._connection.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the connection log off once its channels have ended."""
        self._connection.lost()

    def begin_auth(self, username: str) -> bool:
        """Forget what was said under another name; authentication is always required."""
        self._service.logging_in(self._connection)
        self._password = None
        self._accepted = ""
        self._proven = None
        self._attempt = None
        if self._service.settings.banner and not self._greeted:
            self._connection.send_auth_banner(self._service.settings.banner.rstrip() + "\r\n")
        self._greeted = True
        return True

    def take_attempt(self) -> Attempt | None:
        """Return what the client wants to log in with, once."""
        attempt, self._attempt = self._attempt, None
        return attempt

    def ask_for_code(self, proven: Attempt) -> None:
        """Accept a proven key as the first of two factors: only a code may follow."""
        self._proven = proven

    # Public keys

    def public_key_auth_supported(self) -> bool:
        """Offer keys, except once one was accepted and only the code is missing."""
        return self._proven is None

    async def may_prove(self, username: str, shown: ShownKey) -> bool:
        """Return whether it is worth the client's while to sign with the key.

        Of a certificate its authority must be known; whatever else may be wrong with it is said,
        and recorded, once it is proven. Clients ask first and then sign: the second time the
        directory is spared the question.
        """
        line = shown.line
        if shown.certificate is not None:
            line = CERT_AUTHORITY + shown.certificate.authority
        if line == self._accepted:
            return True
        if await self._service.key_may_log_in(username, line, self._connection.client):
            self._accepted = line
            return True
        return False

    def key_proven(self, username: str, shown: ShownKey, *, user_verified: bool) -> None:
        """Note that the client signed with this key: the connection has verified it."""
        self._attempt = replace(
            self._make(username, ssh_key=shown.line),
            certificate=shown.certificate,
            user_verified=user_verified,
        )

    # Password and code in one line, for clients that cannot prompt

    def password_auth_supported(self) -> bool:
        """Offer passwords, except once a key was accepted and only the code is missing."""
        return self._proven is None

    def validate_password(self, username: str, password: str) -> bool:
        """Collect the password with its code."""
        self._attempt = self._make(username, secret=password)
        return True

    # Password, then code (RFC 4256)

    def kbdint_auth_supported(self) -> bool:
        """Always offer prompts."""
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Challenge:
        """Ask for the password; after an accepted key, for the code at once."""
        self._password = None
        return _ask(PASSWORD_PROMPT if self._proven is None else CODE_PROMPT)

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Challenge | bool:
        """Collect the answers; the code is asked for whether the password is right or not."""
        password, self._password = self._password, None
        if len(responses) != 1:
            return False
        if self._proven is not None:
            self._attempt = replace(self._proven, code=responses[0].strip())
        elif password is None:
            self._password = responses[0]
            return _ask(CODE_PROMPT)
        else:
            self._attempt = self._make(username, password=password, code=responses[0])
        return True

    def _make(
        self, name: str, *, secret: str = "", password: str = "", code: str = "", ssh_key: str = ""
    ) -> Attempt:
        return Attempt(
            name=name,
            wire=Wire.SFTP,
            client=self._connection.client,
            secret=secret,
            password=password,
            code=code.strip(),
            ssh_key=ssh_key,
        )

    # Everything but SFTP

    def session_requested(
        self,
    ) -> tuple[asyncssh.SSHServerChannel[bytes], asyncssh.SSHServerSession[bytes]]:
        """Open a session channel; what may start on it, the channel decides."""
        return self._connection.open_channel()

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        """Refuse to forward a TCP connection."""
        return self._connection.refuse("direct-tcpip")

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        """Refuse to listen for the client."""
        return self._connection.refuse("tcpip-forward")

    def unix_connection_requested(self, dest_path: str) -> bool:
        """Refuse to forward to a local socket."""
        return self._connection.refuse("direct-streamlocal")

    def unix_server_requested(self, listen_path: str) -> bool:
        """Refuse to listen on a local socket."""
        return self._connection.refuse("streamlocal-forward")

    def tun_requested(self, unit: int | None) -> bool:
        """Refuse a tunnel of packets."""
        return self._connection.refuse("tunnel")

    def tap_requested(self, unit: int | None) -> bool:
        """Refuse a tunnel of frames."""
        return self._connection.refuse("tunnel")


def _ask(prompt: str) -> Challenge:
    return "", "", DEFAULT_LANG, [(prompt, False)]
