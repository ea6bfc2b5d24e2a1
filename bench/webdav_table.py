"""The table that ``bench/webdav.py`` prints: samples, their medians, and lines in Markdown.

Measures nothing. Imports ``webdav_load`` for what a load did.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.webdav_load import KIB, MIB, Effort

GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Sample:
    """One effort and the CPU seconds that the server's processes spent on it."""

    effort: Effort
    cpu_s: float

    @property
    def speed(self) -> float:
        """Amount a second."""
        return self.effort.amount / self.effort.seconds

    @property
    def cost_s(self) -> float:
        """CPU seconds for each one of the amount."""
        return self.cpu_s / self.effort.amount


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    title: str
    cells: tuple[str, str, str]
    ratio: str
    wanted: str
    met: bool

    def __str__(self) -> str:
        """Return the line in Markdown."""
        judged = "yes" if self.met else "**no**"
        cells = (self.title, *self.cells, self.ratio, self.wanted, judged)
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| work | ours | Apache | rclone | ratio | wanted | met |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
)


def size_text(size_mib: int) -> str:
    """Return a size as people say it."""
    return f"{size_mib // KIB} GiB" if size_mib % KIB == 0 else f"{size_mib} MiB"


def cell(samples: Sequence[Sample], *, large: bool) -> str:
    """Return the medians of speed and cost; ``large`` counts in MiB and GiB, else one by one."""
    if not samples:
        return ""
    speed = statistics.median(sample.speed for sample in samples)
    cost_s = statistics.median(sample.cost_s for sample in samples)
    if large:
        return f"{speed / MIB:,.0f} MiB/s, {cost_s * GIB:.2f} CPU s/GiB"
    return f"{speed:,.0f}/s, {cost_s * 1e6:,.0f} CPU µs"
