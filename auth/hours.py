"""Hours of the week in which a group's rights apply.

Pure arithmetic on a time that the caller passes; imports nothing from the project.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

DAY_MINUTES = 24 * 60
DAYS_PER_WEEK = 7

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Hours:
    """A span of local time that begins on each of ``days`` (0 is Monday).

    Minutes count from local midnight. The span holds its first minute and not its last. When
    ``end_minute`` is not after ``start_minute`` the span runs over midnight into the next day;
    a whole day is 0 to DAY_MINUTES. Wall-clock time decides, so a day on which the clocks change
    is an hour longer or shorter.
    """

    days: frozenset[int]
    start_minute: int
    end_minute: int
    zone: tzinfo

    def open_at(self, now_us: int) -> bool:
        """Return whether ``now_us`` (microseconds since 1970 UTC) lies in the span."""
        local = (_EPOCH + timedelta(microseconds=now_us)).astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        today = local.weekday()
        if self.start_minute < self.end_minute:
            return today in self.days and self.start_minute <= minute < self.end_minute
        yesterday = (today - 1) % DAYS_PER_WEEK
        return (today in self.days and minute >= self.start_minute) or (
            yesterday in self.days and minute < self.end_minute
        )
