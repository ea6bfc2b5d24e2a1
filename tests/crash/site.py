"""A gateway's configuration, keys and users on disk, and sessions at its door.

Opens the real wiring (``gateway.app.open_gateway``); nothing of the gateway is replaced but the
clock, which can be moved.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from auth.directory import membership
from auth.file import FileUser, write_users
from backends.keyring import MasterKey
from gateway.app import Gateway, open_gateway
from gateway.config import load_config
from gateway.model import SECOND_US, Client, Factor, Principal, Session, Wire, system_clock
from gateway.monitor import Door
from tests.crash.model import KEEP_COUNT

SHARE = "vault"
_GROUP = "staff"
_HOUR_S = 3600

_CONFIG = f"""\
server:
  node: crash
  sftp: {{listen: "127.0.0.1:2022", host_keys: [keys/unused]}}
storage: {{data_dir: DATA_DIR}}
keys:
  master_key: {{file: keys/master.key}}
directory:
  file: {{users: users.yaml}}
shares:
  {SHARE}: {{versions: {{keep: {KEEP_COUNT}, for: 90d}}, trash: 1d}}
groups:
  {_GROUP}:
    members: {{file: {_GROUP}}}
    shares:
      {SHARE}: {{allow: all}}
audit:
  anchor: ANCHOR
"""


@dataclass(slots=True)
class MovableClock:
    """The machine's time plus ``offset_us``, plus ``shift_us`` in the thread that sets it."""

    offset_us: int = 0
    _local: threading.local = field(default_factory=threading.local)

    def __call__(self) -> int:
        """Return microseconds since 1970 UTC."""
        return system_clock() + self.offset_us + int(getattr(self._local, "shift_us", 0))

    def shift(self, hours: float) -> None:
        """Let this thread alone live ``hours`` ahead."""
        self._local.shift_us = int(hours * _HOUR_S * SECOND_US)


@dataclass(frozen=True, slots=True)
class Site:
    """Where one gateway's configuration lies, and its data: ``data_dir`` may be on another disk."""

    folder: Path
    data_dir: Path
    anchor: Path

    @classmethod
    def create(cls, folder: Path, disk: Path) -> Site:
        """Write configuration and keys into ``folder``; data and anchor go onto ``disk``."""
        site = cls(folder, disk / "data", disk / "anchor")
        (folder / "keys").mkdir(parents=True)
        MasterKey.generate().write(folder / "keys" / "master.key")
        user = FileUser("nobody", str(uuid.UUID(int=1)), groups=(_GROUP,), ssh_keys=())
        write_users(folder / "users.yaml", [user])
        text = _CONFIG.replace("DATA_DIR", str(site.data_dir)).replace("ANCHOR", str(site.anchor))
        site.config.write_text(text, encoding="utf-8")
        return site

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "config.yaml"

    @property
    def catalog(self) -> Path:
        """The catalog's file."""
        return self.data_dir / "catalog.sqlite"

    @property
    def blobs(self) -> Path:
        """The folder of the segments."""
        return self.data_dir / "blobs"

    def open(self, clock: MovableClock) -> Gateway:
        """Open the gateway, as a start of the server does."""
        return open_gateway(load_config(self.config), clock=clock)


def door_for(gateway: Gateway, session_id: str) -> Door:
    """Return a door on a new session of that id; all are the same person's, who owns all locks."""
    with gateway.catalog.begin() as tx:
        session: Session = gateway.sessions.open(
            tx,
            session_id=session_id,
            principal=Principal("id", "user", memberships=frozenset({membership("file", _GROUP)})),
            wire=Wire.WEBDAV,
            client=Client("127.0.0.1", "crash campaign"),
            factors=frozenset({Factor.PASSWORD}),
            now_us=gateway.clock(),
            idle_timeout_s=_HOUR_S,
            session_timeout_s=12 * _HOUR_S,
            binding=None,
        )
    return gateway.monitor.bind(session)


def root_of(thread: int) -> str:
    """Return the folder that only this thread works in."""
    return f"/{SHARE}/t{thread}"
