"""What the door does for one file that is being written: opening, pulses, commit, abort.

Implements ``gateway.handles.WriteDoor`` over a passage. Imports the passage and the bodies of the
operations on content.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from functools import partial

from backends.draft import Draft, SealedContent
from backends.errors import NotFoundError, StorageError
from gateway.audit.record import Record, session_record
from gateway.errors import SealgateError
from gateway.handles import WriteHandle
from gateway.model import Action, NodeInfo, Outcome, Wire
from gateway.open_file import Committed, OpenFile, Source, Target, Terms
from gateway.operations import content
from gateway.operations.content import Opening
from gateway.operations.duplicate import duplicate
from gateway.operations.operation import Operation
from gateway.passage import Mode, Passage
from gateway.paths import VirtualPath

log = logging.getLogger(__name__)

READ_END = "read_end"
"""The action of a read's closing record, which says how many bytes left."""


class Upload:
    """Files being written through one passage."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    @property
    def _outlasts(self) -> bool:
        """Whether an upload may be finished when the session's time runs out meanwhile.

        HTTP clients cannot send a large body again; those of SFTP go on with what has arrived.
        """
        return self._passage.session.wire is Wire.WEBDAV

    # Opening

    def open(self, path: VirtualPath, terms: Terms, *, create: bool, keep: bool) -> WriteHandle:
        """Return a new handle: on the file that the session is writing there, or on one of its own.

        Policy is asked in either case. An open that comes while the last handle on the file is
        being closed waits for that and begins upon its result.
        """
        passage = self._passage
        writes, session = passage.surroundings.writes, passage.session
        shared = session.wire is Wire.SFTP and terms.can_share
        handle: WriteHandle | None = None
        with writes.opening(session.id, path):
            while handle is None:
                # Looked for before the snapshot is taken: what has ended by now is seen in it, and
                # what ends later is noticed when it is joined.
                present = writes.find(session.id, path) if shared else None
                file = present.file if present is not None and present.file.shared else None
                with passage.operation(Action.WRITE, path, Mode.PREPARE) as op:
                    opening = content.open_write(op, path, terms, file, create=create, keep=keep)
                if isinstance(opening, OpenFile):
                    handle = self._joined(opening, keep=keep)
                else:
                    handle = self._begun(opening, terms, shared=shared)
            # Opening has just asked all that a pulse asks.
            handle.pulsed_us = op.now_us
            writes.add(session.id, path, handle)
        return handle

    def _joined(self, file: OpenFile, *, keep: bool) -> WriteHandle | None:
        with file.lock:
            if not file.joinable:
                return None
            handle = WriteHandle(self, file)
            if not keep:
                try:
                    handle.truncate(0)
                except BaseException:
                    handle.abort("failed")
                    raise
            return handle

    def _begun(self, opening: Opening, terms: Terms, *, shared: bool) -> WriteHandle:
        file = OpenFile(
            opening.info,
            opening.draft,
            opening.target,
            terms,
            kept=opening.kept,
            resumes=opening.resumes,
            credit_bytes=opening.credit_bytes,
            shared=shared,
        )
        if opening.reserves:
            self._reserve_announced(file)
        return WriteHandle(self, file)

    def duplicate(self, source: NodeInfo, handle: WriteHandle) -> bool:
        """Have a file that holds nothing yet share the content of ``source``; see ``Door``."""
        file = handle.file
        with file.lock:
            if not file.untouched:
                return False
            passage = self._passage
            try:
                with passage.operation("copy", source.path, Mode.PREPARE, target=file.path) as op:
                    draft = duplicate(op, source, file)
                if draft is None:
                    return False
                passage.append_durably(op.record(Outcome.OK))
            except BaseException:
                file.spoil()
                raise
            file.begin_with(draft)
            handle.received_bytes += draft.size_bytes
            return True

    # Going on

    def pulse(self, handle: WriteHandle) -> None:
        """Require, once a second, that the transfer may go on and that there is room for it."""
        file = handle.file
        now_us = self._passage.pulse(
            _right_to(file), file.path, handle.pulsed_us, running=self._outlasts
        )
        if now_us is not None:
            if file.changed and not file.over:
                self._require_room(file)
            handle.pulsed_us = now_us

    def _reserve_announced(self, file: OpenFile) -> None:
        """Reserve room for the size that was announced; a refusal is recorded."""
        assert file.terms.expected_size is not None
        try:
            self._reserve(file, file.terms.expected_size - file.credit_bytes, ahead=False)
        except SealgateError as error:
            file.drop()
            about = self._passage.about(_action_of(file), file.path, None)
            self._passage.record_failure(None, about, Mode.CHANGE, error)
            raise

    def _reserve(self, file: OpenFile, size_bytes: int, *, ahead: bool) -> None:
        """Reserve room for ``size_bytes``, and ``ahead`` a step more; QuotaExceededError."""
        around = self._passage.surroundings
        with around.catalog.begin() as tx:
            share = around.vault.share(tx, file.target.share)
            file.reservation = around.vault.room.reserve(
                tx, share, file.draft.version_id, size_bytes, ahead=ahead
            )

    def _require_room(self, file: OpenFile) -> None:
        """Require room for what has come so far, and reserve what it has outgrown."""
        around = self._passage.surroundings
        room, announced = around.vault.room, file.terms.expected_size
        size_bytes = max(announced or 0, file.draft.size_bytes) - file.credit_bytes
        room.require_reserve()
        with around.catalog.snapshot() as tx:
            share = around.vault.share(tx, file.target.share)
            room.require_quota(tx, share, size_bytes, upload=file.draft.version_id)
        held = file.reservation
        outgrown = held is None or size_bytes > held.size_bytes or around.clock() > held.renew_us
        if outgrown and room.worth_reserving(share, size_bytes):
            self._reserve(file, size_bytes, ahead=announced is None)

    def _release(self, file: OpenFile) -> None:
        """Give back what an upload that came to nothing had reserved.

        Where that fails the reservation runs out by itself, and what is being reported matters more.
        """
        if file.reservation is not None:
            file.reservation = None
            around = self._passage.surroundings
            with contextlib.suppress(StorageError), around.catalog.begin() as tx:
                around.vault.room.release(tx, file.draft.version_id)

    def read_back(self, handle: WriteHandle) -> None:
        """Let the writer read what its file held before; that is a read like any other."""
        file = handle.file
        with self._passage.operation(Action.READ, file.path, Mode.READ) as op:
            op.node_id, op.version_id = file.info.node_id, file.info.version_id
            op.allow(Action.READ, file.path)

    # Ending

    def commit(self, handle: WriteHandle, *, goes_on: bool, syncs: bool) -> NodeInfo:
        """Make the draft the current version of its file.

        The draft is discarded only where it is certain that no commit was tried. A commit that
        reports a failure may have reached the disk all the same: its segments stay, for the
        catalog to refer to or for gc to collect.
        """
        passage, file = self._passage, handle.file
        op: Operation | None = None
        draft: Draft | None = None
        try:
            sealed = self._sealed(file)
            with passage.operation(
                _action_of(file), file.path, Mode.CHANGE, running=self._outlasts
            ) as op:
                node = content.commit(op, handle, sealed)
                if node is not None and goes_on and sealed is not None:
                    draft = op.vault.draft(node.share, op.vault.open_content(op.tx, node))
        except BaseException:
            if op is None or not op.committing:
                file.draft.discard()
                self._release(file)
            file.fail()
            raise
        handle.received_bytes = 0
        if node is None:
            if not goes_on:
                file.keep()
            return file.present_info
        version_id = node.row.version_id
        replaceable = syncs and (sealed is not None or version_id.hex() == file.synced_id)
        lasts = node.share.settings.versions_keep and not replaceable
        done = Committed(
            node.info(),
            Target(file.target.share, node.row.parent_id, node.path.name, node.id),
            partial(self._content, file.target.share, node.id, version_id),
            credit_bytes=0 if lasts else node.row.size_bytes,
            synced_id=version_id.hex() if replaceable else "",
        )
        if goes_on:
            file.go_on(done, draft)
        else:
            file.finish(done)
        return done.info

    def _sealed(self, file: OpenFile) -> SealedContent | None:
        """Return the draft made durable; None when there is nothing to commit."""
        if not file.changed or not file.complete:
            return None
        try:
            return file.draft.seal()
        except StorageError as error:
            about = self._passage.about(_action_of(file), file.path, None)
            self._passage.record_failure(None, about, Mode.CHANGE, error)
            raise

    def _content(self, share: str, node_id: bytes, version_id: bytes) -> Source:
        """Return what was committed, for those who read the file beside its writers."""
        around = self._passage.surroundings
        with around.catalog.snapshot() as tx:
            node = around.vault.locate(tx, share, node_id)
            if node is None:
                raise NotFoundError("The file was deleted.")
            return around.vault.past.open(tx, node.row, version_id)[1]

    def aborted(self, handle: WriteHandle, reason: str) -> None:
        """Record that nothing came of it, or that others go on with what did."""
        file = handle.file
        note = "" if file.over else "another handle of the session goes on with the file"
        record = replace(self._about(file, Outcome.ABORTED), rule=reason, note=note)
        try:
            self._passage.append_durably(replace(record, bytes=handle.received_bytes))
        finally:
            if file.over:
                self._release(file)

    def forgotten(self, handle: WriteHandle) -> None:
        """Give back what the write had reserved; its file was deleted."""
        self._release(handle.file)

    def suspend(self, handle: WriteHandle, reason: str) -> bool:
        """Keep a cut-off upload, sealed, with its record; False when it cannot be kept.

        Asks no policy: nobody but the uploader will ever see it, who must be let in again first.
        """
        passage, around, file = self._passage, self._passage.surroundings, handle.file
        note = f"{file.size_bytes} bytes are kept for the uploader to continue"
        record = replace(self._about(file, Outcome.ABORTED), rule=reason, note=note)
        record = replace(record, bytes=handle.received_bytes)
        committing = False
        try:
            sealed = file.draft.seal()
            with around.journal.begin() as tx:
                principal_id = passage.session.principal.id
                content.keep_unfinished(tx, around.vault, file, sealed, principal_id)
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

    def ended(self, handle: WriteHandle) -> None:
        """Show the handle no more; record how much was read back, if it was let to."""
        passage = self._passage
        passage.surroundings.writes.remove(passage.session.id, handle)
        if handle.read_recorded:
            record = replace(self._about(handle.file, Outcome.OK), action=READ_END)
            passage.append_durably(replace(record, bytes=handle.read_bytes))

    def _about(self, file: OpenFile, outcome: Outcome) -> Record:
        return replace(
            session_record(_action_of(file).value, outcome, self._passage.session),
            share=file.target.share,
            node_id=file.info.node_id,
            version_id=file.info.version_id,
            path=str(file.path),
        )


def _action_of(file: OpenFile) -> Action:
    """Return what the next commit does."""
    return Action.CREATE if file.created else Action.WRITE


def _right_to(file: OpenFile) -> Action:
    """Return what the session needs the right to: a file that it makes stays one to its end."""
    return Action.CREATE if file.made else Action.WRITE
