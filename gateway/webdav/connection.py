"""One client connection: TLS, heads in, answers out, in whatever thread serves it now.

A connection waits in the selector until bytes come, then lingers in its worker thread while
requests keep coming. Nothing that a stranger controls blocks a thread: handshake and heads are
read as far as they have arrived, and the connection goes back to the selector with a deadline.
Imports ``framing``, ``body``, ``messages`` and ``settings``; duck-typed to what cheroot's worker
threads call.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from gateway.webdav.body import Body, Inbox
from gateway.webdav.conditions import http_date
from gateway.webdav.framing import HEAD_END, Head, check_unfinished, parse_head
from gateway.webdav.messages import BodyCutError, HttpError, Request, Response
from gateway.webdav.settings import WebdavSettings

log = logging.getLogger(__name__)

App = Callable[[Request], Response]

RECEIVE_BYTES: Final = 16 * 1024
"""One TLS record: a larger buffer for heads would never be filled."""

TURN_LIMIT: Final = 100
"""How many requests a connection may bring in a row while others wait for a thread."""

JOIN_LIMIT_BYTES: Final = 64 * 1024
"""Bodies up to this size leave in one call with their head."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
# What is stored here is never run by a browser in this server's name, whatever it is called.
_ALWAYS: Final = (
    "X-Content-Type-Options: nosniff\r\n"
    "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n"
    "Strict-Transport-Security: max-age=31536000\r\n"
)
_NO_BODY: Final = frozenset({204, 304})


class Host(Protocol):
    """What a connection needs of its server."""

    settings: WebdavSettings
    app: App
    ready: bool
    connections: set[Connection]

    @property
    def busy(self) -> bool:
        """Whether other connections wait for a thread."""

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """What new connections shake hands with; None serves plain HTTP."""


class _Closed:
    """Stands for cheroot's file objects, of which its thread pool looks at ``closed`` alone."""

    closed = True


