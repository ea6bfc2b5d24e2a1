"""Locks at the door against a plain model of RFC 4918, in any order of events.

``SEALGATE_STEPS`` sets how many steps are run, in another order each time; without it the run is
short and always the same.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import ClassVar

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

from gateway.errors import LockConflictError, LockedError, LockHolderError, LockTokenError
from gateway.model import SECOND_US, LockInfo, Wire
from gateway.monitor import Door
from gateway.paths import VirtualPath
from tests.door.lock_model import Lock, LockModel, What
from tests.door.support import Gate, at, open_gate, put

log = logging.getLogger(__name__)

STEPS_A_RUN = 40
SHORT_RUNS = 40

TOP = at("/radiology")
PATHS = [at(f"/radiology/{path}") for path in ("a", "b", "a/x", "a/y", "a/x/1", "b/x")]
PEOPLE = ("alice", "bob")

ANYONE = st.sampled_from(PEOPLE)
ANYWHERE = st.sampled_from(PATHS)
SUBMITTED = st.sampled_from(["none", "own", "own", "own", "all"])
PICKS = st.integers(0, 1000)
EXCLUSIVE = st.sampled_from([True, False, False])
TIMEOUTS_S = st.sampled_from([30, 300, 3000])


class LockMachine(RuleBasedStateMachine):
    """Does to the door what it does to the model."""

    prepared: ClassVar[Path]
    scratch: ClassVar[Path]
    steps: ClassVar[Counter[str]]
    _numbers: ClassVar[count[int]] = count()

    def __init__(self) -> None:
        super().__init__()
        self._data = self.scratch / f"run-{next(self._numbers)}"
        shutil.copytree(self.prepared, self._data)
        self._stack = ExitStack()
        self.gate: Gate = self._stack.enter_context(open_gate(self._data))
        self.model = LockModel(self.gate.clock(), {TOP: What.FOLDER})

    def teardown(self) -> None:
        self._stack.close()
        shutil.rmtree(self._data)

    @initialize()
    def grow(self) -> None:
        door = self.gate.door("alice")
        for path in PATHS[:3]:
            door.mkdir(path)
            self.model.nodes[path] = What.FOLDER
        for path in PATHS[3:]:
            put(door, str(path))
            self.model.nodes[path] = What.FILE

    # Asking both

    def tokens(self, who: str, submitted: str) -> frozenset[str]:
        return frozenset(
            lock.token
            for lock in self.model.locks
            if submitted == "all" or (submitted == "own" and lock.who == who)
        )

    def door(self, who: str, tokens: frozenset[str] = frozenset()) -> Door:
        return self.gate.door(who).with_tokens(tokens)

    def attempt(self, name: str, change: Callable[[], object], *, permitted: bool) -> bool:
        """Do ``change``; it must be refused as locked exactly when the model does not permit it."""
        self.steps[f"{name} {'done' if permitted else 'refused'}"] += 1
        if permitted:
            change()
            return True
        before = self.gate.content()
        with pytest.raises(LockedError) as caught:
            change()
        holders = {lock.who.title() for lock in self.model.locks}
        assert caught.value.holder in holders
        assert not any(lock.token in str(caught.value) for lock in self.model.locks)
        assert self.gate.content() == before
        return False

    def present(self, pick: int) -> VirtualPath:
        """Return some node other than the share itself."""
        nodes = sorted(self.model.nodes.keys() - {TOP}, key=str)
        return nodes[pick % len(nodes)]

    def place(self, path: VirtualPath) -> bool:
        """Whether something may lie at ``path``: its folder is there."""
        return self.model.nodes.get(path.parent) is What.FOLDER

    # Locks

    @rule(
        who=ANYONE,
        path=ANYWHERE,
        submitted=SUBMITTED,
        exclusive=EXCLUSIVE,
        deep=st.booleans(),
        timeout_s=TIMEOUTS_S,
    )
    def lock(
        self,
        who: str,
        path: VirtualPath,
        submitted: str,
        *,
        exclusive: bool,
        deep: bool,
        timeout_s: int,
    ) -> None:
        model, tokens = self.model, self.tokens(who, submitted)
        if not self.place(path):
            return
        made = path not in model.nodes
        storable = not made or model.may_store(who, tokens, path)
        compatible = model.may_lock(path, exclusive=exclusive, deep=deep)
        taken: list[tuple[LockInfo, bool]] = []

        def change() -> None:
            door = self.door(who, tokens)
            taken.append(
                door.lock(
                    path,
                    exclusive=exclusive,
                    depth_infinity=deep,
                    owner=f"<o>{who}</o>",
                    timeout_s=timeout_s,
                )
            )

        if storable and not compatible:
            self.steps["lock conflicts"] += 1
            with pytest.raises(LockConflictError) as caught:
                change()
            assert at(caught.value.root) in {lock.root for lock in model.locks}
        elif self.attempt("lock", change, permitted=storable):
            ((info, created),) = taken
            assert created is made
            if made:
                model.nodes[path] = What.FILE
            ends_us = model.now_us + timeout_s * SECOND_US
            model.locks.append(Lock(info.token, path, who, exclusive, deep, ends_us))

    @precondition(lambda self: self.model.locks)
    @rule(who=ANYONE, pick=PICKS, path=ANYWHERE, timeout_s=TIMEOUTS_S, unlock=st.booleans())
    def refresh_or_unlock(
        self, who: str, pick: int, path: VirtualPath, timeout_s: int, *, unlock: bool
    ) -> None:
        lock = self.model.locks[pick % len(self.model.locks)]
        path = path if path in self.model.nodes else lock.root
        door = self.door(who)

        def change() -> None:
            if unlock:
                door.unlock(path, lock.token)
            else:
                door.refresh_lock(path, lock.token, timeout_s=timeout_s)

        if not lock.covers(path):
            with pytest.raises(LockTokenError):
                change()
        elif lock.who != who:
            with pytest.raises(LockHolderError):
                change()
        else:
            self.steps["unlock" if unlock else "refresh"] += 1
            change()
            if unlock:
                self.model.locks.remove(lock)
            else:
                self.model.refresh(lock, timeout_s)

    @rule(seconds=st.sampled_from([1, 1, 29, 30, 270]))
    def wait(self, seconds: int) -> None:
        self.gate.clock.forward(seconds)
        self.model.pass_time(seconds)

    # Changes

    @rule(who=ANYONE, path=ANYWHERE, submitted=SUBMITTED)
    def store(self, who: str, path: VirtualPath, submitted: str) -> None:
        tokens = self.tokens(who, submitted)
        if not self.place(path) or self.model.nodes.get(path) is What.FOLDER:
            return
        permitted = self.model.may_store(who, tokens, path)
        if self.attempt("put", lambda: put(self.door(who, tokens), str(path)), permitted=permitted):
            self.model.nodes[path] = What.FILE

    @rule(who=ANYONE, path=ANYWHERE)
    def store_by_sftp(self, who: str, path: VirtualPath) -> None:
        if not self.place(path) or self.model.nodes.get(path) is What.FOLDER:
            return
        permitted = self.model.may_store(who, frozenset(), path)
        door = self.gate.door(who, wire=Wire.SFTP)
        if self.attempt("sftp put", lambda: put(door, str(path)), permitted=permitted):
            self.model.nodes[path] = What.FILE

    @rule(who=ANYONE, path=ANYWHERE, submitted=SUBMITTED)
    def make_folder(self, who: str, path: VirtualPath, submitted: str) -> None:
        tokens = self.tokens(who, submitted)
        if not self.place(path) or path in self.model.nodes:
            return
        permitted = self.model.may_make(who, tokens, path)
        if self.attempt("mkcol", lambda: self.door(who, tokens).mkdir(path), permitted=permitted):
            self.model.nodes[path] = What.FOLDER

    @precondition(lambda self: len(self.model.nodes) > 1)
    @rule(who=ANYONE, pick=PICKS, submitted=SUBMITTED)
    def delete(self, who: str, pick: int, submitted: str) -> None:
        path, tokens = self.present(pick), self.tokens(who, submitted)
        permitted = self.model.may_remove(who, tokens, path)
        change = self.door(who, tokens).delete
        if self.attempt("delete", lambda: change(path), permitted=permitted):
            self.model.remove(path)

    @precondition(lambda self: len(self.model.nodes) > 1)
    @rule(who=ANYONE, pick=PICKS, to=ANYWHERE, submitted=SUBMITTED, move=st.booleans())
    def transfer(self, who: str, pick: int, to: VirtualPath, submitted: str, *, move: bool) -> None:
        model, source, tokens = self.model, self.present(pick), self.tokens(who, submitted)
        apart = not (source.is_within(to) or to.is_within(source))
        if not apart or not self.place(to):
            return
        permitted = model.may_arrive(who, tokens, source, to)
        door = self.door(who, tokens)
        if move:
            permitted = permitted and model.may_remove(who, tokens, source)

        def change() -> None:
            if move:
                door.move(source, to, replace=True, replace_folder=True)
            else:
                door.copy(source, to, replace=True)

        if self.attempt("move" if move else "copy", change, permitted=permitted):
            (model.move if move else model.copy)(source, to)

    # After each

    @invariant()
    def everyone_is_told_what_the_model_knows(self) -> None:
        for who in PEOPLE:
            door = self.door(who)
            for path in self.model.nodes:
                told = {
                    (each.token, each.path, each.principal_name, each.exclusive, each.expires_us)
                    for each in door.locks(path)
                }
                known = {
                    (
                        each.token if each.who == who else "",
                        each.root,
                        each.who.title(),
                        each.exclusive,
                        each.ends_us,
                    )
                    for each in self.model.covering(path)
                }
                assert told == known


def test_the_door_keeps_locks_as_the_rfc_says(prepared: Path, tmp_path: Path) -> None:
    """Whatever two principals do to a small tree: refused exactly when a lock forbids it."""
    LockMachine.prepared, LockMachine.scratch, LockMachine.steps = prepared, tmp_path, Counter()
    steps = int(os.environ.get("SEALGATE_STEPS", "0"))
    try:
        run_state_machine_as_test(
            LockMachine,
            settings=settings(
                max_examples=max(SHORT_RUNS, steps // STEPS_A_RUN),
                stateful_step_count=STEPS_A_RUN,
                deadline=None,
                derandomize=not steps,
                database=None,
                print_blob=True,
                # The shortest way to a failure takes minutes to find.
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        done = LockMachine.steps
        log.info("%d steps: %s", done.total(), dict(done.most_common()))
