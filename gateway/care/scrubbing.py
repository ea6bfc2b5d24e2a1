"""One run of the scrub: in which order what is looked at, what is repaired, and what is recorded.

Findings are recorded as they are made, so that a run that is cut off leaves them in the trail.
Imports the wiring's ``Gateway``; prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from backends.catalog import keys, marks, segments
from backends.catalog.segments import Due
from backends.errors import (
    IntegrityError,
    KeyUnavailableError,
    NotFoundError,
    StorageError,
    StorageUnavailableError,
)
from backends.scrub.finding import Finding, Kind
from backends.scrub.reading import Pace, StoppedError, digest_of
from backends.scrub.rows import Rows
from backends.scrub.scrub import DueSegment
from gateway.app import Gateway
from gateway.audit.record import Record
from gateway.care.report import Progress, Report, Unwatched
from gateway.model import SECOND_US, Outcome, Transaction, Wire

SCRUB = "scrub"

HOLD_US = 48 * 3600 * SECOND_US
"""How long nothing is collected after rows were found missing; the next day's scrub renews it."""

_HOLD = "scrub"

BATCH_LIMIT = 32
"""The most segments, up to 512 MiB, that are noted as verified at once."""

SILENT_LIMIT = 4
"""How many segments in a row the blob store may fail to read before it counts as out of order."""


def configured_shares(gateway: Gateway) -> tuple[str, ...]:
    """Return the shares that are configured now, those that a reload added among them."""
    with gateway.catalog.snapshot() as tx:
        stored = {row.name for row in keys.all_shares(tx)}
    return tuple(sorted(stored | gateway.config.shares.keys()))


