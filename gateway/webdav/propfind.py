"""PROPFIND: a listing of the door as a multistatus, page by page (RFC 4918 section 9.1).

Text fragments are joined, no element objects are made: 1,000 entries cost milliseconds, and of
100,000 only a page lies in memory. Imports the pure modules of this package and the errors of
storage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from backends.errors import NotFoundError
from gateway.errors import DeniedError
from gateway.model import Entry, NodeInfo, PropertyName, Usage
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.exchange import Exchange
from gateway.webdav.messages import HttpError, Response
from gateway.webdav.properties import ALLPROP, LIVE, Locks, Render, Surroundings
from gateway.webdav.settings import XML_BODY_LIMIT_BYTES
from gateway.webdav.xml_body import DAV, Wanted, empty_element, parse_propfind

if TYPE_CHECKING:
    from gateway.operations.listing import Listing

XML_TYPE: Final = ("Content-Type", "application/xml; charset=utf-8")
# How Windows writes the four properties that it stores with every file: with both its prefixes.
_DAV_BINDING: Final = ' xmlns:D="DAV:"'
_WIN32_BINDING: Final = ' xmlns:Z="urn:schemas-microsoft-com:"'

MULTISTATUS_BEGIN: Final = (
    f'<?xml version="1.0" encoding="utf-8"?><D:multistatus{_DAV_BINDING}{_WIN32_BINDING}>'
)
MULTISTATUS_END: Final = "</D:multistatus>"

_FOUND: Final = "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
_MISSING: Final = "</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"
_LOCK_DISCOVERY: Final = PropertyName(DAV, "lockdiscovery")
_OF_A_PATH: Final = frozenset(
    PropertyName(DAV, local) for local in ("quota-used-bytes", "quota-available-bytes")
)


def propfind(exchange: Exchange) -> Response:
    """Return the 207 with the properties asked for; Depth 0 or 1.

    Raises HttpError 400 or 413 for a bad body, 403 ``propfind-finite-depth`` for a folder at
    Depth infinity, which also is what no Depth means; and what the door raises.
    """
    depth = exchange.depth("infinity", frozenset({"0", "1", "infinity"}))
    wanted = parse_propfind(exchange.request.body.read_all(XML_BODY_LIMIT_BYTES))
    dead = wanted.every or wanted.names_only or any(name not in LIVE for name in wanted.names)
    info, listing = _found(exchange, depth, dead=dead)
    locks = wanted.every or _LOCK_DISCOVERY in wanted.names
    around = Surroundings(
        locks=Locks.of(exchange.door.locks(exchange.path, below=listing is not None), exchange.path)
        if locks
        else Locks(),
        usage=_UsageOnce(exchange),
        now_us=exchange.clock(),
    )
    answer = _Answer(wanted, around)
    parts = [MULTISTATUS_BEGIN]
    answer.append(parts, urls.href(info.path, folder=info.is_folder), info)
    if listing is None:
        parts.append(MULTISTATUS_END)
        return Response(207, [XML_TYPE], body=_encoded(parts))
    first = next(listing.pages, ())
    answer.append_page(parts, info, first)
    second = next(listing.pages, None)
    if second is None:
        parts.append(MULTISTATUS_END)
        return Response(207, [XML_TYPE], body=_encoded(parts))
    return Response(
        207, [XML_TYPE], stream=_Pages(answer, info, parts, second, listing), stream_bytes=None
    )


def _found(exchange: Exchange, depth: str, *, dead: bool) -> tuple[NodeInfo, Listing | None]:
    """Return the node itself, and at Depth 1 what a folder holds."""
    if depth == "1":
        found = exchange.door.look(exchange.path, properties=dead)
        return (found, None) if isinstance(found, NodeInfo) else (found.folder, found)
    info = exchange.door.stat(exchange.path, properties=dead)
    if depth == "infinity" and info.is_folder:
        raise HttpError(
            403,
            "Folders are listed one level at a time: ask with Depth 0 or 1.",
            condition="propfind-finite-depth",
        )
    return info, None


def _without_bindings(text: str) -> str:
    """Return a property's element without what the document has bound already.

    Repeated with every file they would make a folder of 1,000 too long for Windows.
    """
    tag, end, rest = text.partition(">")
    return tag.replace(_DAV_BINDING, "").replace(_WIN32_BINDING, "") + end + rest


def _encoded(parts: Sequence[str]) -> bytes:
    return "".join(parts).encode("utf-8", "replace")


class _Pages:
    """The rest of a long listing as a stream; a page that fails cuts the answer short."""

    def __init__(
        self,
        answer: _Answer,
        folder: NodeInfo,
        begun: list[str],
        second: Sequence[Entry],
        listing: Listing,
    ) -> None:
        self._answer = answer
        self._folder = folder
        self._begun = begun
        self._second = second
        self._listing = listing

    def blocks(self) -> Iterator[bytes]:
        """Yield the document in pages."""
        yield _encoded(self._begun)
        page: Sequence[Entry] | None = self._second
        while page is not None:
            parts: list[str] = []
            self._answer.append_page(parts, self._folder, page)
            page = next(self._listing.pages, None)
            if page is None:
                parts.append(MULTISTATUS_END)
            yield _encoded(parts)

    def close(self, *, complete: bool) -> None:
        """Do nothing: a listing holds nothing open between its pages."""


class _Question(NamedTuple):
    """One property that was asked for by name: how it is rendered (None: dead), and its absence."""

    name: PropertyName
    render: Render | None
    absent: str


class _Answer:
    """Renders nodes for one request; what depends on the request alone is worked out once."""

    def __init__(self, wanted: Wanted, around: Surroundings) -> None:
        self._wanted = wanted
        self._around = around
        self._renders = ALLPROP if wanted.every else ()
        self._questions = tuple(
            _Question(name, LIVE.get(name), empty_element(name))
            for name in wanted.names
            if not (wanted.every and LIVE.get(name) in ALLPROP)
        )
        # Locks and space belong to paths, which the entries of a listing do not carry.
        self._needs_path = bool(around.locks) or any(name in _OF_A_PATH for name in wanted.names)

    def append_page(self, parts: list[str], folder: NodeInfo, page: Sequence[Entry]) -> None:
        """Append the responses for ``page`` of a listing of ``folder``."""
        base = urls.href(folder.path, folder=True)
        href_name = urls.href_name
        append = self._append_names if self._wanted.names_only else self._append_values
        for entry in page:
            end = "/" if entry.is_folder else ""
            parts.append(f"<D:response><D:href>{base}{href_name(entry.name)}{end}</D:href>")
            append(parts, entry.info(folder.path) if self._needs_path else entry)
            parts.append("</D:response>")

    def append(self, parts: list[str], href: str, info: NodeInfo) -> None:
        """Append the response for one node."""
        parts.append(f"<D:response><D:href>{href}</D:href>")
        if self._wanted.names_only:
            self._append_names(parts, info)
        else:
            self._append_values(parts, info)
        parts.append("</D:response>")

    def _append_names(self, parts: list[str], info: NodeInfo | Entry) -> None:
        around = self._around
        names = [name for name, render in LIVE.items() if render(info, around) is not None]
        parts.append("<D:propstat><D:prop>")
        parts.extend(empty_element(name) for name in (*names, *info.properties))
        parts.append(_FOUND)

    def _append_values(self, parts: list[str], info: NodeInfo | Entry) -> None:
        around, dead = self._around, info.properties
        missing: list[str] = []
        parts.append("<D:propstat><D:prop>")
        if self._wanted.every:
            for render in self._renders:
                text = render(info, around)
                if text is not None:
                    parts.append(text)
            parts.extend([_without_bindings(text) for text in dead.values()])
        for question in self._questions:
            if question.render is not None:
                text = question.render(info, around)
            elif self._wanted.every and question.name in dead:
                continue
            else:
                text = dead.get(question.name)
            if text is None:
                missing.append(question.absent)
            else:
                parts.append(text)
        parts.append(_FOUND)
        if missing:
            parts.append("<D:propstat><D:prop>")
            parts.extend(missing)
            parts.append(_MISSING)


class _UsageOnce:
    """Asks the door for each share's space at most once in a request."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[str, Usage | None] = {}

    def __call__(self, path: VirtualPath) -> Usage | None:
        if path.share not in self._known:
            try:
                usage = self._exchange.door.usage(path)
            except (NotFoundError, DeniedError):
                usage = None
            self._known[path.share] = usage
        return self._known[path.share]
