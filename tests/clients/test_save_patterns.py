"""How programs save, request by request: the name keeps one history, whatever they do to it.

WebDAV's patterns go through the application with its If headers, SFTP's through the door with the
arguments that the server hands it. Each is what the program named was seen to do on such a drive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from gateway.model import Kind, Wire
from gateway.monitor import Door
from gateway.webdav.app import WebdavApp
from gateway.webdav.messages import Request
from gateway.webdav.settings import WebdavSettings
from tests.door.support import OFFICE, Gate, at, password_of
from tests.webdav.support import basic, body_of

LOCK_BODY = (
    b'<?xml version="1.0" encoding="utf-8"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/>'
    b"</D:lockscope><D:locktype><D:write/></D:locktype><D:owner>alice</D:owner></D:lockinfo>"
)
NO_HEADERS: Mapping[str, str] = {}
FOLDER = "/archive/letters"
FILE = f"{FOLDER}/letter"
CONTENTS = [b"first", b"second " * 10_000, b"third", b"fourth " * 40_000]


class Drive(Protocol):
    """A client of one protocol, as far as saving needs it. Every method must succeed."""

    def create(self, path: str, content: bytes) -> None:
        """Make a file, or replace its content, in one go."""

    def rename(self, path: str, target: str) -> None:
        """Rename to a free name."""

    def rename_over(self, path: str, target: str) -> None:
        """Rename, and replace what has the name."""

    def delete(self, path: str) -> None:
        """Delete a file."""

    def mkdir(self, path: str) -> None:
        """Make a folder."""

    def rmdir(self, path: str) -> None:
        """Delete an empty folder."""


@dataclass(slots=True)
class Dav:
    """Speaks WebDAV to the application; holds what locks it took."""

    gate: Gate
    name: str = "alice"
    secret: str = ""
    tokens: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NO_HEADERS
    ) -> tuple[int, str]:
        """Return the status and the lock token of the answer; lock tokens go with the request."""
        self.secret = self.secret or password_of(self.name) + self.gate.code(self.name)
        sent = {"host": "localhost", "authorization": basic(self.name, self.secret), **headers}
        about = [path, *([headers["destination"]] if "destination" in headers else [])]
        held = [f"<{one}> (<{self.tokens[one]}>)" for one in about if one in self.tokens]
        if held:
            sent["if"] = " ".join(held)
        app = WebdavApp(self.gate.monitor, WebdavSettings())
        answer = app(Request(method, path, sent, body_of(body), OFFICE))
        found = re.search(r"urn:uuid:[0-9a-f-]+", dict(answer.headers).get("Lock-Token", ""))
        return answer.status, found[0] if found else ""

    def lock(self, path: str) -> None:
        status, self.tokens[path] = self.ask("LOCK", path, LOCK_BODY, {"timeout": "Second-3600"})
        assert status in {200, 201}

    def unlock(self, path: str) -> None:
        token = self.tokens.pop(path)
        assert self.ask("UNLOCK", path, headers={"lock-token": f"<{token}>"})[0] == 204

    def create(self, path: str, content: bytes) -> None:
        assert self.ask("PUT", path, content)[0] in {201, 204}

    def rename(self, path: str, target: str) -> None:
        assert self._move(path, target, "F") == 201

    def rename_over(self, path: str, target: str) -> None:
        assert self._move(path, target, "T") == 204

    def _move(self, path: str, target: str, overwrite: str) -> int:
        status, _ = self.ask("MOVE", path, headers={"destination": target, "overwrite": overwrite})
        self.tokens.pop(path, None)
        return status

    def delete(self, path: str) -> None:
        assert self.ask("DELETE", path)[0] == 204
        self.tokens.pop(path, None)

    def mkdir(self, path: str) -> None:
        assert self.ask("MKCOL", path)[0] == 201

    def rmdir(self, path: str) -> None:
        self.delete(path)


@dataclass(slots=True)
class Sftp:
    """Does at the door what the SFTP server does for each packet."""

    door: Door

    def create(self, path: str, content: bytes) -> None:
        handle = self.door.open_write(at(path))
        handle.write_at(0, content)
        handle.commit()

    def create_exclusively(self, path: str, content: bytes) -> None:
        handle = self.door.open_write(at(path), replace=False)
        handle.write_at(0, content)
        handle.commit()

    def write_in_place(self, path: str, content: bytes) -> None:
        """Write over what the file holds, and cut off the rest."""
        handle = self.door.open_write(at(path), create=False, keep=True)
        handle.write_at(0, content)
        handle.truncate(len(content))
        handle.commit()

    def read(self, path: str) -> bytes:
        handle = self.door.open_read(at(path))
        content = handle.read_at(0, handle.size_bytes)
        handle.close()
        return content

    def rename(self, path: str, target: str) -> None:
        assert self.door.move(at(path), at(target))

    def rename_over(self, path: str, target: str) -> None:
        assert not self.door.move(at(path), at(target), replace=True)

    def delete(self, path: str) -> None:
        self.door.delete(at(path), kind=Kind.FILE)

    def mkdir(self, path: str) -> None:
        self.door.mkdir(at(path))

    def rmdir(self, path: str) -> None:
        self.door.delete(at(path), kind=Kind.FOLDER, only_empty=True)

    def touch(self, path: str, modified_us: int) -> None:
        self.door.set_times(at(path), modified_us=modified_us)


# Saving over WebDAV


def word(drive: Dav, content: bytes, number: int) -> None:
    """Word: the new document beside the old one, then both change names, then the old one goes."""
    fresh, old = f"{FOLDER}/~WRD{number:04}.tmp", f"{FOLDER}/~WRL{number:04}.tmp"
    if FILE not in drive.tokens:
        drive.lock(FILE)
    drive.lock(fresh)
    drive.create(fresh, content)
    drive.unlock(fresh)
    drive.rename(FILE, old)
    drive.rename(fresh, FILE)
    drive.delete(old)
    drive.lock(FILE)


def excel(drive: Dav, content: bytes, number: int) -> None:
    """Excel by Windows' redirector: an empty file first, then locked, filled and renamed."""
    fresh, old = f"{FOLDER}/{0x34429E5E + number:X}.tmp", f"{FOLDER}/{0xA9A97EC7 + number:X}.tmp"
    drive.create(fresh, b"")
    drive.lock(fresh)
    drive.create(fresh, content)
    drive.unlock(fresh)
    drive.rename(FILE, old)
    drive.rename(fresh, FILE)
    drive.delete(old)


