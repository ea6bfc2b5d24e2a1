"""What ``sealgate backup`` and ``sealgate restore`` share: progress, records, lists of damage."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backends.backup.manifest import Damaged
from gateway.audit.record import Record
from gateway.commands.output import administrative, say
from gateway.model import Outcome

if TYPE_CHECKING:
    from tqdm import tqdm

SHOWN_LIMIT = 20
"""The most damaged segments that are listed for people; --json lists all."""


class Bar:
    """Shows on a terminal how far the work is; says nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def begin(self, phase: str, total: int) -> None:
        """Begin another phase."""
        self.close()
        if sys.stderr.isatty():
            # Loaded by the few commands that take long.
            from tqdm import tqdm  # noqa: PLC0415

            self._bar = tqdm(
                total=total or None,
                desc=phase,
                unit="B" if total else "",
                unit_scale=True,
                file=sys.stderr,
            )

    def advance(self, count: int) -> None:
        """Show that so much more is done."""
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextlib.contextmanager
def showing() -> Iterator[Bar]:
    """Give a bar that is taken away at the end."""
    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()


def record(
    action: str, outcome: Outcome, note: str, *, error: str = "", bytes_: int | None = None
) -> Record:
    """Return the record of a backup or a restore; ``bytes_`` were copied."""
    return dataclasses.replace(
        administrative(action, note=note), outcome=outcome, error=error, bytes=bytes_
    )


def listed(damaged: tuple[Damaged, ...] | list[Damaged]) -> list[dict[str, str]]:
    """Return damaged segments as JSON takes them."""
    return [dataclasses.asdict(each) for each in damaged]


def say_damaged(damaged: tuple[Damaged, ...] | list[Damaged], what: str) -> None:
    """Print the first damaged segments, and ``what`` is the matter with them."""
    if not damaged:
        return
    say(f"{len(damaged)} segments {what}:")
    for each in damaged[:SHOWN_LIMIT]:
        say(f"  {each.segment} of share {each.share}: {each.reason}")
    if len(damaged) > SHOWN_LIMIT:
        say(f"  and {len(damaged) - SHOWN_LIMIT} more, which --json lists.")
