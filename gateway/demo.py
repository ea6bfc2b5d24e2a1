"""``sealgate demo``: makes a complete trial gateway in one folder and runs it.

Everything it makes is what an administrator would make by hand: a configuration, keys outside the
data folder, a file of users. Nothing of the server behaves differently for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import secrets
import shlex
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from auth.file import FileUser, hash_password, write_users
from auth.totp import current_code, provisioning_uri
from backends.keyring import MasterKey
from gateway.app import Gateway
from gateway.commands.output import DONE, UsageError, administered, say
from gateway.commands.totp import ISSUER, print_qr
from gateway.demo_keys import (
    ssh_public_line,
    tls_still_good,
    write_secret,
    write_ssh_key,
    write_tls,
)
from gateway.model import system_clock
from gateway.supervisor import Supervisor

USERS = {"alice": "clinicians", "bob": "billing", "scanner": "scanners", "admin": "administrators"}
MACHINES = frozenset({"scanner"})

_CONFIG = """\
# A trial gateway, made by "sealgate demo". config.example.yaml explains every key.
server:
  node: demo
  webdav:
    listen: "{webdav}"
    certificate: keys/tls.crt
    private_key: keys/tls.key
  sftp:
    listen: "{sftp}"
    host_keys: [keys/ssh_host_ed25519_key, keys/ssh_host_rsa_key]
storage:
  data_dir: data
keys:
  master_key: {{file: keys/master.key}}
directory:
  file: {{users: users.yaml}}
shares:
  radiology: {{quota: 500GiB, versions: {{keep: 30, for: 90d}}, trash: 30d}}
  inbox: {{}}
  scans: {{}}
groups:
  clinicians:
    members: {{file: clinicians}}
    shares:
      radiology: {{allow: all}}
    idle_timeout: 15m
    session_timeout: 12h
  billing:
    members: {{file: billing}}
    shares:
      radiology: {{allow: [list, read]}}
    idle_timeout: 15m
    session_timeout: 12h
  scanners:
    members: {{file: scanners}}
    shares:
      inbox: {{allow: [create]}}
      scans: {{allow: all}}
    second_factor: none
    networks: ["127.0.0.0/8", "::1/128"]
    session_timeout: 24h
  administrators:
    members: {{file: administrators}}
    shares:
      radiology: {{allow: all}}
      inbox: {{allow: all}}
      scans: {{allow: all}}
    idle_timeout: 15m
    session_timeout: 12h