def office_that_deletes(drive: Drive, content: bytes, number: int) -> None:
    """Older programs on a mapped drive: the old document goes before the new one has its name."""
    fresh = f"{FOLDER}/~tmp{number}.tmp"
    drive.create(fresh, content)
    drive.delete(FILE)
    drive.rename(fresh, FILE)


def vim_on_davfs(drive: Dav, content: bytes, number: int) -> None:
    """Vim through davfs2, which locks, and so makes, every file before it is filled."""
    probe, backup = f"{FOLDER}/4913", f"{FILE}~"
    drive.lock(probe)
    drive.delete(probe)
    drive.rename(FILE, backup)
    drive.lock(FILE)
    drive.create(FILE, content)
    drive.unlock(FILE)
    drive.delete(backup)


def textedit(drive: Drive, content: bytes, number: int) -> None:
    """TextEdit: written in a folder of its own; the old document waits beside until that is in."""
    folder, old = f"{FILE}.sb-{number:08x}-eXfYkT", f"{FILE}.sb-{number:08x}-6FcyCi"
    drive.mkdir(folder)
    drive.create(f"{folder}/letter", content)
    drive.rename(FILE, old)
    drive.rename(f"{folder}/letter", FILE)
    drive.delete(old)
    drive.rmdir(folder)


def textedit_that_replaces(drive: Drive, content: bytes, number: int) -> None:
    """TextEdit where one rename can replace."""
    folder = f"{FILE}.sb-{number:08x}-eXfYkT"
    drive.mkdir(folder)
    drive.create(f"{folder}/letter", content)
    drive.rename_over(f"{folder}/letter", FILE)
    drive.rmdir(folder)


