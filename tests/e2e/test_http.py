"""HTTP as curl speaks it over TLS: parts of files, digests, conditions, several answers in one."""

from __future__ import annotations

import base64
import hashlib
import random
from pathlib import Path

from tests.support.gateway import RunningGateway

LARGE = random.Random(4918).randbytes(5_000_000)


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def test_parts_of_a_file_come_in_one_answer(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """Whole, of the announced size, and the connection can go on after it."""
    path = f"{folder}/large"
    Path(tmp_path, "large").write_bytes(LARGE)
    assert gateway.curl("alice", "PUT", path, body=Path(tmp_path, "large")).status == 201
    answer = gateway.curl("alice", "GET", path, "--range", "100-1999999,3000000-,0-9")
    assert (answer.status, answer.curl_exit) == (206, 0)
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert "content-range" not in answer.headers
    parts = [
        piece.partition(b"\r\n\r\n")[2]
        for piece in answer.body.split(f"\r\n--{boundary}".encode())[1:-1]
    ]
    assert parts == [LARGE[100:2_000_000], LARGE[3_000_000:], LARGE[:10]]
    assert answer.headers["repr-digest"] == digest_of(LARGE)
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_a_resumed_download_is_whole_or_begun_anew(gateway: RunningGateway, folder: str) -> None:
    """With If-Range the rest of the same version, or all of another one."""
    path = f"{folder}/file"
    gateway.curl("alice", "PUT", path, body=b"first version")
    tag = gateway.curl("alice", "HEAD", path).headers["etag"]
    rest = {"Range": "bytes=6-", "If-Range": tag}
    assert gateway.curl("alice", "GET", path, headers=rest).body == b"version"
    gateway.curl("alice", "PUT", path, body=b"second version")
    answer = gateway.curl("alice", "GET", path, headers=rest)
    assert (answer.status, answer.body) == (200, b"second version")


def test_a_body_that_is_not_what_was_announced_is_not_stored(
    gateway: RunningGateway, folder: str
) -> None:
    """A digest of other bytes is 400 and leaves the file as it was; the right one is kept."""
    path = f"{folder}/file"
    right = {"Repr-Digest": digest_of(b"content")}
    assert gateway.curl("alice", "PUT", path, body=b"content", headers=right).status == 201
    assert gateway.curl("alice", "PUT", path, body=b"c0ntent", headers=right).status == 400
    answer = gateway.curl("alice", "GET", path)
    assert (answer.body, answer.headers["repr-digest"]) == (b"content", right["Repr-Digest"])


def test_two_editors_cannot_overwrite_each_other(gateway: RunningGateway, folder: str) -> None:
    """Whoever saves second with the tag of what both opened is refused, over every method."""
    path = f"{folder}/file"
    gateway.curl("alice", "PUT", path, body=b"both saw this")
    seen = {"If-Match": gateway.curl("alice", "HEAD", path).headers["etag"]}
    assert gateway.curl("alice", "PUT", path, body=b"first", headers=seen).status == 204
    assert gateway.curl("alice", "PUT", path, body=b"second", headers=seen).status == 412
    assert gateway.curl("alice", "DELETE", path, headers=seen).status == 412
    moved = seen | {"Destination": f"{gateway.url}{folder}/moved"}
    assert gateway.curl("alice", "MOVE", path, headers=moved).status == 412
    assert gateway.curl("alice", "GET", path).body == b"first"


def test_class_three_is_advertised(gateway: RunningGateway, folder: str) -> None:
    """RFC 4918 section 18.3, each class a token of its own."""
    classes = gateway.curl("alice", "OPTIONS", folder).headers["dav"]
    assert [one.strip() for one in classes.split(",")] == ["1", "2", "3"]