"""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """Where the demo lies and listens."""

    folder: Path
    host: str
    webdav_port: int
    sftp_port: int


@dataclass(frozen=True, slots=True)
class DemoUser:
    """What a person trying the demo needs to know of one user."""

    name: str
    password: str | None
    totp_secret: str | None
    groups: list[str]
    ssh_key: str | None


class Demo:
    """One demo folder."""

    def __init__(self, settings: DemoSettings) -> None:
        self._settings = settings
        self._folder = settings.folder
        self._keys = settings.folder / "keys"
        self._accounts = settings.folder / "accounts.json"
        self._ready = settings.folder / "demo.json"

    def run(self) -> int:
        """Make what is missing, serve until told to stop, and return the exit status."""
        with contextlib.ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(self._alone())
                self._ready.unlink(missing_ok=True)
                self._prepare()
            except OSError as error:
                raise UsageError(
                    f"The demo folder {self._folder} cannot be written ({error.strerror}). "
                    "Choose another with --dir."
                ) from error
            stack.callback(self._ready.unlink, missing_ok=True)
            return Supervisor(self._folder / "config.yaml", on_ready=self._announce).run()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder, so that another demo does not change it under this one."""
        with (self._folder / "demo.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"A demo in {self._folder} is running. Stop it, or choose another with --dir."
                ) from error
            yield

    def print_code(self, name: str) -> int:
        """Print a code of the user that is valid now."""
        for user in self._known_users():
            if user.name == name and user.totp_secret is not None:
                say(current_code(user.totp_secret, system_clock()))
                return DONE
        raise UsageError(f"The demo in {self._folder} has no user '{name}' with a code.")

    def _prepare(self) -> None:
        settings = self._settings
        self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_config()
        master = self._keys / "master.key"
        if not master.exists():
            MasterKey.generate().write(master)
        if not tls_still_good(self._keys / "tls.crt", settings.host):
            write_tls(
                settings.host,
                self._keys / "tls.crt",
                self._keys / "tls.key",
                self._folder / "ca.pem",
            )
        host_keys = []
        for kind in ("ed25519", "rsa"):
            path = self._keys / f"ssh_host_{kind}_key"
            if not path.exists():
                write_ssh_key(path, rsa_key=kind == "rsa")
            host_keys.append(ssh_public_line(path))
        known_as = f"[{settings.host}]:{settings.sftp_port}"
        lines = "".join(f"{known_as} {line}\n" for line in host_keys)
        (self._folder / "known_hosts").write_text(lines, encoding="ascii")
        if not self._accounts.exists():
            self._make_users()

    def _write_config(self) -> None:
        """Write the configuration, or set the listening addresses in the one that is there."""
        settings = self._settings
        path = self._folder / "config.yaml"
        addresses = {
            "webdav": _endpoint(settings.host, settings.webdav_port),
            "sftp": _endpoint(settings.host, settings.sftp_port),
        }
        if path.exists():
            text = path.read_text(encoding="utf-8")
            for wire, address in addresses.items():
                listen = re.compile(rf"(^  {wire}:.*?^ +listen:)[^\n]*", re.DOTALL | re.MULTILINE)
                text = listen.sub(rf'\1 "{address}"', text, count=1)
        else:
            text = _CONFIG.format(**addresses)
        path.write_text(text, encoding="utf-8")

    def _make_users(self) -> None:
        """Make the users and their passwords; their seeds come when the catalog is open."""
        entries = []
        users = []
        for name, group in USERS.items():
            key_path: str | None = None
            public_lines: tuple[str, ...] = ()
            password: str | None = None
            if name in MACHINES:
                path = self._keys / f"{name}_ed25519"
                public_lines = (write_ssh_key(path),)
                key_path = str(path)
            else:
                password = secrets.token_urlsafe(12)
            entries.append(
                FileUser(
                    name=name,
                    id=str(uuid.uuid4()),
                    display_name=name.capitalize(),
                    password="" if password is None else hash_password(password),
                    groups=(group,),
                    ssh_keys=public_lines,
                )
            )
            users.append(DemoUser(name, password, None, [group], key_path))
        write_users(self._folder / "users.yaml", entries)
        self._keep(users)

    def _known_users(self) -> list[DemoUser]:
        try:
            listed = json.loads(self._accounts.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"There is no demo in {self._folder}.") from error
        return [DemoUser(**fields) for fields in listed]

    def _keep(self, users: list[DemoUser]) -> None:
        text = json.dumps([asdict(user) for user in users], indent=2)
        write_secret(self._accounts, text.encode("utf-8"))

    def _enrol_missing(self, gateway: Gateway) -> list[DemoUser]:
        """Give each person who has none a seed for codes; return all users."""
        users = []
        for user in self._known_users():
            secret = user.totp_secret
            account = gateway.directory.find(user.name)
            if user.password is not None and secret is None and account is not None:
                with gateway.journal.begin() as tx:
                    secret = gateway.totp.enrol(tx, account.id)
                    administered(gateway, tx, "totp_enrol", principal_id=account.id)
            users.append(DemoUser(user.name, user.password, secret, user.groups, user.ssh_key))
        self._keep(users)
        return users

    def _announce(self, gateway: Gateway) -> None:
        users = self._enrol_missing(gateway)
        settings = self._settings
        ready = {
            "webdav_url": f"https://{_endpoint(settings.host, settings.webdav_port)}/",
            "sftp_host": settings.host,
            "sftp_port": settings.sftp_port,
            "ca_file": str(self._folder / "ca.pem"),
            "known_hosts": str(self._folder / "known_hosts"),
            "config": str(self._folder / "config.yaml"),
            "data_dir": str(self._folder / "data"),
            "users": [asdict(user) for user in users],
        }
        self._explain(users)
        # Written whole before it appears: programs wait for this file and read it at once.
        draft = self._folder / "demo.json.new"
        write_secret(draft, json.dumps(ready, indent=2).encode("utf-8"))
        draft.rename(self._ready)

    def _explain(self, users: list[DemoUser]) -> None:
        settings = self._settings
        alice = next(user for user in users if user.name == "alice")
        assert alice.password is not None
        assert alice.totp_secret is not None
        url = f"https://{_endpoint(settings.host, settings.webdav_port)}"
        folder = shlex.quote(str(self._folder))
        code = current_code(alice.totp_secret, system_clock())
        fresh = f"$(.venv/bin/sealgate demo --dir {folder} --code alice)"
        known_hosts = shlex.quote(str(self._folder / "known_hosts"))
        sftp = f"sftp -P {settings.sftp_port} -o UserKnownHostsFile={known_hosts}"
        scanner_key = shlex.quote(str(self._keys / "scanner_ed25519"))
        ca_file = shlex.quote(str(self._folder / "ca.pem"))
        print_qr(provisioning_uri(alice.totp_secret, "alice", ISSUER))
        lines = [
            "Sealgate is running. Scan the code above with an authenticator app to be alice.",
            "",
            f"  user      alice   password  {alice.password}   code now  {code}",
            f"  others    {self._ready}",
            "",
            "Upload a file (the password is followed directly by the code; each works once):",
            f"  curl --cacert {ca_file} -u alice:{alice.password}{code} \\",
            f"    -T README.md {url}/radiology/hello.md",
            "Later, with a fresh code:",
            f"  curl --cacert {ca_file} -u alice:{alice.password}{fresh} \\",
            f"    {url}/radiology/hello.md",
            "",
            "SFTP (asks for the password, then the code):",
            f"  {sftp} alice@{settings.host}:/radiology",
            "A machine with its key:",
            f"  {sftp} -i {scanner_key} scanner@{settings.host}:/scans",
            "",
            f"Map it as a drive (trust {self._folder / 'ca.pem'} first; password+code as password):",
            f"  Windows Explorer   Map network drive: {url}/radiology",
            f"  macOS Finder       Go > Connect to Server: {url}/radiology",
            f"  GNOME Files        Other Locations: davs://alice@{url.removeprefix('https://')}/radiology",
            "",
            "See what was recorded:",
            f"  .venv/bin/sealgate audit search -c {folder}/config.yaml",
            "Ctrl-C ends it; the same folder starts again with the same data.",
        ]
        for line in lines:
            say(line)
        # Whoever sent this to a file or a pipe waits for it too.
        sys.stdout.flush()


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
