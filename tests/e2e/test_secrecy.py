"""Nothing that could reveal content lies readable in the data folder or in a log."""

from __future__ import annotations

import base64
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.paramiko_sftp import sftp_over

PROPPATCH = """<?xml version="1.0"?>
<D:propertyupdate xmlns:D="DAV:" xmlns:x="urn:example:{canary}">
<D:set><D:prop><x:{canary}>{canary}</x:{canary}></D:prop></D:set></D:propertyupdate>"""

LOCK = """<?xml version="1.0"?>
<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
<D:locktype><D:write/></D:locktype><D:owner>{canary}</D:owner></D:lockinfo>"""


def disguises(text: str) -> Iterator[bytes]:
    """Yield the forms in which ``text`` would still be readable to someone who looks."""
    raw = text.encode()
    for case in (raw, raw.upper()):
        yield case
        yield case.decode().encode("utf-16-le")
        yield case.decode().encode("utf-16-be")
    yield raw[::-1]
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield quote(text, safe="").encode()
    for shift in range(3):
        # Only the middle is the same whatever stands before and after.
        encoded = base64.b64encode(b"\0" * shift + raw)
        yield encoded[4:-4]
        yield base64.urlsafe_b64encode(b"\0" * shift + raw)[4:-4]


def files_holding(folder: Path, texts: list[str]) -> list[tuple[Path, bytes]]:
    """Return each file below ``folder`` that holds a form of a text, in its name or content."""
    forms = [form for text in texts for form in disguises(text)]
    found = []
    for file in folder.rglob("*"):
        name = os.fsencode(file.relative_to(folder))
        found += [(file, form) for form in forms if form in name]
        if file.is_file() and file.stat().st_size:
            with (
                file.open("rb") as stream,
                mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                found += [(file, form) for form in forms if content.find(form) >= 0]
    return found


def exercise(gateway: RunningGateway, canary: str) -> None:
    """Bring the canary in by every way: names, contents, properties, locks, failures."""
    place = f"/radiology/{canary}-folder"
    assert gateway.curl("alice", "MKCOL", place).status == 201
    small = f"{canary} small content".encode()
    large = f"{canary} large content ".encode() * 60_000
    for name, content in (("small", small), ("large", large)):
        path = f"{place}/{canary}-{name}.txt"
        assert gateway.curl("alice", "PUT", path, body=content).status == 201
        assert gateway.curl("alice", "GET", path).body == content
    path = f"{place}/{canary}-small.txt"
    patch = PROPPATCH.format(canary=canary).encode()
    assert gateway.curl("alice", "PROPPATCH", path, "--data", patch.decode()).status == 207
    lock = LOCK.format(canary=canary)
    assert gateway.curl("alice", "LOCK", path, "--data", lock).status == 200
    assert gateway.curl("alice", "GET", f"{place}/{canary}-missing").status == 404
    assert gateway.curl("bob", "PUT", f"{place}/{canary}-denied", body=small).status == 403
    assert gateway.curl(None, "GET", f"{place}/{canary}-nobody").status == 401
    with gateway.ssh_transport("alice") as transport:
        client = sftp_over(transport)
        with client.open(f"{place}/{canary}-by-sftp", "wb") as file:
            file.write(large)
        client.rename(f"{place}/{canary}-by-sftp", f"{place}/{canary}-renamed")
        client.listdir(place)
        unfinished = client.open(f"{place}/{canary}-unfinished", "wb")
        unfinished.write(large)
        unfinished.flush()
        transport.sock.close()


def test_data_folder_and_logs_hold_no_name_and_no_content(tmp_path: Path) -> None:
    """A known text used as name, content, property and lock owner is nowhere to be read.

    Looked for while the gateway runs (the catalog's write-ahead log is there then) and after it
    has ended, in the raw and in the usual encodings.
    """
    canary = "Canary-" + os.urandom(8).hex() + "-Feldlerche"
    with running_gateway(tmp_path) as gateway:
        exercise(gateway, canary)
        assert list(gateway.data_dir.rglob("*-wal")), "the write-ahead log should be there"
        alice = gateway.users["alice"]
        secrets = [canary, alice.password, alice.totp_secret]
        assert files_holding(gateway.data_dir, secrets) == []
        gateway.stop()
        assert files_holding(gateway.data_dir, secrets) == []
        assert files_holding(tmp_path, [canary]) == []


def test_the_search_finds_every_disguise(tmp_path: Path) -> None:
    """The search above does find a text, in each form, in contents and in names."""
    canary = "Canary-0123456789abcdef-Feldlerche"
    for index, form in enumerate(disguises(canary)):
        (tmp_path / str(index)).write_bytes(b"before " + form + b" after")
        assert files_holding(tmp_path, [canary]), form
        (tmp_path / str(index)).unlink()
    (tmp_path / canary).touch()
    assert files_holding(tmp_path, [canary])
