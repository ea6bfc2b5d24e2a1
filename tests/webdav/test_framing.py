"""Request heads: what is read, and everything ambiguous that is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webdav.framing import check_unfinished, parse_head
from gateway.webdav.messages import HttpError


def head(*lines: str, first: str = "PUT /share/a HTTP/1.1") -> bytes:
    return "\r\n".join([first, "Host: localhost", *lines]).encode("latin-1")


def refused(data: bytes) -> int:
    with pytest.raises(HttpError) as caught:
        parse_head(data)
    return caught.value.status


def test_a_plain_head_is_read() -> None:
    """Names come in lower case, values without their outer blanks, the size as a number."""
    read = parse_head(head("Content-Length:  5 ", "X-Own: a:b", "Accept: x", "Accept: y"))
    assert (read.method, read.target, read.body_bytes) == ("PUT", "/share/a", 5)
    assert read.headers["x-own"] == "a:b"
    assert read.headers["accept"] == "x, y"
    assert read.keep_alive
    assert not read.expects_continue


def test_chunked_has_no_announced_size() -> None:
    """Chunked coding is told apart from an empty body."""
    assert parse_head(head("Transfer-Encoding: Chunked")).body_bytes is None
    assert parse_head(head()).body_bytes == 0


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5, 5",),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length : 5",),
        ("Content-Length: +5",),
        ("Content-Length: -1",),
        ("Content-Length: 0x5",),
        ("Content-Length: 0_5",),
        ("Content-Length: \xb2",),
        ("Content-Length:",),
        ("Content-Length: 9999999999999999999",),
        ("Content_Length: 5",),
        ("Transfer_Encoding: chunked",),
        ("X-A: 1", " folded: 2"),
        ("X-A: 1", "\tfolded"),
        ("Authorization: a", "Authorization: b"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Host: other",),
        (": nameless",),
        ("nocolon",),
        ("Depth",),
        ("connection",),
        ("Bad name: 1",),
        ("X-A: a\0b",),
        ("X-A: a\x0bb",),
    ],
)
def test_an_ambiguous_header_is_refused(lines: tuple[str, ...]) -> None:
    """Whatever two servers could read differently is a 400."""
    assert refused(head(*lines)) == 400


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /a HTTP/1.1",
        b"GET /a HTTP/1.1\r\nHost:",
        b"GET /a HTTP/1.1\r\nHost: a b",
        b"GET /a HTTP/1.1\r\nHost: localhost\nX: 1",
        b"GET /a HTTP/1.1\r\nHost: localhost\rX: 1",
        b"GET  /a HTTP/1.1\r\nHost: localhost",
        b"GET /a\r\nHost: localhost",
        b"get /a HTTP/1.1\r\nHost: localhost",
        b"GET a HTTP/1.1\r\nHost: localhost",
        b"GET * HTTP/1.1\r\nHost: localhost",
        b"GET /a HTTP/11\r\nHost: localhost",
    ],
)
def test_a_malformed_head_is_refused(raw: bytes) -> None:
    """Missing Host, bare line ends and broken request lines are a 400."""
    assert refused(raw) == 400


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (head(first="PUT /a HTTP/2.0"), 505),
        (head("Transfer-Encoding: gzip, chunked"), 501),
        (head("Expect: 200-ok"), 417),
        (head(*(f"X-{number}: 1" for number in range(10_000))), 431),
        (head("X-A: " + "a" * 70_000), 431),
        (head(first=f"GET /{'a' * 20_000} HTTP/1.1"), 414),
    ],
)
def test_limits_and_versions_have_their_own_status(raw: bytes, status: int) -> None:
    """What is understood but not served says why."""
    assert refused(raw) == status


def test_an_endless_head_is_refused_before_it_ends() -> None:
    """A head over its limit is not waited for: 414 for the request line, else 431."""
    for data, status in ((b"G" * 70_000, 414), (b"G\r\n" + b"X" * 70_000, 431)):
        with pytest.raises(HttpError) as caught:
            check_unfinished(data)
        assert caught.value.status == status


def test_the_absolute_form_is_read_as_its_path() -> None:
    """RFC 9112 section 3.2.2 wants servers to take it."""
    for scheme in ("http", "https", "HTTPS"):
        read = parse_head(head(first=f"GET {scheme}://LocalHost/share/a?b HTTP/1.1"))
        assert read.target == "/share/a?b"


@pytest.mark.parametrize("target", ["http://other/a", "http://a@localhost/a", "http:///a"])
def test_an_absolute_form_that_is_not_the_host_is_refused(target: str) -> None:
    """A proxy may have gone by the one, and this server by the other."""
    assert refused(head(first=f"GET {target} HTTP/1.1")) == 400


def test_empty_elements_of_lists_vanish() -> None:
    """A repeated field is one list, and what is empty in it means nothing."""
    read = parse_head(head("Accept:", "Accept: x", "ACCEPT: ", "Accept: y"))
    assert read.headers["accept"] == "x, y"


@given(st.binary(max_size=300))
def test_no_bytes_at_all_do_more_than_be_refused(data: bytes) -> None:
    """Whatever comes, the answer is a head or an HttpError."""
    with contextlib.suppress(HttpError):
        assert parse_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + data).method == "GET"
