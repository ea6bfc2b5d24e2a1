"""The listener over real sockets: framing, cuts, slow and silent clients, draining.

Each of these fails on cheroot's own connection handling, of which it is said there how.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.messages import Response
from gateway.webdav.server import Listener
from gateway.webdav.settings import TlsFiles, WebdavSettings
from tests.webdav.support import LIMIT_S, Live, at_end, basic, live, read_reply, request

FILE = VirtualPath.parse("/share/a")
QUICK = WebdavSettings(
    threads=8,
    handshake_timeout_s=2.0,
    header_timeout_s=2.0,
    keep_alive_s=5.0,
    io_timeout_s=2.0,
    drain_limit_s=0.5,
)


@pytest.fixture(scope="module")
def plain() -> Iterator[Live]:
    """A listener without TLS, with short times."""
    with live(QUICK) as running:
        yield running


@pytest.fixture(scope="module")
def secure(tls_files: TlsFiles) -> Iterator[Live]:
    """A listener with TLS, with short times."""
    with live(QUICK, tls_files) as running:
        yield running


def stored(server: Live, path: VirtualPath = FILE) -> bytes | None:
    node = server.monitor.nodes.get(path)
    return None if node is None else node.data


def wait_for(server: Live, aborts: int) -> None:
    """Wait until that many writes were given up."""
    until = time.monotonic() + LIMIT_S
    while len(server.monitor.aborts) < aborts:
        assert time.monotonic() < until
        threading.Event().wait(0.01)


def test_requests_in_one_packet_are_answered_in_order(plain: Live) -> None:
    """Pipelining: each head begins where the body before it ended."""
    raw = request("PUT", "/share/p", "Content-Length: 3", body=b"one")
    raw += request("PUT", "/share/p", "Transfer-Encoding: chunked", body=b"3\r\ntwo\r\n0\r\n\r\n")
    raw += request("GET", "/share/p")
    with plain.connect() as sock:
        sock.sendall(raw)
        data = b""
        while not data.endswith(b"two"):
            data += sock.recv(65536)
    assert [line for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1")] == [
        b"HTTP/1.1 201 Created",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 200 OK",
    ]


@pytest.mark.parametrize("tenth", range(10))
def test_a_put_cut_anywhere_stores_nothing(secure: Live, tenth: int) -> None:
    """Stock cheroot ends the body quietly and wsgidav answers 201 for what came."""
    data, before = b"x" * 100_000, len(secure.monitor.aborts)
    path = f"/share/cut{tenth}"
    with secure.connect() as sock:
        sock.sendall(
            request("PUT", path, f"Content-Length: {len(data)}", body=data[: tenth * 10_000])
        )
    wait_for(secure, before + 1)
    assert stored(secure, VirtualPath.parse(path)) is None


@pytest.mark.parametrize("coded", [b"", b"5\r\nhe", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n"])
def test_a_chunked_put_cut_anywhere_stores_nothing(plain: Live, coded: bytes) -> None:
    """Only the last chunk and its empty line make it whole."""
    before = len(plain.monitor.aborts)
    with plain.connect() as sock:
        sock.sendall(request("PUT", "/share/chunks", "Transfer-Encoding: chunked", body=coded))
    wait_for(plain, before + 1)
    assert stored(plain, VirtualPath.parse("/share/chunks")) is None


def test_a_half_closed_put_stores_nothing(plain: Live) -> None:
    """A client that only ends its sending side has not sent the rest either."""
    before = len(plain.monitor.aborts)
    with plain.connect() as sock:
        sock.sendall(request("PUT", "/share/half", "Content-Length: 10", body=b"hello"))
        sock.shutdown(socket.SHUT_WR)
        assert at_end(sock)
    wait_for(plain, before + 1)
    assert stored(plain, VirtualPath.parse("/share/half")) is None


@pytest.mark.parametrize(
    "fields",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length : 5",),
        ("Content-Length: +0_5",),
        ("Content-Length: 0x5",),
        ("Content-Length: -1",),
        ("X-A: 1", " folded"),
        ("Authorization: Basic eDp5",),
        ("Content_Length: 5",),
        ("Host: localhost",),
    ],
)
def test_ambiguous_framing_is_400_and_the_end(plain: Live, fields: tuple[str, ...]) -> None:
    """Stock cheroot accepts every one of these; what follows is then anyone's guess."""
    with plain.connect() as sock:
        sock.sendall(request("PUT", "/share/smuggled", *fields, body=b"hello"))
        reply = read_reply(sock)
        assert reply.status == 400
        assert "connection: close" in reply.head.lower()
        assert at_end(sock)
    assert stored(plain, VirtualPath.parse("/share/smuggled")) is None


