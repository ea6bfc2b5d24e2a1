"""A demo gateway running in its own processes, and the real clients that tests drive it with.

Speaks to the gateway only through the interfaces of DESIGN section 9: the ``sealgate`` command,
``demo.json``, WebDAV and SFTP. Imports nothing from the project.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import paramiko
import psutil

from tests.support import openssh
from tests.support.paramiko_sftp import logged_in
from tests.support.replies import Record, Reply, parse_headers
from tests.support.users import Login, User, until

SEALGATE = Path(sys.executable).with_name("sealgate")
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
CLIENT_TIMEOUT_S = 150

# Below the demo's join window (60 s) by as long as a client may take to connect.
JOINABLE_S = 45


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nothing listened on a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(slots=True)
class RunningGateway:
    """A gateway on loopback ports with everything it keeps below ``folder``."""

    folder: Path
    log_file: Path
    webdav_port: int
    sftp_port: int
    process: subprocess.Popen[bytes] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    webdav_logins: dict[tuple[str, str], str] = field(default_factory=dict)
    sftp_logins: dict[str, Login] = field(default_factory=dict)
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @classmethod
    def create(cls, folder: Path) -> RunningGateway:
        """Return a gateway over ``folder`` (new or used before), not yet started."""
        webdav_port, sftp_port = free_ports(2)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / "demo", folder / "gateway.log", webdav_port, sftp_port)

    @property
    def demo_json(self) -> Path:
        return self.folder / "demo.json"

    @property
    def config(self) -> Path:
        return Path(self.info["config"])

    @property
    def data_dir(self) -> Path:
        return Path(self.info["data_dir"])

    @property
    def url(self) -> str:
        """The WebDAV root without a slash at its end."""
        return str(self.info["webdav_url"]).rstrip("/")

    # Running

    def start(self) -> RunningGateway:
        """Start ``sealgate demo`` and return when it is ready."""
        self.demo_json.unlink(missing_ok=True)
        ports = ("--webdav-port", str(self.webdav_port), "--sftp-port", str(self.sftp_port))
        self._spawn("demo", "--dir", str(self.folder), *ports)
        until(self._ready, "demo.json is written", START_TIMEOUT_S)
        self.info = json.loads(self.demo_json.read_text())
        for user in self.info["users"]:
            known = self.users.get(user["name"])
            self.users[user["name"]] = User(
                name=user["name"],
                password=user["password"] or "",
                totp_secret=user["totp_secret"] or "",
                groups=tuple(user["groups"]),
                ssh_key=Path(user["ssh_key"]) if user["ssh_key"] else None,
                last_counter=known.last_counter if known else -1,
            )
        return self

    def start_serve(self) -> RunningGateway:
        """Start ``sealgate serve`` with the configuration as it now stands in its file."""
        self._spawn("serve", "-c", str(self.config))
        until(self._answers, "both ports answer", START_TIMEOUT_S)
        return self

    def stop(self) -> int:
        """End the gateway as an init system would; return its exit code."""
        self.held.close()
        process, self.process = self.process, None
        assert process is not None
        family = (
            psutil.Process(process.pid).children(recursive=True) if self._alive(process) else []
        )
        if self._alive(process):
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            message = f"the gateway did not stop within {STOP_TIMEOUT_S} s:\n{self.log()}"
            raise AssertionError(message) from None
        finally:
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self.webdav_logins.clear()
            self.sftp_logins.clear()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a ``sealgate`` sub-command with this gateway's configuration."""
        line = [str(SEALGATE), *arguments, "-c", str(self.config)]
        return subprocess.run(
            line, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S, check=False
        )

    def _spawn(self, *arguments: str) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(SEALGATE), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @staticmethod
    def _alive(process: subprocess.Popen[bytes]) -> bool:
        return process.poll() is None

    def _check_alive(self) -> None:
        assert self.process is not None
        assert self._alive(self.process), f"the gateway ended early:\n{self.log()}"

    def _ready(self) -> bool:
        self._check_alive()
        return self.demo_json.exists()

    def _answers(self) -> bool:
        self._check_alive()
        try:
            with socket.create_connection(("127.0.0.1", self.sftp_port), 5) as ssh:
                ssh.settimeout(5)
                greeting = ssh.recv(4)
            with self.tls() as web:
                return greeting == b"SSH-" and web.version() is not None
        except OSError:
            return False

    # Identity

    def code(self, user: str) -> str:
        """Return a code of ``user`` that the gateway has not seen; may wait up to one step."""
        return self.users[user].next_code()

    def webdav_secret(self, user: str, *, fresh: bool = False, address: str = "127.0.0.1") -> str:
        """Return password and code as HTTP Basic wants them; the same until ``fresh``.

        The gateway joins a repeated secret to the session it opened, as mapped drives need.
        """
        key = (user, address)
        if fresh or key not in self.webdav_logins:
            self.webdav_logins[key] = self.users[user].password + self.code(user)
        return self.webdav_logins[key]

    def sftp_login(self, user: str, *, fresh: bool = False) -> Login:
        """Return password and code for SSH; unless ``fresh``, such as still open connections.

        A code opens one session, which further connections may join for a while (60 s, 10 at a
        time) as long as one is open. So one is held open here, and fresh codes stay scarce.
        """
        login = self.sftp_logins.get(user)
        if not fresh and login is not None and time.monotonic() < login.opened_s + JOINABLE_S:
            return login
        login = Login(self.users[user].password, self.code(user), time.monotonic())
        if not fresh:
            self.held.enter_context(logged_in(self.sftp_port, user, login.password, login.code))
            self.sftp_logins[user] = login
        return login

    def ssh_transport(self, user: str) -> contextlib.AbstractContextManager[paramiko.Transport]:
        """Return paramiko's connection as ``user``, for the length of a ``with`` block."""
        login = self.sftp_login(user)
        return logged_in(self.sftp_port, user, login.password, login.code)

    # Clients

    def curl(
        self,
        user: str | None,
        method: str,
        path: str,
        *extra: str,
        body: bytes | Path | None = None,
        headers: Mapping[str, str] | None = None,
        output: Path | None = None,
        secret: str | None = None,
        address: str = "127.0.0.1",
    ) -> Reply:
        """Send one request with curl; ``path`` is plain and is escaped here.

        Without ``secret`` the user's living session is used. With ``output`` the body goes to
        that file and ``Reply.body`` is empty.
        """
        with tempfile.TemporaryDirectory() as scratch:
            target = output or Path(scratch, "body")
            options = {
                "url": self.url + quote(path),
                "request": method,
                "cacert": self.info["ca_file"],
                "interface": address,
                "output": str(target),
                "dump-header": str(Path(scratch, "headers")),
            }
            if method == "HEAD":
                del options["request"]
            if user is not None:
                typed = secret if secret is not None else self.webdav_secret(user, address=address)
                options["user"] = f"{user}:{typed}"
            if isinstance(body, bytes):
                Path(scratch, "upload").write_bytes(body)
                body = Path(scratch, "upload")
            if body is not None:
                options["upload-file"] = str(body)
            lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
            lines += [
                f"header = {json.dumps(f'{name}: {value}')}"
                for name, value in (headers or {}).items()
            ]
            flags = ["--silent", "--show-error", "--path-as-is", "--globoff", "--noproxy", "*"]
            if method == "HEAD":
                flags.append("--head")
            done = subprocess.run(
                ["curl", "--disable", *flags, *extra, "--config", "-"],
                input="\n".join(lines).encode(),
                capture_output=True,
                timeout=CLIENT_TIMEOUT_S,
                check=False,
            )
            status, answered = parse_headers(Path(scratch, "headers"))
            kept = b"" if output or not target.exists() else target.read_bytes()
            return Reply(status, answered, kept, done.returncode)

    def tls(self, address: str = "127.0.0.1") -> ssl.SSLSocket:
        """Return a raw TLS connection to the WebDAV listener, for what no client would send."""
        context = ssl.create_default_context(cafile=self.info["ca_file"])
        host = urlsplit(self.url).hostname or "127.0.0.1"
        plain = socket.create_connection(
            (host, self.webdav_port), CLIENT_TIMEOUT_S, source_address=(address, 0)
        )
        try:
            return context.wrap_socket(plain, server_hostname=host)
        except OSError:
            plain.close()
            raise

    def ssh_options(
        self, user: str, *, method: str = "keyboard-interactive", address: str = "127.0.0.1"
    ) -> list[str]:
        """Return the options with which OpenSSH's programs reach this gateway as ``user``."""
        known = self.users.get(user)
        return openssh.options(
            port=self.sftp_port,
            known_hosts=str(self.info["known_hosts"]),
            method=method,
            key=known.ssh_key if known and "publickey" in method else None,
            address=address,
        )

    def sftp(
        self,
        user: str,
        commands: Sequence[str],
        *,
        method: str = "keyboard-interactive",
        login: Login | None = None,
        address: str = "127.0.0.1",
        flags: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start OpenSSH's sftp with a batch of commands; the caller waits for it or ends it.

        With method ``password`` the code follows the password directly, as the gateway asks.
        """
        if login is None and "publickey" not in method:
            login = self.sftp_login(user)
        password, code = (login.password, login.code) if login else ("", "")
        if method == "password":
            password += code
        options = self.ssh_options(user, method=method, address=address)
        process = subprocess.Popen(
            ["sftp", *options, *flags, "-b", "-", f"{user}@{self.info['sftp_host']}"],
            env=openssh.environment(self.log_file.parent, password, code),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("\n".join(commands) + "\n")
            process.stdin.flush()
        return process

    def sftp_batch(
        self,
        user: str,
        commands: Sequence[str],
        *,
        method: str = "keyboard-interactive",
        login: Login | None = None,
        address: str = "127.0.0.1",
    ) -> subprocess.CompletedProcess[str]:
        """Run a batch of sftp commands to its end; stdout holds what the client said."""
        with self.sftp(user, commands, method=method, login=login, address=address) as process:
            try:
                said, _ = process.communicate(timeout=CLIENT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            return subprocess.CompletedProcess(process.args, process.returncode, said, "")

    # Audit

    def audit_records(self) -> list[Record]:
        """Return every record, in the order of the export."""
        done = self.command("audit", "export", "--format", "jsonl")
        assert done.returncode == 0, done.stderr
        return [Record.parse(line) for line in done.stdout.splitlines() if line]

    def audit_mark(self) -> frozenset[tuple[str, int]]:
        """Return what is recorded now, for ``audit_since``."""
        return frozenset((record.journal, record.seq) for record in self.audit_records())

    def audit_since(self, mark: frozenset[tuple[str, int]]) -> list[Record]:
        """Return the records that were added after ``mark``."""
        return [one for one in self.audit_records() if (one.journal, one.seq) not in mark]

    def wait_for_record(
        self, matches: Callable[[Record], bool], what: str, timeout_s: float = 15
    ) -> Record:
        """Return the first record that matches, waiting for it to be written."""
        return until(
            lambda: [one for one in self.audit_records() if matches(one)],
            f"a record of {what}",
            timeout_s,
        )[0]


@contextlib.contextmanager
def running_gateway(folder: Path) -> Iterator[RunningGateway]:
    """Run a demo gateway over ``folder`` for the length of a ``with`` block."""
    gateway = RunningGateway.create(folder)
    try:
        yield gateway.start()
    finally:
        if gateway.process is not None:
            gateway.stop()
