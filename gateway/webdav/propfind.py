"""PROPFIND: one listing of the door joined into one multistatus (RFC 4918 section 9.1).

Text fragments are joined, no element objects are made: 1,000 entries cost milliseconds. Imports
the pure modules of this package and the errors of storage.
"""

from __future__ import annotations

from typing import Final

from backends.errors import NotAFolderError, NotFoundError
from gateway.errors import DeniedError
from gateway.model import NodeInfo, PropertyName, Usage
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.exchange import Exchange
from gateway.webdav.messages import HttpError, Response
from gateway.webdav.properties import ALLPROP, LIVE, Render, Surroundings
from gateway.webdav.settings import XML_BODY_LIMIT_BYTES
from gateway.webdav.xml_body import DAV, Wanted, empty_element, parse_propfind

XML_TYPE: Final = ("Content-Type", "application/xml; charset=utf-8")
MULTISTATUS_BEGIN: Final = '<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:">'
MULTISTATUS_END: Final = "</D:multistatus>"

_FOUND: Final = "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
_MISSING: Final = "</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"
_LOCK_DISCOVERY: Final = PropertyName(DAV, "lockdiscovery")


def propfind(exchange: Exchange) -> Response:
    """Return the 207 with the properties asked for; Depth 0 or 1.

    Raises HttpError 400 or 413 for a bad body, 403 ``propfind-finite-depth`` for a folder at
    Depth infinity, which also is what no Depth means; and what the door raises.
    """
    depth = exchange.depth("infinity", frozenset({"0", "1", "infinity"}))
    wanted = parse_propfind(exchange.request.body.read_all(XML_BODY_LIMIT_BYTES))
    dead = wanted.every or wanted.names_only or any(name not in LIVE for name in wanted.names)
    nodes = _nodes(exchange, depth, dead=dead)
    locks = wanted.every or _LOCK_DISCOVERY in wanted.names
    around = Surroundings(
        locks=exchange.door.locks(exchange.path, below=len(nodes) > 1) if locks else (),
        usage=_usage_once(exchange),
        now_us=exchange.clock(),
    )
    parts = [MULTISTATUS_BEGIN]
    base = urls.href(exchange.path, folder=True)
    for index, info in enumerate(nodes):
        if index:
            href = base + urls.href_name(info.name) + ("/" if info.is_folder else "")
        else:
            href = urls.href(info.path, folder=info.is_folder)
        parts.append(f"<D:response><D:href>{href}</D:href>")
        _append_properties(parts, info, wanted, around)
        parts.append("</D:response>")
    parts.append(MULTISTATUS_END)
    return Response(207, [XML_TYPE], body="".join(parts).encode("utf-8", "replace"))


def _nodes(exchange: Exchange, depth: str, *, dead: bool) -> list[NodeInfo]:
    """Return the node itself first, then at Depth 1 its children."""
    if depth == "1":
        try:
            listing = exchange.door.scandir(exchange.path, properties=dead)
        except NotAFolderError:
            return [exchange.door.stat(exchange.path, properties=dead)]
        return [listing.folder, *listing.children]
    info = exchange.door.stat(exchange.path, properties=dead)
    if depth == "infinity" and info.is_folder:
        raise HttpError(
            403,
            "Folders are listed one level at a time: ask with Depth 0 or 1.",
            condition="propfind-finite-depth",
        )
    return [info]


def _append_properties(
    parts: list[str], info: NodeInfo, wanted: Wanted, around: Surroundings
) -> None:
    if wanted.names_only:
        names = [name for name, render in LIVE.items() if render(info, around) is not None]
        parts.append("<D:propstat><D:prop>")
        parts.extend(empty_element(name) for name in (*names, *info.properties))
        parts.append(_FOUND)
        return
    missing: list[str] = []
    parts.append("<D:propstat><D:prop>")
    if wanted.every:
        parts.extend([text for render in ALLPROP if (text := render(info, around)) is not None])
        parts.extend(info.properties.values())
    for name in wanted.names:
        render: Render | None = LIVE.get(name)
        if wanted.every and (name in info.properties or render in ALLPROP):
            continue
        text = info.properties.get(name) if render is None else render(info, around)
        if text is None:
            missing.append(empty_element(name))
        else:
            parts.append(text)
    parts.append(_FOUND)
    if missing:
        parts.append("<D:propstat><D:prop>")
        parts.extend(missing)
        parts.append(_MISSING)


class _UsageOnce:
    """Asks the door for each share's space at most once in a request; the root has none."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[str, Usage | None] = {}

    def __call__(self, path: VirtualPath) -> Usage | None:
        if path.is_root:
            return None
        if path.share not in self._known:
            try:
                usage = self._exchange.door.usage(path)
            except (NotFoundError, DeniedError):
                usage = None
            self._known[path.share] = usage
        return self._known[path.share]


def _usage_once(exchange: Exchange) -> _UsageOnce:
    return _UsageOnce(exchange)
