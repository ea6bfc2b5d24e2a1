"""One process's journal: gapless, hash-chained, each record committed with what it records.

Three ways in. ``begin`` opens the transaction in which an operation and its records are committed
together. ``append_durably`` is for reads: many threads' records share one commit. ``look_up``
counts repeated metadata look-ups and writes them within a second. When records cannot be written
all three refuse, so that nothing goes on unrecorded.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace

from backends.catalog import journal as rows
from backends.errors import StorageError
from backends.keyring import RandomBytes, RecordCipher
from gateway.audit.record import SALT_SIZE_BYTES, Link, Record, genesis, prepare
from gateway.errors import AuditUnavailableError
from gateway.model import Clock, Transaction, UnitOfWork

log = logging.getLogger(__name__)

LOOK_UP_DELAY_S = 0.5
"""How long look-ups are counted before they are written."""

LOOK_UP_LIMIT = 10_000
"""The most different look-ups held back at once; further ones are written at once."""

BATCH_LIMIT = 256
"""The most reads' records in one commit."""

Work = Callable[[Transaction], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    """One thread's records on their way into a shared commit."""

    records: tuple[Record, ...]
    work: Work | None
    done: bool = False
    error: BaseException | None = None


class Journal:
    """Writes this process's records. Thread-safe."""

    def __init__(
        self,
        catalog: UnitOfWork,
        cipher: RecordCipher,
        *,
        node: str,
        clock: Clock,
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self.id = random_bytes(8).hex()
        self._catalog = catalog
        self._cipher = cipher
        self._node = node
        self._clock = clock
        self._random_bytes = random_bytes
        # Held from the start of a write transaction to after its commit, so that the head that
        # the next transaction chains to is always a committed one.
        self._chain = threading.RLock()
        self._head: Link | None = None
        self._tip: Link | None = None
        self._batch = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._leading = False
        self._look_ups: dict[Hashable, Record] = {}
        self._look_up_lock = threading.Lock()
        self._broken = ""
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_look_ups, name="journal", daemon=True)
        self._writer.start()

    @contextlib.contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Run a write transaction whose appended records join the chain when it commits."""
        with self._chain:
            head, self._head, self._tip = self._head, None, None
            with self._catalog.begin() as tx:
                self._tip = head
                yield tx
            # Not reached when the commit failed: the head is then read again from the catalog.
            self._head = self._tip
            self._broken = ""

    def append(self, tx: Transaction, *records: Record) -> None:
        """Append ``records`` within the transaction that ``begin`` opened."""
        tip = self._tip or self._registered(tx)
        now_us, made = self._clock(), []
        for record in records:
            salt = self._random_bytes(SALT_SIZE_BYTES)
            entry = prepare(
                record, journal=self.id, node=self._node, before=tip, now_us=now_us, salt=salt
            )
            tip = entry.link
            detail_sealed = self._cipher.seal(entry.detail, _context(self.id, tip.seq))
            made.append(
                rows.AuditRow(self.id, tip.seq, tip.time_us, entry.body, detail_sealed, tip.hash)
            )
        rows.append(tx, made)
        self._tip = tip

    def append_durably(self, *records: Record, work: Work | None = None) -> None:
        """Commit ``records``, and ``work`` in the same transaction, together with other threads'.

        Raises AuditUnavailableError when they could not be committed. ``work`` must not fail for
        reasons of its own: it would fail its whole batch.
        """
        mine = _Waiting(records, work)
        with self._batch:
            self._waiting.append(mine)
            while self._leading and not mine.done:
                self._batch.wait()
            leads = not mine.done
            self._leading = self._leading or leads
        while leads and not mine.done:
            self._lead()
        if mine.error is not None:
            raise AuditUnavailableError(
                "The audit record cannot be written, so this was not done. Try again later."
            ) from mine.error

    def look_up(self, key: Hashable, record: Record) -> None:
        """Count a metadata look-up; equal keys become one record within a second."""
        if self._broken:
            self.append_durably(record)
            return
        with self._look_up_lock:
            known = self._look_ups.get(key)
            if known is not None:
                self._look_ups[key] = replace(known, count=known.count + 1)
                return
            if len(self._look_ups) < LOOK_UP_LIMIT:
                self._look_ups[key] = record
                return
        self.append_durably(record)

    def flush(self) -> None:
        """Write every look-up that is held back."""
        with self._look_up_lock:
            held, self._look_ups = self._look_ups, {}
        if not held:
            return
        try:
            with self.begin() as tx:
                self.append(tx, *held.values())
        except Exception as error:  # noqa: BLE001  else the thread ends and look-ups pile up
            self._broken = type(error).__name__
            log.error(
                "look-ups cannot be recorded (%s); they are refused until then.", self._broken
            )
            with self._look_up_lock:
                for key, record in held.items():
                    newer = self._look_ups.get(key)
                    count = record.count + (0 if newer is None else newer.count)
                    self._look_ups[key] = replace(record, count=count)

    def close(self) -> None:
        """Write what is held back and stop."""
        self._closing.set()
        self._writer.join()
        self.flush()

    def _lead(self) -> None:
        """Commit what waits (the leader's own records are in it), then let another thread lead."""
        with self._batch:
            batch = self._waiting[:BATCH_LIMIT]
            del self._waiting[:BATCH_LIMIT]
        error: BaseException | None = None
        try:
            with self.begin() as tx:
                for waiting in batch:
                    if waiting.work is not None:
                        waiting.work(tx)
                self.append(tx, *(record for waiting in batch for record in waiting.records))
        except BaseException as failure:
            error = failure
            if not isinstance(failure, StorageError):
                raise
        finally:
            with self._batch:
                for waiting in batch:
                    waiting.done, waiting.error = True, error
                self._leading = False
                self._batch.notify_all()

    def _registered(self, tx: Transaction) -> Link:
        """Return the journal's last committed link, registering the journal on first use."""
        last = rows.last_of_journal(tx, self.id)
        if last is not None:
            return Link(last.seq, last.time_us, last.hash)
        rows.insert_journal(tx, self.id, self._node, self._clock())
        return genesis(self.id)

    def _write_look_ups(self) -> None:
        while not self._closing.wait(LOOK_UP_DELAY_S):
            self.flush()


def _context(journal: str, seq: int) -> bytes:
    """Return where a sealed detail belongs, so that details cannot be swapped."""
    return f"{journal}:{seq}".encode("ascii")


def opened_detail(cipher: RecordCipher, row: rows.AuditRow) -> bytes:
    """Return the detail of a stored record; IntegrityError when it was edited or moved."""
    return cipher.unseal(row.detail_sealed, _context(row.journal, row.seq))
