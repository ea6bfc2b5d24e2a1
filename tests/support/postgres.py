"""Starts a real PostgreSQL server from Debian's package, and makes databases in it.

Each server is a child process with its data in a temporary folder of its own, ended by its
process id. PostgreSQL refuses to run as root, so root runs it as Debian's ``postgres`` account.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from backends.catalog.postgres import PostgresSettings, open_catalog
from backends.catalog.schema import metadata
from tests.support.slapd import Authority, Certificate, free_port

ACCOUNT = "postgres"
ADMIN = "keeper"
PASSWORD = "made-up database password"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0

# A crash of the machine is not what these tests play; a crash of the server loses nothing.
SERVER_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}


@dataclass(slots=True)
class PostgresServer:
    """A server on a loopback port and on a socket in ``folder``."""

    folder: Path
    port: int
    authority: Authority
    certificate: Certificate
    process: subprocess.Popen[bytes] | None = None
    numbers: Iterator[int] = field(default_factory=count)
    migrated: str = ""

    def settings(self, database: str, **changes: Any) -> PostgresSettings:
        """Return settings for the database over the socket; keywords replace single ones."""
        usual: dict[str, Any] = {
            "host": str(self.folder),
            "port": self.port,
            "user": ADMIN,
            "database": database,
            "sslmode": "disable",
        }
        return PostgresSettings(**usual | changes)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Return a connection of the tests' own."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, user=ADMIN, dbname=database, autocommit=True
        )

    def new_database(self, template: str = "template0", encoding: str = "UTF8") -> str:
        """Make a database and return its name; a copy when ``template`` is one made here."""
        name = f"catalog{next(self.numbers)}"
        statement = sql.SQL(
            "CREATE DATABASE {} TEMPLATE {} ENCODING {} LOCALE 'C' STRATEGY file_copy"
        )
        with contextlib.closing(self.connect()) as connection:
            connection.execute(
                statement.format(sql.Identifier(name), sql.Identifier(template), encoding)
            )
        return name

    def new_catalog(self) -> str:
        """Make a database with a catalog that nothing was done with, and return its name."""
        if not self.migrated:
            # Migrating takes longer than copying a database.
            name = self.new_database()
            catalog = open_catalog(self.settings(name))
            catalog.migrate()
            catalog.close()
            self.migrated = name
        return self.new_database(self.migrated)

    def empty(self, database: str) -> None:
        """Remove every row of the catalog in the database."""
        with contextlib.closing(self.connect(database)) as connection:
            for table in metadata.tables:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))

    def drop(self, database: str) -> None:
        """Remove a database, whoever uses it."""
        statement = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database))
        with contextlib.closing(self.connect()) as connection:
            connection.execute(statement)

    def start(self) -> None:
        """Start the server and return when it takes connections."""
        options = SERVER_OPTIONS | {
            "ssl": "on",
            "ssl_cert_file": self._given(self.certificate.certificate),
            "ssl_key_file": self._given(self.certificate.key),
        }
        listening = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.folder)]
        words = [f"--{name}={value}" for name, value in options.items()]
        command = [*_as_account(), program("postgres"), "-D", str(self.folder / "data")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *listening, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        self._await_connections()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT as an administrator would, SIGQUIT as a crash does."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _given(self, file: Path) -> str:
        """Return a copy of the file that the server's account owns, as it demands of keys."""
        copy = self.folder / f"server-{file.name}"
        shutil.copyfile(file, copy)
        copy.chmod(0o600)
        _give(copy)
        return str(copy)

    def _await_connections(self) -> None:
        # The server does not tell when it is ready, so it is asked every 20 ms.
        tick = threading.Event()
        for _ in range(int(START_LIMIT_S / 0.02)):
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(psycopg.OperationalError):
                self.connect().close()
                return
            tick.wait(0.02)
        raise RuntimeError((self.folder / "server.log").read_text(errors="replace"))


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a server for the length of the block; by TCP it asks for PASSWORD and offers TLS."""
    # Not below pytest's folder, which no other account may enter.
    folder = Path(tempfile.mkdtemp(prefix="sealgate-postgres-"))
    authority = Authority(folder)
    server = PostgresServer(folder, free_port(), authority, authority.issue("database"))
    try:
        _give(folder)
        (folder / "password").write_text(PASSWORD)
        _give(folder / "password")
        initdb = [*_as_account(), program("initdb"), "-D", str(folder / "data"), "-U", ADMIN]
        initdb += ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        initdb += ["--encoding=UTF8", "--no-locale", f"--pwfile={folder / 'password'}"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
        server.start()
        yield server
    finally:
        # Nothing is kept, so nothing need be written out in order.
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, of the newest version that is there."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda it: int(it.parent.name))
    assert folders, "PostgreSQL is not installed: apt-get install postgresql"
    return str(folders[-1] / name)


def _as_account() -> list[str]:
    # Tests that are killed must not leave a server behind.
    words = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() == 0:
        group = pwd.getpwnam(ACCOUNT).pw_gid
        words += [f"--reuid={ACCOUNT}", f"--regid={group}", "--clear-groups"]
    return [*words, "--"]


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(path, ACCOUNT)
