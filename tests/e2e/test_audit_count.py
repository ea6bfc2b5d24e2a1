"""Every operation leaves exactly its records: none missing, none double."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support.gateway import RunningGateway
from tests.support.users import until

# Repeated look-ups are coalesced into one counted record a second, so their number is not fixed.
LOOK_UPS = frozenset({"stat", "set_times"})


def counted(gateway: RunningGateway, mark: frozenset[tuple[str, int]], folder: str) -> Counter[str]:
    """Return how often each action was recorded at or below ``folder`` since ``mark``."""
    return Counter(
        record.action
        for record in gateway.audit_since(mark)
        if (record.path + "/").startswith(folder + "/") and record.action not in LOOK_UPS
    )


def settle(
    gateway: RunningGateway, mark: frozenset[tuple[str, int]], folder: str, expected: Counter[str]
) -> Counter[str]:
    """Return the counts once every expected record is there (closing records come last)."""
    until(lambda: counted(gateway, mark, folder) >= expected, f"records {expected}")
    return counted(gateway, mark, folder)


def test_webdav_operations_leave_one_record_each(gateway: RunningGateway, folder: str) -> None:
    """N requests by curl are N records; a read has its opening and its closing record."""
    mark = gateway.audit_mark()
    for number in range(4):
        path = f"{folder}/{number}"
        assert gateway.curl("alice", "PUT", path, body=b"first").status == 201
    for number in range(3):
        assert gateway.curl("alice", "PUT", f"{folder}/{number}", body=b"again").status == 204
    for number in range(4):
        assert gateway.curl("alice", "GET", f"{folder}/{number}").status == 200
    assert gateway.curl("alice", "MKCOL", f"{folder}/sub").status == 201
    assert gateway.curl("alice", "PROPFIND", f"{folder}/sub", headers={"Depth": "1"}).status == 207
    target = {"Destination": f"{gateway.url}{folder}/sub/0"}
    assert gateway.curl("alice", "MOVE", f"{folder}/0", headers=target).status == 201
    for number in (1, 2):
        assert gateway.curl("alice", "DELETE", f"{folder}/{number}").status == 204
    expected = Counter(create=5, write=3, read=4, read_end=4, list=1, move=1, delete=2)
    assert settle(gateway, mark, folder, expected) == expected


def test_sftp_operations_leave_one_record_each(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """N commands by OpenSSH's sftp are N records, and the login is one more."""
    source = tmp_path / "source"
    source.write_bytes(b"content")
    login = gateway.sftp_login("alice", fresh=True)
    mark = gateway.audit_mark()
    commands = [
        *(f"put {source} {folder}/{number}" for number in range(3)),
        *(f"get {folder}/{number} {tmp_path}/{number}" for number in range(3)),
        f"put {source} {folder}/0",
        f"mkdir {folder}/sub",
        f"rename {folder}/1 {folder}/renamed",
        f"rm {folder}/2",
        f"rmdir {folder}/sub",
    ]
    done = gateway.sftp_batch("alice", commands, login=login)
    assert done.returncode == 0, done.stdout
    expected = Counter(create=4, write=1, read=3, read_end=3, move=1, delete=2)
    assert settle(gateway, mark, folder, expected) == expected
    logins = [one for one in gateway.audit_since(mark) if one.action == "login"]
    assert [(one.outcome, one.principal) for one in logins] == [("ok", "alice")]


def test_denied_and_failed_operations_leave_one_record_each(
    gateway: RunningGateway, folder: str
) -> None:
    """A refusal is one denied record; an operation on what is not there is one failed record."""
    mark = gateway.audit_mark()
    assert gateway.curl("bob", "PUT", f"{folder}/a", body=b"x").status == 403
    assert gateway.curl("alice", "DELETE", f"{folder}/b").status == 404
    records = [one for one in gateway.audit_since(mark) if one.path.startswith(folder + "/")]
    outcomes = Counter(
        (one.path.removeprefix(folder), one.outcome)
        for one in records
        if one.action not in LOOK_UPS
    )
    assert outcomes == Counter({("/a", "denied"): 1, ("/b", "failed"): 1})


def test_closing_record_carries_the_bytes_that_left(gateway: RunningGateway, folder: str) -> None:
    """The record that ends a read says how many bytes were sent; a range counts its own."""
    path = f"{folder}/file"
    assert gateway.curl("alice", "PUT", path, body=b"0123456789").status == 201
    assert gateway.curl("alice", "GET", path, headers={"Range": "bytes=2-4"}).body == b"234"
    record = gateway.wait_for_record(
        lambda record: record.action == "read_end" and record.path == path, "the end of the read"
    )
    assert record.fields["bytes"] == 3


def test_export_verifies(gateway: RunningGateway) -> None:
    """The chain of everything these tests did verifies."""
    done = gateway.command("audit", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
