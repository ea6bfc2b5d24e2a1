"""Preconditions and ranges of RFC 9110."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webdav.conditions import (
    Representation,
    evaluate,
    http_date,
    parse_entity_tags,
    parse_http_date,
    range_still_applies,
)
from gateway.webdav.messages import HttpError
from gateway.webdav.ranges import ByteRange, parse_range

NOW_S = 1_700_000_000
HERE = Representation(exists=True, etag='"v1"', modified_s=NOW_S)
FOLDER = Representation(exists=True)
ABSENT = Representation(exists=False)


@pytest.mark.parametrize(
    ("headers", "current", "safe", "unsafe"),
    [
        ({"if-match": '"v1"'}, HERE, None, None),
        ({"if-match": '"v0", "v1"'}, HERE, None, None),
        ({"if-match": '"v0"'}, HERE, 412, 412),
        ({"if-match": 'W/"v1"'}, HERE, 412, 412),
        ({"if-match": "*"}, HERE, None, None),
        ({"if-match": "*"}, ABSENT, 412, 412),
        ({"if-match": "*"}, FOLDER, None, None),
        ({"if-none-match": '"v1"'}, HERE, 304, 412),
        ({"if-none-match": 'W/"v1"'}, HERE, 304, 412),
        ({"if-none-match": '"v0"'}, HERE, None, None),
        ({"if-none-match": "*"}, HERE, 304, 412),
        ({"if-none-match": "*"}, ABSENT, None, None),
        ({"if-modified-since": http_date(NOW_S)}, HERE, 304, None),
        ({"if-modified-since": http_date(NOW_S - 1)}, HERE, None, None),
        ({"if-modified-since": "yesterday"}, HERE, None, None),
        ({"if-unmodified-since": http_date(NOW_S)}, HERE, None, None),
        ({"if-unmodified-since": http_date(NOW_S - 1)}, HERE, 412, 412),
        (
            {"if-none-match": '"v0"', "if-modified-since": http_date(NOW_S)},
            HERE,
            None,
            None,
        ),
        (
            {"if-match": '"v1"', "if-unmodified-since": http_date(NOW_S - 9)},
            HERE,
            None,
            None,
        ),
    ],
)
def test_conditions_in_the_order_of_the_standard(
    headers: dict[str, str], current: Representation, safe: int | None, unsafe: int | None
) -> None:
    """Each condition alone, and which of two counts."""
    assert evaluate(headers, current, safe=True) == safe
    assert evaluate(headers, current, safe=False) == unsafe


@pytest.mark.parametrize("value", ["v1", '"v1" "v2"', '"v1', "**", '"a",b'])
def test_a_malformed_list_of_tags_is_refused(value: str) -> None:
    """A precondition that cannot be read is not taken to hold."""
    with pytest.raises(HttpError):
        parse_entity_tags(value)


def test_a_hostile_list_of_tags_costs_linear_time() -> None:
    """Sixty kilobytes of quotes are done in a moment."""
    began = time.perf_counter()
    with pytest.raises(HttpError):
        parse_entity_tags('"' * 60_001)
    parse_entity_tags("," * 60_000)
    assert time.perf_counter() - began < 1


@given(st.integers(0, 4_000_000_000))
def test_dates_are_written_as_the_library_does_and_read_back(seconds: int) -> None:
    """IMF-fixdate both ways."""
    text = http_date(seconds)
    assert text == formatdate(seconds, usegmt=True)
    assert parse_http_date(text) == seconds


def test_the_obsolete_date_forms_are_read() -> None:
    """RFC 9110 section 5.6.7 obliges recipients to."""
    wanted = 784_111_777
    assert parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == wanted
    assert parse_http_date("Sun Nov  6 08:49:37 1994") == wanted


@given(st.text(max_size=40))
def test_no_text_breaks_the_date_parser(text: str) -> None:
    """What is no date is None."""
    result = parse_http_date(text)
    assert result is None or isinstance(result, int)


def test_if_range_holds_for_the_same_strong_tag_only() -> None:
    """A weak tag, another tag and a date (no strong validator here) all mean: send the whole."""
    assert range_still_applies({}, HERE)
    assert range_still_applies({"if-range": '"v1"'}, HERE)
    assert not range_still_applies({"if-range": '"v0"'}, HERE)
    assert not range_still_applies({"if-range": 'W/"v1"'}, HERE)
    assert not range_still_applies({"if-range": http_date(NOW_S)}, HERE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=2-5", ByteRange(2, 4)),
        ("bytes=5-", ByteRange(5, 5)),
        ("bytes=5-99", ByteRange(5, 5)),
        ("bytes=-3", ByteRange(7, 3)),
        ("bytes=-99", ByteRange(0, 10)),
        ("bytes=10-", ByteRange(0, 0)),
        ("bytes=-0", ByteRange(10, 0)),
        ("bytes=5-2", None),
        ("bytes=0-1,3-4", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2x", None),
        ("bytes=+1-2", None),
        ("octets=0-1", None),
        ("bytes 0-1", None),
        ("bytes=\u0661-\u0662", None),
    ],
)
def test_ranges_of_ten_bytes(value: str, expected: ByteRange | None) -> None:
    """One satisfiable range is served, one unsatisfiable is 416, everything else is ignored."""
    assert parse_range(value, 10) == expected


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_what_slicing_gives(size: int, first: int, last: int) -> None:
    """Positions count from 0 and both ends are included."""
    data = bytes(range(size))
    part = parse_range(f"bytes={first}-{last}", size)
    if last < first:
        assert part is None
    else:
        assert part is not None
        assert data[part.offset : part.offset + part.size] == data[first : last + 1]


def test_an_empty_file_satisfies_no_range() -> None:
    """RFC 9110 section 14.1.2: nothing can be selected of nothing."""
    for value in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        part = parse_range(value, 0)
        assert part is not None
        assert part.size == 0
