"""The If header of WebDAV (RFC 4918 section 10.4): parsed in linear time, evaluated in full.

Pure: what a resource is in, is asked through a callback. Imports only ``messages``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.webdav.messages import HttpError

CONDITION_LIMIT: Final = 1000
"""How many conditions one header may hold."""

RESOURCE_LIMIT: Final = 100
"""How many resources one header may name: each of them costs a look-up."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One test: that the resource has (``negated``: has not) a state token or an entity tag."""

    negated: bool
    token: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class ConditionList:
    """Conditions that must all hold. ``url`` is the resource tag, empty for the request's own."""

    url: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class ResourceState:
    """What a resource is in now: its tokens (of locks that the asker owns) and its quoted tag."""

    tokens: frozenset[str]
    etag: str


def parse_if(value: str) -> list[ConditionList]:
    """Return the lists of an If header; one of them must hold.

    Every character is looked at once, so a hostile header costs no more than its length.
    Raises HttpError 400 when it does not follow the grammar, or is beyond the limits.
    """
    lists: list[ConditionList] = []
    urls: set[str] = set()
    url, position, count = "", 0, 0
    while True:
        position = _skip_blanks(value, position)
        if position == len(value):
            break
        if value[position] == "<":
            if lists and not lists[-1].url:
                raise _malformed()
            if url and (not lists or lists[-1].url != url):
                raise _malformed()
            url, position = _until(value, position + 1, ">")
            urls.add(url)
            if not url or len(urls) > RESOURCE_LIMIT:
                raise _malformed()
        elif value[position] == "(":
            conditions, position = _conditions(value, position + 1, CONDITION_LIMIT - count)
            count += len(conditions)
            lists.append(ConditionList(url, tuple(conditions)))
        else:
            raise _malformed()
    if not lists or (url and lists[-1].url != url):
        raise _malformed()
    return lists


def submitted_tokens(lists: list[ConditionList]) -> frozenset[str]:
    """Return every state token that the header submits (section 10.4.1)."""
    return frozenset(
        condition.token for one in lists for condition in one.conditions if condition.token
    )


def holds(lists: list[ConditionList], state_of: Callable[[str], ResourceState]) -> bool:
    """Return whether any list holds; ``state_of`` is asked once for each URL (empty: own)."""
    states: dict[str, ResourceState] = {}
    for one in lists:
        if one.url not in states:
            states[one.url] = state_of(one.url)
        state = states[one.url]
        if all(_holds(condition, state) for condition in one.conditions):
            return True
    return False


def _holds(condition: Condition, state: ResourceState) -> bool:
    if condition.token:
        found = condition.token in state.tokens
    else:
        found = bool(state.etag) and condition.etag == state.etag
    return found is not condition.negated


def _conditions(value: str, position: int, limit: int) -> tuple[list[Condition], int]:
    """Return the conditions of a list that began before ``position``, and where it ended."""
    conditions: list[Condition] = []
    negated = False
    while True:
        position = _skip_blanks(value, position)
        if position == len(value) or len(conditions) > limit:
            raise _malformed()
        character = value[position]
        if character == ")":
            if not conditions or negated:
                raise _malformed()
            return conditions, position + 1
        if value[position : position + 3].lower() == "not" and not negated:
            negated, position = True, position + 3
        elif character == "<":
            token, position = _until(value, position + 1, ">")
            if not token:
                raise _malformed()
            conditions.append(Condition(negated, token=token))
            negated = False
        elif character == "[":
            tag, position = _until(value, position + 1, "]")
            if not tag:
                raise _malformed()
            conditions.append(Condition(negated, etag=tag.strip(" \t")))
            negated = False
        else:
            raise _malformed()


def _skip_blanks(value: str, position: int) -> int:
    while position < len(value) and value[position] in " \t":
        position += 1
    return position


def _until(value: str, position: int, end: str) -> tuple[str, int]:
    """Return the text up to ``end`` and the position behind it."""
    stop = value.find(end, position)
    if stop < 0:
        raise _malformed()
    text = value[position:stop]
    if "<" in text:
        raise _malformed()
    return text, stop + 1


def _malformed() -> HttpError:
    return HttpError(400, "The If header is malformed.")
