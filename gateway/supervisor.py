"""``sealgate serve``: binds the sockets, keeps the workers alive, reloads, drains.

Holds no protocol and serves no client; the janitor runs here. Imports the wiring.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
)

from auth.directory import Directory
from auth.errors import DirectoryUnavailableError
from gateway.app import Gateway, open_directory, open_gateway
from gateway.audit.record import Record
from gateway.config import ConfigError, GatewayConfig, check_files, load_config, parse_config
from gateway.config.problems import Finding
from gateway.control import Control, Message
from gateway.errors import SealgateError
from gateway.janitor import Janitor
from gateway.model import Outcome, Wire

ROUND_S = 1.0
"""How often workers are looked at, unless one has something to say."""

RESTART_PAUSE_S = 2.0
"""How soon after its start a dead worker is started again at the earliest."""

START_LIMIT_S = 60.0
"""How long workers may take to begin serving."""

RELOAD_LIMIT_S = 20.0
"""How long workers may take to take a new configuration over."""

CUT_OFF_S = 10.0
"""How long after the drain limit a worker is killed."""

log = logging.getLogger(__name__)


class StartError(SealgateError):
    """The gateway cannot start; the message tells the administrator why and what to do."""


@dataclass(slots=True, eq=False)
class Worker:
    """A worker process and the sockets it serves, which outlive it."""

    wire: Wire
    sockets: list[socket.socket]
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
        text = _read(self._source)
        config = checked_config(text, self._source)
        with contextlib.ExitStack() as stack:
            stack.callback(self._selector.close)
            self._workers = _bound_workers(config, stack)
            _require_directory(open_directory(config))
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
            fresh = _read(self._source)
            config = checked_config(fresh, self._source)
            _require_reloadable(gateway.config, config)
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


def checked_config(text: str, source: Path) -> GatewayConfig:
    """Return the configuration in ``text``; ConfigError with every problem, of files too."""
    config = parse_config(text.encode("utf-8"), source)
    problems = check_files(config) or [config.place(each) for each in unusable_keys(config)]
    if problems:
        raise ConfigError(problems)
    return config


def unusable_keys(config: GatewayConfig) -> Iterator[Finding]:
    """Yield what keeps the TLS and SSH keys, which ``check_files`` found readable, from use."""
    webdav, sftp = config.server.webdav, config.server.sftp
    if webdav is not None:
        try:
            # An empty passphrase: without one given, OpenSSL would ask for it at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                webdav.certificate, webdav.private_key, password=""
            )
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror
            yield Finding(
                ("server", "webdav", "certificate"),
                f"{webdav.certificate} and {webdav.private_key} cannot be used ({reason}).",
                "Name a certificate and its own key, both in PEM form and without a passphrase.",
            )
    for index, path in enumerate(sftp.host_keys if sftp is not None else ()):
        if not _opens(path.read_bytes()):
            yield Finding(
                ("server", "sftp", "host_keys", index),
                f"{path} is no SSH private key without a passphrase.",
                "Make one with 'ssh-keygen -t ed25519 -f FILE' and no passphrase.",
            )


def _opens(private_key: bytes) -> bool:
    for load in (load_ssh_private_key, load_pem_private_key):
        with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
            load(private_key, password=None)
            return True
    return False


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); does nothing when it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    if state == "RELOADING=1":
        state += f"\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.sendall(state.encode("utf-8"))


def _read(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        # The loader says in its own words what is wrong with such a file.
        load_config(source)
        raise


def _bound_workers(config: GatewayConfig, stack: contextlib.ExitStack) -> list[Worker]:
    """Return a worker for each process to be, every socket bound."""
    server = config.server
    cores = len(os.sched_getaffinity(0))
    workers: list[Worker] = []
    for wire, section in ((Wire.WEBDAV, server.webdav), (Wire.SFTP, server.sftp)):
        if section is None:
            continue
        for endpoint in section.listen:
            _require_free(endpoint.host, endpoint.port, f"server.{wire.value}.listen")
        for _ in range(section.workers or cores):
            sockets = []
            for endpoint in section.listen:
                sock = _bind(endpoint.host, endpoint.port, shared=True)
                stack.callback(sock.close)
                sockets.append(sock)
            workers.append(Worker(wire, sockets))
    return workers


def _require_free(host: str, port: int, key: str) -> None:
    """Raise StartError when another program listens there.

    Binding with SO_REUSEPORT would succeed beside another gateway of the same user, and the
    kernel would then share the clients out between the two.
    """
    try:
        _bind(host, port, shared=False).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} on {host} is taken by another program. Stop that one"
        elif error.errno == errno.EACCES:
            reason = f"Port {port} on {host} is reserved for root. Give CAP_NET_BIND_SERVICE"
        else:
            reason = f"Address {host} port {port} cannot be used ({error.strerror}). Mend it"
        raise StartError(f"{reason}, or change {key}.") from error


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        if shared:
            # Not left to the worker: until someone listens, another gateway could bind it too.
            sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def _require_directory(directory: Directory) -> None:
    """Raise when the directory does not answer: nobody could log in."""
    try:
        directory.refresh("00000000-0000-0000-0000-000000000000")
    except DirectoryUnavailableError as error:
        raise StartError(
            f"{error} Check directory.ldap.servers, and that this machine can reach them."
        ) from error


def _require_reloadable(running: GatewayConfig, fresh: GatewayConfig) -> None:
    """Raise when the new configuration changes what only a start puts in force."""
    changed = []
    for section in ("server", "storage", "keys", "directory", "audit"):
        old, new = getattr(running, section), getattr(fresh, section)
        changed += [
            f"{section}.{field.alias or name}"
            for name, field in type(old).model_fields.items()
            if getattr(old, name) != getattr(new, name)
        ]
    if changed:
        raise StartError(f"A change of {', '.join(changed)} needs a restart.")


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
    thread = threading.Thread(target=Janitor(gateway).run, args=(stop,), name="janitor")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


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
