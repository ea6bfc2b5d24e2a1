"""Clients that are slow on purpose, against a listener with short times: nobody waits for them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.paths import VirtualPath
from gateway.webdav.settings import WebdavSettings
from tests.webdav.support import LIMIT_S, Live, at_end, live, read_reply, request

THREADS = 8
QUICK = WebdavSettings(
    threads=THREADS,
    handshake_timeout_s=1.0,
    header_timeout_s=1.0,
    keep_alive_s=3.0,
    io_timeout_s=1.0,
    drain_limit_s=1.0,
    body_rate_min_bytes_s=1000,
    body_rate_grace_s=0.5,
)
STRANGER = b"PUT /share/a HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """A listener with eight threads."""
    with live(QUICK) as running:
        yield running


@contextlib.contextmanager
def clients(server: Live, count: int) -> Iterator[list[socket.socket]]:
    """Yield that many connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(count)]


def seconds_cut_in(sock: socket.socket, bit: bytes) -> float:
    """Return how long it takes until the server has enough of a client that sends bit by bit."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < LIMIT_S:
            sock.sendall(bit)
            threading.Event().wait(0.02)
    return time.monotonic() - began


def seconds_served_in(server: Live) -> float:
    """Return how long another client's request takes."""
    began = time.monotonic()
    assert server.exchange(request("OPTIONS", "/share")).status == 200
    return time.monotonic() - began


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"GET / HT",
        STRANGER,
        b"BAD\r\n\r\n",
        STRANGER + b"Content-Length: 1000\r\n\r\n",
        STRANGER + b"Content-Length: 1000\r\n\r\nhello",
        STRANGER + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
        STRANGER + b"Transfer-Encoding: chunked\r\n\r\n",
        STRANGER + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        STRANGER + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: a",
        STRANGER + b"Content-Length: 2000000000\r\n\r\n",
    ],
)
def test_strangers_who_stop_anywhere_hold_no_thread(server: Live, raw: bytes) -> None:
    """Ten times as many of them as there are threads, and the next client is served at once."""
    with clients(server, 10 * THREADS) as slow:
        for sock in slow:
            sock.sendall(raw)
        assert seconds_served_in(server) < 0.7


@pytest.mark.parametrize("byte", [b"G", b"\r\n", b"\n"])
def test_fifty_heads_in_bits_meet_their_deadline(server: Live, byte: bytes) -> None:
    """However often another bit comes, and whether or not the selector sees it wait."""
    with clients(server, 50) as slow:
        began, left = time.monotonic(), set(slow)
        while left:
            for sock in list(left):
                try:
                    sock.sendall(byte)
                except OSError:
                    left.remove(sock)
            assert seconds_served_in(server) < 1
            assert time.monotonic() - began < 10 * QUICK.header_timeout_s


def test_one_client_in_step_with_the_selector_meets_its_deadline(server: Live) -> None:
    """It always has something to read when the late ones are looked for."""
    with server.connect() as sock:
        assert seconds_cut_in(sock, b"G") < 5 * QUICK.header_timeout_s


def test_a_small_refused_body_in_bits_keeps_the_connection(server: Live) -> None:
    """It is waited for a moment, and the next request on the connection is served."""
    for body in (b"hello", b"2\r\nhe\r\n3\r\nllo\r\n0\r\nT: a\r\n\r\n"):
        framing = b"Content-Length: 5" if body == b"hello" else b"Transfer-Encoding: chunked"
        with server.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(STRANGER + framing + b"\r\n\r\n")
            assert read_reply(sock).status == 401
            for position in range(len(body)):
                sock.sendall(body[position : position + 1])
                threading.Event().wait(0.005)
            sock.sendall(request("OPTIONS", "/share"))
            assert read_reply(sock).status == 200


def test_a_refused_body_that_does_not_come_ends_the_connection(server: Live) -> None:
    """After a moment; and what comes later is never a request."""
    with server.connect() as sock:
        sock.sendall(STRANGER + b"Content-Length: 1000\r\n\r\n")
        assert read_reply(sock).status == 401
        assert at_end(sock)


@pytest.mark.parametrize("coded", [False, True], ids=["sized", "chunked"])
def test_a_body_that_drips_is_cut(server: Live, coded: bool) -> None:
    """A few bytes a second hold a thread and a session: below the least rate nothing is stored."""
    framing = "Transfer-Encoding: chunked" if coded else "Content-Length: 100000"
    aborts = len(server.monitor.aborts)
    with server.connect() as sock:
        sock.sendall(request("PUT", "/share/drip", framing))
        assert seconds_cut_in(sock, b"1\r\nx\r\n" if coded else b"x") < 5
    assert server.monitor.aborts[aborts:] == ["connection lost"]
    assert VirtualPath.parse("/share/drip") not in server.monitor.nodes
