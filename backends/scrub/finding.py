"""What a scrub finds: plain records, for a terminal, JSON and the audit trail.

No judgement and no I/O. Imports nothing from the project.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

FINDING_LIMIT = 1000
"""The most findings that are kept of one share, and of all segments; further ones are counted."""


class Kind(enum.StrEnum):
    """What is wrong."""

    SHARE = "share"
    """The row of a share does not verify, or is gone."""
    KEY = "key"
    """A key is gone or does not open."""
    NODE = "node"
    """The row of a file or folder does not verify."""
    LOST = "lost"
    """A file or folder lies below nothing."""
    VERSION = "version"
    """The row of a version does not verify, is missing, or belongs to nothing."""
    CONTENT = "content"
    """Content kept in the catalog does not verify, or a segment's row is missing or wrong."""
    PROPERTIES = "properties"
    """The properties of a node do not verify, or belong to nothing."""
    UPLOAD = "upload"
    """An unfinished upload does not verify."""
    ROWS = "rows"
    """Rows of a share were dropped, added or put back."""
    SEGMENT = "segment"
    """A segment is missing, cut, or does not verify."""
    UNREADABLE = "unreadable"
    """The blob store answers a read with an error."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. Ids are lower-case hex, empty where there is none.

    ``path`` may reveal what files are called: it is for the administrator and for sealed fields.
    ``error`` names the kind of error for the audit trail. ``text`` names no file.
    """

    kind: Kind
    share: str
    text: str
    remedy: str
    node_id: str = ""
    version_id: str = ""
    segment_id: str = ""
    path: str = ""
    error: str = "IntegrityError"


_ALWAYS_KEPT = frozenset({Kind.SHARE, Kind.KEY, Kind.ROWS})


class Findings:
    """Findings up to FINDING_LIMIT, and how many more there were.

    What concerns a whole share, of which there are few, is always kept.
    """

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.more = 0

    def add(self, finding: Finding) -> None:
        """Keep ``finding``, or count it."""
        if len(self.kept) < FINDING_LIMIT or finding.kind in _ALWAYS_KEPT:
            self.kept.append(finding)
        else:
            self.more += 1
