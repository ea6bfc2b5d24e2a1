"""What each parser of the WebDAV front end owes to any input, as functions over bytes.

A target raises AssertionError when its parser breaks a promise; whatever else it raises is a crash.
``test_parsers.py`` runs them in the tests, ``campaign.py`` for hours.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from gateway.errors import InvalidPathError
from gateway.model import Kind
from gateway.paths import DEPTH_LIMIT, NAME_LIMIT_BYTES, VirtualPath
from gateway.webdav import urls
from gateway.webdav.app import CREDENTIAL_LIMIT_CHARACTERS, parse_basic
from gateway.webdav.conditions import (
    Representation,
    Verdict,
    http_date,
    judge,
    parse_http_date,
    parse_preconditions,
)
from gateway.webdav.element import parse_element
from gateway.webdav.if_header import (
    CONDITION_LIMIT,
    RESOURCE_LIMIT,
    ConditionList,
    ResourceState,
    holds,
    parse_if,
    submitted_tokens,
)
from gateway.webdav.messages import HttpError, Response
from gateway.webdav.ranges import RANGE_LIMIT, parse_ranges
from gateway.webdav.xml_body import (
    ELEMENT_COUNT_LIMIT,
    ELEMENT_DEPTH_LIMIT,
    PROPERTY_COUNT_LIMIT,
    parse_propfind,
    parse_xml,
)
from tests.fuzz.framing import chunked_body, request_head, request_reader
from tests.fuzz.grammar import GRAMMARS, LOCKINFO, Grammar
from tests.webdav.support import Site, parsed

if TYPE_CHECKING:
    from collections.abc import Sequence

Target = Callable[[bytes], None]

CPU_LIMIT_S: Final = 0.5
"""What one input (at most 64 KiB of a header, 1 MiB of a body) may cost, on a busy machine too."""

_CONDITIONAL: Final = (
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
)
_NOW_S: Final = 1_800_000_000
_YEAR_10000_S: Final = 253_402_300_800
_ABSENT: Final = Representation(exists=False)
_PRESENT: Final = Representation(exists=True, etag='"v"', modified_s=_NOW_S)


def if_header(data: bytes) -> None:
    """An If header is refused, or its lists can be judged and are within the limits."""
    value = data.decode("latin-1")
    with contextlib.suppress(HttpError):
        lists = parse_if(value)
        assert lists
        assert sum(len(one.conditions) for one in lists) <= CONDITION_LIMIT
        assert len({one.url for one in lists}) <= RESOURCE_LIMIT
        assert len({bool(one.url) for one in lists}) == 1, "tagged and untagged lists mixed"
        tokens = submitted_tokens(lists)
        assert all(one.conditions for one in lists)
        assert all(f"<{token}>" in value for token in tokens)
        nothing, everything = ResourceState(frozenset(), ""), ResourceState(tokens, '"v"')
        assert holds(lists, lambda _: nothing) in {True, False}
        assert holds(lists, lambda _: everything) in {True, False}
        assert parse_if(written_if(lists)) == lists


def written_if(lists: Sequence[ConditionList]) -> str:
    """Return the lists as a header."""
    parts, url = [], ""
    for one in lists:
        if one.url != url:
            parts.append(f"<{one.url}>")
            url = one.url
        conditions = [
            ("Not " if each.negated else "")
            + (f"<{each.token}>" if each.token else f"[{each.etag} ]")
            for each in one.conditions
        ]
        parts.append(f"({' '.join(conditions)})")
    return " ".join(parts)


def range_header(data: bytes) -> None:
    """Ranges lie inside the file, do not overlap, and are together no more than all of it."""
    value = data.decode("latin-1").strip(" \t")
    for size in (0, 1, 10, 1024, 2**63):
        parts = parse_ranges(value, size)
        if parts is None:
            continue
        assert len(parts) <= RANGE_LIMIT
        end = -1
        for part in sorted(parts, key=lambda part: part.offset):
            assert part.size > 0
            assert end < part.offset, "two parts overlap or touch"
            end = part.offset + part.size
            assert end <= size
            assert part.content_range(size).endswith(f"-{end - 1}/{size}")


def preconditions(data: bytes) -> None:
    """Conditions are refused or judged, and a date that was read is written back the same."""
    value = data.decode("latin-1").strip(" \t")
    for name in _CONDITIONAL:
        with contextlib.suppress(HttpError):
            given = parse_preconditions({name: value}, _NOW_S)
            for current in (_ABSENT, _PRESENT):
                for method in ("GET", "PUT"):
                    assert isinstance(judge(given, current, method), Verdict)
    when = parse_http_date(value, _NOW_S)
    if when is not None and 0 <= when < _YEAR_10000_S:
        assert parse_http_date(http_date(when), _NOW_S) == when


def authorization(data: bytes) -> None:
    """Credentials are none, or a name and a secret that may go to a directory."""
    found = parse_basic(data.decode("latin-1").strip(" \t"))
    if found is not None:
        name, secret = found
        assert name
        assert ":" not in name
        assert max(len(name), len(secret)) <= CREDENTIAL_LIMIT_CHARACTERS
        assert not any(ord(character) < 32 or ord(character) == 127 for character in name + secret)


def destination(data: bytes) -> None:
    """A Destination is refused, or names a node of ours by a path that is written back the same."""
    value = data.decode("latin-1")
    with contextlib.suppress(HttpError, InvalidPathError):
        path = urls.destination(value, "localhost", "https://files.example.org")
        _check_path(path)
        for spelling in ("", "https://LOCALHOST", "http://files.example.org:80"):
            address = spelling + urls.href(path, folder=False)
            if len(address) <= urls.URL_LIMIT_BYTES:
                assert urls.destination(address, "localhost", "https://files.example.org") == path


def request_target(data: bytes) -> None:
    """A request target is refused, or names a node by a path that is written back the same."""
    with contextlib.suppress(HttpError, InvalidPathError):
        text, _query = urls.split_target(data.decode("latin-1"))
        path = urls.decode_path(text)
        _check_path(path)
        for folder in (False, True):
            assert urls.decode_path(urls.href(path, folder=folder)) == path


def _check_path(path: VirtualPath) -> None:
    assert len(path.parts) <= DEPTH_LIMIT
    for part in path.parts:
        assert part not in {"", ".", ".."}
        assert not set(part) & {"/", "\\", "\0"}
        assert len(part.encode("utf-8")) <= NAME_LIMIT_BYTES
    assert VirtualPath.parse(str(path)) == path


def depth(data: bytes) -> None:
    """A Depth is understood or a 400; no spelling of it lists more than a level."""
    value = data.decode("latin-1").strip(" \t")
    site = _site()
    answer = site.ask("PROPFIND", "/share", depth=value)
    assert answer.status == {"0": 207, "1": 207, "infinity": 403}.get(value.lower(), 400)
    deleted = site.ask("DELETE", "/share/folder", depth=value)
    assert deleted.status == (204 if value.lower() == "infinity" else 400)


def timeout(data: bytes) -> None:
    """Whatever Timeout says, a lock is taken for a time that is within the limits."""
    site = _site()
    answer = site.ask("LOCK", "/share/file", LOCKINFO, timeout=data.decode("latin-1"))
    assert answer.status == 200
    (lock,) = site.monitor.held
    assert 0 < lock.timeout_s <= 2**32 - 1


def xml(data: bytes) -> None:
    """A body is refused or a small tree, and both parsers that read it see the same tree."""
    try:
        root = parse_xml(data)
    except HttpError:
        return
    assert sum(1 for _ in root.iter()) <= ELEMENT_COUNT_LIMIT
    with contextlib.suppress(HttpError):
        assert _shape(parse_element(data)) == _shape(root)
    with contextlib.suppress(HttpError):
        assert len(parse_propfind(data).names) <= PROPERTY_COUNT_LIMIT


def _shape(root: Element, level: int = 1) -> list[object]:
    """Return names, attributes and text of a tree, of either library."""
    assert level <= ELEMENT_DEPTH_LIMIT
    attributes = sorted((str(name), str(value)) for name, value in root.attrib.items())
    children = [_shape(child, level + 1) for child in root]
    return [str(root.tag), attributes, root.text or "", root.tail or "", children]


def xml_methods(data: bytes) -> None:
    """PROPFIND, PROPPATCH and LOCK answer any body, and their answers are XML."""
    site = _site()
    for method, statuses in (
        ("PROPFIND", {207, 400, 413}),
        ("PROPPATCH", {207, 400, 403, 413, 415}),
        ("LOCK", {200, 400, 413}),
    ):
        answer = site.ask(method, "/share/file", data, depth="0")
        assert answer.status in statuses, (method, answer.status)
        if answer.status == 207:
            _check_xml(answer)
    _check_xml(site.ask("PROPFIND", "/share", depth="1"))


def _check_xml(answer: Response) -> None:
    parsed(answer)
    assert b"<!DOCTYPE" not in answer.body


def _site() -> Site:
    site = Site()
    site.monitor.make(VirtualPath.parse("/share/file"), Kind.FILE, b"content")
    site.monitor.make(VirtualPath.parse("/share/folder"), Kind.FOLDER)
    return site


@dataclass(frozen=True, slots=True)
class Parser:
    """One target, and what its inputs are made of."""

    check: Target
    grammar: Grammar

    def __call__(self, data: bytes) -> None:
        """Run the target; AssertionError too when it takes longer than CPU_LIMIT_S."""
        began = time.thread_time()
        self.check(data)
        took_s = time.thread_time() - began
        assert took_s < CPU_LIMIT_S, f"{took_s:.2f} s of processor time"


PARSERS: Final[Mapping[str, Parser]] = {
    target.__name__: Parser(target, GRAMMARS[target.__name__])
    for target in (
        request_head,
        request_reader,
        chunked_body,
        if_header,
        range_header,
        preconditions,
        authorization,
        destination,
        request_target,
        depth,
        timeout,
        xml,
        xml_methods,
    )
}
"""Every target by its name, which is that of its folder of seeds."""
