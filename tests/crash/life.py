"""One data folder through many processes, each of which dies: fork, watch, kill, remember.

The parent must have no thread and no open catalog, because it forks.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.crash import check
from tests.crash.channel import (
    END,
    Armed,
    Begun,
    Broken,
    Done,
    Message,
    Receiver,
    Refused,
    Resolved,
    Struck,
    Verdict,
    channel,
)
from tests.crash.check import Past
from tests.crash.content import digest_of
from tests.crash.model import Acknowledged, Story
from tests.crash.site import MovableClock, Site, door_for
from tests.crash.worker import HANG_S, Orders, Work, session_of, settled, settled_story

_INSPECTION_S = 600.0
_DRAIN_S = 0.001


@dataclass(frozen=True, slots=True)
class Death:
    """How a process is ended from outside.

    ``after_s`` after it was armed (None: not), ``cut`` is called and the process is killed
    ``linger_s`` later. ``trace`` are strace's options for faults inside libraries. ``name`` stands
    in the summary where the process did not come to a boundary of its own.
    """

    after_s: float | None = None
    cut: Callable[[], None] | None = None
    linger_s: float = 0.0
    trace: tuple[str, ...] = ()
    name: str = "?"


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    receiver: Receiver


@dataclass(slots=True)
class Report:
    """What one cycle brought."""

    findings: list[str] = field(default_factory=list)
    boundary: str = ""
    judged: bool = False
    armed: bool = False
    cut: bool = False
    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    statuses: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Life:
    """One data folder. ``past`` is what its clients know of it."""

    site: Site
    threads: int
    past: Past = field(default_factory=lambda: Past({}, 0))

    def __post_init__(self) -> None:
        now_us = MovableClock()()
        self.past.since_us = now_us
        self.past.stories = {each: Story("", {}) for each in range(self.threads)}

    def cycle(self, orders: Orders, death: Death, companion: Orders | None = None) -> Report:
        """Run one process to its end and learn from it.

        ``companion``: a second one is started beside it when it begins to work, and goes on
        when it dies.
        """
        report = Report()
        self._remember()
        with contextlib.ExitStack() as stack:
            processes = [self._forked(orders, stack)]
            self._watch(processes, orders, death, report, lambda: self._beside(companion, stack))
            for process in processes:
                _, status = os.waitpid(process.pid, 0)
                report.statuses.append(status)
        report.boundary = report.boundary or death.name
        return report

    def _forked(self, orders: Orders, stack: contextlib.ExitStack) -> _Process:
        sender, receiver = channel()
        pid = os.fork()
        if pid == 0:
            receiver.socket.close()
            Work(self.site, orders, self.past, sender).run()
        sender.socket.close()
        stack.callback(receiver.socket.close)
        return _Process(pid, receiver)

    def _beside(self, companion: Orders | None, stack: contextlib.ExitStack) -> list[_Process]:
        return [] if companion is None else [self._forked(companion, stack)]

    def _remember(self) -> None:
        """Work out the digests that the next process will look for, once for all that follow."""
        for story in self.past.stories.values():
            trees = [settled_story(story, count) for count in range(len(story.open) + 1)]
            for entry in (entry for tree in trees for entry in tree.values()):
                for content in entry.history:
                    digest_of(content)

    def _watch(
        self,
        processes: list[_Process],
        orders: Orders,
        death: Death,
        report: Report,
        beside: Callable[[], list[_Process]],
    ) -> None:
        """Take in what is told until every process is gone; ``processes`` may become more."""
        deadline = time.monotonic() + HANG_S + 10
        killing: float | None = None
        tracer: subprocess.Popen[bytes] | None = None
        try:
            while any(not process.receiver.closed for process in processes):
                now = time.monotonic()
                if killing is not None and now >= killing:
                    killing = None
                    if death.cut is not None:
                        self._listen(processes, orders, report, _DRAIN_S, once=True)
                        report.cut = True
                        death.cut()
                        self._listen(processes, orders, report, death.linger_s)
                    os.kill(processes[0].pid, signal.SIGKILL)
                if now >= deadline:
                    report.findings.append("a process hangs")
                    for process in processes:
                        os.kill(process.pid, signal.SIGKILL)
                    deadline = now + HANG_S
                until = min(deadline, killing or deadline)
                was_armed = report.armed
                self._listen(processes, orders, report, until - now, once=True)
                if report.armed and not was_armed:
                    tracer = _traced(processes[0].pid, death.trace)
                    processes += beside()
                    if death.after_s is not None:
                        killing = time.monotonic() + death.after_s
        finally:
            if tracer is not None:
                tracer.wait()

    def _listen(
        self,
        processes: list[_Process],
        orders: Orders,
        report: Report,
        seconds: float,
        *,
        once: bool = False,
    ) -> None:
        """Take in what the processes tell for ``seconds``, or ``once``."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            living = [each.receiver for each in processes if not each.receiver.closed]
            if not living:
                return
            ready, _, _ = select.select([each.socket for each in living], [], [], left)
            for receiver in living:
                if receiver.socket in ready:
                    for message in receiver.receive():
                        self._take(message, orders, report)
            if once:
                return

    def _take(self, message: Message, orders: Orders, report: Report) -> None:
        match message:
            case Verdict(happened, digests, findings):
                report.judged = True
                report.findings += findings
                trees = settled(self.past, happened)
                self.past.digests |= digests
                self.past.since_us = orders.since_us
                self.past.stories = {
                    each: Story(session_of(orders.cycle, each), tree)
                    for each, tree in trees.items()
                }
            case Begun(thread, operation):
                story = self.past.stories[thread]
                story.open = [*story.open, operation] if report.cut else [operation]
            case Done(thread, version_id):
                # Without power no answer leaves; and an fdatasync that is under way while the
                # kernel shuts a file system down may report success for what is lost.
                if not report.cut:
                    report.done += 1
                    self._answered(thread, version_id)
            case Refused(_, error):
                report.refused[error.partition(":")[0]] += 1
            case Resolved(thread, happened=True):
                self._answered(thread, "")
            case Resolved(_, happened=False):
                # Still open: an fsync that failed may have written all the same, and recovery
                # then finds the operation whole. The next operation decides it.
                pass
            case Armed():
                report.armed = True
            case Struck(boundary):
                report.cut = report.cut or orders.cuts
                if report.boundary in {"", END}:
                    report.boundary = boundary
            case Broken(text):
                report.findings.append(text)

    def _answered(self, thread: int, version_id: str) -> None:
        story = self.past.stories[thread]
        story.done.append(Acknowledged(story.open[-1], version_id))
        story.open = []

    def inspect(self) -> list[str]:
        """Return what is wrong with the folder at the end of its life."""
        sender, receiver = channel()
        pid = os.fork()
        if pid == 0:
            receiver.socket.close()
            Inspection(self, sender.send).run()
        sender.socket.close()
        report = Report(findings=["the inspection told nothing"])
        with contextlib.closing(receiver.socket):
            receiver.socket.settimeout(_INSPECTION_S)
            while not receiver.closed:
                for message in receiver.receive():
                    if isinstance(message, Verdict):
                        report.findings = list(message.findings)
                    elif isinstance(message, Broken):
                        report.findings = [message.text]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return report.findings


@dataclass(frozen=True, slots=True)
class Inspection:
    """A folder's last examination, in a process of its own."""

    life: Life
    send: Callable[[Message], None]

    def run(self) -> None:
        """Inspect and tell; does not return."""
        try:
            life = self.life
            findings = check.inspect(
                life.site,
                MovableClock(),
                replace(life.past),
                lambda gateway: door_for(gateway, "inspection"),
            )
            self.send(Verdict({}, {}, tuple(findings)))
        except BaseException as error:  # noqa: BLE001  the parent must hear of anything
            self.send(Broken(f"inspection: {type(error).__name__}: {error}"))
        os._exit(0)


def _traced(pid: int, options: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
    """Start strace on a process that waits for it."""
    if not options:
        return None
    command = ("strace", "-f", "-qqq", "-o", "/dev/null", *options, "-p", str(pid))
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
