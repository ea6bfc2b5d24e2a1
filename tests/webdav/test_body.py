"""Bodies: counted, chunked, cut short, too slow."""

from __future__ import annotations

import contextlib
import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webdav.body import Body, Inbox
from gateway.webdav.messages import BodyCutError, HttpError
from tests.webdav.support import body_of


def everything(body: Body) -> bytes:
    return body.read_all(1 << 20)


def test_a_body_of_known_size_ends_where_it_said() -> None:
    """What follows the announced bytes belongs to the next request."""
    assert everything(body_of(b"hello and more", 5)) == b"hello"


@pytest.mark.parametrize("sent", range(10))
def test_a_body_cut_short_raises(sent: int) -> None:
    """However many of the announced bytes came, it is never taken for the whole."""
    with pytest.raises(BodyCutError):
        everything(body_of(b"x" * sent, 10))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 64))
def test_chunks_are_joined(chunks: list[bytes], step: int) -> None:
    """Chunked coding gives the content back, in whatever pieces it is read."""
    coded = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    body = body_of(coded + b"0\r\nTrailer: 1\r\n\r\n", None)
    got, view = b"", memoryview(bytearray(step))
    while size := body.read_into(view):
        got += view[:size]
    assert got == b"".join(chunks)
    assert body.finished


@pytest.mark.parametrize("length", range(22))
def test_chunked_cut_anywhere_raises(length: int) -> None:
    """No prefix of a chunked body passes for all of it."""
    whole = b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"
    with pytest.raises(BodyCutError):
        everything(body_of(whole[:length], None))


@pytest.mark.parametrize(
    "coded",
    [
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"0_5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"11111111111111111\r\n",
        b"\r\n",
        b"5;" + b"e" * 5000,
        b"0\r\n" + b"Trailer: x\r\n" * 1000 + b"\r\n",
    ],
)
def test_broken_chunks_are_refused(coded: bytes) -> None:
    """Sizes that are not plain hex, data without its CRLF, endless lines and trailers: 400."""
    with pytest.raises(HttpError) as caught:
        everything(body_of(coded, None))
    assert caught.value.status == 400


def test_a_body_over_the_limit_is_refused_unread() -> None:
    """An announced size over the limit is a 413 before any of it is read."""
    body = body_of(b"x" * 100)
    with pytest.raises(HttpError) as caught:
        body.read_all(99)
    assert (caught.value.status, body.received_bytes) == (413, 0)


def test_chunks_over_the_limit_are_refused() -> None:
    """Without an announced size the limit is met while reading."""
    with pytest.raises(HttpError) as caught:
        body_of(b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n", None).read_all(99)
    assert caught.value.status == 413


def test_the_client_is_told_to_continue_once_and_only_when_read() -> None:
    """100 Continue goes out when the first byte is wanted, not before and not twice."""
    told: list[bool] = []
    data = bytearray(b"hello")

    def receive(view: memoryview) -> int:
        assert told
        view[:1] = data[:1]
        del data[:1]
        return 1

    body = Body(Inbox(receive), 5, lambda: told.append(True))
    assert not told
    assert everything(body) == b"hello"
    assert told == [True]


@pytest.mark.parametrize("length", [None, 40])
def test_an_interrupted_body_goes_on_where_it_was(length: int | None) -> None:
    """A refused body is read whenever some of it has arrived: at any byte it may stop for a while."""
    coded = b"5;a=b\r\nhello\r\n3\r\nyou\r\n0\r\nT: a\r\nU: b\r\n\r\n"
    left = bytearray(coded if length is None else b"x" * length)
    interrupted = False

    def receive(view: memoryview) -> int:
        nonlocal interrupted
        interrupted = not interrupted
        if interrupted:
            raise BlockingIOError
        assert left, "more was wanted than there is"
        view[:1] = left[:1]
        del left[:1]
        return 1

    body, turns = Body(Inbox(receive), length), 0
    while not body.finished:
        turns += 1
        with contextlib.suppress(BlockingIOError):
            body.read_into(memoryview(bytearray(100)))
    assert turns >= body.received_bytes
    assert body.received_bytes == (8 if length is None else length)
    assert not left


@pytest.mark.parametrize("length", [None, 1000])
def test_a_body_slower_than_the_least_rate_is_cut(length: int | None) -> None:
    """One byte now and then would hold a thread, and a session, for ever."""
    coded = itertools.cycle(b"1\r\nx\r\n" if length is None else b"x")

    def receive(view: memoryview) -> int:
        threading.Event().wait(0.002)
        view[0] = next(coded)
        return 1

    body = Body(Inbox(receive), length, rate_min_bytes_s=10_000, rate_grace_s=0.05)
    with pytest.raises(BodyCutError):
        everything(body)
    assert body.received_bytes < 500
