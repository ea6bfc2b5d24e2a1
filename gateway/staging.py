"""Copying a large folder in turns with what others do.

A transaction that writes keeps everyone else from being recorded, and so from being served. A copy
of more nodes than one may take is therefore made in many, where nobody finds it, each followed by
a rest. Imports the passage; decides no right: the operation that attaches the copy does.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from backends.catalog import nodes
from backends.catalog.engine import giving_way
from backends.copies import StagedCopy
from backends.errors import StorageError
from backends.ledger import SUBTREE_LIMIT
from backends.vault import Node
from gateway.passage import Mode, Passage
from gateway.paths import VirtualPath

log = logging.getLogger(__name__)

_PASSES = 3
"""How often the source is gone through for what was moved inside it behind the copying."""


@contextlib.contextmanager
def staging(
    passage: Passage, source: VirtualPath, target: VirtualPath, large: tuple[Node, Node] | None
) -> Iterator[StagedCopy | None]:
    """Give a complete copy that only has to be attached; None where nothing is ``large``.

    ``large`` are the source and the folder that its copy is to lie in. What fails is recorded as
    the copy's failure, and what was made of it is removed.
    """
    if large is None:
        yield None
        return
    made = _Staging(passage, source, *large)
    try:
        try:
            made.run(target.name)
        except Exception as error:
            about = passage.about("copy", source, target)
            passage.record_failure(None, about, Mode.CHANGE, error)
            raise
        yield made.copy
    except BaseException:
        made.remove()
        raise


class _Staging:
    def __init__(self, passage: Passage, path: VirtualPath, source: Node, folder: Node) -> None:
        self._passage = passage
        self._path = path
        self._source = source
        self._folder = folder
        self._share = source.share.name
        self._pulsed_us = passage.surroundings.clock()
        self._done: set[bytes] = set()
        self.copy: StagedCopy | None = None

    def run(self, name: str) -> None:
        """Copy everything; QuotaExceededError, ConflictError, SessionEndedError."""
        around, source = self._passage.surroundings, self._source
        with around.catalog.begin() as tx:
            share = around.vault.share(tx, self._share)
            self.copy = around.vault.copies.begin(
                tx,
                share,
                source.row,
                folder=self._folder.row,
                name=name,
                author=self._passage.session.principal.id,
            )
        for _ in range(_PASSES):
            if not self._pass(self.copy):
                break

    def _pass(self, copy: StagedCopy) -> bool:
        """Copy what was not copied yet; return whether there was anything."""
        around = self._passage.surroundings
        waiting, known = list(copy.folders), len(self._done)
        while waiting:
            folder_id = waiting.pop()
            with around.catalog.snapshot() as tx:
                present = nodes.ids_in(tx, folder_id)
            ids = [node_id for node_id in present if node_id not in self._done]
            for start in range(0, len(ids), SUBTREE_LIMIT):
                waiting += self._turn(copy, folder_id, ids[start : start + SUBTREE_LIMIT])
        return len(self._done) > known

    def _turn(self, copy: StagedCopy, folder_id: bytes, node_ids: list[bytes]) -> list[bytes]:
        """Copy some nodes of a folder; return the folders among them."""
        around = self._passage.surroundings
        now_us = self._passage.pulse(None, self._path, self._pulsed_us)
        self._pulsed_us = self._pulsed_us if now_us is None else now_us
        with giving_way(), around.catalog.begin() as tx:
            share = around.vault.share(tx, self._share)
            made = around.vault.copies.go_on(tx, share, copy, folder_id, node_ids)
        folders = {node_id: row.id for node_id, row in made.items() if row.is_folder}
        copy.folders.update(folders)
        self._done.update(made)
        return list(folders)

    def remove(self) -> None:
        """Remove what was copied; what cannot be is left to ``gc``."""
        around, gone = self._passage.surroundings, 1
        try:
            while self.copy is not None and gone:
                with giving_way(), around.catalog.begin() as tx:
                    share = around.vault.share(tx, self._share)
                    gone = around.vault.copies.discard_some(tx, share, self.copy)
        except StorageError as error:
            log.warning("removing an incomplete copy: %s", error)
