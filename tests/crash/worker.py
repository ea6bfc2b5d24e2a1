"""The process that dies: opens the gateway, judges what it finds, and works until it is ended.

Runs in a fork of the campaign, which has everything imported and no thread running.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import itertools
import logging
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backends.errors import QuotaExceededError, StorageFullError, StorageUnavailableError
from gateway.app import Gateway
from gateway.audit.checkpoint import AnchorError
from gateway.care.clearing import Clearing
from gateway.errors import AuditUnavailableError
from gateway.monitor import Door
from gateway.paths import VirtualPath
from tests.crash import check
from tests.crash.boundaries import Boundaries
from tests.crash.channel import END, Armed, Begun, Broken, Done, Refused, Resolved, Sender, Struck
from tests.crash.check import Past
from tests.crash.client import Tokens, observe, perform, tokens_of
from tests.crash.model import Acknowledged, Story, Tree, applied
from tests.crash.plan import Planner
from tests.crash.site import SHARE, MovableClock, Site, door_for, root_of

HANG_S = 60
"""After this long a process is taken to hang; it then shows where, and ends."""

TRACER_WAIT_S = 20.0

EXCUSED = (
    StorageFullError,
    QuotaExceededError,
    StorageUnavailableError,
    AuditUnavailableError,
    AnchorError,
)
"""What a client may be told while the disk is full or fails."""

Strike = Callable[[], None]


def die() -> None:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Orders:
    """What one process is to do, all of it drawn from the seed before it is forked.

    ``at`` is the boundary of ``kind`` (empty: any) to strike at, 0 none; ``early`` counts it from the start, so that
    recovery itself is hit. ``faulty``: errors are expected; ``relief`` then makes the disk good
    again. ``traced``: wait for strace before working. ``housekeeping``: clear away beside the
    clients; where there is ``relief``, make a checkpoint before each operation instead.
    ``cuts``: what strikes is the loss of power. ``companion``: join a process that has judged, and go on when that dies. ``own``: the threads
    that are this process's.
    """

    seed: str
    cycle: int
    since_us: int
    threads: int
    operations: int
    at: int = 0
    kind: str = ""
    strike: Strike = die
    early: bool = False
    faulty: bool = False
    relief: Strike | None = None
    traced: bool = False
    housekeeping: bool = False
    large_share: float = 0.01
    end: Strike = die
    cuts: bool = False
    companion: bool = False
    own: tuple[int, ...] = ()


@dataclass(slots=True)
class Work:
    """One process's run."""

    site: Site
    orders: Orders
    past: Past
    sender: Sender
    clock: MovableClock = field(default_factory=MovableClock)
    _looks: itertools.count[int] = field(default_factory=itertools.count)

    def run(self) -> None:
        """Do the whole of it; does not return."""
        logging.disable()
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            self._run()
        except BaseException:  # noqa: BLE001  the parent must hear of anything
            with contextlib.suppress(OSError):
                self.sender.send(Broken(traceback.format_exc()))
        os._exit(0)

    def _run(self) -> None:
        orders = self.orders
        boundaries = Boundaries(orders.at, orders.kind, self._struck)
        boundaries.install()
        if orders.early:
            boundaries.armed = True
            self.sender.send(Armed())
        gateway = self.site.open(self.clock)
        start = self._joined(gateway) if orders.companion else self._judged(gateway)
        if start is None:
            return
        jobs = [
            functools.partial(self._client, gateway, thread, door, *start[thread])
            for thread in orders.own
            for door in [door_for(gateway, session_of(orders.cycle, thread))]
        ]
        if not (orders.early or orders.companion):
            self._await_tracer()
            boundaries.armed = True
            self.sender.send(Armed())
        if orders.housekeeping and orders.relief is None:
            jobs.append(functools.partial(self._keep_house, gateway))
        self._together(jobs)
        self.sender.send(Struck(END))
        orders.end()

    def _judged(self, gateway: Gateway) -> dict[int, tuple[Tree, Tokens]] | None:
        """Judge what is there; return what each thread begins with, None if that is wrong."""
        setup = door_for(gateway, f"c{self.orders.cycle}-check")
        verdict, tokens = check.settle(gateway, self.site, setup, self.past)
        self._make_roots(setup)
        self.sender.send(verdict)
        if verdict.findings:
            return None
        trees = settled(self.past, verdict.happened)
        return {thread: (tree, tokens[thread]) for thread, tree in trees.items()}

    def _joined(self, gateway: Gateway) -> dict[int, tuple[Tree, Tokens]]:
        """Return what each thread begins with, when another process has judged it just now."""
        door = door_for(gateway, f"c{self.orders.cycle}-companion")
        return {
            thread: (self.past.stories[thread].before, tokens_of(observe(door, root_of(thread))))
            for thread in self.orders.own
        }

    def _struck(self, boundary: str) -> None:
        self.sender.send(Struck(boundary))
        self.orders.strike()

    def _await_tracer(self) -> None:
        if not self.orders.traced:
            return
        self.sender.send(Armed())
        deadline = time.monotonic() + TRACER_WAIT_S
        while "TracerPid:\t0" in _own_status():
            assert time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.002)

    def _together(self, jobs: Sequence[Callable[[], None]]) -> None:
        threads = [threading.Thread(target=self._guarded, args=(job,)) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:  # noqa: BLE001  the parent must hear of anything
            self.sender.send(Broken(traceback.format_exc()))

    def _make_roots(self, door: Door) -> None:
        there = {str(child.path) for child in door.scandir(VirtualPath((SHARE,))).children}
        for thread in range(self.orders.threads):
            if root_of(thread) not in there:
                door.mkdir(VirtualPath.parse(root_of(thread)))

    # Working

    def _client(
        self, gateway: Gateway, thread: int, door: Door, tree: Tree, tokens: Tokens
    ) -> None:
        orders = self.orders
        planner = Planner(
            random.Random(f"{orders.seed} {orders.cycle} {thread}"),
            root_of(thread),
            f"c{orders.cycle}",
            orders.large_share,
        )
        story = Story(door.session.id, tree)
        for _ in range(orders.operations):
            if orders.housekeeping and orders.relief is not None:
                # The anchor is a file of its own, so that it meets the fault at another place.
                with contextlib.suppress(*EXCUSED):
                    gateway.checkpoint()
            operation = planner.next(tree)
            story.open = [operation]
            self.sender.send(Begun(thread, operation))
            try:
                version_id = perform(door, operation, tokens)
            except EXCUSED as error:
                if not orders.faulty:
                    raise
                self.sender.send(Refused(thread, f"{type(error).__name__}: {error}"))
                if isinstance(error, QuotaExceededError):
                    # Refused beforehand: it certainly did not happen, and the disk is still full.
                    story.open = []
                    continue
                if orders.relief is None:
                    return
                orders.relief()
                happened, tokens = self._looked(gateway, thread, story)
                if not happened:
                    story.open = []
                    continue
                version_id = ""
            else:
                self.sender.send(Done(thread, version_id))
            story.done.append(Acknowledged(operation, version_id))
            story.open = []
            tree = applied(tree, operation)

    def _looked(self, gateway: Gateway, thread: int, story: Story) -> tuple[bool, Tokens]:
        """Look whether an operation that reported an error happened, and say so."""
        door = door_for(gateway, f"{story.session}-look-{next(self._looks)}")
        past = Past({thread: story}, self.orders.since_us, self.past.digests)
        verdict, tokens = check.settle(gateway, self.site, door, past)
        if verdict.findings:
            self.sender.send(Broken("\n".join(verdict.findings)))
        happened = verdict.happened.get(thread, 0) > 0
        self.sender.send(Resolved(thread, happened))
        return happened, tokens[thread]

    def _keep_house(self, gateway: Gateway) -> None:
        """Do what the janitor does, on days so far apart that there is something to clear away."""
        with contextlib.suppress(*(EXCUSED if self.orders.faulty else ())):
            for hours in (0, 25, 50):
                self.clock.shift(hours)
                self._clear_away(gateway)
                self.clock.shift(0)
                gateway.checkpoint()

    @staticmethod
    def _clear_away(gateway: Gateway) -> None:
        Clearing(gateway).run(strays=True)


def settled(past: Past, happened: Mapping[int, int]) -> dict[int, Tree]:
    """Return every thread's tree once it is known how many open operations happened."""
    return {
        thread: settled_story(story, happened.get(thread, 0))
        for thread, story in past.stories.items()
    }


def session_of(cycle: int, thread: int) -> str:
    """Return the id of a thread's session in a cycle."""
    return f"c{cycle}-t{thread}"


def settled_story(story: Story, happened: int) -> Tree:
    """Return a thread's tree when ``happened`` of its open operations are done."""
    tree = story.before
    for operation in (*(answer.operation for answer in story.done), *story.open[:happened]):
        tree = applied(tree, operation)
    return tree


def _own_status() -> str:
    return Path("/proc/self/status").read_text(encoding="ascii")
