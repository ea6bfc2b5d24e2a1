"""Hours of the week: borders, midnight, and the days on which clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from auth.hours import DAY_MINUTES, Hours

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = Hours(frozenset(range(5)), 6 * 60, 20 * 60, BERLIN)
NIGHT = Hours(frozenset({4}), 22 * 60, 6 * 60, BERLIN)


def at(text: str) -> int:
    """Return the Berlin wall-clock time ``text`` in microseconds since 1970 UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("span", "time", "expected"),
    [
        (OFFICE, "2025-06-02T05:59:59", False),
        (OFFICE, "2025-06-02T06:00:00", True),
        (OFFICE, "2025-06-02T19:59:59", True),
        (OFFICE, "2025-06-02T20:00:00", False),
        (OFFICE, "2025-06-07T12:00:00", False),
        (OFFICE, "2025-01-06T06:00:00", True),
        (NIGHT, "2025-06-06T21:59:59", False),
        (NIGHT, "2025-06-06T22:00:00", True),
        (NIGHT, "2025-06-07T05:59:59", True),
        (NIGHT, "2025-06-07T06:00:00", False),
        (NIGHT, "2025-06-07T22:00:00", False),
        (NIGHT, "2025-06-06T05:00:00", False),
    ],
)
def test_span_opens_and_closes_on_the_wall_clock(span: Hours, time: str, *, expected: bool) -> None:
    """The first minute is in, the last is out; over midnight the day is that of the beginning."""
    assert span.open_at(at(time)) is expected


def test_sunday_night_runs_into_monday() -> None:
    """The week has no edge."""
    span = Hours(frozenset({6}), 22 * 60, 6 * 60, BERLIN)
    assert span.open_at(at("2025-06-09T01:00:00"))


def test_whole_day_has_no_gap() -> None:
    """A day written 00:00-24:00 holds its last minute."""
    span = Hours(frozenset({0}), 0, DAY_MINUTES, BERLIN)
    assert span.open_at(at("2025-06-02T23:59:59"))
    assert not span.open_at(at("2025-06-03T00:00:00"))


def test_clock_change_keeps_wall_clock_hours() -> None:
    """On the day after the clocks went forward, six o'clock is still six o'clock."""
    assert OFFICE.open_at(at("2025-03-31T06:00:00"))
    assert not OFFICE.open_at(at("2025-03-31T05:59:00"))
