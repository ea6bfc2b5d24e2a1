"""What came back: HTTP answers as curl saw them, and lines of the audit export.

Imports nothing from the project.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer as curl saw it; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    curl_exit: int


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the audit export; ``fields`` is the whole of it."""

    action: str
    outcome: str
    principal: str
    path: str
    rule: str
    error: str
    journal: str
    seq: int
    fields: Mapping[str, Any]

    @classmethod
    def parse(cls, line: str) -> Record:
        return cls.of(json.loads(line))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Record:
        return cls(
            action=fields["action"],
            outcome=fields["outcome"],
            principal=fields["principal_name"] or "",
            path=fields["path"] or "",
            rule=fields["rule"] or "",
            error=fields["error"] or "",
            journal=fields["journal"],
            seq=fields["seq"],
            fields=fields,
        )


def parse_headers(file: Path) -> tuple[int, dict[str, str]]:
    """Return the status and headers of the last answer in a header dump; (0, {}) for none."""
    if not file.exists():
        return 0, {}
    blocks = file.read_bytes().decode("latin-1").split("\r\n\r\n")
    last = next((block for block in reversed(blocks) if block.strip()), "")
    status_line, *lines = last.split("\r\n")
    pairs = (line.partition(":") for line in lines)
    status = int(status_line.split(" ")[1]) if status_line.startswith("HTTP/") else 0
    return status, {name.strip().lower(): value.strip() for name, _, value in pairs}
