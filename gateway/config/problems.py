"""What is wrong with a configuration, and where.

Records and messages only; no reading and no rules. Imports only the error tree.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import SealgateError

Keys = tuple[str | int, ...]
"""The keys and list places that lead from the top of the file to a value."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: where it stands, what is wrong, and what would be right."""

    file: Path
    line: int
    column: int
    key: str
    message: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.key, self.text) if part)

    @property
    def text(self) -> str:
        """What is wrong and what would be right, in one line."""
        return f"{self.message} {self.remedy}".strip()

    def described(self) -> dict[str, object]:
        """Return the fields as commands print them with ``--json``."""
        return {
            "file": str(self.file),
            "line": self.line,
            "column": self.column,
            "key": self.key,
            "message": self.message,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem before its place in the file is known: ``keys`` lead to it.

    ``at_key``: the key itself is the problem, not the value behind it.
    """

    keys: Keys
    message: str
    remedy: str
    at_key: bool = False


class ConfigError(SealgateError):
    """The configuration cannot be used; ``problems`` holds every reason, in order of line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda it: (it.line, it.column)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def written(keys: Keys) -> str:
    """Return ``keys`` as a person writes them: ``groups.staff.networks[0]``."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += f".{key}" if text else key
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a sentence that names the known word closest to ``word``, else all of them."""
    choices = sorted(set(known))
    close = difflib.get_close_matches(word.lower()[:80], choices, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known here: {', '.join(choices)}." if choices else "Remove it."


def shortened(text: str) -> str:
    """Return ``text`` quoted and cut to a length fit for a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
