"""What a run of the scrub tells: while it runs to whoever watches, and at its end.

Plain records; prints nothing. Imports the findings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from backends.scrub.finding import FINDING_LIMIT, Finding


class Progress(Protocol):
    """Whoever watches a run."""

    def begin(self, what: str, total: int | None, unit: str) -> None:
        """Tell that a stage begins, of ``total`` things in all if that is known."""

    def advance(self, count: int) -> None:
        """Tell that ``count`` more were done."""


class Unwatched:
    """Nobody watches."""

    def begin(self, what: str, total: int | None, unit: str) -> None:
        """Nobody is told."""

    def advance(self, count: int) -> None:
        """Nobody is told."""


@dataclass(slots=True)
class Report:
    """What a run looked at, found and repaired. ``more``: findings beyond those that are kept.

    ``unconfigured`` are shares in the catalog whose rows nobody can judge, as no configuration
    names them.
    """

    rows: int = 0
    segments: int = 0
    size_bytes: int = 0
    hashed: int = 0
    strays: int = 0
    findings: list[Finding] = field(default_factory=list)
    more: int = 0
    repairs: list[str] = field(default_factory=list)
    unconfigured: list[str] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Keep a finding, or count it."""
        if len(self.findings) < FINDING_LIMIT:
            self.findings.append(finding)
        else:
            self.more += 1
