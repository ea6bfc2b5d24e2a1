"""Hostile HTTP against the running gateway: framing, sizes, slow and cut bodies."""

from __future__ import annotations

import contextlib
import ssl
import time

import pytest

from tests.attacks.support import Target, harmless
from tests.support.users import until
from tests.webdav.support import at_end, read_reply

MIB = 1 << 20

AMBIGUOUS = {
    "two content-lengths": ("Content-Length: 9", "Content-Length: 5"),
    "two equal content-lengths": ("Content-Length: 5", "Content-Length: 5"),
    "a list of lengths": ("Content-Length: 5, 5",),
    "length and coding": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    "coding and length": ("Transfer-Encoding: chunked", "Content-Length: 5"),
    "two codings": ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    "negative": ("Content-Length: -5",),
    "signed": ("Content-Length: +5",),
    "hexadecimal": ("Content-Length: 0x5",),
    "underscored": ("Content-Length: 0_5",),
    "superscript": ("Content-Length: \xb2",),
    "of nothing": ("Content-Length:",),
    "huge": ("Content-Length: " + "9" * 400,),
    "space before the colon": ("Content-Length : 5",),
    "tab before the colon": ("Content-Length\t: 5",),
    "folded": ("Content-Length:", " 5"),
    "folded elsewhere": ("X-A: b", "\tc", "Content-Length: 5"),
    "underscored name": ("Content_Length: 5",),
    "underscored coding": ("Transfer_Encoding: chunked",),
    "second authorization": ("Content-Length: 5", "Authorization: Basic eDp5"),
    "second host": ("Content-Length: 5", "Host: elsewhere"),
    "no name": ("Content-Length: 5", ": x"),
    "no colon": ("Content-Length: 5", "x"),
    "a NUL": ("Content-Length: 5", "X-A: a\0b"),
    "a bare CR": ("Content-Length: 5", "X-A: a\rX-B: c"),
    "a bare LF": ("Content-Length: 5", "X-A: a\nX-B: c"),
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_heads_are_refused(target: Target, folder: str, fields: tuple[str, ...]) -> None:
    """400 and the end of the connection: what follows cannot be told from another request."""
    path, mark = f"{folder}/a", target.mark()
    raw = target.request("PUT", path, *fields, body=b"hello")
    with target.connect() as sock:
        sock.sendall(raw + target.request("DELETE", folder))
        assert harmless(read_reply(sock)).status == 400
        assert at_end(sock)
    assert not target.since(mark)
    assert target.holds(folder)
    assert not target.holds(path)


@pytest.mark.parametrize("size", ["-5", "+5", "0x5", "0_5", "5 5", "", "g", "1" * 17, "5\n"])
def test_odd_chunk_sizes_are_refused(target: Target, folder: str, size: str) -> None:
    """400, the end, nothing stored, and the upload that was begun is one record."""
    path, mark = f"{folder}/a", target.mark()
    body = f"{size}\r\nhello\r\n0\r\n\r\n".encode()
    raw = target.request("PUT", path, "Transfer-Encoding: chunked", body=body)
    with target.connect() as sock:
        sock.sendall(raw + target.request("DELETE", folder))
        assert harmless(read_reply(sock)).status == 400
        assert at_end(sock)
    # The upload that was begun, and the request that was refused.
    assert [record.outcome for record in target.since(mark) if record.path == path] == ["aborted"]
    assert not target.holds(path)
    assert target.holds(folder)


def test_a_request_without_host_is_refused(target: Target) -> None:
    """HTTP/1.1 demands it, and a proxy may choose a server by it."""
    raw = target.request("OPTIONS", "/").replace(b"Host: localhost\r\n", b"")
    assert target.send(raw).status == 400


def test_two_names_for_the_server_are_refused(target: Target) -> None:
    """An absolute target and a Host that differ could be meant for either."""
    assert target.ask("OPTIONS", "http://localhost/radiology").status == 200
    assert target.ask("OPTIONS", "http://elsewhere/radiology").status == 400


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-A: " + b"b" * MIB + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * MIB + b" HTTP/1.1\r\n\r\n", 414),
        (b"G" * MIB, 414),
        (b"\0" * 100 + b"\r\n\r\n", 400),
        (b"\r\n" * 100, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
def test_endless_and_foreign_heads_are_refused(target: Target, head: bytes, status: int) -> None:
    """Before they end, with little of them kept."""
    before = target.peak_mib()
    assert target.send(head).status == status
    assert target.peak_mib() - before < 4


def test_fifty_slow_clients_hold_nobody_up(target: Target) -> None:
    """Half of them stop within their TLS hello, half within their head; others are served."""
    silent = [target.connect_plain() for _ in range(25)]
    slow = [target.connect() for _ in range(25)]
    for sock in silent:
        sock.sendall(b"\x16\x03\x01")
    for sock in slow:
        sock.sendall(b"GET / HT")
    for _ in range(20):
        began = time.monotonic()
        assert target.ask("PROPFIND", "/", "Depth: 0").status == 207
        assert time.monotonic() - began < 5
    for sock in [*silent, *slow]:
        sock.close()


def test_a_large_body_before_a_401_is_not_kept(target: Target) -> None:
    """200 MB that nobody asked for: answered at once, and given up after a little of it."""
    head = f"PUT /radiology/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {200 * MIB}\r\n\r\n"
    before, block = target.peak_mib(), b"x" * MIB
    with target.connect() as sock:
        sock.sendall(head.encode())
        assert harmless(read_reply(sock)).status == 401
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for _ in range(200):
                sock.sendall(block)
        assert at_end(sock)
    assert target.peak_mib() - before < 8


@pytest.mark.parametrize("coded", [False, True], ids=["sized", "chunked"])
def test_a_body_cut_at_any_tenth_is_nothing(target: Target, folder: str, coded: bool) -> None:
    """Nothing of it is to be seen, and each attempt is one record that says it was aborted."""
    data, mark = b"x" * (MIB // 2), target.mark()
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if coded else data
    framing = "Transfer-Encoding: chunked" if coded else f"Content-Length: {len(data)}"
    for tenth in range(10):
        with target.connect() as sock:
            raw = target.request("PUT", f"{folder}/{tenth}", framing)
            sock.sendall(raw + whole[: len(whole) * tenth // 10])
    until(lambda: len(target.since(mark)) >= 10, "every cut upload is recorded")
    found = sorted((record.path, record.outcome) for record in target.since(mark))
    assert found == [(f"{folder}/{tenth}", "aborted") for tenth in range(10)]
    assert not any(target.holds(f"{folder}/{tenth}") for tenth in range(10))


def test_expect_with_a_refused_login_gets_no_continue(target: Target, folder: str) -> None:
    """The body is asked for only when somebody is known who may send it."""
    path, mark = f"{folder}/a", target.mark()
    raw = target.request("PUT", path, "Content-Length: 5", "Expect: 100-continue")
    for known, statuses in ((False, [401]), (True, [100, 201])):
        with target.connect() as sock:
            sock.sendall(raw if known else raw.replace(b"Basic ", b"Basic QQ"))
            assert harmless(read_reply(sock)).status == statuses[0]
            if known:
                sock.sendall(b"hello")
                assert harmless(read_reply(sock)).status == statuses[1]
            else:
                assert at_end(sock)
                assert not target.holds(path)
    assert [(record.action, record.path) for record in target.since(mark)] == [("create", path)]


def test_expect_with_a_refused_operation_gets_no_continue(target: Target) -> None:
    """Nor is a body asked for that may not be stored: one record of the denial."""
    mark = target.mark()
    raw = target.request("PUT", "/inbox/a", "Content-Length: 5", "Expect: 100-continue")
    with target.connect() as sock:
        sock.sendall(raw)
        assert harmless(read_reply(sock)).status == 403
        assert at_end(sock)
    assert [(record.path, record.outcome) for record in target.since(mark)] == [
        ("/inbox/a", "denied")
    ]


def test_a_refused_body_is_never_a_request(target: Target, folder: str) -> None:
    """What hides in the body of a 401 or a 415 is dropped, or the connection is."""
    inner = target.request("DELETE", folder)
    for method, known in (("MKCOL", True), ("PUT", False)):
        raw = target.request(method, f"{folder}/x", "Transfer-Encoding: chunked")
        if not known:
            raw = raw.replace(b"Basic ", b"Basic QQ")
        for body in (b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner), inner):
            with target.connect() as sock:
                sock.sendall(raw + body)
                assert harmless(read_reply(sock)).status in {400, 401, 415}
    assert target.holds(folder)
