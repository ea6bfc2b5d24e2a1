"""What a check-up finds: how bad it is, what it is about, and what to do.

Records only. Imports nothing of the project.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Detail:
    """Something that a finding tells at length: a list of algorithms, a fingerprint."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``remedy`` is empty only where all is well."""

    verdict: Verdict
    subject: str
    message: str
    remedy: str = ""
    details: tuple[Detail, ...] = ()


def ok(subject: str, message: str, *details: Detail) -> Finding:
    """Return the finding that all is well with ``subject``."""
    return Finding(Verdict.OK, subject, message, details=details)


def warning(subject: str, message: str, remedy: str, *details: Detail) -> Finding:
    """Return the finding that ``subject`` works and should be looked after."""
    return Finding(Verdict.WARNING, subject, message, remedy, details)


def problem(subject: str, message: str, remedy: str, *details: Detail) -> Finding:
    """Return the finding that ``subject`` does not do what it is there for."""
    return Finding(Verdict.PROBLEM, subject, message, remedy, details)


SOON_DAYS = 30
"""How long before its end something is warned of."""


def days_left(ends_us: int, now_us: int) -> int:
    """Return the whole days until then; negative once it is over."""
    return (ends_us - now_us) // 86_400_000_000
