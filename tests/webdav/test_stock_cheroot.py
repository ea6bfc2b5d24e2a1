"""What cheroot itself does, beside what stands in its place here: each override has its reason.

Every attack runs against a stock cheroot server and against ours. When the stock half of a test
fails after an update of cheroot, upstream has mended it: read the override that it guards again.
"""

from __future__ import annotations

import contextlib
import inspect
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cheroot import makefile, wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

from gateway.paths import VirtualPath
from gateway.webdav.messages import Response
from gateway.webdav.server import Listener
from gateway.webdav.settings import TlsFiles, WebdavSettings
from tests.webdav.stock import Stock, stock_server
from tests.webdav.support import LIMIT_S, Live, at_end, basic, live, read_reply, request

QUICK = WebdavSettings(
    threads=8,
    handshake_timeout_s=2.0,
    header_timeout_s=1.0,
    keep_alive_s=5.0,
    io_timeout_s=2.0,
    drain_limit_s=0.5,
)
MIB = 1 << 20


@pytest.fixture(scope="module")
def stock() -> Iterator[Stock]:
    """A stock server without TLS."""
    with stock_server() as running:
        yield running


@pytest.fixture(scope="module")
def ours() -> Iterator[Live]:
    """Our listener without TLS, with short times."""
    with live(QUICK) as running:
        yield running


def status(server: Stock | Live, raw: bytes) -> int:
    """Return the status that ``raw`` gets, after which the client sends no more."""
    with server.connect() as sock:
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        return read_reply(sock).status


def stored(server: Live, name: str) -> bytes | None:
    node = server.monitor.nodes.get(VirtualPath.parse(name))
    return None if node is None else node.data


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def everything(sock: socket.socket) -> bytes:
    """Return what the server sends until it closes, or is silent for a moment."""
    sock.settimeout(0.5)
    data = b""
    with contextlib.suppress(TimeoutError):
        while more := sock.recv(65536):
            data += more
    return data


HELLO = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "body", "taken"),
    [
        (("Content-Length: 9", "Content-Length: 5"), b"hello", b"hello"),
        (("Content-Length: 9", "Transfer-Encoding: chunked"), HELLO, b"hello"),
        (("Content-Length : 5",), b"hello", b"hello"),
        (("Content-Length: +0_5",), b"hello", b"hello"),
        (("Content-Length: -1",), b"hello and the next request", b"hello and the next request"),
        (("Content-Length: 5", "Content_Length: 3"), b"hello", b"hel"),
        (("Content-Length: 9", " 5"), b"hello", b"hello"),
        (("Content-Length: 5", "Authorization: Basic eDp5"), b"hello", b"hello"),
        (("Transfer-Encoding: chunked",), HELLO.replace(b"5", b"0x5", 1), b"hello"),
        (("Transfer-Encoding: chunked",), HELLO.replace(b"5", b"0_5", 1), b"hello"),
        (("Transfer-Encoding: chunked",), HELLO.replace(b"5", b"+5", 1), b"hello"),
        (("Transfer-Encoding: chunked",), HELLO.replace(b"5", b"-5", 1), b""),
    ],
)
def test_ambiguous_framing_is_refused(
    stock: Stock, ours: Live, fields: tuple[str, ...], body: bytes, taken: bytes
) -> None:
    """Stock takes each of these for a whole body; another server would see another body."""
    raw = request("PUT", "/share/framing", *fields, body=body)
    assert (status(stock, raw), stock.stored.pop("/share/framing")) == (201, taken)
    assert (status(ours, raw), stored(ours, "/share/framing")) == (400, None)


def test_a_request_without_host_is_refused(stock: Stock, ours: Live) -> None:
    """Stock serves it, so that any server behind the same proxy could have been meant."""
    raw = request("PUT", "/share/host", "Content-Length: 0").replace(b"Host: localhost\r\n", b"")
    assert (status(stock, raw), status(ours, raw)) == (201, 400)


def test_a_cut_body_is_no_body(stock: Stock, ours: Live) -> None:
    """Stock ends it quietly, so that the application answers 201 and keeps 10 bytes of 1,000."""
    raw = request("PUT", "/share/cut", "Content-Length: 1000", body=b"0123456789")
    assert (status(stock, raw), stock.stored["/share/cut"]) == (201, b"0123456789")
    with ours.connect() as sock:
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        assert at_end(sock)
    assert ours.monitor.aborts[-1] == "connection lost"
    assert stored(ours, "/share/cut") is None


