"""HTTP preconditions, evaluated in one place for every method (RFC 9110 section 13).

Pure functions over header values. Imports only ``messages``.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from gateway.webdav.messages import HttpError

_ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS: Final = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
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
# The three forms of RFC 9110 section 5.6.7, which all recipients must read.
_DAY: Final = "|".join(_DAYS)
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_IMF_FIXDATE: Final = rf"(?:{_DAY}), (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT"
_RFC850_DATE: Final = rf"(?:{_LONG_DAYS}), (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT"
_ASCTIME_DATE: Final = rf"(?:{_DAY}) {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})"
_DATES: Final = tuple(
    re.compile(form, re.ASCII) for form in (_IMF_FIXDATE, _RFC850_DATE, _ASCTIME_DATE)
)
_HEADERS: Final = frozenset(
    {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)
_READING: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Representation:
    """What conditions are compared with. A folder has no ``etag``; a missing node ``exists`` not.

    ``etag`` is quoted; ``modified_s`` whole seconds since 1970 UTC, as in Last-Modified.
    """

    exists: bool
    etag: str = ""
    modified_s: int | None = None


class Verdict(enum.Enum):
    """What the conditions call for."""

    PROCEED = "proceed"
    """Do as if there were none."""
    WHOLE = "whole"
    """Proceed, but ignore the Range: the client's part belongs to another representation."""
    NOT_MODIFIED = "304"
    FAILED = "412"


@dataclass(frozen=True, slots=True)
class EntityTags:
    """The value of If-Match or If-None-Match: ``every`` stands for ``*``."""

    every: bool
    tags: frozenset[str] = frozenset()

    def match_strongly(self, current: Representation) -> bool:
        """Return whether one is ``current``'s, by the strong comparison (section 8.8.3.2)."""
        if self.every:
            return current.exists
        return bool(current.etag) and current.etag in self.tags

    def match_weakly(self, current: Representation) -> bool:
        """Return whether one is ``current``'s, by the weak comparison; its own tag is strong."""
        return self.match_strongly(current) or (
            bool(current.etag) and f"W/{current.etag}" in self.tags
        )


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The conditional headers of one request; None where there is none, or one to be ignored.

    Dates are seconds since 1970 UTC. ``if_range`` is the header as sent.
    """

    match: EntityTags | None = None
    none_match: EntityTags | None = None
    modified_since_s: int | None = None
    unmodified_since_s: int | None = None
    if_range: str | None = None

    @property
    def given(self) -> bool:
        """Whether anything but the Range depends on them."""
        return not (
            self.match is None
            and self.none_match is None
            and self.modified_since_s is None
            and self.unmodified_since_s is None
        )


NO_PRECONDITIONS: Final = Preconditions()


def parse_preconditions(headers: Mapping[str, str], now_s: int) -> Preconditions:
    """Return the conditions in ``headers``; a date that is none is ignored (sections 13.1.3, .4).

    Raises HttpError 400 for a list of entity tags that cannot be read: it must not be taken to
    hold.
    """
    if _HEADERS.isdisjoint(headers):
        return NO_PRECONDITIONS
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    return Preconditions(
        match=None if match is None else parse_entity_tags(match),
        none_match=None if none_match is None else parse_entity_tags(none_match),
        modified_since_s=parse_http_date(headers.get("if-modified-since", ""), now_s),
        unmodified_since_s=parse_http_date(headers.get("if-unmodified-since", ""), now_s),
        if_range=headers.get("if-range"),
    )


def judge(given: Preconditions, current: Representation, method: str) -> Verdict:
    """Return what ``method`` is to do with ``current``, in the order of RFC 9110 section 13.2.2."""
    reading = method in _READING
    if given.match is not None:
        if not given.match.match_strongly(current):
            return Verdict.FAILED
    elif _changed_after(current, given.unmodified_since_s) is True:
        return Verdict.FAILED
    if given.none_match is not None:
        if given.none_match.match_weakly(current):
            return Verdict.NOT_MODIFIED if reading else Verdict.FAILED
    elif reading and _changed_after(current, given.modified_since_s) is False:
        return Verdict.NOT_MODIFIED
    if method == "GET" and given.if_range is not None and not _same(given.if_range, current):
        return Verdict.WHOLE
    return Verdict.PROCEED


def etag_of(version_id: str) -> str:
    """Return the strong entity tag of a version; empty for what has none (folders)."""
    return f'"{version_id}"' if version_id else ""


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """Return the IMF-fixdate of ``seconds`` since 1970 UTC (RFC 9110 section 5.6.7)."""
    moment = time.gmtime(seconds)
    return (
        f"{_DAYS[moment.tm_wday]}, {moment.tm_mday:02d} {_MONTHS[moment.tm_mon - 1]} "
        f"{moment.tm_year:04d} {moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} GMT"
    )


def parse_http_date(text: str, now_s: int | None = None) -> int | None:
    """Return seconds since 1970 UTC for any of the three HTTP date forms, None for no date.

    A year of two digits is the latest that is not more than 50 years after ``now_s``; without
    that, such a date is none.
    """
    match = next((found for form in _DATES if (found := form.fullmatch(text))), None)
    if match is None:
        return None
    year, second = int(match["year"]), int(match["second"])
    fields = (
        _MONTHS.index(match["month"]) + 1,
        int(match["day"]),
        int(match["hour"]),
        int(match["minute"]),
    )
    if len(match["year"]) == 2:
        if now_s is None:
            return None
        now = time.gmtime(now_s)
        latest = (now.tm_year + 50, *now[1:6])
        year += latest[0] - latest[0] % 100
        if (year, *fields, second) > latest:
            year -= 100
    try:
        # A leap second, which the grammar allows, is the second after the one before it.
        moment = datetime(year, *fields, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return None if second > 60 else int(moment.timestamp()) + second // 60


def parse_entity_tags(value: str) -> EntityTags:
    """Return the entity tags of an If-Match or If-None-Match list.

    Raises HttpError 400 when it is no list of entity tags. Runs in linear time.
    """
    if value == "*":
        return EntityTags(every=True)
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
    return EntityTags(every=False, tags=frozenset(tags))


def _changed_after(current: Representation, since_s: int | None) -> bool | None:
    """Return whether ``current`` changed after that time; None when one of the two is unknown."""
    if since_s is None or current.modified_s is None:
        return None
    return current.modified_s > since_s


def _same(if_range: str, current: Representation) -> bool:
    # A date is a strong validator only if nothing else can have happened within its second,
    # which the server does not know: two writes within a second differ in the tag alone, and a
    # client may set the time of a file (section 8.8.2.2). So none is ever the same.
    return bool(current.etag) and if_range == current.etag
