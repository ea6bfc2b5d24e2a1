"""The audit record and its canonical form: what is hashed, what is sealed, what is exported.

Pure: no clock, no catalog, no keys. docs/AUDIT.md is the specification.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from gateway.model import Outcome, Session

SALT_SIZE_BYTES = 16

_quoted: Final[Callable[[str], str]] = encode_basestring_ascii
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BODY_FIELDS = (
    "time",
    "node",
    "journal",
    "seq",
    "principal_id",
    "principal_name",
    "session",
    "protocol",
    "client_address",
    "action",
    "share",
    "node_id",
    "version_id",
    "bytes",
    "count",
    "outcome",
    "rule",
    "error",
    "request_id",
    "detail_hash",
)
_DETAIL_FIELDS = ("path", "target", "client_software", "login_name", "note")


@dataclass(frozen=True, slots=True)
class Record:
    """One operation, as the trail keeps it; its time is that of its commit.

    The last five fields may reveal patient data or are free text from outside; they are sealed at
    rest, and the chain covers only their salted hash.
    """

    action: str
    outcome: Outcome
    principal_id: str = ""
    principal_name: str = ""
    session: str = ""
    protocol: str = ""
    client_address: str = ""
    share: str = ""
    node_id: str = ""
    version_id: str = ""
    bytes: int | None = None
    count: int = 1
    rule: str = ""
    error: str = ""
    request_id: str = ""
    path: str = ""
    target: str = ""
    client_software: str = ""
    login_name: str = ""
    note: str = ""


def session_record(
    action: str, outcome: Outcome, session: Session, *, rule: str = "", error: str = ""
) -> Record:
    """Return what every record about a session, or an operation of it, begins with."""
    return Record(
        action=action,
        outcome=outcome,
        principal_id=session.principal.id,
        principal_name=session.principal.name,
        session=session.id,
        protocol=session.wire.value,
        client_address=session.client.address,
        client_software=session.client.software,
        rule=rule,
        error=error,
    )


@dataclass(frozen=True, slots=True)
class Link:
    """A record's place in its journal and the hash that the next one carries.

    Within a journal times never decrease, so that sorting by time keeps every chain in order.
    """

    seq: int
    time_us: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A record made ready to store: ``body`` in clear, ``detail`` still to be sealed."""

    link: Link
    body: str
    detail: bytes


def genesis(journal: str) -> Link:
    """Return what the first record of a journal is chained to."""
    return Link(0, 0, hashlib.sha256(f"sealgate journal 1 {journal}".encode()).digest())


def iso_time(time_us: int) -> str:
    """Return ISO 8601 in UTC with six decimals."""
    return f"{(_EPOCH + timedelta(microseconds=time_us)).isoformat(timespec='microseconds')[:-6]}Z"


def canonical(fields: Mapping[str, Any]) -> str:
    """Return JSON with sorted keys and no spaces, ASCII only: one text for one content."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def prepare(
    record: Record, *, journal: str, node: str, before: Link, now_us: int, salt: bytes
) -> Entry:
    """Return ``record``, committed at ``now_us``, as the link of ``journal`` after ``before``.

    ``salt`` is 16 fresh random bytes: without it, whoever steals the disk could find out a path
    by hashing guesses.
    """
    time_us = max(now_us, before.time_us)
    detail_fields = {name: getattr(record, name) for name in _DETAIL_FIELDS}
    detail = canonical({"salt": salt.hex()} | {k: v for k, v in detail_fields.items() if v})
    detail_hash = hashlib.sha256(detail.encode("ascii")).hexdigest()
    count = "null" if record.bytes is None else record.bytes
    # What ``canonical`` makes of the same fields, at a fifth of its cost: every request waits for
    # one or two of these.
    body = (
        f'{{"action":{_quoted(record.action)},"bytes":{count},'
        f'"client_address":{_quoted(record.client_address)},"count":{record.count},'
        f'"detail_hash":"{detail_hash}","error":{_quoted(record.error)},'
        f'"journal":{_quoted(journal)},"node":{_quoted(node)},'
        f'"node_id":{_quoted(record.node_id)},"outcome":"{record.outcome.value}",'
        f'"principal_id":{_quoted(record.principal_id)},'
        f'"principal_name":{_quoted(record.principal_name)},'
        f'"protocol":{_quoted(record.protocol)},"request_id":{_quoted(record.request_id)},'
        f'"rule":{_quoted(record.rule)},"seq":{before.seq + 1},'
        f'"session":{_quoted(record.session)},"share":{_quoted(record.share)},'
        f'"time":"{iso_time(time_us)}","version_id":{_quoted(record.version_id)}}}'
    )
    link = Link(before.seq + 1, time_us, link_hash(before.hash, body))
    return Entry(link, body, detail.encode("ascii"))


def link_hash(before: bytes, body: str) -> bytes:
    """Return the hash of the record with that body after the record with hash ``before``."""
    return hashlib.sha256(before + body.encode("ascii")).digest()


def exported(
    body: str, detail: bytes | None, record_hash: bytes, *, journal: str, seq: int, time_us: int
) -> dict[str, Any]:
    """Return one line of the export: the body, the opened detail, and the hash.

    ``detail`` None: it does not open. What was damaged comes out empty, which verification
    reports, and ``journal``, ``seq`` and the time are then those of the row.
    """
    fields: dict[str, Any] = dict.fromkeys(_BODY_FIELDS, "")
    fields |= {"time": iso_time(time_us), "journal": journal, "seq": seq, "bytes": None, "count": 1}
    try:
        parsed = json.loads(body)
        if isinstance(parsed, dict) and (parsed["journal"], parsed["seq"]) == (journal, seq):
            fields = parsed
    except (ValueError, KeyError, RecursionError):
        pass
    opened = {"salt": ""} if detail is None else json.loads(detail)
    fields["salt"] = opened["salt"]
    for name in _DETAIL_FIELDS:
        fields[name] = opened.get(name, "")
    fields["hash"] = record_hash.hex()
    return fields


def body_and_detail(line: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return what ``prepare`` hashed, rebuilt from one line of an export."""
    outside = {*_DETAIL_FIELDS, "salt", "hash"}
    body = canonical({name: value for name, value in line.items() if name not in outside})
    detail = {name: line[name] for name in _DETAIL_FIELDS if line.get(name)}
    return body, canonical({"salt": line["salt"]} | detail).encode("ascii")