class Scrubbing:
    """A run over ``shares``. Stops with StoppedError where ``pace`` says so; what was done counts.

    ``going`` is called now and then, and may raise to end the run.
    """

    def __init__(
        self,
        gateway: Gateway,
        pace: Pace,
        *,
        shares: Sequence[str],
        repair: bool = False,
        principal_name: str = "",
        progress: Progress | None = None,
        going: Callable[[], object] = lambda: None,
    ) -> None:
        self.report = Report()
        self._gateway = gateway
        self._scrub = gateway.vault.scrub
        self._pace = pace
        self._shares = shares
        self._repair = repair
        self._principal_name = principal_name
        self._progress = progress or Unwatched()
        self._going = going
        self._after = segments.START
        self._damaged: frozenset[bytes] = frozenset()
        self._silent = 0
        self._unhashed_after: dict[str, bytes] = {}

    # The catalog

    def check_rows(self) -> None:
        """Judge the catalog of every share, each within one snapshot.

        While rows may be missing nothing is collected: what seems unused may be what they named.
        """
        sound = True
        for name in self._shares:
            self._progress.begin(f"catalog of {name}", None, "rows")
            try:
                with self._gateway.catalog.snapshot() as tx:
                    rows = self._scrub.rows(tx, name, self._judged)
            except NotFoundError:
                self._report_missing(name)
                continue
            except KeyUnavailableError as error:
                text = f"Share '{name}' cannot be opened: {error}"
                remedy = "Put the right master key in place, or restore the catalog."
                found = Finding(Kind.KEY, name, text, remedy, error=type(error).__name__)
                self._found([found])
                sound = False
                continue
            sound = sound and rows.sound and rows.drift is not None and not any(rows.drift)
            self.report.rows += rows.row_count
            self.report.more += rows.more_findings
            self._found(rows.findings)
            if self._repair:
                self._repair_rows(name, rows)
        with self._gateway.catalog.snapshot() as tx:
            foreign = self._scrub.foreign_rows(tx)
        self._found(foreign)
        self._hold_collection(sound=sound)

    def _hold_collection(self, *, sound: bool) -> None:
        gateway = self._gateway
        now_us = gateway.clock()
        with gateway.catalog.begin() as tx:
            if not sound:
                marks.place_hold(tx, _HOLD, now_us=now_us, until_us=now_us + HOLD_US)
            elif set(self._shares) >= set(configured_shares(gateway)):
                marks.lift_hold(tx, _HOLD)

    def _report_missing(self, name: str) -> None:
        """Report a share that is configured and not in the catalog, or the other way round."""
        with self._gateway.catalog.snapshot() as tx:
            stored = keys.share_by_name(tx, name) is not None
        if stored:
            self.report.unconfigured.append(name)
            return
        text = f"Share '{name}' is configured, and the catalog does not have it."
        remedy = "Restore the catalog from a backup; or restart the gateway, which makes it anew."
        self._found([Finding(Kind.SHARE, name, text, remedy)])

    def _judged(self, count: int) -> None:
        self._pace.require_going()
        self._going()
        self._progress.advance(count)

    def _repair_rows(self, name: str, rows: Rows) -> None:
        if rows.drift is None or any(rows.drift):
            with self._gateway.journal.begin() as tx:
                if self._scrub.reseal(tx, name, rows):
                    text = (
                        f"Share '{name}' agrees with its rows again. ROWS MAY HAVE BEEN DROPPED OR "
                        "PUT BACK: compare with a backup."
                    )
                    self._repaired(tx, text, share=name)
        for node_id in rows.lost:
            try:
                with self._gateway.journal.begin() as tx:
                    if self._scrub.keep_lost(tx, name, node_id):
                        text = f"What lay below nothing is in the trash of share '{name}'."
                        self._repaired(tx, text, share=name, node_id=node_id.hex())
            except IntegrityError:
                # Its row was edited, which is a finding of its own: there is nothing to rely on.
                continue

    # Segments

    def check_segments(self, span: Due, budget_bytes: int) -> int:
        """Read segments that are due, least recently verified first; return the bytes read.

        Ends when ``budget_bytes`` are spent, with the segment that spends them, or none is due.
        """
        spent = 0
        while spent < budget_bytes:
            # What this run verified must not look as if it were verified in the future.
            span = span._replace(now_us=self._gateway.clock())
            with self._gateway.catalog.snapshot() as tx:
                batch = self._scrub.due(tx, span, self._after, BATCH_LIMIT)
            if not batch:
                break
            good: list[bytes] = []
            try:
                for each in batch:
                    if spent >= budget_bytes:
                        break
                    size_bytes = self._verified(each)
                    self._after = each.place
                    if size_bytes:
                        good.append(each.row.id)
                    spent += max(1, each.size_bytes)
                    self._progress.advance(each.size_bytes)
            finally:
                self._note_verified(good)
            self._going()
        return spent

    def recheck_quarantine(self) -> None:
        """Report what is in quarantine; with repair, read it and release what verifies again."""
        with self._gateway.catalog.snapshot() as tx:
            kept = self._scrub.quarantined(tx)
        for damage, segment in kept:
            if segment is None:
                continue
            if not self._repair:
                with self._gateway.catalog.snapshot() as tx:
                    reason = IntegrityError(f"In quarantine: {damage.reason}")
                    found = self._scrub.damage(tx, segment.row, reason, self._damaged)
                self._found(found)
            elif self._verified(segment):
                with self._gateway.journal.begin() as tx:
                    segments.release(tx, segment.row.id)
                    text = f"Segment {segment.row.id.hex()} verifies again and left quarantine."
                    self._repaired(tx, text)
                self._note_verified([segment.row.id])

    def _verified(self, segment: DueSegment) -> int:
        """Return the size of a segment that verifies; else 0, once the damage is reported."""
        try:
            size_bytes = self._scrub.verify(segment, self._pace)
            self._silent = 0
            self.report.size_bytes += size_bytes
            return size_bytes
        except StoppedError:
            raise
        except (IntegrityError, KeyUnavailableError) as error:
            self._report_damage(segment, error, quarantine=isinstance(error, IntegrityError))
        except StorageUnavailableError as error:
            self._silent += 1
            if self._silent == SILENT_LIMIT:
                raise
            self._report_damage(segment, error, quarantine=False)
        return 0

    def _report_damage(self, segment: DueSegment, error: StorageError, *, quarantine: bool) -> None:
        with self._gateway.catalog.snapshot() as tx:
            found = self._scrub.damage(tx, segment.row, error, self._damaged)
        if not found:
            # It was cleared away while it was read.
            return
        self._damaged |= {segment.row.id}
        self._found(found)
        if self._repair and quarantine:
            with self._gateway.journal.begin() as tx:
                self._scrub.quarantine(tx, segment.row, str(error))
                text = f"Segment {segment.row.id.hex()} is in quarantine: nothing will collect it."
                self._repaired(tx, text, share=found[0].share)

    def _note_verified(self, segment_ids: Sequence[bytes]) -> None:
        if not segment_ids:
            return
        with self._gateway.catalog.begin() as tx:
            segments.note_verified(tx, segment_ids, self._gateway.clock())
        self.report.segments += len(segment_ids)

    # The SHA-256 of contents

    def hash_contents(self, budget_bytes: int) -> int:
        """Compute hashes that are not known, of up to about ``budget_bytes``; return the bytes.

        What cannot be read is passed over: it is a finding of the segment or of the row.
        """
        spent = 0
        for name in self._shares:
            while spent < budget_bytes:
                with self._gateway.catalog.snapshot() as tx:
                    try:
                        found = self._scrub.unhashed(
                            tx, name, self._unhashed_after.get(name, b""), 1
                        )
                    except (NotFoundError, KeyUnavailableError):
                        break
                if not found:
                    self._unhashed_after.pop(name, None)
                    break
                spent += max(1, found[0].size_bytes)
                self._unhashed_after[name] = found[0].id
                try:
                    with self._gateway.catalog.snapshot() as tx:
                        version, content = self._scrub.opened(tx, found[0])
                    digest = digest_of(content, self._pace)
                    with self._gateway.catalog.begin() as tx:
                        self.report.hashed += self._scrub.note_hash(tx, name, version, digest)
                except (IntegrityError, KeyUnavailableError):
                    continue
                self._going()
        return spent

    # Blobs that no row names, and the record

    def count_strays(self) -> None:
        """Count the blobs that no row names; ``gc`` collects them once they are a week old."""
        self._progress.begin("blobs", None, "blobs")
        for count, strays in self._scrub.strays(self._gateway.catalog):
            self._pace.require_going()
            self._going()
            self.report.strays += strays
            self._progress.advance(count)

    def conclude(self, *, whole: bool = True) -> Report:
        """Record the run and return its report; ``whole`` False: it was cut off."""
        report = self.report
        found = len(report.findings) + report.more
        note = (
            f"{report.rows} rows, {report.segments} segments, {report.size_bytes} bytes, "
            f"{report.hashed} hashed, {report.strays} strays, {found} findings, "
            f"{len(report.repairs)} repairs"
        )
        outcome = Outcome.FAILED if found else Outcome.OK
        with self._gateway.journal.begin() as tx:
            record = self._record(outcome if whole else Outcome.ABORTED, note=note)
            self._gateway.journal.append(tx, record)
        return report

    def _found(self, found: Iterable[Finding]) -> None:
        found = list(found)
        if not found:
            return
        with self._gateway.journal.begin() as tx:
            for each in found:
                self._gateway.journal.append(tx, self._finding_record(each))
        for each in found:
            self.report.add(each)

    def _repaired(self, tx: Transaction, text: str, *, share: str = "", node_id: str = "") -> None:
        self._gateway.journal.append(
            tx, self._record(Outcome.OK, share=share, node_id=node_id, note=text, rule="repair")
        )
        self.report.repairs.append(text)

    def _finding_record(self, found: Finding) -> Record:
        return self._record(
            Outcome.FAILED,
            share=found.share,
            node_id=found.node_id,
            version_id=found.version_id,
            path=found.path,
            rule=found.kind.value,
            error=found.error,
            note=found.text,
        )

    def _record(
        self,
        outcome: Outcome,
        *,
        share: str = "",
        node_id: str = "",
        version_id: str = "",
        path: str = "",
        rule: str = "",
        error: str = "",
        note: str = "",
    ) -> Record:
        return Record(
            action=SCRUB,
            outcome=outcome,
            principal_name=self._principal_name,
            protocol=Wire.ADMIN.value,
            share=share,
            node_id=node_id,
            version_id=version_id,
            path=path,
            rule=rule,
            error=error,
            note=note,
        )