def keeweb(drive: Drive, content: bytes, number: int) -> None:
    """Programs that save by one replacing rename."""
    fresh = f"{FOLDER}/.letter.{1_492_515_939_820 + number}"
    drive.create(fresh, content)
    drive.rename_over(fresh, FILE)


def plain(drive: Drive, content: bytes, number: int) -> None:
    """Notepad, curl, scp, lftp: the same name again."""
    drive.create(FILE, content)


# Saving over SFTP


def vim(drive: Sftp, content: bytes, number: int) -> None:
    """Vim on sshfs with backupcopy=auto, which keeps the backup until the file is written."""
    swap, probe, backup = f"{FOLDER}/.letter.swp", f"{FOLDER}/4913", f"{FILE}~"
    drive.create_exclusively(swap, b"swap")
    drive.create_exclusively(probe, b"")
    drive.delete(probe)
    drive.rename(FILE, backup)
    drive.create(FILE, content)
    drive.delete(backup)
    drive.delete(swap)


def vim_that_copies(drive: Sftp, content: bytes, number: int) -> None:
    """Vim with backupcopy=yes: the backup is a copy, and the file is written in its place."""
    backup = f"{FILE}~"
    drive.create_exclusively(backup, drive.read(FILE))
    drive.create(FILE, content)
    drive.delete(backup)


def emacs(drive: Sftp, content: bytes, number: int) -> None:
    """Emacs: the old file becomes the backup, over an older one, and stays."""
    if number == 0:
        drive.rename(FILE, f"{FILE}~")
    else:
        drive.rename_over(FILE, f"{FILE}~")
    drive.create(FILE, content)


def libreoffice(drive: Sftp, content: bytes, number: int) -> None:
    """LibreOffice where a rename replaces: a lock file, a temporary file, one rename."""
    lock, fresh = f"{FOLDER}/.~lock.letter#", f"{FOLDER}/lu{number:06}.tmp"
    drive.create_exclusively(lock, b",alice,office,21.11.2023 09:00;")
    drive.create(fresh, content)
    drive.rename_over(fresh, FILE)
    drive.delete(lock)


def libreoffice_that_deletes(drive: Sftp, content: bytes, number: int) -> None:
    """LibreOffice where it does not."""
    lock, fresh = f"{FOLDER}/.~lock.letter#", f"{FOLDER}/lu{number:06}.tmp"
    drive.create_exclusively(lock, b",alice,office,21.11.2023 09:00;")
    drive.create(fresh, content)
    drive.delete(FILE)
    drive.rename(fresh, FILE)
    drive.delete(lock)


def rsync(drive: Sftp, content: bytes, number: int) -> None:
    """Rsync to a mounted drive."""
    fresh = f"{FOLDER}/.letter.{number:06}"
    drive.create_exclusively(fresh, content)
    drive.touch(fresh, 1_600_000_000_000_000)
    drive.rename_over(fresh, FILE)


def rsync_in_place(drive: Sftp, content: bytes, number: int) -> None:
    """Rsync with --inplace."""
    drive.write_in_place(FILE, content)


def rsync_with_backup(drive: Sftp, content: bytes, number: int) -> None:
    """Rsync with --backup and a suffix that tells the saves apart."""
    fresh = f"{FOLDER}/.letter.{number:06}"
    drive.create_exclusively(fresh, content)
    drive.rename(FILE, f"{FILE}.{number}")
    drive.rename(fresh, FILE)


def gedit(drive: Sftp, content: bytes, number: int) -> None:
    """GNOME's library on a mounted drive, with a backup."""
    fresh, backup = f"{FOLDER}/.goutputstream-{number:06}", f"{FILE}~"
    drive.create_exclusively(fresh, content)
    if number:
        drive.delete(backup)
    drive.rename(FILE, backup)
    drive.rename(fresh, FILE)


def winscp(drive: Sftp, content: bytes, number: int) -> None:
    """WinSCP: the old file goes when the transfer is whole, as SFTP's rename replaces nothing."""
    part = f"{FILE}.filepart"
    drive.create(part, content)
    drive.delete(FILE)
    drive.rename(part, FILE)