def test_an_unread_body_is_not_kept_in_memory(stock: Stock, ours: Live) -> None:
    """Stock reads all of it at once before it says 401; ours says so first and reads little."""
    size = 16 * MIB
    raw = f"PUT /share/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    part = b"x" * (size // 2)
    tracemalloc.start()
    try:
        with stock.connect() as sock:
            sock.sendall(raw + part)
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(LIMIT_S)
            tracemalloc.reset_peak()
            sock.sendall(part)
            assert read_reply(sock).status == 401
        assert tracemalloc.get_traced_memory()[1] > 2 * size
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        with ours.connect() as sock:
            sock.sendall(raw)
            assert read_reply(sock).status == 401
            with contextlib.suppress(ConnectionError):
                sock.sendall(part)
        assert tracemalloc.get_traced_memory()[1] - before < MIB
    finally:
        tracemalloc.stop()


def test_an_unread_chunked_body_is_never_a_request(stock: Stock, ours: Live) -> None:
    """Stock executes the body of a refused request as the next one, with its credentials."""
    inner = request("PUT", "/share/smuggled", "Content-Length: 5", body=b"hello")
    outer = b"PUT /share/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with stock.connect() as sock:
        sock.sendall(outer + inner)
        assert everything(sock).count(b"HTTP/1.1 ") == 2
    assert stock.stored["/share/smuggled"] == b"hello"
    with ours.connect() as sock:
        sock.sendall(outer + inner)
        assert everything(sock).count(b"HTTP/1.1 ") == 1
    assert stored(ours, "/share/smuggled") is None


def test_continue_waits_for_credentials(stock: Stock, ours: Live) -> None:
    """Stock tells everyone to send their body before anyone has looked at the request."""
    raw = request("PUT", "/share/e", "Content-Length: 5", "Expect: 100-continue")
    raw = raw.replace(f"Authorization: {basic()}\r\n".encode(), b"")
    with stock.connect() as sock:
        sock.sendall(raw)
        assert read_reply(sock).status == 100
    with ours.connect() as sock:
        sock.sendall(raw)
        assert read_reply(sock).status == 401


def test_heads_have_a_size(stock: Stock, ours: Live) -> None:
    """Stock keeps a megabyte of header fields, and would keep a gigabyte."""
    raw = request("PUT", "/share/l", "Content-Length: 0", *["X-A: " + "b" * 9995] * 100)
    assert status(stock, raw) == 201
    with ours.connect() as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(raw)
        assert read_reply(sock).status == 431
    assert stock.server.max_request_header_size == 0
    assert stock.server.max_request_body_size == 0


def answered_beside_slow_heads(server: Stock | Live) -> bool:
    """Return whether another client is served while eight send a byte of their head at a time."""
    slow = [server.connect() for _ in range(8)]
    deadline = time.monotonic() + 2 * QUICK.header_timeout_s
    with server.connect() as other:
        other.settimeout(0.05)
        other.sendall(request("OPTIONS", "/share"))
        answer = b""
        while not answer and time.monotonic() < deadline:
            for sock in slow:
                with contextlib.suppress(OSError):
                    sock.sendall(b"G")
            with contextlib.suppress(TimeoutError):
                answer = other.recv(12)
    for sock in slow:
        sock.close()
    return b"HTTP/1.1 2" in answer


def test_slow_heads_hold_nobody_up(ours: Live) -> None:
    """Stock's timeout begins anew with every byte, and each such client has a thread."""
    with stock_server(timeout_s=1) as stock:
        assert not answered_beside_slow_heads(stock)
    assert answered_beside_slow_heads(ours)


def seconds_to_shake_hands(port: int, tls_files: TlsFiles) -> float:
    """Return how long a TLS handshake takes beside a client that says nothing."""
    context = ssl.create_default_context(cafile=tls_files.certificate)
    with socket.create_connection(("127.0.0.1", port), LIMIT_S):
        began = time.monotonic()
        with (
            socket.create_connection(("127.0.0.1", port), LIMIT_S) as sock,
            context.wrap_socket(sock, server_hostname="localhost"),
        ):
            return time.monotonic() - began


