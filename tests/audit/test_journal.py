"""Writing the trail: gapless, chained, counted, and refused when it cannot be written."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.catalog import locks
from backends.errors import StorageError
from gateway.audit import journal as journal_module
from gateway.audit import trail
from gateway.audit.journal import Journal
from gateway.audit.record import Record, canonical, genesis, iso_time, prepare
from gateway.errors import AuditUnavailableError
from gateway.model import Outcome, Transaction
from tests.door.support import Gate

MICROSECOND = timedelta(microseconds=1)
THREADS = 8
RECORDS = 30


def record(path: str = "/radiology/file", action: str = "stat") -> Record:
    return Record(action=action, outcome=Outcome.OK, share="radiology", path=path)


def time_us_of(text: str) -> int:
    """Read a written time as any program that gets an export would."""
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND


def in_threads(work: Callable[[int], None], count: int = THREADS) -> None:
    """Run ``work`` with a number in each of ``count`` threads and wait for all."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  told to the test below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def assert_whole(gate: Gate, count: int) -> None:
    """Check that there are ``count`` records, gapless and verified in each journal."""
    lines = gate.records()
    assert trail.verify_lines(lines) == (count, [])
    for journal in {line["journal"] for line in lines}:
        seqs = [line["seq"] for line in lines if line["journal"] == journal]
        assert seqs == list(range(1, len(seqs) + 1))


def test_many_threads_make_one_gapless_chain(gate: Gate) -> None:
    """Shared commits and transactions of their own, mixed; every record once."""

    def write(number: int) -> None:
        for turn in range(RECORDS):
            one = record(f"/radiology/{number}/{turn}")
            if (number + turn) % 4:
                gate.journal.append_durably(one)
            else:
                with gate.journal.begin() as tx:
                    gate.journal.append(tx, one)

    in_threads(write)
    assert_whole(gate, THREADS * RECORDS)
    paths = {line["path"] for line in gate.records()}
    assert len(paths) == THREADS * RECORDS