DAV_PATTERNS = (
    word,
    excel,
    office_that_deletes,
    vim_on_davfs,
    textedit,
    textedit_that_replaces,
    keeweb,
    plain,
)
SFTP_PATTERNS = (
    office_that_deletes,
    textedit,
    textedit_that_replaces,
    keeweb,
    plain,
    vim,
    vim_that_copies,
    emacs,
    libreoffice,
    libreoffice_that_deletes,
    rsync,
    rsync_in_place,
    rsync_with_backup,
    gedit,
    winscp,
)


@pytest.mark.parametrize("pause_s", [1, 60], ids=["at once", "later"])
@pytest.mark.parametrize("save", DAV_PATTERNS)
def test_saving_over_webdav_keeps_one_history(
    gate: Gate, save: Callable[[Dav, bytes, int], None], pause_s: int
) -> None:
    """Every content that the name ever had, newest first, none of them twice."""
    save_all(gate, Dav(gate), save, pause_s)


@pytest.mark.parametrize("pause_s", [1, 60], ids=["at once", "later"])
@pytest.mark.parametrize("save", SFTP_PATTERNS)
def test_saving_over_sftp_keeps_one_history(
    gate: Gate, save: Callable[[Sftp, bytes, int], None], pause_s: int
) -> None:
    """Every content that the name ever had, newest first, none of them twice."""
    save_all(gate, Sftp(gate.door("alice", wire=Wire.SFTP)), save, pause_s)


@pytest.mark.parametrize("vacate", ["rename", "delete"])
@pytest.mark.parametrize("fill", ["create", "rename"])
@pytest.mark.parametrize(("first", "second"), [("alice", "bob"), ("bob", "alice")])
def test_no_history_passes_from_one_principal_to_another(
    gate: Gate, vacate: str, fill: str, first: str, second: str
) -> None:
    """Who takes a name that somebody else has just given up begins a file of his own."""
    one, other = Dav(gate, first), Sftp(gate.door(second, wire=Wire.SFTP))
    one.mkdir(FOLDER)
    one.create(FILE, b"private")
    if vacate == "rename":
        one.rename(FILE, f"{FOLDER}/old")
    else:
        one.delete(FILE)
    if fill == "create":
        other.create(FILE, b"mine")
    else:
        other.create(f"{FOLDER}/tmp", b"mine")
        other.rename(f"{FOLDER}/tmp", FILE)
    assert history(gate, FILE) == [b"mine"]


def test_two_doors_of_one_principal_keep_one_history(gate: Gate) -> None:
    """It is the principal that counts, not the protocol."""
    dav, sftp = Dav(gate), Sftp(gate.door("alice", wire=Wire.SFTP))
    dav.mkdir(FOLDER)
    dav.create(FILE, b"first")
    dav.rename(FILE, f"{FILE}~")
    sftp.create(FILE, b"second")
    assert history(gate, FILE) == [b"second", b"first"]


def save_all(gate: Gate, drive: Dav | Sftp, save: Callable[..., None], pause_s: int) -> None:
    drive.mkdir(FOLDER)
    drive.create(FILE, CONTENTS[0])
    for number, content in enumerate(CONTENTS[1:]):
        gate.clock.forward(pause_s)
        save(drive, content, number)
        expected = CONTENTS[number + 1 :: -1]
        found = history(gate, FILE)
        assert [len(one) for one in found] == [len(one) for one in expected]
        assert found == expected


def history(gate: Gate, path: str) -> list[bytes]:
    """Return every content that the file has or had, newest first.

    Without the empty ones: a WebDAV lock on a free name makes the file, which is filled then.
    """
    vault, contents = gate.monitor._surroundings.vault, []
    with gate.catalog.snapshot() as tx:
        file = vault.find(tx, at(path))
        assert file is not None
        told = vault.past.versions(tx, file.row)
        for one in told:
            _, content = vault.past.open(tx, file.row, bytes.fromhex(one.version_id))
            contents.append(content.read_at(0, content.size_bytes))
    assert told[0].current
    made_us = [one.created_us for one in told]
    assert made_us == sorted(made_us, reverse=True)
    return [content for content in contents if content]
