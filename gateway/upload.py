"""What the door does for one file that is being written: pulses, commit, abort.

Implements ``gateway.handles.WriteDoor`` over a passage. Imports the passage and the bodies of the
operations on content.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

from backends.draft import SealedContent
from backends.errors import StorageError
from gateway.audit.record import Record, session_record
from gateway.errors import SealgateError
from gateway.handles import WriteHandle
from gateway.model import Action, NodeInfo, Outcome
from gateway.operations import content
from gateway.operations.operation import Operation
from gateway.passage import Mode, Passage

log = logging.getLogger(__name__)

READ_END = "read_end"
"""The action of a read's closing record, which says how many bytes left."""


class Upload:
    """One file being written through one passage."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def pulse(self, handle: WriteHandle) -> None:
        """Require, once a second, that the transfer may go on and that there is room for it."""
        now_us = self._passage.pulse(_action_of(handle), handle.info.path, handle.pulsed_us)
        if now_us is not None:
            self._require_room(handle)
            handle.pulsed_us = now_us

    def reserve_announced(self, handle: WriteHandle) -> None:
        """Reserve room for the size that was announced; a refusal is recorded."""
        assert handle.terms.expected_size is not None
        try:
            self._reserve(handle, handle.terms.expected_size - handle.credit_bytes, ahead=False)
        except SealgateError as error:
            handle.draft.discard()
            about = self._passage.about(_action_of(handle), handle.info.path, None)
            self._passage.record_failure(None, about, Mode.CHANGE, error)
            raise

    def _reserve(self, handle: WriteHandle, size_bytes: int, *, ahead: bool) -> None:
        """Reserve room for ``size_bytes``, and ``ahead`` a step more; QuotaExceededError."""
        around = self._passage.surroundings
        with around.catalog.begin() as tx:
            share = around.vault.share(tx, handle.target.share)
            handle.reservation = around.vault.room.reserve(
                tx, share, handle.draft.version_id, size_bytes, ahead=ahead
            )

    def _require_room(self, handle: WriteHandle) -> None:
        """Require room for what has come so far, and reserve what it has outgrown."""
        around = self._passage.surroundings
        room, announced = around.vault.room, handle.terms.expected_size
        size_bytes = max(announced or 0, handle.draft.size_bytes) - handle.credit_bytes
        room.require_reserve()
        with around.catalog.snapshot() as tx:
            share = around.vault.share(tx, handle.target.share)
            room.require_quota(tx, share, size_bytes, upload=handle.draft.version_id)
        held = handle.reservation
        outgrown = held is None or size_bytes > held.size_bytes or around.clock() > held.renew_us
        if outgrown and room.worth_reserving(share, size_bytes):
            self._reserve(handle, size_bytes, ahead=announced is None)

    def _release(self, handle: WriteHandle) -> None:
        """Give back what an upload that came to nothing had reserved.

        Where that fails the reservation runs out by itself, and what is being reported matters more.
        """
        if handle.reservation is not None:
            handle.reservation = None
            around = self._passage.surroundings
            with contextlib.suppress(StorageError), around.catalog.begin() as tx:
                around.vault.room.release(tx, handle.draft.version_id)

    def read_back(self, handle: WriteHandle) -> None:
        """Let the writer read what its file held before; that is a read like any other."""
        path = handle.info.path
        with self._passage.operation(Action.READ, path, Mode.READ) as op:
            op.node_id, op.version_id = handle.info.node_id, handle.info.version_id
            op.allow(Action.READ, path)

    def read_ended(self, handle: WriteHandle) -> None:
        """Record how much was read back."""
        record = self._about(handle, READ_END, Outcome.OK)
        self._passage.append_durably(replace(record, bytes=handle.read_bytes))

    def commit(self, handle: WriteHandle) -> NodeInfo:
        """Make the draft the current version of its file.

        The draft is discarded only where it is certain that no commit was tried. A commit that
        reports a failure may have reached the disk all the same: its segments stay, for the
        catalog to refer to or for gc to collect.
        """
        passage, path, action = self._passage, handle.info.path, _action_of(handle)
        passage.surroundings.writes.remove(passage.session.id, handle)
        op: Operation | None = None
        try:
            sealed = self._sealed(handle)
            with passage.operation(action, path, Mode.CHANGE) as op:
                return content.commit(op, handle, sealed)
        except BaseException:
            if op is None or not op.committing:
                handle.draft.discard()
                self._release(handle)
            raise

    def _sealed(self, handle: WriteHandle) -> SealedContent | None:
        """Return the draft made durable; None when there is nothing to commit."""
        if not handle.changed or not handle.complete:
            return None
        try:
            return handle.draft.seal()
        except StorageError as error:
            about = self._passage.about(_action_of(handle), handle.info.path, None)
            self._passage.record_failure(None, about, Mode.CHANGE, error)
            raise

    def aborted(self, handle: WriteHandle, reason: str) -> None:
        """Record that nothing came of it."""
        passage = self._passage
        passage.surroundings.writes.remove(passage.session.id, handle)
        record = self._about(handle, _action_of(handle).value, Outcome.ABORTED)
        try:
            passage.append_durably(replace(record, rule=reason, bytes=handle.received_bytes))
        finally:
            self._release(handle)

    def forgotten(self, handle: WriteHandle) -> None:
        """Give back what the write had reserved; its file was deleted."""
        self._release(handle)

    def suspend(self, handle: WriteHandle, reason: str) -> bool:
        """Keep a cut-off upload, sealed, with its record; False when it cannot be kept.

        Asks no policy: nobody but the uploader will ever see it, who must be let in again first.
        """
        passage, around = self._passage, self._passage.surroundings
        passage.surroundings.writes.remove(passage.session.id, handle)
        about = self._about(handle, _action_of(handle).value, Outcome.ABORTED)
        note = f"{handle.size_bytes} bytes are kept for the uploader to continue"
        record = replace(about, rule=reason, bytes=handle.received_bytes, note=note)
        committing = False
        try:
            sealed = handle.draft.seal()
            with around.journal.begin() as tx:
                content.keep_unfinished(
                    tx, around.vault, handle, sealed, passage.session.principal.id
                )
                around.journal.append(tx, record)
                committing = True
        except StorageError as error:
            log.warning("a cut-off upload cannot be kept: %s", type(error).__name__)
            if committing:
                # It may have been kept all the same, so its segments stay: see ``commit``.
                unknown = replace(record, note="whether it is kept is unknown: the disk failed")
                passage.append_durably(unknown)
            return committing
        return True

    def _about(self, handle: WriteHandle, action: str, outcome: Outcome) -> Record:
        return replace(
            session_record(action, outcome, self._passage.session),
            share=handle.target.share,
            node_id=handle.info.node_id,
            version_id=handle.info.version_id,
            path=str(handle.info.path),
        )


def _action_of(handle: WriteHandle) -> Action:
    return Action.CREATE if handle.created else Action.WRITE
