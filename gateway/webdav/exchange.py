"""One authenticated request with its door: what every handler is given, and shared header work.

Decides nothing about rights; evaluates preconditions against what the door tells. Imports the
door's types and the pure modules of this package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backends.errors import NotFoundError
from gateway.model import Clock, NodeInfo
from gateway.paths import VirtualPath
from gateway.webdav import if_header, urls
from gateway.webdav.conditions import (
    CONDITIONAL_HEADERS,
    Representation,
    etag_of,
    evaluate,
)
from gateway.webdav.messages import HttpError, Request
from gateway.webdav.settings import WebdavSettings

if TYPE_CHECKING:
    from gateway.monitor import Door

SECOND_US = 1_000_000
_ABSENT = Representation(exists=False)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, the virtual path it names, and the door that carries its lock tokens."""

    request: Request
    path: VirtualPath
    folder_named: bool
    door: Door
    settings: WebdavSettings
    clock: Clock
    tokens: frozenset[str] = frozenset()

    @property
    def conditional(self) -> bool:
        """Whether the request carries any precondition of RFC 9110."""
        headers = self.request.headers
        return any(name in headers for name in CONDITIONAL_HEADERS)

    def header(self, name: str, default: str = "") -> str:
        """Return a header's value; ``name`` in lower case."""
        return self.request.headers.get(name, default)

    def depth(self, default: str, allowed: frozenset[str]) -> str:
        """Return the Depth header in lower case; raises HttpError 400 when not ``allowed``."""
        depth = self.header("depth", default).lower()
        if depth not in allowed:
            raise HttpError(400, f"Depth must be one of: {', '.join(sorted(allowed))}.")
        return depth

    def destination(self) -> VirtualPath:
        """Return the path in the Destination header; raises as ``urls.destination``, 400 without."""
        value = self.request.headers.get("destination")
        if value is None:
            raise HttpError(400, "The Destination header is missing.")
        return urls.destination(value, self.header("host"), self.settings.public_url)

    def overwrite(self) -> bool:
        """Return whether an existing target may be replaced (RFC 4918 section 10.6)."""
        value = self.header("overwrite", "T").upper()
        if value not in {"T", "F"}:
            raise HttpError(400, "The Overwrite header is neither T nor F.")
        return value == "T"

    def stat_or_none(self) -> NodeInfo | None:
        """Return what the path is, None when there is nothing."""
        try:
            info: NodeInfo = self.door.stat(self.path)
        except NotFoundError:
            return None
        return info

    def check_preconditions(self, info: NodeInfo | None, *, safe: bool) -> int | None:
        """Evaluate the RFC 9110 preconditions against ``info`` (None: nothing there).

        Returns 304 when a safe method is to be answered so, else None; raises HttpError 412.
        """
        status = evaluate(self.request.headers, representation(info), safe=safe)
        if status == 412:
            raise HttpError(412, "A precondition of the request does not hold.")
        return status


def with_if_header(exchange: Exchange) -> Exchange:
    """Evaluate the If header; return the exchange with a door that carries its lock tokens.

    The Lock-Token header, which UNLOCK names its lock by, submits nothing (RFC 4918 section
    10.5). Raises HttpError 400 for a malformed header, 412 when no list of it holds.
    """
    value = exchange.request.headers.get("if")
    if value is None:
        return exchange
    lists = if_header.parse_if(value)
    tokens = if_header.submitted_tokens(lists)
    if not if_header.holds(lists, lambda url: _state(exchange, url)):
        raise HttpError(412, "No list of conditions in the If header holds.")
    return replace(exchange, door=exchange.door.with_tokens(tokens), tokens=tokens)


def representation(info: NodeInfo | None) -> Representation:
    """Return what conditions are compared with."""
    if info is None:
        return _ABSENT
    return Representation(
        exists=True,
        etag=etag_of(info.version_id),
        modified_s=None if info.is_folder else info.modified_us // SECOND_US,
    )


def _state(exchange: Exchange, url: str) -> if_header.ResourceState:
    path: VirtualPath | None = exchange.path
    if url:
        path = urls.path_of_url(url, exchange.header("host"), exchange.settings.public_url)
    if path is None:
        return if_header.ResourceState(frozenset(), "")
    try:
        etag = etag_of(exchange.door.stat(path).version_id)
    except NotFoundError:
        etag = ""
    held = frozenset(lock.token for lock in exchange.door.locks(path) if lock.token)
    return if_header.ResourceState(held, etag)
