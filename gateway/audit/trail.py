"""Reading the audit trail: export, search, and verification of the chains.

``verify_lines`` works on an export alone, without the catalog or any key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from backends.catalog import journal as rows
from backends.errors import IntegrityError
from backends.keyring import RecordCipher
from gateway.audit.checkpoint import Checkpoint
from gateway.audit.journal import opened_detail
from gateway.audit.record import Link, body_and_detail, exported, genesis, link_hash
from gateway.model import Transaction

Line = dict[str, Any]
"""One exported record, as docs/AUDIT.md lists its fields."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a trail: where, and what it means."""

    journal: str
    seq: int
    message: str

    def __str__(self) -> str:
        return f"journal {self.journal}, record {self.seq}: {self.message}"


def lines(
    tx: Transaction, cipher: RecordCipher, *, since_us: int = 0, until_us: int = 1 << 62
) -> Iterator[Line]:
    """Yield the records of a span of time, oldest first; damaged ones too, as far as they go."""
    for row in rows.between(tx, since_us, until_us):
        try:
            detail = opened_detail(cipher, row)
        except IntegrityError:
            detail = None
        yield exported(
            row.body, detail, row.hash, journal=row.journal, seq=row.seq, time_us=row.time_us
        )


def search(found: Iterable[Line], wanted: dict[str, str]) -> Iterator[Line]:
    """Yield the lines in which every field of ``wanted`` has the wanted value.

    ``path`` also matches everything below a path, and ``principal`` an id or a name.
    """
    for line in found:
        if all(_matches(line, name, value) for name, value in wanted.items()):
            yield line


def _matches(line: Line, name: str, value: str) -> bool:
    if name == "principal":
        return value in {line["principal_id"], line["principal_name"], line["login_name"]}
    if name == "path":
        below = value.rstrip("/") + "/"
        paths = (line["path"], line["target"])
        return any(path == value or path.startswith(below) for path in paths)
    return str(line.get(name, "")) == value


def verify_lines(
    lines: Iterable[Line], checkpoints: Iterable[Checkpoint] = ()
) -> tuple[int, list[Finding]]:
    """Return how many records there are and everything that is wrong with them.

    Lines may be interleaved between journals but each journal must begin with its first record.
    Every record that a checkpoint vouches for must be there: otherwise a tail was cut or the
    catalog was rolled back.
    """
    vouched: dict[tuple[str, int], tuple[str, str]] = {}
    for checkpoint in checkpoints:
        for journal, (seq, record_hash) in checkpoint.heads.items():
            vouched.setdefault((journal, seq), (record_hash, checkpoint.time))
    heads: dict[str, Link] = {}
    findings: list[Finding] = []
    count = 0
    for line in lines:
        count += 1
        journal, seq = str(line["journal"]), int(line["seq"])
        before = heads.get(journal) or genesis(journal)
        body, detail = body_and_detail(line)
        found = _checked(line, before, body, detail)
        findings.extend(Finding(journal, seq, message) for message in found)
        expected_hash, time = vouched.pop((journal, seq), (line["hash"], ""))
        if expected_hash != line["hash"]:
            findings.append(Finding(journal, seq, f"the checkpoint of {time} saw another record."))
        heads[journal] = Link(seq, 0, bytes.fromhex(line["hash"]))
    findings.extend(
        Finding(journal, seq, f"is missing, though the checkpoint of {time} saw it.")
        for (journal, seq), (_, time) in sorted(vouched.items())
    )
    return count, findings


def _checked(line: Line, before: Link, body: str, detail: bytes) -> Iterator[str]:
    seq = int(line["seq"])
    if seq > before.seq + 1:
        yield f"records {before.seq + 1} to {seq - 1} are missing."
    elif seq <= before.seq:
        yield f"out of order: it comes after record {before.seq}."
    elif link_hash(before.hash, body).hex() != line["hash"]:
        yield "its content or the one before was edited: the hash does not fit."
    if hashlib.sha256(detail).hexdigest() != line["detail_hash"]:
        yield "its path or free text was edited: the detail hash does not fit."


def parse_lines(text: Iterable[str], on_bad: Callable[[int], None]) -> Iterator[Line]:
    """Yield the records of an export in JSON lines; ``on_bad`` gets the number of a broken line."""
    for number, line in enumerate(text, start=1):
        try:
            record = json.loads(line)
            body_and_detail(record)
            str(record["journal"]), int(record["seq"]), bytes.fromhex(record["hash"])
            str(record["detail_hash"]), str(record["action"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            on_bad(number)
        else:
            yield record
