"""A listing of many pages over a real socket: chunked, one page at a time, cut when it fails."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.settings import WebdavSettings
from tests.webdav.support import Live, basic, live, read_reply, request

COUNT = 25
PAGE = 10
LIST = request("PROPFIND", "/share", "Depth: 1", "Content-Length: 0")


@pytest.fixture(name="long")
def long_listing() -> Iterator[Live]:
    """A listener whose share holds three pages."""
    with live(replace(WebdavSettings(), threads=4)) as running:
        running.monitor.page_size = PAGE
        for number in range(COUNT):
            running.monitor.make(VirtualPath.parse(f"/share/f{number:02}"), Kind.FILE, b"x")
        yield running


def connected(server: Live) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)


def hrefs(body: bytes) -> list[str]:
    return [found.text or "" for found in ET.fromstring(body).iter("{DAV:}href")]


def test_it_is_one_document_in_chunks_on_a_connection_that_stays(long: Live) -> None:
    """Every entry once; the next request goes over the same connection."""
    client = connected(long)
    for _ in range(2):
        client.request("PROPFIND", "/share", headers={"Authorization": basic(), "Depth": "1"})
        answer = client.getresponse()
        assert answer.status == 207
        assert answer.getheader("Transfer-Encoding") == "chunked"
        assert answer.getheader("Content-Length") is None
        assert hrefs(answer.read()) == ["/share/", *(f"/share/f{n:02}" for n in range(COUNT))]
    client.close()


def test_a_listing_of_one_page_has_a_length(long: Live) -> None:
    """As every answer that is known whole."""
    long.monitor.page_size = COUNT
    reply = long.exchange(LIST)
    assert "Transfer-Encoding" not in reply.head
    assert len(hrefs(reply.body)) == COUNT + 1


def test_an_old_client_reads_to_the_end_of_the_connection(long: Live) -> None:
    """HTTP/1.0 knows no chunks."""
    with long.connect() as sock:
        sock.sendall(LIST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        data = b""
        while more := sock.recv(65536):
            data += more
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Connection: close" in head
    assert len(hrefs(body)) == COUNT + 1


def test_a_page_that_fails_cuts_the_answer(long: Live) -> None:
    """Nobody takes a part of a folder for the whole: the last chunk never comes."""
    long.monitor.page_limit = 2 * PAGE
    client = connected(long)
    client.request("PROPFIND", "/share", headers={"Authorization": basic(), "Depth": "1"})
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()
    client.close()


def test_the_first_page_fails_with_a_status(long: Live) -> None:
    """What is known before the first byte is told."""
    long.monitor.page_limit = 0
    assert long.exchange(LIST).status == 403


def test_pages_are_taken_as_they_are_sent(long: Live) -> None:
    """A client that does not read holds back all pages but a few, however many there are."""
    for number in range(20_000):
        long.monitor.make(VirtualPath.parse(f"/share/{'x' * 200}{number:05}"), Kind.FILE)
    long.monitor.page_size = 100
    with long.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(LIST)
        assert sock.recv(1)
        assert len(long.monitor.pages) < 150


def test_what_follows_in_the_pipeline_is_answered_in_turn(long: Live) -> None:
    """A pipelined request waits for the last chunk."""
    with long.connect() as sock:
        sock.sendall(LIST + request("GET", "/share/f01"))
        data = b""
        while not data.endswith(b"\r\n\r\nx"):
            data += sock.recv(65536)
    assert data.index(b"\r\n0\r\n\r\n") < data.index(b"HTTP/1.1 200 OK\r\n")


def test_plain_answers_keep_their_length(long: Live) -> None:
    """Chunks are for what has no length."""
    with long.connect() as sock:
        sock.sendall(request("GET", "/share/f01"))
        assert "Content-Length: 1" in read_reply(sock).head
