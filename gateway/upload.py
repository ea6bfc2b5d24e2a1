"""What the door does for one file that is being written: pulses, commit, abort.

Implements ``gateway.handles.WriteDoor`` over a passage. Imports the passage and the bodies of the
operations on content.
"""

from __future__ import annotations

from dataclasses import replace

from backends.draft import SealedContent
from backends.errors import StorageError
from gateway.audit.record import Record, session_record
from gateway.handles import WriteHandle
from gateway.model import Action, NodeInfo, Outcome
from gateway.operations import content
from gateway.operations.operation import Operation
from gateway.passage import Mode, Passage

READ_END = "read_end"
"""The action of a read's closing record, which says how many bytes left."""


class Upload:
    """One file being written through one passage."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def pulse(self, handle: WriteHandle) -> None:
        """Require, once a second, that the transfer may go on and that there is room for it."""
        if self._passage.pulse(_action_of(handle), handle.info.path):
            around = self._passage.surroundings
            with around.catalog.snapshot() as tx:
                around.vault.check_growth(tx, handle.target.share, handle.draft)

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
        passage.append_durably(replace(record, rule=reason, bytes=handle.received_bytes))

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
