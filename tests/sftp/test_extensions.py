"""Checksums and home directories: what clients ask for instead of reading everything back."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest
from asyncssh.packet import SSHPacket, String, UInt32, UInt64
from paramiko.sftp import CMD_EXTENDED, CMD_EXTENDED_REPLY, CMD_NAME

from gateway.sftp.digests import DigestRequest, calculated
from tests.sftp.conftest import LIMIT_S, Listener

CONTENT = bytes(range(256)) * 10


@contextlib.contextmanager
def client(listener: Listener) -> Iterator[paramiko.SFTPClient]:
    """Give a paramiko client that is logged in by key."""
    key = paramiko.Ed25519Key.from_private_key_file(str(listener.user_key))
    transport = paramiko.Transport(("127.0.0.1", listener.port))
    try:
        transport.connect(username="alice", pkey=key)
        sftp = paramiko.SFTPClient.from_transport(transport)
        assert sftp is not None
        channel = sftp.get_channel()
        assert channel is not None
        channel.settimeout(LIMIT_S)
        yield sftp
    finally:
        transport.close()


class Held:
    """Content in memory."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.reads = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, size: int) -> bytes:
        self.reads += 1
        return self.content[offset : offset + size]


def answered(sftp: Any, extension: bytes, *parts: object) -> tuple[int, paramiko.Message]:
    """Return the kind and the data of the answer to an extended request."""
    kind, answer = sftp._request(CMD_EXTENDED, extension, *parts)
    return kind, answer


def asked(
    algorithms: bytes = b"sha256", offset: int = 0, length: int = 0, block: int = 0
) -> DigestRequest:
    data = String(algorithms) + UInt64(offset) + UInt64(length) + UInt32(block)
    return DigestRequest.parse(SSHPacket(data))


def test_a_known_digest_is_told_without_reading() -> None:
    """Only of the whole, as one hash, and only SHA-256."""
    held, known = Held(), hashlib.sha256(CONTENT).hexdigest()
    for request in (asked(), asked(length=len(CONTENT)), asked(length=2**63)):
        assert calculated(held, request, known).hex() == known
    assert held.reads == 0
    assert calculated(held, asked(b"sha512"), known) == hashlib.sha512(CONTENT).digest()
    assert calculated(held, asked(offset=1), known) == hashlib.sha256(CONTENT[1:]).digest()
    assert calculated(held, asked(length=7), known) == hashlib.sha256(CONTENT[:7]).digest()


def test_blocks_are_hashed_one_by_one() -> None:
    """The last as short as it comes; what lies beyond the end is nothing."""
    found = calculated(Held(), asked(offset=100, length=700, block=256), "")
    parts = (CONTENT[100:356], CONTENT[356:612], CONTENT[612:800])
    assert found == b"".join(hashlib.sha256(part).digest() for part in parts)
    for request in (asked(offset=10_000), asked(offset=2**64 - 1, length=2**64 - 1)):
        assert calculated(Held(), request, "") == hashlib.sha256(b"").digest()
    assert calculated(Held(b""), asked(), "") == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(
    ("algorithms", "block"), [(b"md5", 0), (b"md5,sha1", 0), (b"", 0), (b"sha256", 255)]
)
def test_weak_hashes_and_tiny_blocks_are_refused(algorithms: bytes, block: int) -> None:
    """With what there is instead."""
    with pytest.raises(Exception, match=r"Only these|at least 256"):
        asked(algorithms, block=block)


def test_an_answer_is_bounded() -> None:
    """Not a hash for each of a billion blocks."""
    with pytest.raises(Exception, match="ask for fewer"):
        calculated(Held(bytes(256 * 4097)), asked(block=256), "")


def test_paramiko_checks_an_open_file(listener: Listener) -> None:
    """Its own spelling of the extension, which repeats the name in the answer."""
    listener.monitor.put("/share/a", CONTENT)
    with client(listener) as sftp, sftp.open("/share/a") as file:
        assert file.check("sha256") == hashlib.sha256(CONTENT).digest()
        assert file.check("md5,sha256", 1, 0, 0) == hashlib.sha256(CONTENT[1:]).digest()
        with pytest.raises(OSError, match="Only these"):
            file.check("md5")


def test_a_file_is_checked_by_name_and_that_is_a_read(listener: Listener) -> None:
    """As WinSCP asks; opened, read and closed at the door like any other."""
    listener.monitor.put("/share/a", CONTENT)
    body = (b"/share/a", b"sha1,sha256", struct.pack(">QQI", 0, 0, 0))
    with client(listener) as sftp:
        kind, answer = answered(sftp, b"check-file-name", body[0], body[1], _Raw(body[2]))
        assert kind == CMD_EXTENDED_REPLY
        assert answer.get_string() == b"sha256"
        assert answer.get_remainder() == hashlib.sha256(CONTENT).digest()
        with pytest.raises(FileNotFoundError):
            answered(sftp, b"check-file-name", b"/share/none", body[1], _Raw(body[2]))
    assert ("close", "complete") in listener.monitor.events


def test_a_file_open_for_writing_alone_tells_nothing(listener: Listener) -> None:
    """What may not be read may not be guessed at."""
    with client(listener) as sftp, sftp.open("/share/new", "w") as file:
        file.write(b"x")
        with pytest.raises(PermissionError):
            file.check("sha256")


@pytest.mark.parametrize(
    ("extension", "asked_for", "found"),
    [
        (b"home-directory", b"alice", b"/"),
        (b"home-directory", b"", b"/"),
        (b"expand-path@openssh.com", b"~", b"/"),
        (b"expand-path@openssh.com", b"~/share/../share/a", b"/share/a"),
        (b"expand-path@openssh.com", b"~bob/share", b"/share"),
        (b"expand-path@openssh.com", b"../..", b"/"),
    ],
)
def test_everyone_begins_at_the_root(
    listener: Listener, extension: bytes, asked_for: bytes, found: bytes
) -> None:
    """Whoever's home is asked for: no account of the host is ever looked at."""
    with client(listener) as sftp:
        kind, answer = answered(sftp, extension, asked_for)
        assert (kind, answer.get_int(), answer.get_string()) == (CMD_NAME, 1, found)


class _Raw(paramiko.SFTPAttributes):
    """Bytes that paramiko adds to a request as they are."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def _pack(self, msg: paramiko.Message) -> None:
        msg.add_bytes(self._data)
