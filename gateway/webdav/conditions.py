"""HTTP preconditions, evaluated in one place for every method (RFC 9110 section 13).

Pure functions over header values. Imports only ``messages``.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.webdav.messages import HttpError

CONDITIONAL_HEADERS: Final = (
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
)

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
# RFC 9110 section 5.6.7; parsedate alone would also take many things that are no HTTP dates.
_DATE_SHAPE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
    r"(?:, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    r"|[a-z]*day, \d\d-[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d GMT"
    r"| [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4})"
)


@dataclass(frozen=True, slots=True)
class Representation:
    """What conditions are compared with. A folder has no ``etag``; a missing node ``exists`` not.

    ``etag`` is quoted; ``modified_s`` whole seconds since 1970 UTC, as in Last-Modified.
    """

    exists: bool
    etag: str = ""
    modified_s: int | None = None


def etag_of(version_id: str) -> str:
    """Return the strong entity tag of a version; empty for what has none (folders)."""
    return f'"{version_id}"' if version_id else ""


def http_date(seconds: int) -> str:
    """Return the IMF-fixdate of ``seconds`` since 1970 UTC (RFC 9110 section 5.6.7)."""
    moment = time.gmtime(seconds)
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02d} {_MONTHS[moment.tm_mon - 1]} "
        f"{moment.tm_year} {moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} GMT"
    )


def parse_http_date(text: str) -> int | None:
    """Return seconds since 1970 UTC for any of the three HTTP date forms, None for no date."""
    if not _DATE_SHAPE.fullmatch(text):
        return None
    parsed = email.utils.parsedate_tz(text)
    if parsed is None:
        return None
    try:
        return email.utils.mktime_tz((*parsed[:9], 0))
    except (ValueError, OverflowError):
        return None


def parse_entity_tags(value: str) -> list[str] | None:
    """Return the entity tags of an If-Match or If-None-Match list; None for ``*``.

    Raises HttpError 400 when it is neither. Runs in linear time.
    """
    if value.strip() == "*":
        return None
    tags: list[str] = []
    position, separated = 0, True
    while position < len(value):
        if value[position] in " \t,":
            separated = separated or value[position] == ","
            position += 1
            continue
        match = _ENTITY_TAG.match(value, position)
        if match is None or not separated:
            raise HttpError(400, "A list of entity tags is malformed.")
        tags.append(match[0])
        position, separated = match.end(), False
    return tags


def evaluate(headers: Mapping[str, str], current: Representation, *, safe: bool) -> int | None:
    """Return the status that the conditions call for: 304, 412, or None to go on.

    ``safe``: the method is GET or HEAD. The order is that of RFC 9110 section 13.2.2.
    """
    status: int | None = None
    match = headers.get("if-match")
    if match is not None:
        if not _strong_match(match, current):
            return 412
    else:
        since = _date(headers, "if-unmodified-since", current)
        if since is not None and (current.modified_s or 0) > since:
            return 412
    none_match = headers.get("if-none-match")
    if none_match is not None:
        if _weak_match(none_match, current):
            status = 304 if safe else 412
    elif safe:
        since = _date(headers, "if-modified-since", current)
        if since is not None and (current.modified_s or 0) <= since:
            status = 304
    return status


def range_still_applies(headers: Mapping[str, str], current: Representation) -> bool:
    """Return whether a Range header is to be honoured under If-Range (section 13.1.5)."""
    value = headers.get("if-range")
    if value is None:
        return True
    if value.startswith(('"', "W/")):
        return bool(current.etag) and value == current.etag
    # A date is a strong validator only if nothing else can have happened within its second,
    # which the server does not know: two writes within a second differ in the tag alone.
    return False


def _strong_match(value: str, current: Representation) -> bool:
    tags = parse_entity_tags(value)
    if tags is None:
        return current.exists
    return current.exists and bool(current.etag) and current.etag in tags


def _weak_match(value: str, current: Representation) -> bool:
    tags = parse_entity_tags(value)
    if tags is None:
        return current.exists
    return bool(current.etag) and any(tag.removeprefix("W/") == current.etag for tag in tags)


def _date(headers: Mapping[str, str], name: str, current: Representation) -> int | None:
    value = headers.get(name)
    if value is None or not current.exists or current.modified_s is None:
        return None
    return parse_http_date(value)
