"""What scp's own protocol owes to any bytes, as targets like those of ``targets.py``.

``scp_sink`` plays what a client sends to be stored, ``scp_source`` what it answers to what it is
sent; both over a wire in memory, in front of the fake door.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final, cast

import asyncssh

from gateway.model import Attempt, Wire
from gateway.paths import VirtualPath
from gateway.sftp.connection import SftpConnection
from gateway.sftp.scp import ScpCommand
from gateway.sftp.scp_session import ScpSession
from gateway.sftp.service import Service
from tests.fuzz.grammar import Grammar
from tests.fuzz.sftp import _CLIENT, SETTINGS, _Connection, _Reader, _Writer
from tests.fuzz.targets import Parser
from tests.sftp.fake_door import CODE, PASSWORD, FakeMonitor

TARGET: Final = "/share/in"
_NEVER_SAID: Final = (b"Traceback", b"Error:", b"object at 0x")


@dataclass(slots=True)
class _ScpWriter(_Writer):
    """The outgoing half, with the second stream and the exit status."""

    errors: bytearray = field(default_factory=bytearray)
    status: int | None = None

    @property
    def channel(self) -> _ScpWriter:
        return self

    def write_stderr(self, data: bytes) -> None:
        self.errors += data

    def exit(self, status: int) -> None:
        assert self.status is None
        self.status = status


async def _served(data: bytes, monitor: FakeMonitor, command: ScpCommand) -> _ScpWriter:
    """Return what the server said to a client of ``command`` that sends ``data``."""
    session = monitor.login(Attempt("alice", Wire.SFTP, _CLIENT, secret=PASSWORD + CODE))
    service = Service(monitor.facade(), SETTINGS)
    reader, writer = _Reader(), _ScpWriter()
    served = ScpSession(
        cast(SftpConnection, _Connection(service)),
        command,
        monitor.facade().bind(session),
        cast("asyncssh.SSHReader[bytes]", reader),
        cast("asyncssh.SSHWriter[bytes]", writer),
    )
    reader.feed_data(data)
    reader.feed_eof()
    try:
        await served.run()
    finally:
        service.workers.shut_down()
    return writer


def _play(data: bytes, monitor: FakeMonitor, command: ScpCommand) -> _ScpWriter:
    failures: list[str] = []

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            failures.append(record.getMessage())

    log, noted = logging.getLogger("gateway.sftp.scp_session"), Noted()
    log.addHandler(noted)
    try:
        writer = asyncio.run(_served(data, monitor, command))
    finally:
        log.removeHandler(noted)
    assert failures == []
    assert writer.status in {0, 1}
    assert monitor.open_writers == 0
    for never in _NEVER_SAID:
        assert never not in writer.sent + writer.errors
    return writer


def scp_sink(data: bytes) -> None:
    """Nothing is made but below the folder that was asked for, and no file is left half stored."""
    monitor = FakeMonitor()
    monitor.put(TARGET, None)
    monitor.put("/share/kept", b"kept")
    before = dict(monitor.tree)
    _play(data, monitor, ScpCommand(TARGET, True, True, True, True))
    folder = VirtualPath.resolve(TARGET)
    for path, node in monitor.tree.items():
        if path in before:
            assert node is before[path] or path == folder
        else:
            assert path.is_within(folder)
            assert path.name.isprintable()


def scp_source(data: bytes) -> None:
    """Nothing is changed, and every reader is closed."""
    monitor = FakeMonitor()
    monitor.put("/share/f", None)
    for name in ("a", "f/b"):
        monitor.put(f"/share/{name}", b"content")
    before = dict(monitor.tree)
    _play(data, monitor, ScpCommand("/share", False, True, True, False))
    assert monitor.tree == before


SCP_PARSERS: Final = {
    "scp-sink": Parser(
        scp_sink,
        Grammar(
            (
                *(b"C0644 5 %b\nhello\0" % name for name in (b"a", b"..", b"a/b", b"\xff", b"")),
                *(b"C0%b 5 a\n" % mode for mode in (b"644", b"999", b"64")),
                *(
                    b"C0644 %b a\n" % size
                    for size in (b"0", b"-1", b"300000", b"9" * 19, b"9" * 20)
                ),
                *(b"D0755 0 %b\n" % name for name in (b"d", b".", b"../..", b"a\\b", b"\x1b[2J")),
                *(b"T1 0 1 0\n", b"T99999999999 0 1 0\n", b"T1 0\n"),
                *(b"E\n", b"\0", b"\1oh\n", b"\2oh\n", b"\n", b"x" * 1025, bytes(5), b"hello"),
            ),
            (b"", b"C0644 5 a\nhello\0", b"D0755 0 d\nC0644 5 a\nhel", b"T1 0 1 0\nD0755 0 d\n"),
        ),
    ),
    "scp-source": Parser(
        scp_source,
        Grammar(
            (b"\0", b"\0\0\0", b"\1no\n", b"\2no\n", b"\1", b"\n", b"\xff", b"x" * 1025 + b"\n"),
            (b"", b"\0", b"\0" * 7, b"\0" * 20),
        ),
    ),
}
"""Both targets by the names of their folders of seeds."""