class Connection:
    """One accepted socket.

    ``deadline`` (monotonic) is when the selector gives it up; ``has_more``: it gave its thread up
    to others and is to be served again without waiting for bytes.
    """

    rfile = _Closed()

    def __init__(self, host: Host, sock: socket.socket, address: tuple[str, int]) -> None:
        settings = host.settings
        self._host = host
        self._settings = settings
        self._inbox = Inbox(self._receive_into)
        self._shaking_hands = host.tls_context is not None
        self._timeout_s = 0.0
        self._unread: Body | None = None
        self._unread_until_bytes = 0
        self._ending = False
        self.socket = sock
        self.remote_addr, self.remote_port = address[0], address[1]
        self.client_address = plain_address(address[0])
        self.has_more = False
        self.deadline = time.monotonic() + settings.handshake_timeout_s
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host.connections.add(self)

    def communicate(self) -> bool:
        """Serve what has arrived; return whether the connection goes back to the selector."""
        try:
            if self._shaking_hands and not self._shake_hands():
                return True
            if self._ending:
                return self._swallow()
            if self._unread is not None and not self._drain(self._unread):
                return self._waits()
            return self._serve()
        except (OSError, BodyCutError):
            return False
        except Exception as error:  # noqa: BLE001  a bug in one connection must not stop a thread
            log.error("connection dropped: %s", type(error).__name__)
            return False

    def close(self) -> None:
        """Close at once; never raises."""
        self._host.connections.discard(self)
        try:
            self.socket.close()
        except OSError:
            log.debug("a socket did not close cleanly")

    def abort(self) -> None:
        """Cut the connection under a thread that is serving it: its reads and writes then fail."""
        try:
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)
        except OSError:
            log.debug("a connection to be cut was gone already")

    def _shake_hands(self) -> bool:
        """Carry the TLS handshake on; return whether it is done. Raises OSError if it failed."""
        sock = self.socket
        if not isinstance(sock, ssl.SSLSocket):
            context = self._host.tls_context
            assert context is not None
            sock = context.wrap_socket(
                sock,
                server_side=True,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
            self.socket = sock
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            return False
        suite = sock.cipher()
        if suite is None or "GCM" not in suite[0]:
            # OpenSSL offers ChaCha20 with TLS 1.3 whatever the context says; only a client that
            # knows nothing else ends up with it.
            raise ConnectionAbortedError
        self._shaking_hands = False
        self.deadline = time.monotonic() + self._settings.header_timeout_s
        return True

    def _serve(self) -> bool:
        """Answer requests until none has arrived in full; return whether to wait for more."""
        served, self.has_more = 0, False
        while served < TURN_LIMIT or not self._host.busy:
            try:
                head = self._next_head()
            except HttpError as error:
                self._refuse(error)
                return self._waits()
            if head is None:
                return True
            if not self._exchange(head):
                return self._waits()
            served += 1
            wait_s = (
                self._settings.header_timeout_s
                if self._inbox.data
                else (self._settings.keep_alive_s)
            )
            self.deadline = time.monotonic() + wait_s
        self.has_more = True
        return True

    def _next_head(self) -> Head | None:
        """Return the next head, None when it has not arrived in full.

        Raises HttpError for a bad one, ConnectionError when the client is gone.
        """
        inbox = self._inbox
        while True:
            # One empty line before a request is forgiven (RFC 9112 section 2.2): any number of
            # them would let a stranger stay for ever.
            data = inbox.data.removeprefix(b"\r\n")
            end = data.find(HEAD_END)
            if end >= 0:
                inbox.data = data[end + 4 :]
                return parse_head(data[:end])
            check_unfinished(data)
            # While others wait for a thread, only what has arrived already is read.
            self._set_timeout(0 if inbox.data or self._host.busy else self._settings.linger_s)
            try:
                more = self.socket.recv(RECEIVE_BYTES)
            except (ssl.SSLWantReadError, BlockingIOError, TimeoutError):
                return None
            if not more:
                raise ConnectionResetError
            if not inbox.data:
                self.deadline = time.monotonic() + self._settings.header_timeout_s
            inbox.data += more

    def _exchange(self, head: Head) -> bool:
        """Answer one request; return whether the connection can take another at once."""
        settings = self._settings
        waiting = head.expects_continue and head.body_bytes != 0
        body = Body(
            self._inbox,
            head.body_bytes,
            self._tell_to_continue if waiting else None,
            rate_min_bytes_s=settings.body_rate_min_bytes_s,
            rate_grace_s=settings.body_rate_grace_s,
        )
        self._set_timeout(settings.io_timeout_s)
        response = self._host.app(
            Request(
                method=head.method,
                target=head.target,
                headers=head.headers,
                body=body,
                client_address=self.client_address,
                secure=isinstance(self.socket, ssl.SSLSocket),
            )
        )
        # A client that waits for "100 Continue" may or may not send its body after all: what
        # comes next on this connection could be either.
        unsent = waiting and not body.started
        keep = head.keep_alive and self._host.ready and not response.close and not unsent
        if not body.finished and (body.length or 0) - body.received_bytes > (
            settings.drain_limit_bytes
        ):
            keep = False
        # Whoever does not know chunks learns the end of a stream from the end of the connection.
        chunked = response.stream is not None and response.stream_bytes is None and head.modern
        until_end = response.stream_bytes is None and not chunked
        keep = keep and not until_end
        self._send(response, keep=keep, bodiless=head.method == "HEAD", chunked=chunked)
        if body.finished or not keep:
            if until_end or not body.finished:
                self._end()
            return keep
        self._unread = body
        self._unread_until_bytes = body.received_bytes + settings.drain_limit_bytes
        self.deadline = time.monotonic() + settings.drain_limit_s
        return self._drain(body)

    def _waits(self) -> bool:
        """Return whether the connection can take no request now but has something to wait for."""
        return self._host.ready and (self._ending or self._unread is not None)

    def _send(
        self, response: Response, *, keep: bool, bodiless: bool, chunked: bool = False
    ) -> None:
        size = response.stream_bytes if response.stream is not None else len(response.body)
        announced = size if response.length is None else response.length
        lines = [_STATUS_LINES[response.status], f"Date: {http_date(int(time.time()))}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in response.headers]
        if chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        elif response.status not in _NO_BODY and announced is not None:
            lines.append(f"Content-Length: {announced}\r\n")
        lines.append(_ALWAYS)
        lines.append("\r\n" if keep else "Connection: close\r\n\r\n")
        head = "".join(lines).encode("latin-1")
        if response.stream is not None:
            self._send_stream(response, head, bodiless=bodiless, chunked=chunked)
        elif bodiless or response.status in _NO_BODY:
            self.socket.sendall(head)
        elif len(response.body) <= JOIN_LIMIT_BYTES:
            self.socket.sendall(head + response.body)
        else:
            self.socket.sendall(head)
            self.socket.sendall(response.body)

    def _send_stream(
        self, response: Response, head: bytes, *, bodiless: bool, chunked: bool
    ) -> None:
        stream, sent, complete = response.stream, 0, False
        assert stream is not None
        waited_s = -self._settings.body_rate_grace_s
        try:
            self.socket.sendall(head)
            if not bodiless:
                for block in stream.blocks():
                    began = time.monotonic()
                    if chunked:
                        self.socket.sendall(b"%x\r\n%b\r\n" % (len(block), block))
                    else:
                        self.socket.sendall(block)
                    sent += len(block)
                    waited_s += time.monotonic() - began
                    if sent < waited_s * self._settings.body_rate_min_bytes_s:
                        # Whoever reads a trickle would keep a thread from everybody else.
                        raise ConnectionAbortedError
                if chunked:
                    self.socket.sendall(b"0\r\n\r\n")
            complete = response.stream_bytes in {None, sent}
        finally:
            stream.close(complete=complete)
        if not complete:
            # The client must not take what it has for the whole: only a cut can tell it now.
            raise ConnectionAbortedError

    def _refuse(self, error: HttpError) -> None:
        """Answer a request whose head cannot be read, and give the connection up."""
        self._set_timeout(self._settings.io_timeout_s)
        headers = [("Content-Type", "text/plain; charset=utf-8"), *error.headers]
        response = Response(error.status, headers, body=f"{error.message}\n".encode())
        self._send(response, keep=False, bodiless=False)
        self._end()

    def _drain(self, body: Body) -> bool:
        """Discard what has arrived of a refused body; return whether all of it came.

        It is waited for in the selector: a stranger's 401 must not hold a thread.
        """
        room = memoryview(bytearray(RECEIVE_BYTES))
        self._set_timeout(0)
        try:
            while not body.finished and body.received_bytes <= self._unread_until_bytes:
                body.read_into(room)
        except BlockingIOError:
            return False
        except (BodyCutError, HttpError):
            log.debug("a refused body was cut or malformed")
        self._unread = None
        if not body.finished:
            self._end()
            return False
        self.deadline = time.monotonic() + self._settings.keep_alive_s
        return True

    def _end(self) -> None:
        """Say goodbye, and have the selector read on a moment.

        Closing at once, with bytes unread, would reset the connection under the answer.
        """
        self._ending = True
        self.deadline = time.monotonic() + self._settings.drain_limit_s
        self._set_timeout(0)
        try:
            if isinstance(self.socket, ssl.SSLSocket):
                # Sends close_notify; the peer's own is not waited for.
                try:
                    self.socket.unwrap()
                except (ssl.SSLError, OSError):
                    log.debug("the peer did not end TLS in turn")
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
        except OSError:
            log.debug("the peer left first")

    def _swallow(self) -> bool:
        """Discard what has arrived after the goodbye; return whether more may come."""
        room = bytearray(RECEIVE_BYTES)
        try:
            for _ in range(TURN_LIMIT):
                if not socket.socket.recv_into(self.socket, room):
                    return False
        except BlockingIOError:
            return True
        return time.monotonic() < self.deadline

    def _tell_to_continue(self) -> None:
        if not self._inbox.data:
            self.socket.sendall(CONTINUE)

    def _receive_into(self, view: memoryview) -> int:
        try:
            return self.socket.recv_into(view)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        except (TimeoutError, ConnectionError, ssl.SSLError):
            # Silent for too long, reset, or cut without close_notify: not the end of a body.
            return 0

    def _set_timeout(self, seconds: float) -> None:
        if seconds != self._timeout_s:
            self.socket.settimeout(seconds)
            self._timeout_s = seconds


def plain_address(address: str) -> str:
    """Return a numeric address without its IPv6 scope, and IPv4 in its own form."""
    address = address.partition("%")[0]
    return address[7:] if address.startswith("::ffff:") and "." in address else address
