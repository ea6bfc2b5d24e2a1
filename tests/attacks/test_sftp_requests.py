"""Hostile SFTP requests against the running gateway: handles, numbers, paths, links and renames."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tests.attacks.sftp_support import (
    ATTRS,
    CLOSE,
    CREATING,
    DENIED,
    EOF,
    EXTENDED,
    FAILURE,
    FOR_READING,
    FOR_WRITING,
    FSETSTAT,
    FSTAT,
    HANDLE,
    LSTAT,
    MKDIR,
    NAME,
    NEW,
    NO_ATTRS,
    NO_SUCH_FILE,
    OK,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    READLINK,
    REALPATH,
    REMOVE,
    RENAME,
    RMDIR,
    SETSTAT,
    STAT,
    STATUS,
    SYMLINK,
    UNSUPPORTED,
    WRITE,
    Attacker,
    Client,
    channel_on,
    long,
    packet,
    text,
    word,
)
from tests.attacks.support import SECRET_NAME, Target

SECRET = f"/inbox/{SECRET_NAME}"
HANDLE_LIMIT = 256
OPENS = 20_000
LOOK_UPS = (STAT, LSTAT, OPENDIR)
READ_LIMIT_BYTES = 256 * 1024
WITH_TIMES = word(8) + word(1) + word(1)
SHA256 = (text("sha256"), long(0), long(0), word(0))

# The same node of another share, where the scanner may only deposit new files.
CLIMBS = (
    f"/scans/../inbox/{SECRET_NAME}",
    f"../../../inbox/{SECRET_NAME}",
    f"/scans/a/b/../../.././inbox//{SECRET_NAME}",
    f"/../../inbox/./{SECRET_NAME}/",
)


@pytest.fixture(scope="module")
def attacker(target: Target) -> Iterator[Attacker]:
    """The scanner, and at the end the gateway is well."""
    attacker = Attacker(target)
    yield attacker
    attacker.healthy()


@pytest.fixture
def client(attacker: Attacker) -> Iterator[Client]:
    """A channel of the scanner."""
    with attacker.client() as client:
        yield client


@pytest.fixture
def folder(client: Client) -> str:
    """The path of a new folder on ``scans``, where the scanner may do everything."""
    path = f"/scans/{uuid.uuid4().hex[:12]}"
    assert client.ask(MKDIR, text(path), NO_ATTRS).code == OK
    return path


def by_handle(handle: bytes) -> dict[str, tuple[int, tuple[bytes, ...]]]:
    """Return every request that takes a handle, with this one."""
    raw = text(handle)
    return {
        "read": (READ, (raw, long(0), word(10))),
        "write": (WRITE, (raw, long(0), text(b"x"))),
        "fstat": (FSTAT, (raw,)),
        "fsetstat": (FSETSTAT, (raw, WITH_TIMES)),
        "readdir": (READDIR, (raw,)),
        "close": (CLOSE, (raw,)),
        "fsync": (EXTENDED, (text("fsync@openssh.com"), raw)),
        "fstatvfs": (EXTENDED, (text("fstatvfs@openssh.com"), raw)),
        "copy-data": (EXTENDED, (text("copy-data"), raw, long(0), long(0), raw, long(0))),
        "check-file": (EXTENDED, (text("check-file"), raw, *SHA256)),
        "check-file-handle": (EXTENDED, (text("check-file-handle"), raw, *SHA256)),
    }


def test_random_and_foreign_handles_open_nothing(attacker: Attacker, client: Client) -> None:
    """Those of another session, of another channel, closed ones, and invented ones: all refused."""
    path = f"/scans/{uuid.uuid4().hex[:12]}"
    client.put(path, b"mine")
    with attacker.transport() as transport, attacker.client() as stranger:
        neighbour = channel_on(transport)
        closed = stranger.open(path, FOR_READING).handle
        assert stranger.ask(CLOSE, text(closed)).code == OK
        foreign = [one.open(path, FOR_READING | FOR_WRITING).handle for one in (client, neighbour)]
        empty = channel_on(transport)
        for handle in (*foreign, closed, b"", bytes(4), b"\xff" * 4, os.urandom(4), b"x" * 2000):
            for name, (kind, parts) in by_handle(handle).items():
                for other in (empty, stranger):
                    assert other.ask(kind, *parts).code == FAILURE, name
        assert client.ask(READ, text(foreign[0]), long(0), word(10)).data == b"mine"
        for one, handle in zip((client, neighbour), foreign, strict=True):
            assert one.ask(CLOSE, text(handle)).code == OK
    assert client.get(path) == b"mine"


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_far_offsets_cost_nothing_and_lose_nothing(
    attacker: Attacker, client: Client, folder: str, offset: int
) -> None:
    """End of file for who reads, a failure for who writes, resizes or copies; the file is whole."""
    path = f"{folder}/a"
    client.put(path, b"content")
    before_mib = attacker.peak_mib()
    handle = client.open(path, FOR_READING | FOR_WRITING).handle
    assert client.ask(READ, text(handle), long(offset), word(2**32 - 1)).code == EOF
    assert client.ask(WRITE, text(handle), long(offset), text(b"x")).code == FAILURE
    assert client.ask(FSETSTAT, text(handle), word(1), long(offset)).code == FAILURE
    other = client.open(f"{folder}/b", NEW).handle
    copy = (text("copy-data"), text(handle), long(0), long(offset), text(other), long(offset))
    assert client.ask(EXTENDED, *copy).code == FAILURE
    client.ask(CLOSE, text(handle))
    client.ask(CLOSE, text(other))
    assert client.ask(SETSTAT, text(path), word(1), long(offset)).code == FAILURE
    assert client.get(path) == b"content"
    assert attacker.peak_mib() < before_mib + 20


def test_a_read_of_four_gigabytes_answers_a_packet(client: Client, folder: str) -> None:
    """2^32-1 bytes asked for: no more than the limit that was announced."""
    path = f"{folder}/a"
    handle = client.open(path, NEW | FOR_READING).handle
    for part in range(3):
        block = bytes(READ_LIMIT_BYTES)
        request = (text(handle), long(part * len(block)), text(block))
        assert client.ask(WRITE, *request).code == OK
    assert client.ask(CLOSE, text(handle)).code == OK
    handle = client.open(path, FOR_READING).handle
    answer = client.ask(READ, text(handle), long(0), word(2**32 - 1))
    assert len(answer.data) == READ_LIMIT_BYTES


def test_any_number_of_opens_is_bounded(attacker: Attacker, client: Client, folder: str) -> None:
    """Tens of thousands: all but the first handles are refused; memory stays flat, and closing makes room again."""
    path = f"{folder}/a"
    client.put(path, b"content")
    request = packet(OPEN, 1, text(path), word(FOR_READING), NO_ATTRS)
    held: list[bytes] = []
    mark = attacker.target.mark()
    codes: set[int] = set()
    for part in range(OPENS // 1000):
        client.send(request * 1000)
        for _ in range(1000):
            answer = client.receive()
            if answer.kind == HANDLE:
                held.append(answer.handle)
            else:
                codes.add(answer.code)
        if not part:
            before_mib = attacker.resident_mib()
    assert len(held) == HANDLE_LIMIT
    refused = [one for one in attacker.target.since(mark) if one.action == "refused"]
    assert [(one.rule, one.principal) for one in refused] == [("too many open files", "scanner")]
    assert codes == {FAILURE}
    assert attacker.resident_mib() < before_mib + 10
    for handle in held:
        assert client.ask(CLOSE, text(handle)).code == OK
    assert client.get(path) == b"content"


def requests_of(path: str, own: str) -> dict[str, tuple[int, tuple[bytes, ...]]]:
    """Return every request that takes a path, on this one; ``own`` is a file of the scanner."""
    raw, mine = text(path), text(own)
    return {
        "open": (OPEN, (raw, word(FOR_READING), NO_ATTRS)),
        "open new": (OPEN, (raw, word(NEW), NO_ATTRS)),
        "open to change": (OPEN, (raw, word(FOR_READING | FOR_WRITING), NO_ATTRS)),
        "stat": (STAT, (raw,)),
        "lstat": (LSTAT, (raw,)),
        "setstat": (SETSTAT, (raw, WITH_TIMES)),
        "truncate": (SETSTAT, (raw, word(1) + long(0))),
        "lsetstat": (EXTENDED, (text("lsetstat@openssh.com"), raw, WITH_TIMES)),
        "opendir": (OPENDIR, (raw,)),
        "remove": (REMOVE, (raw,)),
        "rmdir": (RMDIR, (raw,)),
        "rename away": (RENAME, (raw, text(own + "-stolen"))),
        "rename over": (RENAME, (mine, raw)),
        "posix-rename over": (EXTENDED, (text("posix-rename@openssh.com"), mine, raw)),
        "posix-rename away": (EXTENDED, (text("posix-rename@openssh.com"), raw, mine)),
        "mkdir": (MKDIR, (raw, NO_ATTRS)),
        "check-file-name": (EXTENDED, (text("check-file-name"), raw, *SHA256)),
    }


@pytest.mark.parametrize("climb", CLIMBS)
def test_dot_dot_leads_no_further_than_the_plain_path(
    attacker: Attacker, client: Client, folder: str, climb: str
) -> None:
    """In every operation: the same refusal as without it, nothing changed, recorded resolved."""
    own = f"{folder}/own"
    client.put(own, b"mine")
    plain = requests_of(SECRET, own)
    for name, (kind, parts) in requests_of(climb, own).items():
        mark = attacker.target.mark()
        answer = client.ask(kind, *parts)
        assert answer.kind == STATUS, name
        assert answer.code in {DENIED, FAILURE, NO_SUCH_FILE}, name
        plain_kind, plain_parts = plain[name]
        assert client.ask(plain_kind, *plain_parts).code == answer.code, name
        if kind in LOOK_UPS:
            continue
        record, as_plain = attacker.records(mark, 2)
        assert record.outcome == as_plain.outcome
        assert record.outcome in {"denied", "failed"}, name
        assert SECRET in {record.path, record.fields.get("target")}, (name, record)
        assert ".." not in record.path, name
    assert client.get(own) == b"mine"
    reply = attacker.target.ask("GET", SECRET, user="admin")
    assert (reply.status, reply.body) == (200, b"x")


def test_dot_dot_never_leaves_the_virtual_root(client: Client) -> None:
    """REALPATH answers lexically, and no file of the host is found above the root."""
    for path in ("../../../etc/passwd", "/scans/../../etc/passwd", "/..//../etc/./passwd"):
        answer = client.ask(REALPATH, text(path))
        assert answer.kind == NAME
        assert text("/etc/passwd") in answer.body
        expanded = client.ask(EXTENDED, text("expand-path@openssh.com"), text(path))
        assert text("/etc/passwd") in expanded.body
        for name, (kind, parts) in requests_of(path, "/scans/none").items():
            assert client.ask(kind, *parts).code in {DENIED, NO_SUCH_FILE}, name


def test_names_that_no_node_can_have_are_refused(
    attacker: Attacker, client: Client, folder: str
) -> None:
    """Bad encodings, separators of others, NUL, and a thousand levels: refused everywhere."""
    own = f"{folder}/own"
    client.put(own, b"mine")
    for name in ("a\0b", "..\\..\\inbox", "n" * 256, "ü" * 128, "/".join("d" * 1000)):
        for kind, parts in requests_of(f"{folder}/{name}", own).values():
            assert client.ask(kind, *parts).code == NO_SUCH_FILE
    for raw in (b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xc3"):
        path = folder.encode() + b"/" + raw
        assert client.open(path, FOR_WRITING | CREATING).code == NO_SUCH_FILE
        assert client.ask(STAT, text(path)).code == NO_SUCH_FILE
    listing = client.ask(READDIR, text(client.ask(OPENDIR, text(folder)).handle))
    assert int.from_bytes(listing.body[:4], "big") == 3
    attacker.healthy()


def test_links_are_made_and_followed_nowhere(client: Client, folder: str) -> None:
    """SYMLINK, READLINK and hard links are unsupported, and no node appears."""
    path = f"{folder}/a"
    client.put(path, b"content")
    for kind, *parts in (
        (SYMLINK, text("/etc/passwd"), text(f"{folder}/link")),
        (SYMLINK, text(f"{folder}/link"), text(SECRET)),
        (READLINK, text(path)),
        (EXTENDED, text("hardlink@openssh.com"), text(path), text(f"{folder}/link")),
    ):
        assert client.ask(kind, *parts).code == UNSUPPORTED
    assert client.ask(LSTAT, text(f"{folder}/link")).code == NO_SUCH_FILE


@pytest.mark.parametrize("how", ["rename", "posix-rename"])
def test_renames_that_cannot_be_lose_nothing(
    attacker: Attacker, client: Client, folder: str, how: str
) -> None:
    """Across shares, of a share, and of a folder into itself: one record each, all is as it was."""
    path, below = f"{folder}/a", f"{folder}/sub"
    client.put(path, b"content")
    assert client.ask(MKDIR, text(below), NO_ATTRS).code == OK

    def rename(old: str, new: str) -> int:
        parts = (text(old), text(new))
        if how == "rename":
            return client.ask(RENAME, *parts).code
        return client.ask(EXTENDED, text("posix-rename@openssh.com"), *parts).code

    for old, new in (
        (path, f"/inbox/{uuid.uuid4().hex}"),
        (path, "/new-share"),
        (path, "/inbox"),
        ("/scans", "/other"),
        ("/", "/scans/root"),
        (folder, f"{folder}/sub/deeper"),
        (folder, f"{below}/../sub/again"),
        (folder, f"{folder}/a/b"),
    ):
        mark = attacker.target.mark()
        assert rename(old, new) in {DENIED, FAILURE, NO_SUCH_FILE}, (old, new)
        (record,) = attacker.records(mark, 1)
        assert record.outcome in {"denied", "failed"}, (old, new)
    assert rename(path, path) == OK
    assert client.get(path) == b"content"
    assert client.ask(STAT, text(below)).kind == ATTRS


def test_a_rename_over_an_open_file_loses_no_upload(
    attacker: Attacker, client: Client, folder: str
) -> None:
    """Who reads the old file reads it to its end; who writes it gets an answer that is true."""
    source, taken = f"{folder}/source", f"{folder}/taken"
    client.put(source, b"source")
    client.put(taken, b"taken")
    with attacker.client() as other:
        reading = other.open(taken, FOR_READING).handle
        writing = other.open(taken, FOR_READING | FOR_WRITING).handle
        assert other.ask(WRITE, text(writing), long(0), text(b"T")).code == OK
        assert client.ask(RENAME, text(source), text(taken)).code == FAILURE
        assert client.get(source) == b"source"
        over = (text("posix-rename@openssh.com"), text(source), text(taken))
        replaced = client.ask(EXTENDED, *over).code
        assert other.ask(READ, text(reading), long(0), word(10)).data in {b"taken", b"Taken"}
        stored = other.ask(CLOSE, text(writing)).code
        assert other.ask(CLOSE, text(reading)).code == OK
    assert (replaced, stored) in {(OK, FAILURE), (OK, OK), (FAILURE, OK)}
    last = b"Taken" if stored == OK else b"source"
    assert client.get(taken) == last
    if replaced != OK:
        assert client.get(source) == b"source"