def test_more_threads_than_fit_one_batch_all_come_through(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leads goes on until its own record is committed."""
    monkeypatch.setattr(journal_module, "BATCH_LIMIT", 2)
    in_threads(lambda number: gate.journal.append_durably(record(str(number))), 24)
    assert_whole(gate, 24)


def test_two_processes_have_a_journal_each(gate: Gate) -> None:
    """Their records interleave and each chain is whole."""
    with_other = Journal(gate.catalog, gate.cipher, node="other", clock=gate.clock)
    try:
        for turn in range(5):
            gate.clock.forward(1)
            gate.journal.append_durably(record(f"/a/{turn}"))
            with_other.append_durably(record(f"/b/{turn}"))
    finally:
        with_other.close()
    assert_whole(gate, 10)
    assert {line["node"] for line in gate.records()} == {"test", "other"}


def test_rolled_back_records_leave_no_gap(gate: Gate) -> None:
    """Neither the first of a journal nor a later one; the chain goes on from what is stored."""

    def fail() -> None:
        with gate.journal.begin() as tx:
            gate.journal.append(tx, record())
            gate.journal.append(tx, record())
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()
        with gate.journal.begin() as tx:
            gate.journal.append(tx, record())
    assert_whole(gate, 2)


def test_refused_insertions_leave_no_gap(gate: Gate) -> None:
    """After records could not be written for a while the chain goes on."""
    gate.journal.append_durably(record())
    gate.refuse_records()
    for _ in range(2):
        with pytest.raises(AuditUnavailableError):
            gate.journal.append_durably(record())
        with pytest.raises(StorageError), gate.journal.begin() as tx:
            gate.journal.append(tx, record())
    gate.accept_records()
    gate.journal.append_durably(record())
    assert_whole(gate, 2)


def test_every_thread_of_a_failed_batch_is_told(gate: Gate) -> None:
    """Nobody believes that its record was written."""
    gate.refuse_records()

    def write(number: int) -> None:
        with pytest.raises(AuditUnavailableError):
            gate.journal.append_durably(record(str(number)))

    in_threads(write)
    gate.accept_records()
    assert_whole(gate, 0)


def test_work_is_committed_with_its_record_or_not_at_all(gate: Gate) -> None:
    """What a read changes (its session's clock) goes with its record."""

    def work(tx: Transaction) -> None:
        row = locks.LockRow("urn:uuid:1", b"n", True, False, "p", "P", b"", 9, 1 << 60)
        locks.insert_lock(tx, row)

    gate.refuse_records()
    with pytest.raises(AuditUnavailableError):
        gate.journal.append_durably(record(), work=work)
    assert gate.sql("SELECT count(*) FROM locks") == [(0,)]
    gate.accept_records()
    gate.journal.append_durably(record(), work=work)
    assert gate.sql("SELECT count(*) FROM locks") == [(1,)]


def test_times_never_decrease_within_a_journal(gate: Gate) -> None:
    """A clock that is set back does not put records out of order."""
    gate.journal.append_durably(record())
    gate.clock.forward(-3600)
    gate.journal.append_durably(record())
    first, second = gate.records()
    assert first["time"] == second["time"]
    assert_whole(gate, 2)


# Look-ups


def test_equal_look_ups_become_one_counted_record(gate: Gate) -> None:
    """Different ones stay apart."""
    for _ in range(5):
        gate.journal.look_up("a", record("/radiology/a"))
    gate.journal.look_up("b", record("/radiology/b"))
    counts = {line["path"]: line["count"] for line in gate.records()}
    assert counts == {"/radiology/a": 5, "/radiology/b": 1}
    gate.journal.look_up("a", record("/radiology/a"))
    assert [line["count"] for line in gate.records()] == [5, 1, 1]
    assert_whole(gate, 3)


def test_look_ups_from_many_threads_are_all_counted(gate: Gate) -> None:
    """Whether held back or written meanwhile."""

    def look(_number: int) -> None:
        for turn in range(100):
            gate.journal.look_up(turn % 3, record(f"/radiology/{turn % 3}"))
            if turn % 40 == 0:
                gate.journal.flush()

    in_threads(look)
    assert sum(line["count"] for line in gate.records()) == THREADS * 100


def test_closing_writes_what_is_held_back(gate: Gate) -> None:
    """A worker that is ended properly loses no count."""
    other = Journal(gate.catalog, gate.cipher, node="other", clock=gate.clock)
    other.look_up("a", record())
    other.close()
    assert [line["node"] for line in gate.records()] == ["other"]


def test_look_ups_stop_when_records_cannot_be_written(gate: Gate) -> None:
    """What was counted before is kept and written when that is possible again."""
    for _ in range(2):
        gate.journal.look_up("a", record())
    gate.refuse_records()
    gate.journal.flush()
    for _ in range(2):
        with pytest.raises(AuditUnavailableError):
            gate.journal.look_up("a", record())
    gate.accept_records()
    gate.journal.look_up("a", record())
    gate.journal.look_up("a", record())
    assert sum(line["count"] for line in gate.records()) == 4


def test_look_ups_held_back_are_bounded(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further different ones are written at once."""
    monkeypatch.setattr(journal_module, "LOOK_UP_LIMIT", 3)
    for number in range(5):
        gate.journal.look_up(number, record(str(number)))
    assert gate.sql("SELECT count(*) FROM audit")[0][0] >= 2
    assert len(gate.records()) == 5


# What is stored


def test_the_specified_hashes_are_the_stored_ones(gate: Gate) -> None:
    """Computed here anew from docs/AUDIT.md, with nothing but a hash and JSON."""
    gate.journal.append_durably(record("/radiology/a"))
    gate.journal.append_durably(record("/radiology/b"))
    before = hashlib.sha256(f"sealgate journal 1 {gate.journal.id}".encode()).digest()
    assert genesis(gate.journal.id).hash == before
    for body, stored in gate.sql("SELECT body, hash FROM audit ORDER BY seq"):
        before = hashlib.sha256(before + body.encode("ascii")).digest()
        assert stored == before
    line = gate.records()[0]
    detail = {"path": "/radiology/a", "salt": line["salt"]}
    text = json.dumps(detail, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode("ascii")).hexdigest() == line["detail_hash"]


def test_the_detail_hash_hides_the_path(gate: Gate) -> None:
    """One path twice has two hashes and two ciphertexts, and stands nowhere in clear."""
    for _ in range(2):
        gate.journal.append_durably(record("/radiology/secretname"))
    hashes = {line["detail_hash"] for line in gate.records()}
    assert len(hashes) == 2
    assert hashlib.sha256(b'{"path":"/radiology/secretname"}').hexdigest() not in hashes
    sealed = gate.sql("SELECT body, detail_sealed FROM audit")
    assert len({bytes(detail) for _, detail in sealed}) == 2
    assert not any("secretname" in body or b"secretname" in detail for body, detail in sealed)
    for file in gate.folder.iterdir():
        assert b"secretname" not in file.read_bytes()


def test_canonical_form_is_one_text_for_one_content() -> None:
    """Key order does not show and nothing but ASCII is in it."""
    assert canonical({"b": 1, "a": "ü\u2028\n"}) == '{"a":"\\u00fc\\u2028\\n","b":1}'
    assert canonical({"a": "ü\u2028\n", "b": 1}) == canonical({"b": 1, "a": "ü\u2028\n"})


@pytest.mark.parametrize("time_us", [0, 1, 999_999, 1_800_000_000_000_000, 4_102_444_800_123_456])
def test_times_survive_their_written_form(time_us: int) -> None:
    """To the microsecond."""
    assert time_us_of(iso_time(time_us)) == time_us


_TEXT = st.text(max_size=20)


@given(
    st.builds(
        Record,
        **dict.fromkeys(("action", "session", "rule", "error", "share", "principal_name"), _TEXT),
        outcome=st.sampled_from(Outcome),
        bytes=st.none() | st.integers(0, 2**63),
        count=st.integers(0, 2**63),
    )
)
def test_what_is_hashed_is_in_canonical_form(made: Record) -> None:
    """The body is built by hand for speed, and is what ``canonical`` makes of its fields."""
    entry = prepare(
        made, journal="j", node="\u2028\n", before=genesis("j"), now_us=10**15, salt=bytes(16)
    )
    assert canonical(json.loads(entry.body)) == entry.body
