"""Signed checkpoints: a cut tail, a dropped journal and a rolled-back catalog show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit import checkpoint, trail
from gateway.audit.record import Record, canonical
from gateway.audit.trail import Finding, Line
from gateway.model import Outcome
from tests.door.support import Gate

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = checkpoint.public_key_hex(KEY)


def add(gate: Gate, count: int) -> None:
    for number in range(count):
        gate.clock.forward(1)
        gate.journal.append_durably(
            Record(action="write", outcome=Outcome.OK, path=f"/radiology/{number}")
        )


@pytest.fixture
def anchored(gate: Gate) -> tuple[list[Line], list[str]]:
    """Six records, with a checkpoint after every second one: the trail and the anchor."""
    anchor: list[str] = []
    for _ in range(3):
        add(gate, 2)
        with gate.catalog.begin() as tx:
            anchor.append(checkpoint.make(tx, KEY, gate.clock()))
    return gate.records(), anchor


def verify(lines: list[Line], anchor: list[str]) -> tuple[list[Finding], list[str]]:
    """Return what is wrong with the trail and with the anchor."""
    problems: list[str] = []
    good = list(checkpoint.verified(anchor, PUBLIC, problems))
    return trail.verify_lines(lines, good)[1], problems


def test_a_whole_trail_agrees_with_its_checkpoints(
    anchored: tuple[list[Line], list[str]],
) -> None:
    """And each checkpoint names the one before."""
    assert verify(*anchored) == ([], [])
    parsed = [json.loads(line) for line in anchored[1]]
    assert [one["number"] for one in parsed] == [1, 2, 3]
    assert parsed[0]["before"] == checkpoint.GENESIS
    assert parsed[1]["before"] == checkpoint.line_hash(anchored[1][0])


@pytest.mark.parametrize("kept", range(6))
def test_a_cut_tail_is_found(anchored: tuple[list[Line], list[str]], kept: int) -> None:
    """Back to the last checkpoint, down to a trail with nothing left."""
    lines, anchor = anchored
    assert verify(lines[:kept], anchor)[0]


def test_records_after_the_last_checkpoint_are_not_vouched_for(
    gate: Gate, anchored: tuple[list[Line], list[str]]
) -> None:
    """As docs/AUDIT.md says: what came since may be cut unseen."""
    add(gate, 2)
    assert verify(gate.records(), anchored[1]) == ([], [])
    assert verify(gate.records()[:-1], anchored[1]) == ([], [])


def test_a_rewritten_chain_is_found(gate: Gate, anchored: tuple[list[Line], list[str]]) -> None:
    """Hashes that were all computed anew are right in themselves and unlike the checkpoints'."""
    _, anchor = anchored
    journal = gate.journal.id
    gate.sql("DELETE FROM audit")
    gate.journal._head = None
    gate.journal._tip = None
    gate.sql("DELETE FROM journals")
    add(gate, 6)
    lines = gate.records()
    assert {line["journal"] for line in lines} == {journal}
    assert trail.verify_lines(lines) == (6, [])
    assert verify(lines, anchor)[0]


ANCHOR_EDITS: dict[str, Callable[[list[str]], list[str]]] = {
    "one dropped": lambda anchor: [anchor[0], anchor[2]],
    "swapped": lambda anchor: [anchor[1], anchor[0], anchor[2]],
    "edited": lambda anchor: [anchor[0], anchor[1].replace('"number":2', '"number":7'), anchor[2]],
    "no JSON": lambda anchor: [anchor[0], "nonsense", *anchor[1:]],
    "a list": lambda anchor: [anchor[0], "[]", *anchor[1:]],
    "empty line": lambda anchor: [anchor[0], "", *anchor[1:]],
    "signed by another": lambda anchor: [*anchor, _forged(anchor)],
    "signature cut": lambda anchor: [anchor[0][:-20] + '"}', *anchor[1:]],
}


