"""``sealgate serve``: binds the sockets, keeps the workers alive, reloads, drains.

Holds no protocol and serves no client; the janitor runs here. Imports the wiring.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.app import Gateway, open_directory, open_gateway
from gateway.audit.record import Record
from gateway.config import GatewayConfig
from gateway.control import ANY_CORE, Control, Message
from gateway.errors import SealgateError
from gateway.janitor import Janitor
from gateway.listening import bind, notify
from gateway.model import Outcome, Wire
from gateway.starting import (
    StartError,
    checked_config,
    read_config,
    require_directory,
    require_reloadable,
)

ROUND_S = 1.0
"""How often workers are looked at, unless one has something to say."""

RESTART_PAUSE_S = 2.0
"""How soon after its start a dead worker is started again at the earliest."""

START_LIMIT_S = 60.0
"""How long workers may take to begin serving."""

RELOAD_LIMIT_S = 20.0
"""How long workers may take to take a new configuration over."""

JANITOR_LIMIT_S = 5.0
"""How long the janitor may take to finish its round before the workers are told to drain."""

CUT_OFF_S = 10.0
"""How long after the drain limit a worker is killed."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process and the sockets it serves, which outlive it."""

    wire: Wire
    sockets: list[socket.socket]
    core: int | None
    """The processor core that it keeps to, where each core has one of these workers."""
    process: subprocess.Popen[bytes] | None = None
    control: Control | None = None
    ready: bool = False
    reloading: bool = False
    started_s: float = 0.0


@dataclass(slots=True)
class Signals:
    """What was asked of the supervisor by signals since it last looked."""

    stop: bool = False
    reload: bool = False


