"""URLs and virtual paths: percent-encoding undone exactly once, after the URL was taken apart.

Pure functions; no caching. Imports only paths, errors and ``messages``.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import InvalidPathError
from gateway.paths import VirtualPath
from gateway.webdav.messages import HttpError

URL_LIMIT_BYTES: Final = 16 * 1024

# Each byte, as a character, to how it stands in a path segment: RFC 3986's unreserved characters
# and the sub-delimiters that clients leave alone stand for themselves, upper-case %XX for the rest.
_SEGMENT: Final = [
    chr(byte)
    if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-._~!$'()*,@:")
    else f"%{byte:02X}"
    for byte in range(256)
]
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN_ESCAPE = re.compile(r"%(?:2[Ff]|5[Cc]|00)")
_ABSOLUTE = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]*)(?P<rest>.*)", re.IGNORECASE)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def decode_path(escaped: str) -> VirtualPath:
    """Return the virtual path that a URL's path part names; ``escaped`` as latin-1 text.

    Each name is decoded alone and must be valid UTF-8. Raises InvalidPathError for an encoded
    slash, backslash or NUL, a broken escape, ``//``, dot segments and anything else that
    ``VirtualPath.parse`` refuses.
    """
    if "%" in escaped and (_BAD_ESCAPE.search(escaped) or _FORBIDDEN_ESCAPE.search(escaped)):
        raise InvalidPathError("The URL holds an escape that no file name can have.")
    if "%" not in escaped and escaped.isascii():
        return VirtualPath.parse(escaped)
    try:
        text = unquote_to_bytes(escaped.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidPathError("The URL is not valid UTF-8.") from error
    return VirtualPath.parse(text)


def split_target(target: str) -> tuple[str, str]:
    """Return path and query of a request target; raises HttpError 400 for a fragment."""
    if "#" in target:
        raise HttpError(400, "A request target has no fragment.")
    path, _, query = target.partition("?")
    return path, query


def href(path: VirtualPath, *, folder: bool) -> str:
    """Return the absolute path of ``path`` as a URL: upper-case escapes, a folder's slash."""
    if not path.parts:
        return "/"
    encoded = "/".join([href_name(part) for part in path.parts])
    return f"/{encoded}/" if folder else f"/{encoded}"


def href_name(name: str) -> str:
    """Return one name as a URL path segment."""
    return name.encode("utf-8", "replace").decode("latin-1").translate(_SEGMENT)


def destination(value: str, host: str, public_url: str) -> VirtualPath:
    """Return the path that a Destination header names (RFC 4918 section 10.3).

    ``host`` is the request's Host; ``public_url`` the configured address of this server, or
    empty. Raises HttpError 400 when it is malformed, 502 when it names another server;
    InvalidPathError as ``decode_path``.
    """
    if len(value) > URL_LIMIT_BYTES:
        raise HttpError(400, "The Destination header is too long.")
    rest = value
    if not value.startswith("/") or value.startswith("//"):
        match = _ABSOLUTE.fullmatch(value)
        if match is None:
            raise HttpError(400, "The Destination header is not an absolute URL or path.")
        if not _is_here(match["scheme"], match["host"], host, public_url):
            raise HttpError(502, "The destination lies on another server.")
        rest = match["rest"] or "/"
    if "?" in rest or "#" in rest:
        raise HttpError(400, "The Destination header holds a query or a fragment.")
    return decode_path(rest)


def path_of_url(value: str, host: str, public_url: str) -> VirtualPath | None:
    """Return the path of a URL in an If header's tag, None when it is not one of this server."""
    try:
        return destination(value, host, public_url)
    except (HttpError, InvalidPathError):
        return None


def _is_here(scheme: str, named: str, host: str, public_url: str) -> bool:
    # The scheme is not compared: behind a proxy that ends TLS, clients and listener differ.
    if _authority(scheme, named) == _authority(scheme, host):
        return True
    match = _ABSOLUTE.fullmatch(public_url)
    return match is not None and _authority(scheme, named) in {
        _authority(scheme, match["host"]),
        _authority(match["scheme"], match["host"]),
    }


def _authority(scheme: str, host: str) -> str:
    """Return host and port in one spelling; user information never matches."""
    lowered = host.lower()
    return lowered.removesuffix(":" + _DEFAULT_PORTS[scheme.lower()])
