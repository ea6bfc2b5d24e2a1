"""One authenticated request with its door: what every handler is given, and shared header work.

Decides nothing about rights; says what a request's conditions are, which the door has judged in
the transaction of a change. Imports the door's types and the pure modules of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from backends.errors import ConflictError, NotFoundError
from gateway.errors import DeniedError
from gateway.model import Clock, Condition, Look, NodeInfo, Seen
from gateway.paths import VirtualPath
from gateway.webdav import if_header, urls
from gateway.webdav.conditions import (
    NO_PRECONDITIONS,
    Preconditions,
    Representation,
    Verdict,
    etag_of,
    judge,
    parse_preconditions,
)
from gateway.webdav.messages import HttpError, Request
from gateway.webdav.settings import WebdavSettings

if TYPE_CHECKING:
    from gateway.monitor import Door

SECOND_US = 1_000_000
METHODS: Final = (
    "OPTIONS",
    "GET",
    "HEAD",
    "PUT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "DELETE",
    "LOCK",
    "UNLOCK",
)

_ABSENT: Final = Representation(exists=False)
# What changes nothing passes no transaction that could judge its conditions.
_READING: Final = frozenset({"GET", "HEAD", "PROPFIND"})
_FAILED: Final = "A precondition of the request does not hold."
_IF_FAILED: Final = "No list of conditions in the If header holds."


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
    preconditions: Preconditions = NO_PRECONDITIONS

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

    def judge(self, info: NodeInfo | None) -> Verdict:
        """Return what the RFC 9110 preconditions call for with ``info`` (None: nothing there).

        Raises HttpError 412 instead of returning FAILED.
        """
        verdict = judge(self.preconditions, representation(info), self.request.method)
        if verdict is Verdict.FAILED:
            raise HttpError(412, _FAILED)
        return verdict

    def refuse_body(self) -> None:
        """Raise HttpError 415 when the request has a body (RFC 4918 section 8.4)."""
        refuse_body(self.request)


def refuse_body(request: Request) -> None:
    """Raise HttpError 415 when the request has a body (RFC 4918 section 8.4)."""
    body = request.body
    # Chunked coding of nothing at all is no body.
    if body.length == 0 or (body.length is None and not body.read_into(memoryview(bytearray(1)))):
        return
    raise HttpError(415, f"{request.method} takes no body.")


def allow(*, without: Sequence[str] = ()) -> tuple[str, str]:
    """Return the Allow header that belongs to a 405 (RFC 9110 section 15.5.6)."""
    return "Allow", ", ".join(method for method in METHODS if method not in without)


def with_conditions(exchange: Exchange) -> Exchange:
    """Return the exchange with its conditions and a door that carries its lock tokens.

    Whatever changes anything through that door fails with ConflictError unless the If header and
    the preconditions of RFC 9110 hold in the transaction of the change. For a method that changes
    nothing the If header is evaluated here; the rest is the handler's, which asks ``judge``.

    The Lock-Token header, which UNLOCK names its lock by, submits nothing (RFC 4918 section
    10.5). Raises HttpError 400 for malformed conditions, 412 when no list of the If header holds.
    """
    headers = exchange.request.headers
    given = parse_preconditions(headers, exchange.clock() // SECOND_US)
    lists = if_header.parse_if(headers["if"]) if "if" in headers else []
    if given == NO_PRECONDITIONS and not lists:
        return exchange
    tokens = if_header.submitted_tokens(lists)
    exchange = replace(exchange, preconditions=given, tokens=tokens)
    if exchange.request.method in _READING:
        look = _look_through(exchange.door)
        if lists and not if_header.holds(lists, lambda url: _state(exchange, look, url)):
            raise HttpError(412, _IF_FAILED)
        return exchange
    condition = _condition(exchange, lists)
    return replace(exchange, door=exchange.door.with_tokens(tokens, condition))


def representation(info: NodeInfo | None) -> Representation:
    """Return what conditions are compared with."""
    if info is None:
        return _ABSENT
    return Representation(
        exists=True,
        etag=etag_of(info.version_id),
        modified_s=None if info.is_folder else info.modified_us // SECOND_US,
    )


def _condition(exchange: Exchange, lists: list[if_header.ConditionList]) -> Condition:
    given, method = exchange.preconditions, exchange.request.method

    def condition(look: Look) -> None:
        if lists and not if_header.holds(lists, lambda url: _state(exchange, look, url)):
            raise ConflictError(_IF_FAILED)
        if given.given:
            current = representation(look(exchange.path).info)
            if judge(given, current, method) is Verdict.FAILED:
                raise ConflictError(_FAILED)

    return condition


def _state(exchange: Exchange, look: Look, url: str) -> if_header.ResourceState:
    path: VirtualPath | None = exchange.path
    if url:
        path = urls.path_of_url(url, exchange.header("host"), exchange.settings.public_url)
    if path is None:
        return if_header.ResourceState(frozenset(), "")
    seen = look(path)
    etag = "" if seen.info is None else etag_of(seen.info.version_id)
    return if_header.ResourceState(seen.tokens, etag)


def _look_through(door: Door) -> Look:
    """Return a look at the tree from outside any transaction."""

    def look(path: VirtualPath) -> Seen:
        try:
            info = door.stat(path)
            held = door.locks(path)
        except (NotFoundError, DeniedError):
            return Seen(None)
        return Seen(info, frozenset(lock.token for lock in held if lock.token))

    return look