def test_handshakes_do_not_wait_for_one_another(tls_files: TlsFiles) -> None:
    """Stock shakes hands on the accepting thread: one silent client stops everyone for its time."""
    with stock_server(1, tls_files) as stock:
        assert seconds_to_shake_hands(stock.port, tls_files) > 0.9
    with live(QUICK, tls_files) as ours:
        assert seconds_to_shake_hands(ours.port, tls_files) < 0.9


def test_stopping_is_no_end_of_a_body() -> None:
    """Stock shuts the reading side of a PUT that outlasts its stop, which then looks complete."""
    raw = request("PUT", "/share/stop", "Content-Length: 10", body=b"hello")
    with stock_server() as stock, stock.connect() as sock:
        sock.sendall(raw)
        until(lambda: stock.server.requests.idle < 2)
        stock.server.stop()
        assert read_reply(sock).status == 201
        assert stock.stored["/share/stop"] == b"hello"
    with live(replace(QUICK, io_timeout_s=LIMIT_S)) as ours, ours.connect() as sock:
        sock.sendall(raw)
        until(lambda: ours.monitor.attempts)
        ours.server.drain(0.2)
        assert at_end(sock)
        assert stored(ours, "/share/stop") is None


class Five:
    """A stream of five bytes."""

    completed: bool | None = None

    def blocks(self) -> Iterator[bytes]:
        yield b"hello"

    def close(self, *, complete: bool) -> None:
        self.completed = complete


@contextlib.contextmanager
def answering(make: Callable[[], Response]) -> Iterator[socket.socket]:
    """Yield a connection to our listener around an application with one answer."""
    bound = socket.create_server(("127.0.0.1", 0))
    listener = Listener(bound, None, lambda _: make(), QUICK)
    thread = threading.Thread(target=listener.start, daemon=True)
    thread.start()
    try:
        with socket.create_connection(bound.getsockname()[:2], LIMIT_S) as sock:
            yield sock
    finally:
        until(lambda: listener.ready)
        listener.drain(1)
        thread.join(LIMIT_S)


def test_a_short_answer_ends_the_connection() -> None:
    """Stock goes on as if all had been sent, and the client waits for the rest for ever."""
    with stock_server() as stock, stock.connect() as sock:
        stock.short = True
        sock.sendall(request("GET", "/share/a") * 2)
        assert everything(sock).count(b"hello") == 2
    five = Five()
    with answering(lambda: Response(200, stream=five, stream_bytes=10)) as sock:
        sock.sendall(request("GET", "/share/a"))
        reply = read_reply(sock)
        assert (reply.status, reply.body) == (200, b"hello")
        assert at_end(sock)
    assert five.completed is False


def test_an_answer_that_closes_does_close() -> None:
    """Stock sends the application's "Connection: close" and keeps the connection."""
    with stock_server() as stock, stock.connect() as sock:
        stock.closing = True
        for _ in range(2):
            sock.sendall(request("PUT", "/share/a", "Content-Length: 0"))
            assert "connection: close" in read_reply(sock).head.lower()
    with answering(lambda: Response(200, close=True)) as sock:
        sock.sendall(request("GET", "/share/a"))
        assert "Connection: close" in read_reply(sock).head
        assert at_end(sock)


def test_room_for_clients(ours: Live) -> None:
    """Stock keeps ten idle connections and queues five; a site has hundreds of drives."""
    server = wsgi.Server(("127.0.0.1", 0), None)
    assert (server.keep_alive_conn_limit, server.request_queue_size) == (10, 5)
    assert server.requests.min == 10
    production = WebdavSettings()
    assert production.backlog >= 1024
    assert production.threads >= 64
    assert production.connections_max >= 1000


def test_content_does_not_pass_through_python_buffers() -> None:
    """Stock's files are Python's own buffers in Python, 8 KiB at a time; ours are not used."""
    assert makefile.BufferedWriter.__mro__[1].__module__ == "_pyio"
    assert wsgi.Server.ConnectionClass.rbufsize == 8192
    assert WebdavSettings().linger_s > 0


def test_a_connection_costs_no_list_of_ciphers(tls_files: TlsFiles) -> None:
    """Stock's adapter asks OpenSSL for all of them at each connection; here is none."""
    assert "get_ciphers()" in inspect.getsource(BuiltinSSLAdapter.get_environ)
    assert "self.get_environ(s)" in inspect.getsource(BuiltinSSLAdapter.wrap)
    assert Listener.ssl_adapter is None
