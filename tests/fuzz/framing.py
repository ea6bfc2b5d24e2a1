"""What the readers of requests and bodies owe to any input; see ``targets``."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.webdav.body import Body, Inbox
from gateway.webdav.framing import Head, check_unfinished, parse_head
from gateway.webdav.messages import BodyCutError, HttpError
from tests.fuzz.reader import Seen, seen_by_the_application

_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_TOKEN_CHARACTERS: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def request_head(data: bytes) -> None:
    """A head is refused, or it means one thing."""
    with contextlib.suppress(HttpError):
        check_unfinished(data)
        head = parse_head(data)
        _check_head(head)
        assert all(b":" in line for line in data.split(b"\r\n")[1:])
        again = parse_head(written(head))
        assert again == head, "the head as it was understood is not read as the same"


def written(head: Head) -> bytes:
    """Return the head in its plainest form."""
    version = "HTTP/1.1" if head.modern else "HTTP/1.0"
    lines = [f"{head.method} {head.target} {version}"]
    lines += [f"{name}: {value}" for name, value in head.headers.items()]
    return "\r\n".join(lines).encode("latin-1")


def _check_head(head: Head) -> None:
    assert head.method.isascii()
    assert head.method.isalpha()
    assert head.target.startswith("/") or (head.method, head.target) == ("OPTIONS", "*")
    for name, value in head.headers.items():
        assert name
        assert set(name) <= _TOKEN_CHARACTERS
        assert value == value.strip(" \t")
    for text in (head.target, *head.headers.values()):
        assert not set(text) & {"\r", "\n", "\0"}
    framing = _FRAMING & head.headers.keys()
    assert len(framing) <= 1
    if "content-length" in framing:
        length = head.headers["content-length"]
        assert set(length) <= set("0123456789")
        assert head.body_bytes == int(length)
    else:
        assert head.body_bytes == (None if framing else 0)
        assert not framing or head.headers["transfer-encoding"].lower() == "chunked"
    assert head.modern or not (framing - {"content-length"})
    assert "host" in head.headers or not head.modern


def request_reader(data: bytes) -> None:
    """However the bytes of a connection arrive, the same requests with the same bodies come out.

    The whole arrives in one piece, then byte by byte, then in pieces of chance.
    """
    whole = seen_by_the_application([data])
    chance = random.Random(data)
    pieces, position = [], 0
    while position < len(data):
        size = chance.randint(1, 1 + len(data) // 4)
        pieces.append(data[position : position + size])
        position += size
    assert _outcomes(seen_by_the_application(pieces)) == _outcomes(whole)
    if len(data) <= 2000:
        bits = seen_by_the_application([bytes([byte]) for byte in data])
        assert _outcomes(bits) == _outcomes(whole)
    for one in whole:
        _check_seen(one)


def _outcomes(seen: Sequence[Seen]) -> list[Seen]:
    """Return what was seen; of two reasons to refuse, either may be found first."""
    return [one if one.status == 200 else replace(one, status=400) for one in seen]


def _check_seen(one: Seen) -> None:
    assert one.status in {200, 400, 413, 414, 417, 431, 501, 505}
    if one.body is not None and one.length is not None:
        assert len(one.body) == one.length, "a body cut short was taken for a whole one"


def chunked_body(data: bytes) -> None:
    """A chunked body is whole, cut or malformed, the same in whatever pieces it is read."""
    whole = _read([data], 1 << 20)
    for pieces, room in (
        ([piece for piece in (data[:1], data[1:]) if piece], 1 << 20),
        ([data], 7),
        ([data[position : position + 3] for position in range(0, len(data), 3)], 5),
    ):
        assert _read(pieces, room) == whole
    if isinstance(whole, bytes):
        assert len(whole) <= len(data)


def _read(pieces: Sequence[bytes], room: int) -> bytes | str:
    """Return the content, or the name of the error; ``room`` bytes are asked for at a time."""
    left = bytearray()
    coming = iter(pieces)

    def receive(view: memoryview) -> int:
        if not left:
            left.extend(next(coming, b""))
        size = min(len(view), len(left))
        view[:size] = left[:size]
        del left[:size]
        return size

    body, content, view = Body(Inbox(receive), None), b"", memoryview(bytearray(room))
    try:
        while size := body.read_into(view):
            content += view[:size]
    except (BodyCutError, HttpError) as error:
        return type(error).__name__
    assert body.finished
    return content
