"""Policy binds both protocols alike, and every refusal is in the audit with its rule."""

from __future__ import annotations

import uuid
from pathlib import Path

from tests.support.gateway import RunningGateway
from tests.support.replies import Record


def refusals(records: list[Record], principal: str, path: str) -> list[Record]:
    return [
        record
        for record in records
        if record.outcome == "denied" and record.principal == principal and record.path == path
    ]


def test_reader_may_read_on_both_protocols(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """bob, whose group may read radiology, gets alice's file by curl and by sftp."""
    assert gateway.curl("alice", "PUT", f"{folder}/report", body=b"report").status == 201
    assert gateway.curl("bob", "GET", f"{folder}/report").body == b"report"
    done = gateway.sftp_batch("bob", [f"get {folder}/report {tmp_path}/report"])
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "report").read_bytes() == b"report"


def test_reader_may_not_write_and_each_refusal_is_recorded(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """Bob's writes are refused by WebDAV and SFTP, change nothing, and name the rule."""
    path = f"{folder}/report"
    source = tmp_path / "source"
    source.write_bytes(b"forged")
    assert gateway.curl("alice", "PUT", path, body=b"genuine").status == 201
    mark = gateway.audit_mark()

    assert gateway.curl("bob", "PUT", path, body=b"forged").status == 403
    done = gateway.sftp_batch("bob", [f"put {source} {path}"])
    assert done.returncode != 0
    assert "ermission denied" in done.stdout

    assert gateway.curl("alice", "GET", path).body == b"genuine"
    found = refusals(gateway.audit_since(mark), "bob", path)
    assert {str(record.fields["protocol"]) for record in found} == {"webdav", "sftp"}
    assert len(found) == 2
    assert all(record.rule for record in found)


def test_reader_may_not_create_move_or_delete(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """Every other way to change something is refused to bob, on both protocols."""
    path = f"{folder}/report"
    assert gateway.curl("alice", "PUT", path, body=b"genuine").status == 201
    elsewhere = {"Destination": f"{gateway.url}{folder}/moved"}
    assert gateway.curl("bob", "DELETE", path).status == 403
    assert gateway.curl("bob", "MKCOL", f"{folder}/new").status == 403
    assert gateway.curl("bob", "MOVE", path, headers=elsewhere).status == 403
    assert gateway.curl("bob", "COPY", path, headers=elsewhere).status == 403
    for command in (f"rm {path}", f"mkdir {folder}/new", f"rename {path} {folder}/moved"):
        done = gateway.sftp_batch("bob", [command])
        assert done.returncode != 0, command
        assert "ermission denied" in done.stdout, command
    listing = gateway.sftp_batch("alice", [f"ls -1 {folder}"])
    assert "moved" not in listing.stdout
    assert gateway.curl("alice", "GET", path).body == b"genuine"


def test_share_without_rights_is_not_there(gateway: RunningGateway) -> None:
    """A share that no group of bob's names is neither listed nor opened."""
    listing = gateway.sftp_batch("bob", ["ls -1 /"])
    assert "radiology" in listing.stdout
    assert "scans" not in listing.stdout
    assert gateway.curl("bob", "GET", "/scans/anything").status in {403, 404}


def test_scanner_drops_into_the_inbox_and_sees_nothing_there(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    """The service account creates in its drop box by key alone; it cannot read or replace."""
    name = f"/inbox/{uuid.uuid4().hex}.dcm"
    source = tmp_path / "source"
    source.write_bytes(b"scan")
    put = gateway.sftp_batch("scanner", [f"put {source} {name}"], method="publickey")
    assert put.returncode == 0, put.stdout
    for command in (
        f"get {name} {tmp_path}/back",
        f"put {source} {name}",
        f"rm {name}",
        "ls /inbox",
    ):
        done = gateway.sftp_batch("scanner", [command], method="publickey")
        assert done.returncode != 0, command
    assert not (tmp_path / "back").exists()


def test_scanner_does_everything_in_scans(gateway: RunningGateway, tmp_path: Path) -> None:
    """In its own share the service account writes, lists, renames, reads back and deletes."""
    place = f"/scans/{uuid.uuid4().hex}"
    source = tmp_path / "source"
    source.write_bytes(b"scan")
    commands = [
        f"mkdir {place}",
        f"put {source} {place}/one.filepart",
        f"rename {place}/one.filepart {place}/one",
        f"ls -l {place}",
        f"get {place}/one {tmp_path}/back",
        f"rm {place}/one",
        f"rmdir {place}",
    ]
    done = gateway.sftp_batch("scanner", commands, method="publickey")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "back").read_bytes() == b"scan"


def test_scanner_key_does_not_open_webdav(gateway: RunningGateway) -> None:
    """A service account with a key has no password that HTTP Basic would take."""
    assert gateway.curl("scanner", "OPTIONS", "/", secret="123456").status == 401
