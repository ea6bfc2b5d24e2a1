"""A worker process: serves one protocol on sockets that the supervisor bound.

Started by the supervisor as ``python -m gateway.worker WIRE SOURCE CORE CONTROL_FD SOCKET_FD...``;
it ends when told to drain, or when the supervisor is gone. Imports the wiring and the front ends.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gateway.app import Gateway, open_gateway
from gateway.config import ConfigError, GatewayConfig, parse_config
from gateway.control import ANY_CORE, Control, Message
from gateway.errors import SealgateError
from gateway.log import configure_logging
from gateway.model import Wire

GC_THRESHOLD = 20_000
"""After how many more objects made than freed the cyclic collector looks for garbage."""

CUT_OFF_S = 5.0
"""How long after the drain limit a worker without a supervisor ends the hard way."""

log = logging.getLogger(__name__)


class Front(Protocol):
    """A protocol being served in this process."""

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until drained; call ``on_ready`` once connections are accepted."""

    def drain(self, timeout_s: float) -> None:
        """Accept no more, let what runs finish for ``timeout_s``, then cut it. From any thread."""

    def reload(self) -> None:
        """Read certificates anew."""


def main(arguments: list[str]) -> int:
    """Serve as the supervisor says; return the exit status."""
    wire, source, core, control_fd, *socket_fds = arguments
    configure_logging(f"{wire} worker")
    cores = os.sched_getaffinity(0)
    if core != ANY_CORE:
        _run_on({int(core)})
    _take_all_files()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = Control(socket.socket(fileno=int(control_fd)))
    sockets = [socket.socket(fileno=int(number)) for number in socket_fds]
    first = next(control.messages(), None)
    if first is None:
        return 0
    try:
        config = parse_config(first.text.encode("utf-8"), Path(source))
        # They run no Python to speak of, and their work is worth a core of its own.
        gateway = open_gateway(config, begin_thread=lambda: _run_on(cores))
        front = _front(Wire(wire), gateway, sockets)
    except (SealgateError, OSError) as error:
        control.send(Message("failed", str(error)))
        return 1
    drain_timeout_s = float(gateway.config.server.drain_timeout_s)
    signal.signal(signal.SIGTERM, lambda *_: _in_background(front.drain, drain_timeout_s))
    listener = threading.Thread(
        target=_obey, args=(control, gateway, front, Path(source)), name="control", daemon=True
    )
    # What start-up made stays for good: the collector need not look at it again and again, nor
    # so often at what requests make, which is free of cycles but for a few.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    front.run(lambda: _announce(control, listener))
    gateway.close()
    return 0


def _run_on(cores: set[int]) -> None:
    """Run this thread, and those that it starts, on some cores only.

    A worker keeps to one: its threads run Python one at a time. Left to itself, the kernel wakes
    the next one on an idle core, and each hand-over then costs more than most requests.
    """
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        log.warning("cannot choose the core to run on (%s); requests take longer.", error.strerror)


def _take_all_files() -> None:
    """Allow as many open files as the administrator lets: connections are the most of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _front(wire: Wire, gateway: Gateway, sockets: list[socket.socket]) -> Front:
    # Each front brings libraries of its own, which take a worker time and memory to load.
    if wire is Wire.WEBDAV:
        from gateway.front_webdav import WebdavFront  # noqa: PLC0415

        return WebdavFront(gateway, sockets)
    from gateway.front_sftp import SftpFront  # noqa: PLC0415

    return SftpFront(gateway, sockets)


def _announce(control: Control, listener: threading.Thread) -> None:
    listener.start()
    control.send(Message("ready"))


def _obey(control: Control, gateway: Gateway, front: Front, source: Path) -> None:
    """Carry out the supervisor's messages; when it is gone, stop as if told to."""
    for message in control.messages():
        if message.verb == "reload":
            answer = _reload(gateway, front, message.text, source)
            control.send(answer)
            if answer.verb == "failed":
                # Better none than one that goes on by the old policy: another takes its place.
                break
        elif message.verb == "drain":
            _in_background(front.drain, float(message.text))
    timeout_s = float(gateway.config.server.drain_timeout_s)
    _in_background(front.drain, timeout_s)
    # Nobody is left to end a worker that does not end by itself.
    time.sleep(timeout_s + CUT_OFF_S)
    os._exit(1)


def _reload(gateway: Gateway, front: Front, text: str, source: Path) -> Message:
    try:
        config: GatewayConfig = parse_config(text.encode("utf-8"), source)
        gateway.reload(config)
    except (ConfigError, SealgateError) as error:
        return Message("failed", f"The new configuration was not taken over: {error}")
    front.reload()
    return Message("reloaded")


def _in_background(drain: Callable[[float], None], timeout_s: float) -> None:
    threading.Thread(target=drain, args=(timeout_s,), name="drain").start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
