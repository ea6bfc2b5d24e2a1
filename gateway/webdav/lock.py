"""LOCK and UNLOCK: the body taken apart, one operation of the door, its answer put into words.

What a lock forbids, how long it lives and whose it is, the door decides. Imports the errors of
storage, the shared model and the pure modules of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from backends.errors import NotFoundError
from gateway.errors import LockConflictError, LockTokenError
from gateway.model import LockInfo
from gateway.webdav.element import parse_element, serialised
from gateway.webdav.exchange import Exchange, allow
from gateway.webdav.messages import HttpError, Response
from gateway.webdav.multistatus import member_locked
from gateway.webdav.properties import lock_discovery
from gateway.webdav.settings import XML_BODY_LIMIT_BYTES

INFINITE_S: Final = 2**32 - 1
"""What ``Timeout: Infinite`` asks for: the most that the header can."""

_CONDITION: Final = "lock-token-matches-request-uri"
_XML_TYPE: Final = ("Content-Type", "application/xml; charset=utf-8")
_DEPTHS: Final = frozenset({"0", "infinity"})
_DIGITS: Final = 10
"""How many digits INFINITE_S has."""


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What a lockinfo element asks for; ``owner`` is its owner element as XML, or empty."""

    exclusive: bool
    owner: str


def lock(exchange: Exchange) -> Response:
    """Lock what the address names, 201 when an empty file was made for it; or refresh a lock.

    207 when a lock below the address conflicts. Raises HttpError 400, 405, 412 or 413, and what
    the door raises; nothing is then made.
    """
    body = exchange.request.body.read_all(XML_BODY_LIMIT_BYTES)
    if not body:
        return _refresh(exchange)
    wanted = parse_lockinfo(body)
    depth = exchange.depth("infinity", _DEPTHS)
    timeout_s = wanted_timeout_s(exchange.header("timeout"))
    folder = _is_folder(exchange)
    if folder is None and exchange.folder_named:
        message = "A file's address does not end with a slash."
        raise HttpError(405, message, headers=(allow(without=("PUT", "LOCK")),))
    try:
        taken, created = exchange.door.lock(
            exchange.path,
            exclusive=wanted.exclusive,
            depth_infinity=depth == "infinity",
            owner=wanted.owner,
            timeout_s=exchange.settings.lock_timeout_default_s if timeout_s is None else timeout_s,
        )
    except LockConflictError as error:
        return member_locked(error, exchange.path, dependent=True)
    # An exclusive lock is alone on what it covers.
    present = [taken] if taken.exclusive else exchange.door.locks(exchange.path)
    token = ("Lock-Token", f"<{taken.token}>")
    return _told(exchange, present, 201 if created else 200, token, folder=bool(folder))


def unlock(exchange: Exchange) -> Response:
    """Give a lock back: 204. Raises HttpError 400, 409 or 415, and what the door raises."""
    exchange.refuse_body()
    # Windows leaves the brackets out.
    token = exchange.header("lock-token").removeprefix("<").removesuffix(">")
    if not token:
        raise HttpError(400, "The Lock-Token header is missing.")
    try:
        exchange.door.unlock(exchange.path, token)
    except LockTokenError as error:
        raise HttpError(409, str(error), condition=_CONDITION) from error
    return Response(204)


def parse_lockinfo(body: bytes) -> LockRequest:
    """Return what a LOCK body asks for (RFC 4918 section 14.11); unknown elements say nothing.

    Raises HttpError 400 for anything but one scope of a write lock.
    """
    root = parse_element(body)
    if root.tag != "{DAV:}lockinfo":
        raise HttpError(400, "The body of a LOCK is not a lockinfo element.")
    scopes = {child.tag for child in root.iterfind("{DAV:}lockscope/*")}
    scopes &= {"{DAV:}exclusive", "{DAV:}shared"}
    if len(scopes) != 1:
        raise HttpError(400, "A lockinfo names one scope, exclusive or shared.")
    if root.find("{DAV:}locktype/{DAV:}write") is None:
        raise HttpError(400, "There are only locks of type write here.")
    owner = root.find("{DAV:}owner")
    # Nothing in it is as good as none: the answer then names the principal.
    said = owner is not None and "".join(owner.itertext()).strip()
    return LockRequest(scopes == {"{DAV:}exclusive"}, serialised(owner) if said else "")


def wanted_timeout_s(value: str) -> int | None:
    """Return the first time in a Timeout header that means anything, in seconds; None for none.

    RFC 4918 section 10.7. Nobody is held to it: the door grants as much as policy lets it.
    """
    for part in value.split(","):
        choice = part.strip(" \t")
        if choice.lower() == "infinite":
            return INFINITE_S
        unit, _, digits = choice.partition("-")
        # No pattern: one that skips leading zeros takes minutes over sixty thousand of them.
        if unit.lower() == "second" and digits.isascii() and digits.isdigit():
            number = digits.lstrip("0")
            if number:
                return INFINITE_S if len(number) > _DIGITS else min(int(number), INFINITE_S)
    return None


def _refresh(exchange: Exchange) -> Response:
    """Start the time of the one lock anew whose token the If header submits."""
    if "if" not in exchange.request.headers:
        raise HttpError(400, "A LOCK without a body must name the lock to refresh in If.")
    timeout_s = wanted_timeout_s(exchange.header("timeout"))
    present = exchange.door.locks(exchange.path)
    own = [held for held in present if held.token and held.token in exchange.tokens]
    if len(own) > 1:
        raise HttpError(400, "Locks are refreshed one at a time.")
    if not own:
        message = "The If header names no lock of yours here; it may have run out."
        raise HttpError(412, message, condition=_CONDITION)
    old = own[0]
    try:
        new = exchange.door.refresh_lock(
            exchange.path, old.token, timeout_s=old.timeout_s if timeout_s is None else timeout_s
        )
    except LockTokenError as error:
        raise HttpError(412, str(error), condition=_CONDITION) from error
    now = [new if held.token == new.token else held for held in present]
    return _told(exchange, now, 200, folder=bool(_is_folder(exchange)))


def _told(
    exchange: Exchange,
    locks: Sequence[LockInfo],
    status: int,
    *headers: tuple[str, str],
    folder: bool,
) -> Response:
    text = lock_discovery(locks, path=exchange.path, folder=folder, now_us=exchange.clock())
    body = f'<?xml version="1.0" encoding="utf-8"?><D:prop xmlns:D="DAV:">{text}</D:prop>'
    return Response(status, [_XML_TYPE, *headers], body=body.encode("utf-8", "replace"))


def _is_folder(exchange: Exchange) -> bool | None:
    """Return whether the address is a folder's; None when there is nothing."""
    try:
        return exchange.door.stat(exchange.path).is_folder
    except NotFoundError:
        return None
