"""The vault against a plain model: any operations in any order, and after each both are alike.

``SEALGATE_STEPS`` sets how many steps are run, 10,000 for example, and then in another order each
time; without it the run is short and always the same. A failure prints what replays it;
``--log-cli-level=INFO`` says how often what was done, and a long run needs ``-o timeout=0``.

Longer than other files: one rule for each thing that the vault can do.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backends import epochs, gc
from backends.catalog import nodes, versions
from backends.catalog.sqlite import CATALOG_FILE, open_catalog
from backends.catalog.statement import Tx
from backends.draft import Draft
from backends.errors import AlreadyExistsError, ParentMissingError, QuotaExceededError
from backends.keyring import MasterKey
from backends.ledger import DIGEST_MODULUS
from backends.reseal import Resealing
from backends.room import RESERVATION_US
from backends.rotation import rewrap, rotate_share
from backends.share import ShareSettings, system_key
from backends.unfinished import UnfinishedUpload
from backends.vault import Node
from gateway.model import SECOND_US, PropertyName
from gateway.paths import VirtualPath
from tests.backends.model import Entry, Note, Partial, PartialKey, ShareModel, Version
from tests.backends.world import World, running_world

T = TypeVar("T")

log = logging.getLogger(__name__)

DAY_S = 24 * 3600
SHARES = {
    # No trash, few versions; a quota that is often met; long retention.
    "docs": ShareSettings("docs", versions_keep=3),
    "small": ShareSettings("small", quota_bytes=500_000, versions_for_s=2 * DAY_S, trash_s=3600),
    "kept": ShareSettings("kept", versions_for_s=30 * DAY_S, trash_s=5 * DAY_S),
}
COLOUR = PropertyName("urn:x", "colour")
LONGEST_SESSION_S = 12 * 3600
STEPS_A_RUN = 60
SHORT_RUNS = 50
ALL_ROWS = 1 << 30

SIZES = st.one_of(
    st.sampled_from([0, 1, 16_384, 16_385, 65_535, 65_536, 65_537, 131_072, 200_000]),
    st.integers(0, 300_000),
    st.integers(0, 300),
)
PICKS = st.integers(0, 1 << 16)
NAMES = st.sampled_from(["a", "b", "c", "é"])
AUTHORS = st.sampled_from(["p1", "p1", "p2"])
DOINGS = st.sampled_from(["begin", "put", "put", "truncate", "read", "commit", "cut", "abort"])
WAITS_S = st.sampled_from([1, 1, 14, 16, 301, 3601, 25 * 3600, 3 * DAY_S, 31 * DAY_S])
COPYING = st.sampled_from(["shallow", "whole", "in turns"])
TIDYING = st.sampled_from(["", "", "", "gc", "prune", "purge", "expire", "forget"])


@dataclass(slots=True)
class Writing:
    """A file that is being written, and what it should hold."""

    share: str
    folder: bytes
    name: str
    node: bytes | None
    draft: Draft
    begun_us: int
    base: Version | None = None
    base_id: bytes = b""
    expected: bytearray = field(default_factory=bytearray)


class VaultMachine(RuleBasedStateMachine):
    """Does to the vault what it does to the model."""

    folder: ClassVar[Path]
    steps: ClassVar[Counter[str]]
    _numbers: ClassVar[count[int]] = count()

    def __init__(self) -> None:
        super().__init__()
        self._data = self.folder / f"run-{next(self._numbers)}"
        self._data.mkdir()
        shutil.copy(self.folder / CATALOG_FILE, self._data)
        self._running: AbstractContextManager[World] = running_world(self._data)
        self.world = self._running.__enter__()
        self.world.vault.configure(SHARES)
        self.models: dict[str, ShareModel] = {}
        notes: dict[tuple[bytes, str], Note] = {}
        with self.world.catalog.begin() as tx:
            system_key(tx, self.world.master)
            for name, kept in SHARES.items():
                root = self.world.node(tx, f"/{name}")
                self.models[name] = ShareModel(kept, root.id, notes)
        self.writing: list[Writing] = []
        self.share = "docs"
        self.changed: set[str] = set()
        self._seeds = count()

    # What rules work with

    @property
    def model(self) -> ShareModel:
        return self.models[self.share]

    def step(self, name: str) -> int:
        """Count a step and return its moment; no two have the same."""
        self.steps[name] += 1
        self.changed.add(self.share)
        self.world.clock.now_us += 1000
        return self.world.clock()

    def bytes_of(self, size: int) -> bytes:
        """Return content that nothing else has."""
        return random.Random(next(self._seeds)).randbytes(size)

    def located(self, tx: Tx, node_id: bytes) -> Node:
        if node_id == self.model.root:
            return self.world.node(tx, f"/{self.share}")
        node = self.world.vault.locate(tx, self.share, node_id)
        assert node is not None
        return node

    def refused(self, *, expected: bool, change: Callable[[Tx], T]) -> T | None:
        """Run a change that the quota should refuse or not; None when it was refused."""
        try:
            with self.world.catalog.begin() as tx:
                made = change(tx)
        except QuotaExceededError:
            assert expected
            return None
        assert not expected
        return made

    # Content

    @rule(share=st.sampled_from([*SHARES, "kept"]))
    def turn_to(self, share: str) -> None:
        """Go on in another share."""
        self.share = share

    @initialize(author=AUTHORS)
    def furnish(self, author: str) -> None:
        """Begin with a few folders and files."""
        for share in SHARES:
            self.share = share
            self.make_folder(0, "a", author)
            self.make_folder(1, "b", author)
            for number, size in enumerate((100, 70_000, 200_000)):
                self.save(number, "c", keep=False, place=0, size=size, author=author)

    @rule(
        folder=PICKS,
        name=NAMES,
        keep=st.booleans(),
        place=st.floats(0, 1.2),
        size=SIZES,
        author=AUTHORS,
    )
    def save(
        self, folder: int, name: str, *, keep: bool, place: float, size: int, author: str
    ) -> None:
        """Write a file whole, new or present, or somewhere in it."""
        writing = self._begin(pick(self.model.folders(), folder), name, keep=keep)
        if writing is not None:
            self._put(writing, place, size)
            self._commit(writing, author)

    def _begin(self, where: bytes, name: str, *, keep: bool) -> Writing | None:
        present = self.model.at(where, name)
        if present is not None and present.folder:
            return None
        now_us = self.step("begin")
        vault = self.world.vault
        with self.world.catalog.snapshot() as tx:
            file = None if present is None else self.located(tx, present.id)
            base = vault.open_content(tx, file) if file is not None and keep else None
            draft = vault.draft(vault.share(tx, self.share), base)
        node_id = None if file is None else file.id
        made = Writing(self.share, where, name, node_id, draft, now_us)
        made.base_id = b"" if file is None else file.row.version_id
        if present is not None:
            made.base = present.versions[0]
            made.expected += present.content if keep else b""
        self.writing.append(made)
        return made

    @rule(
        which=PICKS,
        doings=st.lists(DOINGS, min_size=2, max_size=5),
        name=NAMES,
        place=st.floats(0, 1.2),
        size=SIZES,
        author=AUTHORS,
        flag=st.booleans(),
    )
    def write_on(
        self,
        which: int,
        doings: list[str],
        *,
        name: str,
        place: float,
        size: int,
        author: str,
        flag: bool,
    ) -> None:
        """Do something with files that are open for writing, or open one.

        A commit with ``flag`` insists on what the file held when it was opened, as If-Match does.
        """
        for what in doings:
            self._write_on(what, which, name=name, place=place, size=size, author=author, flag=flag)

    def _write_on(
        self, what: str, which: int, *, name: str, place: float, size: int, author: str, flag: bool
    ) -> None:
        if not self.writing or (what == "begin" and len(self.writing) < 4):
            self._begin(pick(self.model.folders(), which), name, keep=flag)
            return
        writing = pick(self.writing, which)
        self.share = writing.share
        if what in {"begin", "put"}:
            # Some megabytes, now and then.
            self._put(writing, place, size if which % 16 else 10 * size)
        elif what == "truncate":
            self._truncate(writing, size)
        elif what == "read":
            self._read_back(writing, place)
        elif what == "cut":
            self._cut_off(writing, author)
        elif what == "abort" or (flag and self._stale(writing)):
            self.step("abort")
            self._drop(writing)
        else:
            self._commit(writing, author)

    def _stale(self, writing: Writing) -> bool:
        entry = self.model.nodes.get(writing.node or b"")
        return (None if entry is None else entry.versions[0]) != writing.base

    def _put(self, writing: Writing, place: float, size: int) -> None:
        self.step("put")
        offset = int(len(writing.expected) * place)
        data = self.bytes_of(size)
        writing.draft.write_at(offset, data)
        if data:
            writing.expected.extend(bytes(max(0, offset - len(writing.expected))))
            writing.expected[offset : offset + size] = data
        assert writing.draft.size_bytes == len(writing.expected)

    def _truncate(self, writing: Writing, size: int) -> None:
        self.step("truncate")
        writing.draft.truncate(size)
        del writing.expected[size:]
        writing.expected.extend(bytes(size - len(writing.expected)))

    def _read_back(self, writing: Writing, place: float) -> None:
        self.step("read back")
        offset = int(len(writing.expected) * place)
        found = writing.draft.read_at(offset, 100_000)
        assert found == writing.expected[offset : offset + 100_000]

    def _drop(self, writing: Writing) -> None:
        self.writing.remove(writing)
        writing.draft.discard()

    def _commit(self, writing: Writing, author: str) -> None:
        now_us = self.step("commit")
        model = self.model
        entry = model.nodes.get(writing.node or b"")
        if entry is None or not model.lives(entry.id):
            lives = model.lives(writing.folder)
            entry = model.at(writing.folder, writing.name) if lives else None
            if not lives or (entry is not None and entry.folder):
                self._drop(writing)
                return
        content = bytes(writing.expected)
        sealed = writing.draft.seal()
        folder, file_id = writing.folder, None if entry is None else entry.id

        def finish(tx: Tx) -> Node:
            vault = self.world.vault
            if file_id is None:
                parent = self.located(tx, folder)
                return vault.add_file(
                    tx, parent, writing.name, sealed, modified_us=now_us, author=author
                )
            file = self.located(tx, file_id)
            return vault.add_version(tx, file, sealed, modified_us=now_us, author=author)

        grown = len(content) if entry is None else model.grown_by(entry, content, now_us)
        full = not model.fits(grown, now_us, sealed.version_id)
        made = self.refused(expected=full, change=finish)
        if made is None:
            self._drop(writing)
            return
        self.writing.remove(writing)
        if entry is None:
            model.add_file(made.id, folder, writing.name, content, author=author, now_us=now_us)
        else:
            model.put_version(entry, content, author, now_us)

    # Unfinished uploads and room

    def _cut_off(self, writing: Writing, author: str) -> None:
        now_us = self.step("cut off")
        sealed = writing.draft.seal()
        content = bytes(writing.expected)
        key = PartialKey(writing.folder, writing.name, author)
        earlier = self.model.unfinished.get(key)
        earlier_bytes = 0 if earlier is None else len(earlier.content)

        def keep(tx: Tx) -> UnfinishedUpload:
            vault = self.world.vault
            share = vault.share(tx, self.share)
            more_bytes = len(content) - earlier_bytes
            vault.room.require_quota(tx, share, more_bytes, upload=sealed.version_id)
            return vault.unfinished.keep(
                tx,
                share,
                key.folder,
                key.name,
                sealed,
                principal_id=author,
                base_id=writing.base_id,
                modified_us=now_us,
            )

        full = not self.model.fits(len(content) - earlier_bytes, now_us, sealed.version_id)
        if self.refused(expected=full, change=keep) is None:
            self._drop(writing)
            return
        self.writing.remove(writing)
        self.model.keep_unfinished(key, content, writing.base_id, now_us)

    @precondition(lambda self: self.model.unfinished)
    @rule(which=PICKS, wanted=st.booleans())
    def resume(self, which: int, wanted: bool) -> None:
        """Go on with an unfinished upload, or delete it."""
        key, partial = pick(list(self.model.unfinished.items()), which)
        now_us = self.step("resume")
        vault = self.world.vault
        with self.world.catalog.begin() as tx:
            share = vault.share(tx, self.share)
            found = vault.unfinished.find(
                tx, share, key.folder, key.name, principal_id=key.principal
            )
            if partial.expires_us <= now_us:
                assert found is None
                return
            assert found is not None
            present = self.model.at(key.folder, key.name)
            present_id: bytes | None = b""
            if present is not None:
                row = nodes.any_by_id(tx, present.id)
                present_id = None if row is None or present.folder else row.version_id
            stands = vault.unfinished.is_current(found, present_id)
            assert stands == (partial.base_id == present_id)
            if not stands:
                return
            if not wanted:
                vault.unfinished.remove(tx, found)
                del self.model.unfinished[key]
                return
            draft = vault.draft(share, vault.unfinished.open(tx, found))
        assert draft.read_at(0, draft.size_bytes) == partial.content
        going_on = Writing(self.share, key.folder, key.name, None, draft, now_us)
        going_on.base_id = partial.base_id
        going_on.expected += partial.content
        self.writing.append(going_on)

    @rule(which=st.sampled_from([b"x", b"y"]), size=st.integers(0, 400_000), rare=st.integers(0, 3))
    def reserve(self, which: bytes, size: int, rare: int) -> None:
        """Reserve room for an upload that is running somewhere else, or give it back."""
        if rare > 1:
            return
        now_us = self.step("reserve" if rare else "release")
        vault = self.world.vault
        if rare == 0:
            with self.world.catalog.begin() as tx:
                vault.room.release(tx, which)
            held = None
        else:
            held = self.refused(
                expected=not self.model.fits(size, now_us, which),
                change=lambda tx: vault.room.reserve(tx, vault.share(tx, self.share), which, size),
            )
            if held is None:
                return
        for model in self.models.values():
            model.reserved.pop(which, None)
        if held is not None:
            self.model.reserved[which] = (size, now_us + RESERVATION_US)

    # The tree

    @rule(folder=PICKS, name=NAMES, author=AUTHORS)
    def make_folder(self, folder: int, name: str, author: str) -> None:
        """Make a folder."""
        where = pick(self.model.folders(), folder)
        if self.model.at(where, name) is not None or len(self.model.nodes) > 60:
            return
        now_us = self.step("mkdir")
        with self.world.catalog.begin() as tx:
            made = self.world.vault.add_folder(tx, self.located(tx, where), name, author=author)
        self.model.add_folder(made.id, where, name, now_us)

    @precondition(lambda self: self._live())
    @rule(which=PICKS, folder=PICKS, name=NAMES, author=AUTHORS)
    def move(self, which: int, folder: int, name: str, author: str) -> None:
        """Rename a node; over a file, a file becomes its next version."""
        entry, where = pick(self._live(), which), pick(self.model.folders(), folder)
        there = self.model.at(where, name)
        if self.model.within(where, entry.id) or there is entry:
            return
        if there is not None and (there.folder or entry.folder):
            return
        now_us = self.step("move" if there is None else "take over")
        vault = self.world.vault
        with self.world.catalog.begin() as tx:
            node = self.located(tx, entry.id)
            if there is None:
                vault.move(tx, node, self.located(tx, where), name, author=author)
            else:
                vault.take_over(tx, self.located(tx, there.id), node, author=author)
        if there is None:
            self.model.move(entry, where, name, author, now_us)
        else:
            self.model.take_over(there, entry, author, now_us)

    @precondition(lambda self: self.model.files())
    @rule(which=PICKS, backup=NAMES, author=AUTHORS, size=SIZES)
    def save_by_rename(self, which: int, backup: str, author: str, size: int) -> None:
        """Take a file away from its name and write a new one there, as editors do."""
        entry = pick(self.model.files(), which)
        where, name = entry.parent, entry.name
        if self.model.at(where, backup) is None:
            now_us = self.step("move")
            with self.world.catalog.begin() as tx:
                node = self.located(tx, entry.id)
                self.world.vault.move(tx, node, self.located(tx, where), backup, author=author)
            self.model.move(entry, where, backup, author, now_us)
        else:
            self._delete(entry, author)
        writing = self._begin(where, name, keep=False)
        assert writing is not None
        self._put(writing, 0, size)
        self._commit(writing, author)

    @precondition(lambda self: self._live())
    @rule(which=PICKS, folder=PICKS, name=NAMES, author=AUTHORS, how=COPYING)
    def copy(self, which: int, folder: int, name: str, author: str, how: str) -> None:
        """Copy a node; over a file, a file becomes its next version."""
        deep = how != "shallow"
        entry, where = pick(self._live(), which), pick(self.model.folders(), folder)
        there = self.model.at(where, name)
        if self.model.within(where, entry.id) or there is entry or len(self.model.nodes) > 60:
            return
        if there is not None and (there.folder or entry.folder):
            return
        sources = [entry, *(self.model.below(entry.id, live=True) if deep else ())]
        size = sum(len(one.content) for one in sources if not one.folder)
        now_us = self.step("copy" if there is None else "copy over")
        full = not self.model.fits(size, now_us)
        vault = self.world.vault

        def copied(tx: Tx) -> Node:
            node = self.located(tx, entry.id)
            if there is not None:
                target = self.located(tx, there.id)
                return vault.replace_content(tx, target, node, author=author)
            parent = self.located(tx, where)
            if how == "in turns" and entry.folder:
                return self.world.copy_in_turns(tx, node, parent, name, author=author)
            return vault.copy(tx, node, parent, name, author=author, deep=deep)

        made = self.refused(expected=full, change=copied)
        if made is None:
            return
        if there is not None:
            self.model.copy_over(there, entry, author, now_us)
            return
        self.model.copied(made.id, entry, where, name, author=author, now_us=now_us)
        self._note_copies(entry.id, made.id, author, now_us, deep=deep)
        self.model.filled_by_copy(self.model.nodes[made.id], author, now_us)

    def _note_copies(
        self, source: bytes, made: bytes, author: str, now_us: int, *, deep: bool
    ) -> None:
        """Tell the model the ids of what was copied with a folder."""
        with self.world.catalog.snapshot() as tx:
            share = self.world.vault.share(tx, self.share)
            ids = {
                share.names.unseal(made, row.name_sealed): row.id
                for row in nodes.children(tx, made)
            }
        originals = [one for one in self.model.below(source, live=True) if one.parent == source]
        originals = originals if deep else []
        assert sorted(ids) == sorted(one.name for one in originals)
        for one in originals:
            self.model.copied(ids[one.name], one, made, one.name, author=author, now_us=now_us)
            self._note_copies(one.id, ids[one.name], author, now_us, deep=True)

    @precondition(lambda self: self._live())
    @rule(which=PICKS, author=AUTHORS)
    def delete(self, which: int, author: str) -> None:
        """Delete a node with all below it."""
        self._delete(pick(self._live(), which), author)

    def _delete(self, entry: Entry, author: str) -> None:
        now_us = self.step("delete")
        with self.world.catalog.begin() as tx:
            self.world.vault.delete(tx, self.located(tx, entry.id), author=author)
        if not SHARES[self.share].trash_s:
            self._purge_next()
        self.model.delete(entry, author, now_us)

    @precondition(lambda self: self._live())
    @rule(which=PICKS, value=st.sampled_from([None, None, "", "red", "blue"]))
    def put_properties(self, which: int, value: str | None) -> None:
        """Set a node's properties, or remove them."""
        if value is None:
            return
        entry = pick(self._live(), which)
        self.step("properties")
        properties = {COLOUR: value} if value else {}
        with self.world.catalog.begin() as tx:
            node = self.located(tx, entry.id)
            self.world.vault.put_properties(tx, node, properties)
        entry.properties = properties

    def _live(self) -> list[Entry]:
        return [one for one in self.model.nodes.values() if self.model.lives(one.id)]

    # The past

    @precondition(lambda self: self.model.files())
    @rule(which=PICKS, version=PICKS, author=AUTHORS)
    def restore(self, which: int, version: int, author: str) -> None:
        """Make an older version the current one again."""
        entry = pick(self.model.files(), which)
        wanted = pick(entry.versions, version)
        now_us = self.step("restore")
        full = not self.model.fits(len(wanted.content), now_us)
        vault = self.world.vault

        def restored(tx: Tx) -> Node:
            node = self.located(tx, entry.id)
            told = vault.past.versions(tx, node.row)[entry.versions.index(wanted)]
            return vault.restore(tx, node, bytes.fromhex(told.version_id), author=author)

        if self.refused(expected=full, change=restored) is not None:
            self.model.put_version(entry, wanted.content, author, now_us)

    @precondition(lambda self: self.model.trash())
    @rule(
        what=st.sampled_from(["look", "bring back", "bring back", "purge"]),
        which=PICKS,
        folder=PICKS,
        name=st.one_of(st.none(), NAMES),
    )
    def turn_to_trash(self, what: str, which: int, folder: int, name: str | None) -> None:
        """Look at the trash; restore from it, to the old name or another; empty it."""
        entry = pick(self.model.trash(), which)
        self.step(what)
        if what == "look":
            self._check_trash()
        elif what == "purge":
            self._purge(entry)
        else:
            self._bring_back(entry, folder, entry.name if name is None else name)

    def _bring_back(self, entry: Entry, folder: int, name: str) -> None:
        deleted = [one.id for one in self.model.trash() if one.folder]
        where = pick([*self.model.folders(), *deleted], folder)
        vault = self.world.vault

        def back(tx: Tx) -> None:
            share = vault.share(tx, self.share)
            row = nodes.any_by_id(tx, where)
            assert row is not None
            vault.past.bring_back(tx, vault.past.in_trash(tx, share, entry.id), row, name)

        with self.world.catalog.begin() as tx:
            if not self.model.lives(where):
                with pytest.raises(ParentMissingError):
                    back(tx)
            elif self.model.at(where, name) is not None:
                with pytest.raises(AlreadyExistsError):
                    back(tx)
            else:
                back(tx)
                self.model.bring_back(entry, where, name)

    def _purge(self, entry: Entry) -> None:
        with self.world.catalog.begin() as tx:
            share = self.world.vault.share(tx, self.share)
            past = self.world.vault.past
            trashed = past.in_trash(tx, share, entry.id)
            went = past.purge(tx, trashed)
            while gone := past.purge(tx, trashed):
                went += gone
        assert went == self.model.remove(entry.id)

    def _purge_next(self) -> None:
        gone = 1
        while gone:
            with self.world.catalog.begin() as tx:
                gone = self.world.vault.purge_next(tx, self.share)

    # Time, keys, processes

    @rule(what=TIDYING, seconds=WAITS_S)
    def time_goes_by(self, what: str, seconds: int) -> None:
        """Wait, and do what the janitor does; no session, and so no upload, lasts half a day."""
        self.step("wait")
        self.world.clock.now_us += seconds * SECOND_US
        for writing in list(self.writing):
            if self.world.clock() - writing.begun_us > LONGEST_SESSION_S * SECOND_US:
                self._drop(writing)
        if what == "gc":
            self.step("gc")
            self.world.collect()
        elif what:
            self._tidy(what)

    def _tidy(self, what: str) -> None:
        now_us = self.step(what)
        vault, again = self.world.vault, True
        while again:
            with self.world.catalog.begin() as tx:
                share = vault.share(tx, self.share)
                if what == "prune":
                    files, _after = vault.prunable(tx, self.share, b"")
                    again = vault.prune(tx, self.share, files) > 0
                elif what == "purge":
                    again = vault.purge_next(tx, self.share) > 0
                elif what == "expire":
                    again = vault.unfinished.expire_next(tx, share) > 0
                else:
                    gc.forget(tx, now_us)
                    again = False
        if what == "prune":
            self.model.prune_all(now_us)
        elif what == "purge":
            self.model.purge_all(now_us)
        elif what == "expire":
            self.model.expire(now_us)

    @rule(
        what=st.sampled_from(["rotate", "reseal", "re-key", "restart", "", "", ""]),
        tidy=st.booleans(),
    )
    def administer(self, what: str, tidy: bool) -> None:
        """Begin a new epoch; start anew, under another master key perhaps, what is open lost."""
        if what == "rotate":
            self._rotate()
        elif what == "reseal":
            self._reseal()
        elif what:
            while self.writing and tidy:
                self._drop(self.writing[-1])
            self.writing.clear()
            if what == "re-key":
                self._rewrap()
            self.step("restart")
            self.world.restart()
            self.world.vault.configure(SHARES)

    def _rotate(self) -> None:
        now_us = self.step("rotate")
        world = self.world
        with world.catalog.begin() as tx:
            share = world.vault.share(tx, self.share)
            epoch = rotate_share(tx, world.master, share.row, now_us, world.random_bytes)
            assert world.vault.share(tx, self.share).key.epoch == epoch

    def _reseal(self) -> None:
        """Bring all under the current epoch, and destroy the keys that nothing needs then."""
        now_us = self.step("reseal")
        world = self.world
        resealing = Resealing(
            world.catalog,
            world.store,
            world.shares,
            self.share,
            clock=world.clock,
            random_bytes=world.random_bytes,
            done=lambda _size_bytes: None,
        )
        resealing.run()
        assert resealing.damages == []
        with world.catalog.begin() as tx:
            share = world.vault.share(tx, self.share)
            uses = epochs.uses_of(tx, share.row)
            assert all(use.is_resealed for use in uses if use.row.epoch < share.row.epoch)
            epochs.retire(tx, share.row, now_us)

    def _rewrap(self) -> None:
        self.step("re-key")
        world = self.world
        new = MasterKey.generate(world.random_bytes)
        with world.catalog.begin() as tx:
            rewrap(tx, _Masters(world.master, new), new)
        world.master = new

    # What must hold

    @invariant()
    def rows_are_as_modelled(self) -> None:
        """Names, histories, counters and the ledger's digest, of what the last step changed."""
        for name in self.changed:
            with self.world.catalog.snapshot() as tx:
                self._check_rows(tx, name)
        self.changed.clear()

    def _check_rows(self, tx: Tx, name: str) -> None:
        vault, model = self.world.vault, self.models[name]
        share = vault.share(tx, name)
        seal, state = share.seal, share.seal.state_of(share.row)
        node_rows = nodes.of_share(tx, share.id, b"", ALL_ROWS)
        version_rows = versions.of_share(tx, share.id, b"", ALL_ROWS)
        macs = [row.mac for row in node_rows] + [row.mac for row in version_rows]
        digest = sum(map(seal.element, macs))
        known = {row.id: seal.checked(row) for row in node_rows}
        assert known.keys() == {model.root, *model.nodes}
        for entry in model.nodes.values():
            row = known[entry.id]
            assert row.parent_id == entry.parent
            assert share.names.unseal(row.parent_id, row.name_sealed) == entry.name
            assert (bool(row.is_folder), row.deleted_us) == (entry.folder, entry.deleted_us)
            history = versions.of_node(tx, entry.id)
            assert [(each.created_us, each.author, each.size_bytes) for each in history] == [
                (each.created_us, each.author, len(each.content)) for each in entry.versions
            ]
            if history:
                assert (row.version_id, row.size_bytes) == (history[0].id, history[0].size_bytes)
            properties = nodes.properties_of(tx, entry.id)
            assert (properties is None) == (not entry.properties)
            if properties is not None:
                digest += seal.property_element(entry.id, properties)
        assert digest % DIGEST_MODULUS == state.digest
        assert (state.used_bytes, state.node_count) == (model.used_bytes, len(model.nodes))
        uploads = tx.connection.execute(
            "SELECT id, folder_id, principal_id FROM unfinished WHERE share_id = ?", (share.id,)
        ).fetchall()
        assert sorted(row[1:] for row in uploads) == sorted(
            (key.folder, key.principal) for key in model.unfinished
        )
        owners = known.keys() | {row[0] for row in uploads}
        assert {row.node_id for row in version_rows} <= owners
        assert sum(len(one.versions) for one in model.nodes.values()) + len(uploads) == len(
            version_rows
        )

    @precondition(lambda self: self.model.files())
    @rule(which=PICKS, place=st.floats(0, 1))
    def look_at_file(self, which: int, place: float) -> None:
        """A file is found by its path, lists and reads as it should, and so does its past."""
        entry = pick(self.model.files(), which)
        self.step("look")
        vault = self.world.vault
        with self.world.catalog.snapshot() as tx:
            path = VirtualPath((self.share, *self.model.path(entry.id)))
            node = vault.find(tx, path)
            assert node is not None
            assert node.id == entry.id
            assert vault.properties(tx, node) == entry.properties
            folder = self.located(tx, entry.parent)
            listed = [child.path.name for child in vault.children(tx, folder)]
            content = vault.open_content(tx, node)
            offset = int(len(entry.content) * place)
            assert content.read_at(offset, 70_000) == entry.content[offset : offset + 70_000]
            self._check_history(tx, node, entry)
        beside = [one for one in self.model.nodes.values() if one.parent == entry.parent]
        assert sorted(listed) == sorted(one.name for one in beside if one.deleted_us is None)

    def _check_history(self, tx: Tx, node: Node, entry: Entry) -> None:
        past = self.world.vault.past
        told = past.versions(tx, node.row)
        assert [one.current for one in told] == [True] + [False] * (len(told) - 1)
        for one, expected in zip(told, entry.versions, strict=True):
            _, content = past.open(tx, node.row, bytes.fromhex(one.version_id))
            assert content.read_at(0, content.size_bytes) == expected.content

    def _check_trash(self) -> None:
        vault, model = self.world.vault, self.model
        with self.world.catalog.snapshot() as tx:
            told = [one.info for one in vault.past.trash(tx, vault.share(tx, self.share))]
        assert [(one.node_id, one.parts[1:], one.folder_lives) for one in told] == [
            (one.id.hex(), model.path(one.id), model.lives(one.parent)) for one in model.trash()
        ]

    def teardown(self) -> None:
        """Everything reads back; what nothing refers to is gone once its time is over."""
        try:
            self._check_everything()
        finally:
            self._running.__exit__(None, None, None)
            shutil.rmtree(self._data)

    def _check_everything(self) -> None:
        world = self.world
        while self.writing:
            self._drop(self.writing[-1])
        for name in SHARES:
            self.share = name
            with world.catalog.snapshot() as tx:
                self._check_rows(tx, name)
                for entry in self.model.files():
                    self._check_history(tx, self.located(tx, entry.id), entry)
                for key, partial in self.model.unfinished.items():
                    self._check_unfinished(tx, key, partial)
        for days in (8, 2):
            world.collect()
            world.clock.now_us += days * DAY_S * SECOND_US
            world.collect()
        with world.catalog.snapshot() as tx:
            known = {row[0] for row in tx.connection.execute("SELECT id FROM segments")}
            used = {row[0] for row in tx.connection.execute("SELECT segment_id FROM extents")}
            loose = tx.connection.execute(
                "SELECT count(*) FROM extents WHERE version_id NOT IN (SELECT id FROM versions)"
            ).fetchone()
        assert loose == (0,)
        assert {blob_id for blob_id, _ in world.store.listing()} == known == used

    def _check_unfinished(self, tx: Tx, key: PartialKey, partial: Partial) -> None:
        vault = self.world.vault
        share = vault.share(tx, self.share)
        found = vault.unfinished.find(tx, share, key.folder, key.name, principal_id=key.principal)
        assert (found is None) == (partial.expires_us <= self.world.clock())
        if found is not None:
            assert vault.unfinished.open(tx, found).read_at(0, 1 << 30) == partial.content