class Supervisor:
    """Runs the gateway of one configuration file until told to stop."""

    def __init__(
        self, source: Path, *, on_ready: Callable[[Gateway], None] = lambda _gateway: None
    ) -> None:
        """``on_ready`` is called once, when every worker serves."""
        self._source = source
        self._on_ready = on_ready
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._signals = Signals()
        self._serving = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status.

        Raises ConfigError or another SealgateError when it cannot start; then nothing was left
        half made.
        """
        text = read_config(self._source)
        config = checked_config(text, self._source)
        with contextlib.ExitStack() as stack:
            stack.callback(self._selector.close)
            self._workers = _bound_workers(config, stack)
            require_directory(open_directory(config))
            gateway = open_gateway(config)
            stack.callback(gateway.close)
            stack.enter_context(self._handling_signals())
            _record(gateway, "start", Outcome.OK)
            try:
                self._serve(gateway, text)
            finally:
                self._stop_workers(config.server.drain_timeout_s)
                _try_record(gateway, "stop", Outcome.OK)
                _last_checkpoint(gateway)
        return 0

    # The life of the gateway

    def _serve(self, gateway: Gateway, text: str) -> None:
        for worker in self._workers:
            self._start(worker, text)
        self._await_ready()
        if self._signals.stop:
            return
        self._serving = True
        notify("READY=1")
        self._on_ready(gateway)
        with _janitor_at_work(gateway):
            while not self._signals.stop:
                self._listen(ROUND_S)
                if self._signals.reload:
                    self._signals.reload = False
                    text = self._reload(gateway, text)
                self._restart_dead(text)

    def _reload(self, gateway: Gateway, text: str) -> str:
        """Take over the changed file if all of it is good; return the text now in force."""
        notify("RELOADING=1")
        try:
            fresh = read_config(self._source)
            config = checked_config(fresh, self._source)
            require_reloadable(gateway.config, config)
            gateway.reload(config)
        except SealgateError as error:
            for line in str(error).splitlines():
                log.error("reload: %s", line)
            log.error("reload: the running configuration stays in force.")
            _try_record(gateway, "reload", Outcome.FAILED, error=type(error).__name__)
        else:
            text = fresh
            for worker in self._workers:
                if worker.control is not None:
                    worker.reloading = worker.control.send(Message("reload", text))
            self._await_reloaded()
            log.info("reload: the new configuration is in force.")
            _try_record(gateway, "reload", Outcome.OK)
        notify("READY=1")
        return text

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        """Turn signals into flags, and wake the selector for each."""
        reader, writer = socket.socketpair()
        reader.settimeout(0)
        writer.settimeout(0)
        previous_wakeup = signal.set_wakeup_fd(writer.fileno())
        self._selector.register(reader, selectors.EVENT_READ, reader)

        def handle(number: int, _frame: object) -> None:
            if number == signal.SIGHUP:
                self._signals.reload = True
            else:
                self._signals.stop = True

        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        previous = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_wakeup)
            self._selector.unregister(reader)
            reader.close()
            writer.close()

    # Workers

    def _start(self, worker: Worker, text: str) -> None:
        ours, theirs = socket.socketpair()
        passed = [theirs.fileno(), *(sock.fileno() for sock in worker.sockets)]
        # A session of its own: Ctrl-C at the terminal reaches the supervisor alone, which drains.
        worker.process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [
                sys.executable,
                # Without it, Python would look for our modules in the current folder first.
                "-P",
                "-m",
                "gateway.worker",
                worker.wire.value,
                str(self._source),
                ANY_CORE if worker.core is None else str(worker.core),
                *map(str, passed),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=passed,
            start_new_session=True,
        )
        theirs.close()
        worker.control = Control(ours)
        worker.ready = False
        worker.started_s = time.monotonic()
        worker.control.send(Message("start", text))
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _listen(self, timeout_s: float) -> None:
        """Wait for messages of workers, or for a signal."""
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, socket.socket):
                with contextlib.suppress(BlockingIOError):
                    key.data.recv(1024)
                continue
            worker: Worker = key.data
            assert worker.control is not None
            received = worker.control.receive()
            if received is None:
                self._selector.unregister(key.fileobj)
                worker.control.close()
                worker.control = None
                worker.ready = worker.reloading = False
                continue
            for message in received:
                if message.verb == "ready":
                    worker.ready = True
                elif message.verb == "reloaded":
                    worker.reloading = False
                elif message.verb == "failed":
                    worker.reloading = False
                    if not self._serving:
                        raise StartError(message.text)
                    log.error("%s worker: %s", worker.wire.value, message.text)

    def _await_ready(self) -> None:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not all(worker.ready for worker in self._workers) and not self._signals.stop:
            self._listen(0.2)
            for worker in self._workers:
                if worker.process is not None and worker.process.poll() is not None:
                    raise StartError(
                        f"A {worker.wire.value} worker ended at its start with status "
                        f"{worker.process.returncode}; the lines above say why."
                    )
            if time.monotonic() > deadline_s:
                raise StartError(
                    f"The workers did not begin to serve within {START_LIMIT_S:.0f} s."
                )

    def _await_reloaded(self) -> None:
        """Wait until every worker works by the new configuration, or is gone."""
        deadline_s = time.monotonic() + RELOAD_LIMIT_S
        while any(worker.reloading for worker in self._workers) and not self._signals.stop:
            self._listen(0.2)
            if time.monotonic() < deadline_s:
                continue
            for worker in self._workers:
                if worker.reloading and worker.process is not None:
                    # The one that takes its place begins with the new configuration.
                    log.error("reload: %s worker does not answer; killing it.", worker.wire.value)
                    worker.process.kill()
                    worker.reloading = False

    def _restart_dead(self, text: str) -> None:
        for worker in self._workers:
            if worker.process is None or worker.process.poll() is None:
                continue
            if time.monotonic() - worker.started_s < RESTART_PAUSE_S:
                continue
            log.error(
                "%s worker %d died with status %d; starting another.",
                worker.wire.value,
                worker.process.pid,
                worker.process.returncode,
            )
            if worker.control is not None:
                self._selector.unregister(worker.control.fileno())
                worker.control.close()
            self._start(worker, text)

    def _stop_workers(self, drain_timeout_s: int) -> None:
        notify("STOPPING=1")
        for worker in self._workers:
            if worker.ready and worker.control is not None:
                worker.control.send(Message("drain", str(drain_timeout_s)))
            elif worker.process is not None and worker.control is not None:
                # It serves nobody yet, and would first have to finish its start to hear us.
                worker.process.kill()
            # While one descriptor is open the kernel goes on accepting, and nobody would answer.
            for sock in worker.sockets:
                sock.close()
        deadline_s = time.monotonic() + drain_timeout_s + CUT_OFF_S
        for worker in self._workers:
            if worker.process is None:
                continue
            try:
                worker.process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            if worker.control is not None:
                self._selector.unregister(worker.control.fileno())
                worker.control.close()
                worker.control = None


def _bound_workers(config: GatewayConfig, stack: contextlib.ExitStack) -> list[Worker]:
    """Return a worker for each process to be, every socket bound."""
    server = config.server
    cores = sorted(os.sched_getaffinity(0))
    workers: list[Worker] = []
    for wire, section in ((Wire.WEBDAV, server.webdav), (Wire.SFTP, server.sftp)):
        if section is None:
            continue
        sockets = []
        for endpoint in section.listen:
            sock = bind(endpoint.host, endpoint.port, section.place_of(endpoint))
            stack.callback(sock.close)
            sockets.append(sock)
        count = section.workers or len(cores)
        one_a_core = count == len(cores)
        workers += [
            Worker(wire, sockets, core=cores[number] if one_a_core else None)
            for number in range(count)
        ]
    return workers


def _last_checkpoint(gateway: Gateway) -> None:
    """Vouch for the trail up to the stop; an anchor that fails must not keep us from stopping."""
    try:
        gateway.checkpoint()
    except SealgateError as error:
        log.error("%s", error)


@contextlib.contextmanager
def _janitor_at_work(gateway: Gateway) -> Iterator[None]:
    """Run the janitor in a thread: a slow directory must not hold up signals and restarts."""
    stop = threading.Event()
    thread = threading.Thread(
        target=Janitor(gateway).run, args=(stop,), name="janitor", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JANITOR_LIMIT_S)


def _try_record(gateway: Gateway, action: str, outcome: Outcome, *, error: str = "") -> None:
    """Record; a trail that cannot be written stops operations, and not the whole gateway."""
    try:
        _record(gateway, action, outcome, error=error)
    except SealgateError as failure:
        log.error("%s could not be recorded: %s", action, failure)


def _record(gateway: Gateway, action: str, outcome: Outcome, *, error: str = "") -> None:
    with gateway.journal.begin() as tx:
        gateway.journal.append(
            tx,
            Record(
                action=action,
                outcome=outcome,
                protocol=Wire.ADMIN.value,
                rule=gateway.policy().revision,
                error=error,
            ),
        )
