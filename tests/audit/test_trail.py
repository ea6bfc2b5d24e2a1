"""Verifying the trail: whole chains are, and whatever was done to them is found."""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit import trail
from gateway.audit.record import Record, body_and_detail, link_hash
from gateway.audit.trail import Finding, Line
from gateway.commands import audit as audit_command
from gateway.model import Outcome
from tests.door.support import Gate

COUNT = 6


@pytest.fixture
def written(gate: Gate) -> Gate:
    """A gateway whose journal holds six records."""
    for number in range(COUNT):
        gate.clock.forward(1)
        gate.journal.append_durably(
            Record(
                action="write",
                outcome=Outcome.DENIED if number == 2 else Outcome.OK,
                principal_id="id-alice",
                principal_name="alice",
                share="radiology",
                bytes=number,
                rule="groups.staff",
                path=f"/radiology/file-{number}",
                client_software="test",
            )
        )
    return gate


def found_in(lines: list[Line]) -> list[Finding]:
    """Return what the verification of these lines, written and read as an export, finds."""
    bad: list[int] = []
    text = [json.dumps(line) for line in lines]
    findings = trail.verify_lines(trail.parse_lines(text, bad.append))[1]
    return findings + [Finding("", number, "no record") for number in bad]


def test_a_whole_trail_verifies_and_its_export_does(written: Gate) -> None:
    """Written as JSON lines and read again, without the catalog or a key."""
    lines = written.records()
    assert trail.verify_lines(lines) == (COUNT, [])
    assert found_in(lines) == []
    bad: list[int] = []
    assert list(trail.parse_lines(map(json.dumps, lines), bad.append)) == lines
    assert bad == []


EDITS: dict[str, Callable[[Line], None]] = {
    "outcome": lambda line: line.update(outcome="ok"),
    "principal": lambda line: line.update(principal_name="bob"),
    "time": lambda line: line.update(time="2026-01-01T00:00:00.000000Z"),
    "bytes": lambda line: line.update(bytes=0),
    "bytes as a float": lambda line: line.update(bytes=2.0),
    "rule": lambda line: line.update(rule=""),
    "path": lambda line: line.update(path="/radiology/other"),
    "path taken away": lambda line: line.update(path=""),
    "note added": lambda line: line.update(note="added"),
    "client": lambda line: line.update(client_software="other"),
    "salt": lambda line: line.update(salt="00" * 16),
    "detail hash": lambda line: line.update(detail_hash="00" * 32),
    "hash": lambda line: line.update(hash="00" * 32),
    "hash in capitals": lambda line: line.update(hash=line["hash"].upper()),
    "field added": lambda line: line.update(extra=1),
    "field removed": lambda line: line.pop("rule"),
    "journal": lambda line: line.update(journal="0" * 16),
    "seq": lambda line: line.update(seq=99),
    "seq as text": lambda line: line.update(seq=str(line["seq"])),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("place", [0, 2, COUNT - 1])
def test_an_edited_record_is_found(written: Gate, edit: Callable[[Line], None], place: int) -> None:
    """Any field, in the first, a middle and the last record."""
    lines = written.records()
    before = dict(lines[place])
    edit(lines[place])
    if lines[place] != before or json.dumps(lines[place]) != json.dumps(before):
        assert found_in(lines)


def _path_with_its_hash(line: Line) -> None:
    line["path"] = "/radiology/other"
    _, detail = body_and_detail(line)
    line["detail_hash"] = hashlib.sha256(detail).hexdigest()


def test_a_record_edited_with_its_own_hashes_is_found(written: Gate) -> None:
    """Whoever mends one record's hashes breaks the next one's."""
    lines = written.records()
    _path_with_its_hash(lines[2])
    body, _ = body_and_detail(lines[2])
    lines[2]["hash"] = link_hash(bytes.fromhex(lines[1]["hash"]), body).hex()
    assert [finding.seq for finding in found_in(lines)] == [4]


SHUFFLES: dict[str, Callable[[list[Line]], list[Line]]] = {
    "first dropped": lambda lines: lines[1:],
    "one dropped": lambda lines: lines[:2] + lines[3:],
    "middle cut": lambda lines: lines[:1] + lines[5:],
    "swapped": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "repeated": lambda lines: [*lines[:3], lines[2], *lines[3:]],
    "reversed": lambda lines: lines[::-1],
    "last put first": lambda lines: [lines[-1], *lines[:-1]],
    "inserted": lambda lines: [*lines[:3], lines[2] | {"seq": 4, "outcome": "ok"}, *lines[3:]],
    "appended": lambda lines: [*lines, lines[-1] | {"seq": COUNT + 1}],
    "contents swapped": lambda lines: [
        *lines[:2],
        lines[3] | {"seq": 3},
        lines[2] | {"seq": 4},
        *lines[4:],
    ],
    "paths swapped": lambda lines: [
        *lines[:2],
        lines[2] | {name: lines[3][name] for name in ("path", "salt")},
        lines[3] | {name: lines[2][name] for name in ("path", "salt")},
        *lines[4:],
    ],
}


@pytest.mark.parametrize("shuffle", SHUFFLES.values(), ids=SHUFFLES)
def test_a_changed_order_is_found(
    written: Gate, shuffle: Callable[[list[Line]], list[Line]]
) -> None:
    """Dropped, cut from the middle, swapped, inserted, repeated."""
    assert found_in(shuffle(written.records()))


def test_a_cut_tail_does_not_show_in_the_chain_alone(written: Gate) -> None:
    """As docs/AUDIT.md says: that is what checkpoints are for."""
    assert found_in(written.records()[:-2]) == []


CATALOG_EDITS = {
    "outcome": """UPDATE audit SET body = replace(body, '"denied"', '"ok"') WHERE seq = 3""",
    "body emptied": "UPDATE audit SET body = '{}' WHERE seq = 3",
    "body no JSON": "UPDATE audit SET body = 'not json' WHERE seq = 3",
    "hash": "UPDATE audit SET hash = zeroblob(32) WHERE seq = 3",
    "detail": "UPDATE audit SET detail_sealed = zeroblob(60) WHERE seq = 3",
    "detail emptied": "UPDATE audit SET detail_sealed = x'' WHERE seq = 3",
    "detail of another": "UPDATE audit SET detail_sealed = "
    "(SELECT detail_sealed FROM audit WHERE seq = 4) WHERE seq = 3",
    "time before all": "UPDATE audit SET time_us = -1 WHERE seq = 3",
    "time out of order": "UPDATE audit SET time_us = 1 WHERE seq = 3",
    "seq": "UPDATE audit SET seq = 99 WHERE seq = 3",
    "one deleted": "DELETE FROM audit WHERE seq = 3",
    "middle deleted": "DELETE FROM audit WHERE seq IN (2, 3, 4)",
    "first deleted": "DELETE FROM audit WHERE seq = 1",
}


@pytest.mark.parametrize("statement", CATALOG_EDITS.values(), ids=CATALOG_EDITS)
def test_an_edit_of_the_catalog_is_a_finding(written: Gate, statement: str) -> None:
    """Verification tells where, and goes on with the other records instead of failing."""
    written.sql(statement)
    with written.catalog.snapshot() as tx:
        count, findings = trail.verify_lines(trail.lines(tx, written.cipher))
    assert findings
    assert count >= COUNT - 3


def verify_file(path: Path, *options: str) -> int:
    """Return the exit code of ``sealgate audit verify PATH`` with ``options``."""
    parser = argparse.ArgumentParser()
    audit_command.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["audit", "verify", str(path), *options])
    return int(arguments.run(arguments))


