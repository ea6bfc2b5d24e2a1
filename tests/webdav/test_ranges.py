"""The Range header of RFC 9110."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webdav.ranges import RANGE_LIMIT, ByteRange, parse_ranges, unsatisfied_range

TEN = 10


def part(first: int, last: int) -> ByteRange:
    return ByteRange(first, last - first + 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", [part(0, 0)]),
        ("bytes=2-5", [part(2, 5)]),
        ("bytes=5-", [part(5, 9)]),
        ("bytes=5-99", [part(5, 9)]),
        (f"bytes=5-{'9' * 100}", [part(5, 9)]),
        ("bytes=-3", [part(7, 9)]),
        ("bytes=-99", [part(0, 9)]),
        ("Bytes=0-0", [part(0, 0)]),
        ("bytes=0-1,3-4", [part(0, 1), part(3, 4)]),
        ("bytes=3-4,0-1", [part(3, 4), part(0, 1)]),
        ("bytes=0-1, ,\t3-4,", [part(0, 1), part(3, 4)]),
        ("bytes=0-0,-1", [part(0, 0), part(9, 9)]),
        ("bytes=0-1,20-,-0", [part(0, 1)]),
    ],
)
def test_ranges_of_ten_bytes(value: str, expected: list[ByteRange]) -> None:
    """Positions, open ends, suffixes; several in the order asked for, the unsatisfiable left out."""
    assert parse_ranges(value, TEN) == expected


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=99-100", "bytes=-0", "bytes=10-,20-30,-0"])
def test_ranges_beyond_the_end_are_none(value: str) -> None:
    """Where not one can be satisfied the list is empty, which is a 416."""
    assert parse_ranges(value, TEN) == []
    assert unsatisfied_range(TEN) == "bytes */10"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=--1",
        "bytes=a-b",
        "bytes=1-2x",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1_0-20",
        "bytes=1 - 2",
        "bytes=5-2",
        "bytes=0-1,5-2",
        "bytes=0-1;3-4",
        "bytes=0-1,bytes=3-4",
        "octets=0-1",
        "bytes 0-1",
        " bytes=0-1",
        "bytes=\u0661-\u0662",
        f"bytes={'0' * 5000}-1",
    ],
)
def test_what_is_no_range_is_ignored(value: str) -> None:
    """Other units, malformed sets and sets with one reversed range: the whole is sent."""
    assert parse_ranges(value, TEN) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-4,2-6", [part(0, 6)]),
        ("bytes=0-1,2-3", [part(0, 3)]),
        ("bytes=0-9,0-9,0-9", [part(0, 9)]),
        ("bytes=5-6,0-1,6-7", [part(5, 7), part(0, 1)]),
        ("bytes=0-9,3-4,6-7", [part(0, 9)]),
        ("bytes=8-,0-0,-3", [part(7, 9), part(0, 0)]),
    ],
)
def test_what_overlaps_or_touches_is_joined(value: str, expected: list[ByteRange]) -> None:
    """RFC 9110 section 15.3.7.2 allows it, and nobody gets a byte twice."""
    assert parse_ranges(value, TEN) == expected


def test_more_ranges_than_the_limit_are_ignored() -> None:
    """A hundred are served, a hundred and one are not taken apart; ten thousand cost nothing."""
    sets = {
        n: "bytes=" + ",".join(f"{2 * i}-{2 * i}" for i in range(n)) for n in (100, 101, 10_000)
    }
    assert RANGE_LIMIT == 100
    found = parse_ranges(sets[100], 1000)
    assert found is not None
    assert len(found) == 100
    assert parse_ranges(sets[101], 1000) is None
    began = time.thread_time()
    assert parse_ranges(sets[10_000], 100_000) is None
    assert parse_ranges("bytes=" + "-" * 60_000, 10) is None
    assert time.thread_time() - began < 3


def test_an_empty_file_has_no_parts() -> None:
    """Positions in it are 416; its end, which no Content-Range can express, is the whole."""
    assert parse_ranges("bytes=0-", 0) == []
    assert parse_ranges("bytes=0-0", 0) == []
    assert parse_ranges("bytes=-0", 0) == []
    assert parse_ranges("bytes=-1", 0) is None


SPECS = st.one_of(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda it: (min(it), max(it))),
    st.tuples(st.integers(0, 60), st.none()),
    st.tuples(st.none(), st.integers(0, 60)),
)


@given(st.integers(1, 50), st.lists(SPECS, min_size=1, max_size=8))
def test_parts_are_the_bytes_that_slicing_gives_each_once(
    size: int, specs: list[tuple[int | None, int | None]]
) -> None:
    """The parts hold exactly the bytes asked for, apart from each other, the first one first."""
    data = range(size)
    wanted: set[int] = set()
    for first, last in specs:
        if first is None:
            assert last is not None
            wanted |= set(data[max(0, size - last) :])
        else:
            wanted |= set(data[first : None if last is None else last + 1])
    value = ",".join(
        f"{'' if first is None else first}-{'' if last is None else last}" for first, last in specs
    )
    parts = parse_ranges(f"bytes={value}", size)
    assert parts is not None
    found = [position for one in parts for position in data[one.offset : one.end]]
    assert len(found) == sum(one.size for one in parts)
    assert sorted(found) == sorted(wanted)
    assert all(one.size > 0 for one in parts)
    ends = {one.end for one in parts}
    assert not ends & {one.offset for one in parts}
    alone = parse_ranges(f"bytes={value.split(',')[0]}", size)
    if alone:
        assert parts[0].offset <= alone[0].offset < parts[0].end