@pytest.mark.parametrize("size", ["-5", "0x5", "0_5"])
def test_odd_chunk_sizes_are_400(plain: Live, size: str) -> None:
    """Stock cheroot reads them with int()."""
    body = f"{size}\r\nhello\r\n0\r\n\r\n".encode()
    reply = plain.exchange(request("PUT", "/share/odd", "Transfer-Encoding: chunked", body=body))
    assert reply.status == 400
    assert stored(plain, VirtualPath.parse("/share/odd")) is None


def test_an_unread_chunked_body_is_not_the_next_request(plain: Live) -> None:
    """Stock cheroot executes the body of a refused request as a request of its own."""
    inner = request("DELETE", "/share/victim")
    plain.monitor.make(VirtualPath.parse("/share/victim"), Kind.FILE)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    with plain.connect() as sock:
        sock.sendall(request("MKCOL", "/share/x", "Transfer-Encoding: chunked", body=body))
        assert read_reply(sock).status == 415
        sock.sendall(request("OPTIONS", "/share/"))
        assert read_reply(sock).status == 200
    assert stored(plain, VirtualPath.parse("/share/victim")) is not None


def test_a_large_unread_body_ends_the_connection_after_its_401(plain: Live) -> None:
    """Stock cheroot reads all of it into memory before it answers."""
    size = 200 << 20
    head = f"PUT /share/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    with plain.connect() as sock:
        sock.sendall(head + b"x" * (2 << 20))
        reply = read_reply(sock)
        assert reply.status == 401
        assert "connection: close" in reply.head.lower()
        assert at_end(sock)


def test_a_small_unread_body_keeps_the_connection(plain: Live) -> None:
    """Clients send the body of their first, unauthenticated PUT along; the 401 reaches them."""
    head = b"PUT /share/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with plain.connect() as sock:
        sock.sendall(head + b"x" * 100_000)
        assert read_reply(sock).status == 401
        sock.sendall(request("OPTIONS", "/share/"))
        assert read_reply(sock).status == 200


def test_continue_is_said_only_after_signing_in(plain: Live) -> None:
    """Stock cheroot says it before anyone has looked at the request."""
    fields = ("Content-Length: 5", "Expect: 100-continue")
    bad = request("PUT", "/share/e", *fields).replace(basic().encode(), b"Basic eDp5")
    with plain.connect() as sock:
        sock.sendall(bad)
        assert read_reply(sock).status == 401
        assert at_end(sock)
    with plain.connect() as sock:
        sock.sendall(request("PUT", "/share/e", *fields))
        assert read_reply(sock).status == 100
        sock.sendall(b"hello")
        assert read_reply(sock).status == 201


def test_slow_heads_hold_no_threads_and_meet_a_deadline(plain: Live) -> None:
    """A head in bits is given up, however often another bit comes; others work meanwhile."""
    slow = [plain.connect() for _ in range(QUICK.threads * 2)]
    began = time.monotonic()
    open_ones = list(slow)
    while open_ones:
        for sock in list(open_ones):
            try:
                sock.sendall(b"G")
            except OSError:
                open_ones.remove(sock)
        assert plain.exchange(request("OPTIONS", "/share/")).status == 200
        assert time.monotonic() - began < 4 * QUICK.header_timeout_s
    for sock in slow:
        sock.close()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"a" * 1_000_000, 414),
        (b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-A: " + b"b" * 100_000, 431),
    ],
)
def test_endless_heads_are_refused(plain: Live, raw: bytes, status: int) -> None:
    """A long request line, many fields, one large field: refused before they end."""
    with plain.connect() as sock:
        try:
            sock.sendall(raw)
        except ConnectionError:
            return  # given up in the middle, which is an answer too
        assert read_reply(sock).status == status


def test_more_clients_than_threads_keep_their_connections(plain: Live) -> None:
    """Stock cheroot keeps ten waiting connections and closes the others."""
    socks = [plain.connect() for _ in range(40)]
    for _ in range(3):
        for sock in socks:
            sock.sendall(request("OPTIONS", "/share/"))
        for sock in socks:
            assert read_reply(sock).status == 200
    for sock in socks:
        sock.close()


def served(server: Live) -> bool:
    """Return whether a new client is served."""
    with contextlib.suppress(AssertionError, OSError):
        return server.exchange(request("OPTIONS", "/share/")).status == 200
    return False