@dataclass(frozen=True, slots=True)
class _Masters:
    """The old master key and the new one, as a key file has both while they are exchanged."""

    old: MasterKey
    newest: MasterKey

    def named(self, key_id: str) -> MasterKey:
        return next(one for one in (self.old, self.newest) if one.key_id == key_id)


def pick(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


def test_the_vault_does_what_the_model_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is done in whatever order: content, names, histories, counters, ledger, blobs."""
    for module in ("gc", "past", "vault"):
        monkeypatch.setattr(f"backends.{module}.SUBTREE_LIMIT", 2)
    catalog = open_catalog(tmp_path)
    catalog.migrate()
    catalog.close()
    VaultMachine.folder, VaultMachine.steps = tmp_path, Counter()
    steps = int(os.environ.get("SEALGATE_STEPS", "0"))
    try:
        run_state_machine_as_test(
            VaultMachine,
            settings=settings(
                max_examples=max(SHORT_RUNS, steps // STEPS_A_RUN),
                stateful_step_count=STEPS_A_RUN,
                deadline=None,
                derandomize=not steps,
                database=None,
                print_blob=True,
                # The shortest way to a failure takes minutes to find: not within a test's time.
                phases=tuple(Phase) if steps else (Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        done = VaultMachine.steps
        log.info("%d steps: %s", done.total(), dict(done.most_common()))
