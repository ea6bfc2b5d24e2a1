"""An HTTP relay in front of an S3 server that goes wrong exactly when it is told to.

Requests pass through unchanged (their signatures stay valid) except for those that a fault of the
list is meant for. Faults are used up in their order, the first that fits a request's method.
"""

from __future__ import annotations

import contextlib
import enum
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_NOT_RELAYED = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})


class Ending(enum.Enum):
    """How a request ends for the client."""

    ANSWER = "the relay answers with the fault's status"
    CLOSE = "the connection is closed without an answer"
    HANG = "no answer comes until the client gives up"
    SHORT = "half the body comes, announced as if it were all"
    CUT = "half the body comes, then the connection is closed"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request; ``forward``: whether the server gets it nevertheless."""

    method: str
    ending: Ending = Ending.ANSWER
    forward: bool = False
    status: int = 503
    code: str = "SlowDown"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came in."""

    method: str
    path: str
    range: str | None


@dataclass
class FaultyS3:
    """The running relay. ``meanwhile`` runs while a PUT is counted as being under way.

    ``page_size`` makes the server list in pages of so many; it changes the request, so that the
    server must be one that does not check signatures.
    """

    endpoint: str
    upstream: tuple[str, int]
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    most_puts: int = 0
    page_size: int | None = None
    meanwhile: Callable[[], None] = lambda: None
    puts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def methods(self) -> list[str]:
        """Return the methods of all requests, in their order."""
        return [seen.method for seen in self.seen]

    def enter(self, seen: Seen) -> Fault | None:
        """Note a request; return the fault that is meant for it."""
        with self.lock:
            self.seen.append(seen)
            if seen.method == "PUT":
                self.puts += 1
                self.most_puts = max(self.most_puts, self.puts)
            for fault in self.faults:
                if fault.method == seen.method:
                    self.faults.remove(fault)
                    return fault
        return None

    def leave(self, seen: Seen) -> None:
        """Note that a request is over."""
        with self.lock:
            self.puts -= seen.method == "PUT"


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together: no waiting for a delayed acknowledgement
    server: _Server

    @property
    def relay(self) -> FaultyS3:
        return self.server.relay

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = Seen(self.command, self.path, self.headers.get("Range"))
        fault = self.relay.enter(seen)
        try:
            if seen.method == "PUT":
                self.relay.meanwhile()
            if fault is None:
                self._reply(self._ask(body))
            else:
                self._spoil(fault, body)
        finally:
            self.relay.leave(seen)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815  the base class's names

    def _ask(self, body: bytes) -> _Reply:
        connection = http.client.HTTPConnection(*self.relay.upstream, timeout=30)
        with contextlib.closing(connection):
            path = self.path
            if self.relay.page_size is not None and "list-type=2" in path:
                path += f"&max-keys={self.relay.page_size}"
            connection.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            headers = [item for item in answer.getheaders() if item[0].lower() not in _NOT_RELAYED]
            return _Reply(answer.status, headers, answer.read())

    def _spoil(self, fault: Fault, body: bytes) -> None:
        reply = self._ask(body) if fault.forward else _Reply(0, [], b"")
        half = reply.body[: len(reply.body) // 2]
        if fault.ending is Ending.ANSWER:
            text = f"<Error><Code>{fault.code}</Code><Message>made up</Message></Error>"
            headers = [("Content-Type", "application/xml"), ("ETag", '"made-up"')]
            self._reply(_Reply(fault.status, headers, text.encode()))
        elif fault.ending is Ending.SHORT:
            self._reply(_Reply(reply.status, reply.headers, half))
        else:
            if fault.ending is Ending.HANG:
                self.connection.recv(1)
            elif fault.ending is Ending.CUT:
                self._reply(_Reply(reply.status, reply.headers, half), announced=len(reply.body))
            self.close_connection = True

    def _reply(self, reply: _Reply, announced: int | None = None) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status == 204:
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(reply.body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    relay: FaultyS3

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that give up are what the relay is for."""


@contextlib.contextmanager
def running_relay(endpoint: str) -> Iterator[FaultyS3]:
    """Relay to the server at ``endpoint`` for the length of the block."""
    url = urlsplit(endpoint)
    assert url.hostname is not None
    assert url.port is not None
    server = _Server(("127.0.0.1", 0), _Handler)
    relay = server.relay = FaultyS3(
        f"http://127.0.0.1:{server.server_port}", (url.hostname, url.port)
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield relay
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
