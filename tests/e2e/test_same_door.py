"""A write by curl and one by OpenSSH's sftp leave the same records."""

from __future__ import annotations

from pathlib import Path

from tests.support.gateway import RunningGateway

# What says when, by which connection and where in the chain, and what is new with every try.
OF_ONE_TRY = frozenset(
    {
        "time",
        "node",
        "journal",
        "seq",
        "session",
        "protocol",
        "client_address",
        "client_software",
        "node_id",
        "version_id",
        "request_id",
        "path",
        "detail_hash",
        "salt",
        "hash",
    }
)


def test_a_write_leaves_the_same_records_by_both_protocols(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """A new file and a new version of it: equal but for the protocol and the try."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"first content")
    second.write_bytes(b"second")
    for source in (first, second):
        reply = gateway.curl("alice", "PUT", f"{folder}/webdav", body=source)
        assert reply.status in {201, 204}
    commands = [f"put {source} {folder}/sftp" for source in (first, second)]
    done = gateway.sftp_batch("alice", commands)
    assert done.returncode == 0, done.stdout
    records = gateway.audit_records()
    told = {
        protocol: [
            {name: value for name, value in record.fields.items() if name not in OF_ONE_TRY}
            for record in records
            if record.path == f"{folder}/{protocol}" and record.action in {"create", "write"}
        ]
        for protocol in ("webdav", "sftp")
    }
    assert [fields["action"] for fields in told["webdav"]] == ["create", "write"]
    assert told["webdav"] == told["sftp"]
    assert {record.fields["protocol"] for record in records if record.path == f"{folder}/sftp"} == {
        "sftp"
    }
