"""Copying a large folder in turns with what others do.

A transaction that writes keeps everyone else from being recorded, and so from being served. A copy
of more nodes than one may take is therefore made in many, where nobody finds it, each followed by
a rest. Each is an operation of its own, but leaves a record only if it fails: what counts is the
one that attaches the copy. Imports the passage and the bodies of the operations.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from backends.catalog.engine import giving_way
from backends.copies import StagedCopy
from backends.errors import StorageError
from backends.ledger import SUBTREE_LIMIT
from gateway.operations import copying
from gateway.operations.copying import Plan
from gateway.operations.operation import Operation
from gateway.passage import Mode, Passage

log = logging.getLogger(__name__)

_ROUNDS = 5
"""How often the source is gone through, for what was moved inside it behind the copying."""

_REMOVAL_S = 10.0
"""How long a client that waits for its answer waits for the removal of what was made in vain."""


@contextlib.contextmanager
def staging(passage: Passage, plan: Plan | None) -> Iterator[StagedCopy | None]:
    """Give a complete copy that only has to be attached; None without a plan.

    What was made of it is removed when it, or what follows, fails.
    """
    if plan is None:
        yield None
        return
    made = _Staging(passage, plan)
    try:
        yield made.run()
    except BaseException:
        made.remove()
        raise


class _Staging:
    def __init__(self, passage: Passage, plan: Plan) -> None:
        self._passage = passage
        self._plan = plan
        self._copy: StagedCopy | None = None

    def run(self) -> StagedCopy:
        """Copy everything; what the bodies raise."""
        with self._operation(Mode.STAGE) as op:
            copy = copying.begin(op, self._plan)
        self._copy = copy
        for _ in range(_ROUNDS):
            with self._operation(Mode.PREPARE) as op:
                missing = copying.missing(op, self._plan, copy)
            if not missing:
                return copy
            self._round(copy, missing)
        with self._operation(Mode.PREPARE) as op:
            copying.require_complete(op, self._plan, copy)
        return copy

    def _round(self, copy: StagedCopy, missing: dict[bytes, list[bytes]]) -> None:
        """Copy what is missing, as far as it is still where it was found."""
        for folder_id, node_ids in missing.items():
            # What lies in a folder that went meanwhile is looked for in the next round.
            if folder_id in copy.folders:
                for start in range(0, len(node_ids), SUBTREE_LIMIT):
                    self._turn(copy, folder_id, node_ids[start : start + SUBTREE_LIMIT])

    def _turn(self, copy: StagedCopy, folder_id: bytes, node_ids: list[bytes]) -> None:
        """Copy some nodes of a folder."""
        with giving_way(), self._operation(Mode.STAGE) as op:
            copied = copying.turn(op, self._plan, copy, folder_id, node_ids)
        copy.take(folder_id, copied)

    def _operation(self, mode: Mode) -> contextlib.AbstractContextManager[Operation]:
        request = self._plan.request
        return self._passage.operation("copy", request.source, mode, target=request.target)

    def remove(self) -> None:
        """Remove what was copied; what cannot be is left to ``gc``."""
        around, share_name, gone = self._passage.surroundings, self._plan.request.source.share, 1
        until_s = time.monotonic() + _REMOVAL_S
        try:
            while self._copy is not None and gone and time.monotonic() < until_s:
                with giving_way(), around.catalog.begin() as tx:
                    share = around.vault.share(tx, share_name)
                    gone = around.vault.copies.discard_some(tx, share, self._copy)
        except StorageError as error:
            log.warning("removing an incomplete copy: %s", error)
