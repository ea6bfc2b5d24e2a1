"""HTTP/1.1 request heads, read strictly: what is ambiguous is refused, never guessed.

Pure functions over bytes, without sockets. Two servers that read one head differently are how
requests are smuggled past a proxy (RFC 9112 section 11.2), hence 400 for every doubt. Imports
only ``messages`` and ``settings``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.webdav.messages import HttpError
from gateway.webdav.settings import HEADER_LIMIT_BYTES

HEAD_END: Final = b"\r\n\r\n"
REQUEST_LINE_LIMIT_BYTES: Final = 16 * 1024
HEADER_COUNT_LIMIT: Final = 100
BODY_LIMIT_DIGITS: Final = 18

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHOD = re.compile(r"[A-Z]{1,32}")
# Every control character but HTAB, CR and LF; the latter two are checked by their pairing.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]+)(?::[0-9]{1,5})?")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)

_SINGLE: Final = frozenset(
    {
        "authorization",
        "content-length",
        "content-range",
        "content-type",
        "depth",
        "destination",
        "expect",
        "host",
        "if",
        "if-modified-since",
        "if-range",
        "if-unmodified-since",
        "lock-token",
        "overwrite",
        "range",
        "timeout",
        "transfer-encoding",
        "user-agent",
        "x-expected-entity-length",
        "x-oc-mtime",
    }
)
_LISTS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "connection", "if-match", "if-none-match"}
)
_KNOWN: Final = {name: name for name in _SINGLE | _LISTS} | {
    "-".join(word.capitalize() for word in name.split("-")): name for name in _SINGLE | _LISTS
}


@dataclass(slots=True)
class Head:
    """A request's head. ``body_bytes`` is None for chunked coding, 0 when there is no body.

    ``modern``: HTTP/1.1, so that the answer may be chunked.
    """

    method: str
    target: str
    headers: dict[str, str]
    body_bytes: int | None
    keep_alive: bool
    expects_continue: bool
    modern: bool


def check_unfinished(data: bytes) -> None:
    """Refuse a head that is still incomplete but already too long.

    Raises HttpError 414 when the request line alone is over its limit, else 431.
    """
    if len(data) > REQUEST_LINE_LIMIT_BYTES and b"\n" not in data[:REQUEST_LINE_LIMIT_BYTES]:
        raise HttpError(414, "The request line is too long.")
    if len(data) > HEADER_LIMIT_BYTES:
        raise HttpError(431, "The header fields are too large.")


def parse_head(data: bytes) -> Head:
    """Return the head that ``data`` (up to, without, the empty line) writes; RFC 9112.

    Raises HttpError: 400 for anything malformed or ambiguous, 414, 431, 417, 501 or 505.
    """
    if len(data) > HEADER_LIMIT_BYTES:
        check_unfinished(data)
    if _CONTROL.search(data) or _BARE_LINE_END.search(data):
        raise HttpError(400, "The request holds a control character or a bare line end.")
    lines = data.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(lines[0]) > REQUEST_LINE_LIMIT_BYTES:
        raise HttpError(414, "The request line is too long.")
    if len(parts) != 3:
        raise HttpError(400, "The request line is malformed.")
    method, target, version = parts
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        status = 505 if re.fullmatch(r"HTTP/[0-9]\.[0-9]", version) else 400
        raise HttpError(status, "This server speaks HTTP/1.1.")
    if not _METHOD.fullmatch(method):
        raise HttpError(400, "The method is malformed.")
    if len(lines) > HEADER_COUNT_LIMIT:
        raise HttpError(431, "There are too many header fields.")
    headers = _fields(lines)
    modern = version == "HTTP/1.1"
    _check_host(headers, modern=modern)
    expects = _expects_continue(headers, modern=modern)
    return Head(
        method=method,
        target=_origin_form(method, target, headers.get("host")),
        headers=headers,
        body_bytes=_body_bytes(headers, modern=modern),
        keep_alive=modern and "close" not in headers.get("connection", "").lower(),
        expects_continue=expects,
        modern=modern,
    )


def _fields(lines: list[str]) -> dict[str, str]:
    """Return the header fields by lower-case name; repeated list fields joined by commas."""
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        known = _KNOWN.get(name)
        # A space before the colon, a folded line, an empty name and no colon at all fail here.
        if not colon or (known is None and not _TOKEN.fullmatch(name)):
            raise HttpError(400, "A header field is malformed.")
        value = value.strip(" \t")
        if known is None:
            known = name.lower()
            # Gateways that turn "-" into "_" would take "Content_Length" for the real one.
            if "_" in known and known.replace("_", "-") in _SINGLE:
                raise HttpError(400, "A header field's name imitates another one.")
        if known in headers:
            if known in _SINGLE:
                raise HttpError(400, "A header field that may appear once is repeated.")
            # Empty elements of a list mean nothing (RFC 9110 section 5.6.1.2).
            headers[known] = ", ".join(filter(None, (headers[known], value)))
        else:
            headers[known] = value
    return headers


def _check_host(headers: dict[str, str], *, modern: bool) -> None:
    host = headers.get("host")
    if host is None:
        if modern:
            raise HttpError(400, "The Host field is missing.")
    elif not _HOST.fullmatch(host):
        raise HttpError(400, "The Host field is malformed.")


def _expects_continue(headers: dict[str, str], *, modern: bool) -> bool:
    expect = headers.get("expect")
    if expect is None or not modern:
        return False
    if expect.lower() != "100-continue":
        raise HttpError(417, "Only 100-continue can be expected.")
    return True


def _body_bytes(headers: dict[str, str], *, modern: bool) -> int | None:
    """Return the announced size, None for chunked coding (RFC 9112 section 6.3)."""
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or not modern:
            raise HttpError(400, "The size of the body is ambiguous.")
        if coding.lower() != "chunked":
            raise HttpError(501, "The only transfer coding known here is chunked.")
        return None
    if length is None:
        return 0
    # isdigit alone would let superscripts pass; int() alone signs, blanks and underscores.
    if not (length.isascii() and length.isdigit()) or len(length) > BODY_LIMIT_DIGITS:
        raise HttpError(400, "The Content-Length field is malformed.")
    return int(length)


def _origin_form(method: str, target: str, host: str | None) -> str:
    """Return the target as path and query; an absolute form loses its authority, ``host``."""
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return target
    match = _ABSOLUTE.match(target)
    if match is None:
        raise HttpError(400, "The request target is malformed.")
    if host is not None and match[1].lower() != host.lower():
        raise HttpError(400, "The request target and the Host field name different servers.")
    rest = target[match.end() :]
    return rest if rest.startswith("/") else f"/{rest}"
