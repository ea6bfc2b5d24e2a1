"""The listener over the real door: catalog, policy, codes and records, with a clock that stands."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import asyncssh

from auth.policy import Group, Policy
from gateway.audit.trail import Line
from gateway.monitor import Monitor
from gateway.sftp.shown_key import key_line
from tests.door.support import OTHERS, Gate, grant, group, open_gate, password_of, prepare_catalog
from tests.sftp.conftest import LIMIT_S, ORDINARY, Listener
from tests.sftp.fake_door import FakeMonitor
from tests.support import openssh


@dataclass(frozen=True, slots=True)
class _Real:
    monitor: Monitor

    def facade(self) -> Monitor:
        return self.monitor


@dataclass(slots=True)
class RealDoor:
    """A running listener, the gate behind it, and OpenSSH's client in front of it."""

    folder: Path
    gate: Gate
    listener: Listener

    def list_key(self, key: Path | str, name: str = "alice") -> None:
        """Have the directory list a key: a private key's file, or a line."""
        line = key if isinstance(key, str) else key_line(asyncssh.read_private_key(key))
        account = self.gate.directory.accounts[name]
        keys = (*account.ssh_keys, line)
        self.gate.directory.accounts[name] = replace(account, ssh_keys=keys)

    def rules(self, **limits: Any) -> None:
        """Put a policy in force in which staff has these limits."""
        self.put_in_force(group("staff", grant("radiology"), **limits))

    def put_in_force(self, *groups: Group, **more: Any) -> None:
        self.gate.policy.replace(Policy((*groups, *OTHERS), **more))

    def sftp(
        self,
        *,
        method: str = "publickey",
        name: str = "alice",
        key: Path | None = None,
        password: str | None = None,
        code: str | None = None,
        options: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run OpenSSH's sftp with one command to its end; prompts are answered as asked."""
        host_key = asyncssh.read_private_key(self.listener.host_key)
        known_hosts = self.folder / "known_hosts"
        known_hosts.write_text(
            f"[127.0.0.1]:{self.listener.port} {host_key.export_public_key().decode()}"
        )
        chosen = openssh.options(
            port=self.listener.port,
            known_hosts=str(known_hosts),
            method=method,
            key=key or self.listener.user_key,
            address="127.0.0.1",
        )
        # A loop of its own: the command is read while the client asks for answers elsewhere.
        batch = self.folder / "batch"
        batch.write_text("pwd\n")
        return subprocess.run(
            ["sftp", *options, *chosen, "-b", str(batch), f"{name}@127.0.0.1"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=openssh.environment(
                self.folder,
                password_of(name) if password is None else password,
                self.gate.code(name) if code is None else code,
            ),
        )

    def logins(self) -> list[tuple[str, str]]:
        """Return outcome and rule of the log-ins since the last call."""
        return [(one["outcome"], one["rule"]) for one in self.login_records()]

    def login_records(self) -> list[Line]:
        return [one for one in self.gate.new_records() if one["action"] == "login"]


@contextlib.contextmanager
def real_door(folder: Path, host_key: Path, user_key: Path) -> Iterator[RealDoor]:
    """Run a listener over a new gate."""
    data = folder / "data"
    data.mkdir()
    prepare_catalog(data)
    with open_gate(data) as gate:
        monitor = cast("FakeMonitor", _Real(gate.monitor))
        listener = Listener(monitor, host_key, user_key, ORDINARY)
        listener.start()
        try:
            yield RealDoor(folder, gate, listener)
        finally:
            listener.stop()
