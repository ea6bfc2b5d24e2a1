"""A connection of ours over a scripted socket: bytes arrive in the pieces that a test wants.

The socket never blocks and ends after its script, so that a run needs no other thread.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.webdav.connection import App, Connection
from gateway.webdav.messages import BodyCutError, HttpError, Request, Response
from gateway.webdav.settings import WebdavSettings


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the application saw it; ``body`` is None when it was cut or malformed."""

    status: int
    method: str = ""
    target: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None
    body: bytes | None = None


class ScriptedSocket(socket.socket):
    """Receives what its script says, piece by piece, and keeps what is sent."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self._pieces = deque(piece for piece in pieces if piece)
        self.sent = b""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft(piece[size:])
        return piece[:size]

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        self.sent += bytes(data)


class Reading:
    """The server's side as ``Connection`` wants it, with an application that reads every body."""

    def __init__(self) -> None:
        self.settings = WebdavSettings()
        self.ready = True
        self.busy = False
        self.tls_context: ssl.SSLContext | None = None
        self.connections: set[Connection] = set()
        self.seen: list[Seen] = []
        self.app: App = self._answer

    def _answer(self, request: Request) -> Response:
        """Note the request with its body, read in one of two ways by its method."""
        about = (request.method, request.target, tuple(request.headers.items()))
        length = request.body.length
        if request.method == "OPTIONS":
            # Leaves the body unread, for the connection to get rid of.
            self.seen.append(Seen(200, *about, length))
            return Response(200)
        try:
            body = request.body.read_all(1 << 20)
        except HttpError as error:
            self.seen.append(Seen(error.status, *about, length))
            return Response(error.status)
        except BodyCutError:
            self.seen.append(Seen(400, *about, length))
            raise
        self.seen.append(Seen(200, *about, length, body))
        return Response(200)


def seen_by_the_application(pieces: Sequence[bytes]) -> list[Seen]:
    """Return the requests that come out of a connection on which ``pieces`` arrive.

    The last one is a refusal of the connection's own, if it made one.
    """
    host = Reading()
    with ScriptedSocket(pieces) as sock:
        connection = Connection(host, sock, ("127.0.0.1", 1))
        while connection.communicate() and connection.has_more:
            pass
        answers = [
            int(line.split(b" ")[1])
            for line in sock.sent.split(b"\r\n")
            if line.startswith(b"HTTP/1.1 ") and b" 100 " not in line
        ]
    answered = sum(one.body is not None or one.status != 400 for one in host.seen)
    return [*host.seen, *(Seen(status) for status in answers[answered:][-1:])]
