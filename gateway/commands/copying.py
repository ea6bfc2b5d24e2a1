"""What ``sealgate backup`` and ``sealgate restore`` share: records, lists of damage."""

from __future__ import annotations

import dataclasses

from backends.backup.manifest import Damaged
from gateway.audit.record import Record
from gateway.commands.output import administrative, say
from gateway.model import Outcome

SHOWN_LIMIT = 20
"""The most damaged segments that are listed for people; --json lists all."""


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
