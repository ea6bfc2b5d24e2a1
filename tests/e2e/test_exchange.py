"""What goes in by one protocol comes out of the other, byte for byte."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest

from tests.support.gateway import RunningGateway, running_gateway

LARGE_BYTES = 200 * 2**20

NAMES = [
    "with space.txt",
    " leading and trailing ",
    "100%.txt",
    "%41%2Fnot-a-slash.txt",
    "semi;colon.txt",
    "what?.txt",
    "hash#tag.txt",
    "plus+and&equals=.txt",
    "[brackets]*.txt",
    "it's.txt",
    "-dash-first.txt",
    "über-größe.txt",
    "日本語.txt",
    "🩻 scan.txt",
    "x" * 255,
]


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@pytest.mark.parametrize("size_bytes", [0, 1, 16 * 1024, 16 * 1024 + 1, 3_000_001, LARGE_BYTES])
def test_webdav_upload_is_the_sftp_download(
    gateway: RunningGateway, folder: str, tmp_path: Path, size_bytes: int
) -> None:
    """A file put by curl is got by OpenSSH's sftp, byte for byte."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size_bytes))
    assert gateway.curl("alice", "PUT", f"{folder}/file", body=source).status == 201
    done = gateway.sftp_batch("alice", [f"get {folder}/file {target}"])
    assert done.returncode == 0, done.stdout
    assert sha256(target) == sha256(source)


@pytest.mark.parametrize("size_bytes", [0, 1, 16 * 1024, 16 * 1024 + 1, 3_000_001, LARGE_BYTES])
def test_sftp_upload_is_the_webdav_download(
    gateway: RunningGateway, folder: str, tmp_path: Path, size_bytes: int
) -> None:
    """A file put by OpenSSH's sftp is got by curl, byte for byte, with its exact length."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size_bytes))
    done = gateway.sftp_batch("alice", [f"put {source} {folder}/file"])
    assert done.returncode == 0, done.stdout
    reply = gateway.curl("alice", "GET", f"{folder}/file", output=target)
    assert reply.status == 200
    assert reply.headers["content-length"] == str(size_bytes)
    target.touch()  # curl makes no file for an empty body
    assert sha256(target) == sha256(source)


def test_names_mean_the_same_on_both_protocols(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """Names with spaces, escapes and foreign scripts cross both ways and stay themselves."""
    source = tmp_path / "source"
    commands = []
    for index, name in enumerate(NAMES):
        content = f"content of {name}".encode()
        assert gateway.curl("alice", "PUT", f"{folder}/{name}", body=content).status == 201, name
        commands.append(f'get "{folder}/{name}" "{tmp_path}/{index}"')
    source.write_text("from sftp")
    commands.append(f'mkdir "{folder}/back"')
    commands += [f'put "{source}" "{folder}/back/{name}"' for name in NAMES]
    done = gateway.sftp_batch("alice", commands)
    assert done.returncode == 0, done.stdout
    for index, name in enumerate(NAMES):
        assert (tmp_path / str(index)).read_bytes() == f"content of {name}".encode(), name
        reply = gateway.curl("alice", "GET", f"{folder}/back/{name}")
        assert (reply.status, reply.body) == (200, b"from sftp"), name


def test_composed_and_decomposed_names_are_one_file(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """What Finder writes decomposed (NFD) is the file that others ask for composed (NFC)."""
    composed = "Übergröße é.txt"
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    assert gateway.curl("alice", "PUT", f"{folder}/{decomposed}", body=b"one").status == 201
    assert gateway.curl("alice", "PUT", f"{folder}/{composed}", body=b"two").status == 204
    target = tmp_path / "target"
    commands = [f'get "{folder}/{decomposed}" {target}', f'ls -1 "{folder}"']
    done = gateway.sftp_batch("alice", commands)
    assert done.returncode == 0, done.stdout
    assert target.read_bytes() == b"two"
    listed = [line for line in done.stdout.splitlines() if "bergr" in line and "sftp>" not in line]
    assert [Path(line.strip()).name for line in listed] == [composed]


def test_data_outlives_a_restart(tmp_path: Path) -> None:
    """Ended by SIGTERM and started on the same folder, the gateway has the same data."""
    with running_gateway(tmp_path) as gateway:
        assert gateway.curl("alice", "PUT", "/radiology/kept", body=b"kept").status == 201
        assert gateway.stop() == 0, gateway.log()
        gateway.start()
        assert gateway.curl("alice", "GET", "/radiology/kept").body == b"kept"
