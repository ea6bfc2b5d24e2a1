"""Hostile locking against the running gateway: others' locks, and very many of them."""

from __future__ import annotations

import re
import time
import uuid

import pytest

from backends.catalog import locks
from gateway.locking import LOCK_LIMIT
from gateway.paths import VirtualPath
from tests.attacks.support import Target
from tests.webdav.support import Reply


def lockinfo(scope: str) -> bytes:
    return (
        f'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/>'
        "</D:locktype><D:owner>me</D:owner></D:lockinfo>"
    ).encode()


def lock(
    target: Target,
    path: str,
    *fields: str,
    scope: str = "exclusive",
    depth: str = "0",
    user: str = "alice",
) -> Reply:
    return target.ask("LOCK", path, f"Depth: {depth}", *fields, body=lockinfo(scope), user=user)


def token(reply: Reply) -> str:
    match = re.search(r"(?i)\r\nlock-token: <([^>]+)>", reply.head)
    assert match is not None
    return match[1]


@pytest.mark.parametrize("scope", ["exclusive", "shared"])
def test_a_lock_below_anothers_lock_creates_nothing(
    target: Target, folder: str, scope: str
) -> None:
    """Stock wsgidav makes the empty file first and refuses then; here: 423, one record, no file."""
    assert lock(target, folder, depth="infinity").status == 200
    mark = target.mark()
    refused = lock(target, f"{folder}/new", scope=scope, user="admin")
    assert refused.status == 423
    assert [(record.path, record.outcome) for record in target.since(mark)] == [
        (f"{folder}/new", "denied")
    ]
    assert not target.holds(f"{folder}/new")


def test_anothers_lock_forbids_every_change(target: Target, folder: str) -> None:
    """Nothing below it is made, changed, moved in or out, or deleted by somebody else."""
    assert target.ask("PUT", f"{folder}/a", body=b"x").status == 201
    assert target.ask("PUT", f"{folder}-outside", body=b"x", user="admin").status == 201
    held = token(lock(target, folder, depth="infinity"))
    for method, path, *fields in (
        ("PUT", "/a"),
        ("PUT", "/new"),
        ("MKCOL", "/new"),
        ("DELETE", "/a"),
        ("DELETE", ""),
        ("MOVE", "/a", f"Destination: {folder}-away"),
        ("MOVE", "-outside", f"Destination: {folder}/new"),
        ("COPY", "-outside", f"Destination: {folder}/new"),
        ("COPY", "-outside", f"Destination: {folder}/a"),
        ("PROPPATCH", "/a"),
        ("LOCK", "/a"),
        ("UNLOCK", "", f"Lock-Token: <{held}>"),
        ("PUT", "/a", f"If: (<{held}>)"),
    ):
        mark, body = target.mark(), b"x" if method == "PUT" else b""
        if method == "LOCK":
            body = lockinfo("shared")
        elif method == "PROPPATCH":
            body = b'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x/></D:prop></D:set></D:propertyupdate>'
        reply = target.ask(method, folder + path, *fields, body=body, user="admin")
        assert reply.status in {403, 409, 412, 423}, (method, path)
        assert len(target.since(mark)) <= 1
    assert target.ask("GET", f"{folder}/a").body == b"x"
    assert target.ask("PROPFIND", folder, "Depth: 1").body.count(b"<D:response>") == 2


def test_anothers_token_is_not_told(target: Target, folder: str) -> None:
    """Who could read it could give the lock up, or write through it."""
    held = token(lock(target, folder, depth="infinity"))
    seen = target.ask("PROPFIND", folder, "Depth: 1", user="admin")
    assert b"<D:activelock>" in seen.body
    assert held.encode() not in seen.body
    refused = lock(target, f"{folder}/a", user="admin")
    assert held.encode() not in refused.body


def test_locks_are_limited(target: Target, folder: str) -> None:
    """Of 100,000 locks a principal gets a thousand; the rest is refused, fast and in flat memory."""
    path = f"{folder}/a"
    first = lock(target, path, scope="shared")
    assert first.status == 201
    inside = target.inside
    with inside.catalog.begin() as tx:
        node = inside.vault.find(tx, VirtualPath.parse(path))
        assert node is not None
        (row,) = locks.on_nodes(tx, [node.id], inside.clock())
        held = locks.count_of(tx, row.principal_id, inside.clock())
        for _ in range(LOCK_LIMIT - held):
            other = uuid.uuid4().urn
            owner = node.share.records.seal(b"", other.encode("ascii"))
            locks.insert_lock(tx, row._replace(token=other, owner_sealed=owner))
    try:
        peak_mib = target.peak_mib()
        for number in range(20):
            refused = lock(target, f"{folder}/{number}")
            assert refused.status in {403, 413, 507}
            assert str(LOCK_LIMIT).encode() in refused.body
        assert target.ask("PROPFIND", folder, "Depth: 1").body.count(b"<D:response>") == 2
        # Others are not touched by it, and lists stay quick.
        began = time.monotonic()
        theirs = lock(target, f"{folder}/theirs", user="admin")
        assert theirs.status == 201
        assert target.ask("PROPFIND", folder, "Depth: 1").status == 207
        assert time.monotonic() - began < 5
        assert target.peak_mib() - peak_mib < 24
    finally:
        with inside.catalog.begin() as tx:
            rows = locks.on_nodes(tx, [node.id], inside.clock())
            locks.remove(tx, [each.token for each in rows])
    assert lock(target, f"{folder}/again").status == 201