def _forged(anchor: list[str]) -> str:
    fields = json.loads(anchor[-1])
    del fields["signature"]
    signature = Ed25519PrivateKey.generate().sign(canonical(fields).encode("ascii"))
    return canonical(fields | {"signature": signature.hex()})


@pytest.mark.parametrize("edit", ANCHOR_EDITS.values(), ids=ANCHOR_EDITS)
def test_an_edited_anchor_is_found(
    anchored: tuple[list[Line], list[str]], edit: Callable[[list[str]], list[str]]
) -> None:
    """And never makes the verification itself fail."""
    lines, anchor = anchored
    assert verify(lines, edit(anchor))[1]


def test_an_anchor_may_begin_later(anchored: tuple[list[Line], list[str]]) -> None:
    """Anchors are rotated; what is left still vouches for the whole trail."""
    lines, anchor = anchored
    assert verify(lines, anchor[2:]) == ([], [])
    assert verify(lines[:-1], anchor[2:])[0]


def test_every_journal_is_vouched_for(gate: Gate, anchored: tuple[list[Line], list[str]]) -> None:
    """A journal that vanished whole is missed."""
    lines, anchor = anchored
    assert verify([line | {} for line in lines if line["journal"] != gate.journal.id], anchor)[0]


def test_the_anchor_gets_every_checkpoint_once(
    gate: Gate, anchored: tuple[list[Line], list[str]], tmp_path: Path
) -> None:
    """For its owner's eyes; what it missed while it could not be written comes later."""
    path, lines = tmp_path / "anchor", list(anchored[1])
    for _ in range(2):
        with gate.catalog.snapshot() as tx:
            checkpoint.append_to_anchor(tx, path)
        assert checkpoint.read_anchor(path) == lines
    for _ in range(2):
        add(gate, 1)
        with gate.catalog.begin() as tx:
            lines.append(checkpoint.make(tx, KEY, gate.clock()))
    with gate.catalog.snapshot() as tx:
        checkpoint.append_to_anchor(tx, path)
    assert checkpoint.read_anchor(path) == lines
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kept_bytes", [1, 40, -2])
def test_a_line_that_a_full_disk_cut_is_written_again(
    gate: Gate, tmp_path: Path, kept_bytes: int
) -> None:
    """The piece stays, as an anchor may be append-only, and nobody takes it for tampering."""
    file = tmp_path / "anchor"
    for _ in range(2):
        add(gate, 1)
        with gate.catalog.begin() as tx:
            checkpoint.make(tx, KEY, gate.clock())
        with gate.catalog.snapshot() as tx:
            checkpoint.append_to_anchor(tx, file)
    first, second = file.read_text().splitlines()
    file.write_text(f"{first}\n{second[:kept_bytes]}")
    assert verify(gate.records(), checkpoint.read_anchor(file))[1] != []
    with gate.catalog.snapshot() as tx:
        checkpoint.append_to_anchor(tx, file)
    assert checkpoint.read_anchor(file) == [first, second[:kept_bytes], second]
    assert verify(gate.records(), checkpoint.read_anchor(file)) == ([], [])


def test_an_anchor_that_cannot_be_used_is_a_clear_error(gate: Gate, tmp_path: Path) -> None:
    """A folder that is not there, for writing and for reading."""
    with gate.catalog.begin() as tx:
        checkpoint.make(tx, KEY, gate.clock())
        with pytest.raises(checkpoint.AnchorError):
            checkpoint.append_to_anchor(tx, tmp_path / "none" / "anchor")
    with pytest.raises(checkpoint.AnchorError):
        checkpoint.read_anchor(tmp_path / "none")


def test_the_signing_key_stays_the_same_and_is_sealed(gate: Gate) -> None:
    """The first use makes it."""
    with gate.catalog.begin() as tx:
        first = checkpoint.signing_key(tx, gate.cipher)
        second = checkpoint.signing_key(tx, gate.cipher)
    assert checkpoint.public_key_hex(first) == checkpoint.public_key_hex(second)
    stored = b"".join(row[0] for row in gate.sql("SELECT value FROM meta"))
    assert first.private_bytes_raw() not in stored