def test_over_the_limit_the_longest_idle_makes_room() -> None:
    """Whoever holds connections to keep others out loses them; the others go on working."""
    settings = replace(QUICK, connections_max=4, keep_alive_s=LIMIT_S)
    with live(settings) as server, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(server.connect()) for _ in range(4)]
        for sock in kept:
            sock.sendall(request("OPTIONS", "/share/"))
            assert read_reply(sock).status == 200
        closed: list[socket.socket] = []
        while not closed:
            # A connection that a thread still lingers on is not idle yet.
            assert served(server)
            closed, _, _ = select.select(kept, [], [], 1)
        assert all(at_end(sock) for sock in closed)
        for sock in kept:
            if sock not in closed:
                sock.sendall(request("OPTIONS", "/share/"))
                assert read_reply(sock).status == 200


def test_far_over_the_limit_connections_are_closed_at_once() -> None:
    """The limit protects the process's files; a moment later there is room again."""
    with live(replace(QUICK, connections_max=8)) as server, contextlib.ExitStack() as stack:
        flood = [stack.enter_context(server.connect()) for _ in range(100)]
        began = time.monotonic()
        for sock in flood[20:]:
            assert at_end(sock)
        assert time.monotonic() - began < 1
        while not served(server):
            assert time.monotonic() - began < LIMIT_S


def test_connections_leave_files_for_what_is_stored() -> None:
    """However many a listener may have, half of the process's files are for something else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        for wanted in (1, limit * 10):
            settings = replace(QUICK, connections_max=wanted)
            listener = Listener(sock, None, lambda _: Response(200), settings)
            assert listener.connections_max == min(wanted, limit // 2)


def test_head_and_304_have_no_body(plain: Live) -> None:
    """What follows on the connection is the next answer."""
    plain.monitor.make(VirtualPath.parse("/share/h"), Kind.FILE, b"hello")
    with plain.connect() as sock:
        sock.sendall(request("HEAD", "/share/h"))
        head = read_reply(sock, to_head=True)
        assert "Content-Length: 5" in head.head
        tag = head.head.partition("ETag: ")[2].partition("\r\n")[0]
        sock.sendall(request("GET", "/share/h", f"If-None-Match: {tag}"))
        assert read_reply(sock).status == 304
        sock.sendall(request("GET", "/share/h"))
        assert read_reply(sock).body == b"hello"


def test_every_answer_forbids_to_run_what_is_stored(plain: Live) -> None:
    """Type sniffing off and a policy that runs nothing, also on errors."""
    for raw in (request("GET", "/share/"), request("GET", "/share/none"), b"BAD\r\n\r\n"):
        head = plain.exchange(raw).head
        assert "X-Content-Type-Options: nosniff" in head
        assert "Content-Security-Policy: default-src 'none'" in head


def test_connection_close_and_http_10_are_obeyed(plain: Live) -> None:
    """The connection ends after the answer."""
    old = f"OPTIONS /share/ HTTP/1.0\r\nAuthorization: {basic()}\r\n\r\n".encode()
    for raw in (request("OPTIONS", "/share/", "Connection: close"), old):
        with plain.connect() as sock:
            sock.sendall(raw)
            assert read_reply(sock).status == 200
            assert at_end(sock)


def test_draining_lets_a_request_finish_and_takes_no_more() -> None:
    """A PUT under way is completed and answered; then the connection ends."""
    with live(QUICK) as server, server.connect() as sock:
        sock.sendall(request("PUT", "/share/a", "Content-Length: 10", body=b"hello"))
        sock.sendall(b"")
        until = time.monotonic() + LIMIT_S
        while not server.monitor.attempts:
            assert time.monotonic() < until
            threading.Event().wait(0.01)
        drain = threading.Thread(target=server.server.drain, args=(LIMIT_S,))
        drain.start()
        threading.Event().wait(0.7)
        sock.sendall(b"world")
        reply = read_reply(sock)
        assert (reply.status, stored(server)) == (201, b"helloworld")
        assert at_end(sock)
        drain.join(LIMIT_S)
        assert not drain.is_alive()
        with pytest.raises(OSError):
            server.connect()


def test_a_drain_that_runs_out_of_time_cuts_and_stores_nothing() -> None:
    """Stock cheroot shuts the reading side, which its body reader takes for the end."""
    with live(replace(QUICK, io_timeout_s=LIMIT_S)) as server, server.connect() as sock:
        sock.sendall(request("PUT", "/share/a", "Content-Length: 10", body=b"hello"))
        until = time.monotonic() + LIMIT_S
        while not server.monitor.attempts:
            assert time.monotonic() < until
            threading.Event().wait(0.01)
        server.server.drain(0.2)
        assert at_end(sock)
        assert stored(server) is None
        assert server.monitor.aborts == ["connection lost"]
