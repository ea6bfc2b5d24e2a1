"""Gateways whose configuration a test may write: made without a server, run by ``sealgate serve``.

The folder is what ``sealgate demo`` makes, with one worker a protocol so that it starts sooner.
Imports the project to make that folder only; what runs is driven from outside.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from gateway.app import open_gateway
from gateway.cli import main
from gateway.config import load_config
from gateway.demo import Demo, DemoSettings
from tests.support.gateway import SEALGATE, START_TIMEOUT_S, RunningGateway, free_ports
from tests.support.users import User, until

REFUSAL_LIMIT_S = 60

Done = subprocess.CompletedProcess[str]


class Notified:
    """The end of NOTIFY_SOCKET that systemd would hold."""

    def __init__(self) -> None:
        # Not pytest's folder: an address longer than 107 bytes is no socket's.
        self._folder = tempfile.mkdtemp(prefix="notify")
        self.address = f"{self._folder}/socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(0)
        self.states: list[str] = []

    def received(self) -> list[str]:
        """Return every state told so far, without what follows it."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.states.append(self._socket.recv(4096).decode().partition("\n")[0])
        return self.states

    def close(self) -> None:
        self._socket.close()
        shutil.rmtree(self._folder)


@dataclass(slots=True)
class ServedGateway(RunningGateway):
    """A gateway run by ``sealgate serve``; ``log_file`` holds its stderr alone."""

    notified: Notified = field(default_factory=Notified)

    def write_config(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Replace the configuration file by a changed one, in one step."""
        config = yaml.safe_load(self.config.read_text())
        change(config)
        self.write_text(yaml.safe_dump(config, sort_keys=False))

    def write_text(self, text: str) -> None:
        """Put ``text`` in the place of the configuration file, in one step."""
        draft = self.config.with_suffix(".new")
        draft.write_text(text)
        draft.rename(self.config)

    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self, wire: str = "") -> list[psutil.Process]:
        """Return the living worker processes, of one protocol when ``wire`` names it."""
        found = []
        for child in psutil.Process(self.pid()).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = child.cmdline()
                if "gateway.worker" in line and (not wire or wire in line):
                    found.append(child)
        return found

    def reload(self) -> str:
        """Send SIGHUP, wait until it was dealt with, and return what was said on stderr."""
        told, said = len(self.notified.received()), len(self.log())
        os.kill(self.pid(), signal.SIGHUP)
        until(lambda: self.notified.received()[told + 1 :], "the reload is over")
        assert self.notified.received()[told:] == ["RELOADING=1", "READY=1"]
        return self.log()[said:]

    def failed_reloads(self) -> int:
        """Return how many reloads were recorded as failed."""
        records = self.audit_records()
        return sum((each.action, each.outcome) == ("reload", "failed") for each in records)

    def serve(self) -> ServedGateway:
        """Start ``sealgate serve`` and return when it tells systemd that it is ready."""
        told = len(self.notified.received())
        self.spawn()
        until(lambda: self.told_or_ended(told, "READY=1"), "READY=1", START_TIMEOUT_S)
        return self

    def spawn(self) -> None:
        """Start ``sealgate serve`` and return at once.

        The folder it is started in holds modules with the names of ours.
        """
        trap = self.folder.parent / "trap"
        for module in ("gateway/__init__.py", "gateway/worker.py", "auth/__init__.py"):
            (trap / module).parent.mkdir(parents=True, exist_ok=True)
            (trap / module).write_text("raise SystemExit('a module of the current folder')")
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(SEALGATE), "serve", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                cwd=trap,
                env=os.environ | {"NOTIFY_SOCKET": self.notified.address},
            )

    def told_or_ended(self, after: int, state: str) -> bool:
        """Return whether ``state`` was told since the first ``after``; fails when it ended."""
        if state in self.notified.received()[after:]:
            return True
        self._check_alive()
        return False


def one_worker_each(config: dict[str, Any]) -> None:
    """Change a configuration so that each protocol has one process."""
    for wire in ("webdav", "sftp"):
        config["server"][wire]["workers"] = 1


def prepared(
    folder: Path, change: Callable[[dict[str, Any]], None] = one_worker_each
) -> ServedGateway:
    """Return a gateway with users and codes in ``folder``, made but not yet started.

    ``change`` is what is done to its configuration.
    """
    webdav_port, sftp_port = free_ports(2)
    folder.mkdir(parents=True, exist_ok=True)
    made = ServedGateway(folder / "demo", folder / "gateway.log", webdav_port, sftp_port)
    demo = Demo(DemoSettings(made.folder, "127.0.0.1", webdav_port, sftp_port))
    demo._prepare()
    gateway = open_gateway(load_config(made.folder / "config.yaml"))
    try:
        users = demo._enrol_missing(gateway)
    finally:
        gateway.close()
    made.info = {
        "webdav_url": f"https://127.0.0.1:{webdav_port}/",
        "sftp_host": "127.0.0.1",
        "ca_file": str(made.folder / "ca.pem"),
        "known_hosts": str(made.folder / "known_hosts"),
        "config": str(made.folder / "config.yaml"),
        "data_dir": str(made.folder / "data"),
    }
    for user in users:
        made.users[user.name] = User(
            name=user.name,
            password=user.password or "",
            totp_secret=user.totp_secret or "",
            groups=tuple(user.groups),
            ssh_key=Path(user.ssh_key) if user.ssh_key else None,
        )
    made.write_config(change)
    return made


@contextlib.contextmanager
def served(
    folder: Path, change: Callable[[dict[str, Any]], None] = one_worker_each
) -> Iterator[ServedGateway]:
    """Run a gateway over the new ``folder`` for the length of a ``with`` block."""
    made = prepared(folder, change)
    try:
        made.serve()
        yield made
    finally:
        if made.process is not None:
            made.stop()
        made.notified.close()


def run_sealgate(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Done:
    """Run ``sealgate`` to its end as a process of its own."""
    bare = {name: value for name, value in os.environ.items() if name != "SEALGATE_CONFIG"}
    return subprocess.run(
        [str(SEALGATE), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=REFUSAL_LIMIT_S,
        check=False,
        cwd=folder,
        env=bare | dict(environment or {}),
    )


def run_here(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Done:
    """Run ``sealgate`` to its end in this process, which takes a tenth of the time."""
    capsys.readouterr()
    # What an earlier command in this process has set up writes to a stream that is closed by now.
    for handler in list(logging.getLogger().handlers):
        if type(handler) is logging.StreamHandler:
            logging.getLogger().removeHandler(handler)
    status = main([str(one) for one in arguments])
    said = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, status, said.out, said.err)


def one_sentence(done: Done) -> str:
    """Return the one line that a refused start leaves on stderr, checked to be just that."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("sealgate: ")
    assert lines[0].endswith((".", "?")), lines[0]
    assert done.stdout == ""
    assert done.returncode == 2
    return lines[0].removeprefix("sealgate: ")
