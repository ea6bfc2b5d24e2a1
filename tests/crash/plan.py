"""Which operation comes next: drawn from a seeded generator and the tree as it stands.

Pure. Names are never used twice, so that no file continues the history of another by accident.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.content import Piece
from tests.crash.model import (
    Change,
    Copy,
    Delete,
    Lock,
    MakeFolder,
    Move,
    Operation,
    Put,
    SetProperty,
    Tree,
    Truncate,
    Unlock,
    below,
)

NODE_LIMIT = 18
"""From here on the tree is thinned out again."""

MIB = 1024 * 1024
LARGE_BYTES = 20 * MIB
_CHUNK_BYTES = 64 * 1024
_DEPTH_LIMIT = 4


@dataclass(slots=True)
class Planner:
    """Plans for one thread's folder ``root``; ``prefix`` makes its names unique in a life."""

    rng: random.Random
    root: str
    prefix: str
    large_share: float = 0.01
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def next(self, tree: Tree) -> Operation:
        """Return an operation that changes ``tree``."""
        files = sorted(path for path, entry in tree.items() if not entry.is_folder)
        if len(tree) >= NODE_LIMIT:
            return Delete(self.rng.choice(sorted(tree)))
        if len(files) < 2:
            return self._new_file(tree)
        makers: list[tuple[int, Callable[[Tree, list[str]], Operation]]] = [
            (5, lambda tree, _: self._new_file(tree)),
            (4, lambda _, files: Put(self.rng.choice(files), self._piece())),
            (3, self._change),
            (2, self._truncate),
            (3, self._move),
            (2, self._move_over),
            (2, self._copy),
            (1, self._copy_over),
            (2, lambda tree, _: MakeFolder(self._new_path(tree))),
            (2, lambda tree, _: Delete(self.rng.choice(sorted(tree)))),
            (2, self._property),
            (2, self._lock),
        ]
        weights = [weight for weight, _ in makers]
        (_, make), *_ = self.rng.choices(makers, weights)
        return make(tree, files)

    def _new_file(self, tree: Tree) -> Put:
        return Put(self._new_path(tree), self._piece())

    def _new_path(self, tree: Tree, *, outside: str = "") -> str:
        """Return a free name in some folder, none at or below ``outside``."""
        barred = set(below(tree, outside)) if outside else set()
        folders = [
            path
            for path, entry in sorted(tree.items())
            if entry.is_folder and path not in barred and path.count("/") < _DEPTH_LIMIT + 2
        ]
        return f"{self.rng.choice([self.root, *folders])}/{self.prefix}n{next(self._number)}"

    def _piece(self) -> Piece:
        seed = self.rng.getrandbits(48) + 1
        kind = self.rng.random()
        if kind < self.large_share:
            return Piece(seed, 0, LARGE_BYTES + self.rng.randrange(_CHUNK_BYTES))
        if kind < 0.5:
            return Piece(seed, 0, self.rng.choice((1, 700, 16 * 1024, self.rng.randrange(1, 5000))))
        return Piece(seed, 0, self.rng.randrange(16 * 1024 + 1, 4 * _CHUNK_BYTES))

    def _change(self, tree: Tree, files: list[str]) -> Operation:
        path = self.rng.choice(files)
        size_bytes = tree[path].history[0].size_bytes
        piece = Piece(self.rng.getrandbits(48) + 1, 0, self.rng.randrange(1, 100_000))
        return Change(path, self.rng.randrange(size_bytes + 20_000), piece)

    def _truncate(self, tree: Tree, files: list[str]) -> Operation:
        path = self.rng.choice(files)
        present = tree[path].history[0].size_bytes
        wanted = self.rng.randrange(present + 30_000)
        return Truncate(path, wanted if wanted != present else present + 1)

    def _move(self, tree: Tree, _files: list[str]) -> Operation:
        path = self.rng.choice(sorted(tree))
        return Move(path, self._new_path(tree, outside=path))

    def _move_over(self, _tree: Tree, files: list[str]) -> Operation:
        source, target = self.rng.sample(files, 2)
        return Move(source, target)

    def _copy(self, tree: Tree, _files: list[str]) -> Operation:
        path = self.rng.choice(sorted(tree))
        return Copy(path, self._new_path(tree, outside=path))

    def _copy_over(self, _tree: Tree, files: list[str]) -> Operation:
        source, target = self.rng.sample(files, 2)
        return Copy(source, target)

    def _property(self, tree: Tree, _files: list[str]) -> Operation:
        path = self.rng.choice(sorted(tree))
        name = self.rng.choice(("a", "b", "c"))
        value = f"{self.rng.getrandbits(64):x}" * self.rng.choice((1, 50))
        return SetProperty(path, name, value)

    def _lock(self, tree: Tree, files: list[str]) -> Operation:
        path = self.rng.choice([*files, self._new_path(tree)])
        if path in tree and tree[path].locked:
            return Unlock(path)
        return Lock(path)