NO_RECORDS = {
    "empty": b"",
    "no JSON": b"not json",
    "list": b"[]",
    "null": b"null",
    "number": b"7",
    "text": b'"text"',
    "nothing in it": b"{}",
    "little in it": b'{"journal": "j"}',
    "no UTF-8": b"\xff\xfe",
    "nested deeply": b"[" * 100_000,
    "no journal": b'{"seq": 1, "hash": "", "salt": "", "detail_hash": ""}',
    "journal a list": b'{"seq": 1, "hash": "", "salt": "", "detail_hash": "", "journal": []}',
    "nulls": b'{"seq": -1, "hash": "00", "salt": null, "detail_hash": null, "journal": null}',
    "seq infinite": b'{"seq": 1e999, "hash": "", "salt": "", "detail_hash": "", "journal": "j"}',
    "seq no number": b'{"seq": NaN, "hash": "zz", "salt": "", "detail_hash": "", "journal": "j"}',
}


@pytest.mark.parametrize("line", NO_RECORDS.values(), ids=NO_RECORDS)
def test_a_line_that_is_no_record_is_a_finding(written: Gate, tmp_path: Path, line: bytes) -> None:
    """Nothing that stands in an export makes the verification itself fail."""
    export = [json.dumps(record).encode() for record in written.records()]
    export.insert(3, line)
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"\n".join(export) + b"\n")
    assert verify_file(path) == 1


def test_a_whole_export_is_verified_by_the_command(
    written: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 and the number of records."""
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in written.records()))
    assert verify_file(path) == 0
    assert capsys.readouterr().out == f"{COUNT} records: every chain is whole.\n"


def test_an_anchor_with_nothing_in_it_is_a_finding(written: Gate, tmp_path: Path) -> None:
    """Whoever emptied the anchor must not get the trail called whole."""
    path, anchor = tmp_path / "export.jsonl", tmp_path / "anchor"
    path.write_text("".join(json.dumps(line) + "\n" for line in written.records()))
    anchor.touch()
    assert verify_file(path, "--anchor", str(anchor), "--public-key", "00" * 32) == 1


def test_a_span_of_time_gives_its_records(written: Gate) -> None:
    """The beginning is in it, the end is not."""
    times = [row[0] for row in written.sql("SELECT time_us FROM audit ORDER BY seq")]
    with written.catalog.snapshot() as tx:
        found = trail.lines(tx, written.cipher, since_us=times[1], until_us=times[3])
        assert [line["seq"] for line in found] == [2, 3]


def test_search_matches_fields_principals_and_paths(written: Gate) -> None:
    """A path matches itself and what lies below, never a name that merely begins alike."""
    lines = written.records()
    lines[0]["path"] = "/radiology/a"
    lines[1]["path"] = "/radiology/a/b"
    lines[2]["path"] = "/radiology/ab"
    lines[3]["target"] = "/radiology/a/c"

    def seqs(**wanted: str) -> list[int]:
        return [line["seq"] for line in trail.search(lines, wanted)]

    assert seqs(path="/radiology/a") == [1, 2, 4]
    assert seqs(path="/radiology/a/") == [1, 2, 4] or seqs(path="/radiology/a/") == [2, 4]
    assert seqs(outcome="denied") == [3]
    assert seqs(principal="alice") == seqs(principal="id-alice") == list(range(1, COUNT + 1))
    assert seqs(principal="alice", outcome="denied") == [3]
    assert seqs(principal="bob") == []


def test_the_stored_form_can_be_read_without_this_project(written: Gate) -> None:
    """The bodies are JSON in a plain table."""
    with sqlite3.connect(written.folder / "catalog.sqlite") as connection:
        (body,) = connection.execute("SELECT body FROM audit WHERE seq = 3").fetchone()
    connection.close()
    assert json.loads(body)["outcome"] == "denied"
