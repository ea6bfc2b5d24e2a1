"""PUT, MKCOL and DELETE, and the conditions of every change."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.body import Body
from gateway.webdav.messages import BodyCutError
from gateway.webdav.settings import BLOCK_BYTES
from tests.webdav.fake_door import QUOTA_BYTES
from tests.webdav.real_site import LOCK_BODY, UPDATE
from tests.webdav.support import Site, body_of, header

FILE = VirtualPath.parse("/share/a")
FOLDER = VirtualPath.parse("/share/sub")


def stored(site: Site, path: VirtualPath = FILE) -> bytes | None:
    node = site.monitor.nodes.get(path)
    return None if node is None else node.data


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def test_put_creates_then_replaces(site: Site) -> None:
    """201 then 204, each with the tag that GET will show."""
    for data, status in ((b"one", 201), (b"two", 204)):
        answer = site.ask("PUT", "/share/a", data)
        assert answer.status == status
        assert header(answer, "ETag") == header(site.ask("GET", "/share/a"), "ETag")
        assert stored(site) == data


@pytest.mark.parametrize("sent", [0, 1, 100, 999])
def test_a_cut_put_stores_nothing(site: Site, sent: int) -> None:
    """However far it came: no file, no version, one abort (wsgidav keeps what came)."""
    with pytest.raises(BodyCutError):
        site.ask("PUT", "/share/a", body_of(b"x" * sent, 1000))
    assert stored(site) is None
    assert site.monitor.aborts == ["connection lost"]


def test_a_cut_chunked_put_stores_nothing(site: Site) -> None:
    """The last chunk is what makes it whole."""
    with pytest.raises(BodyCutError):
        site.ask("PUT", "/share/a", body_of(b"5\r\nhello\r\n", None))
    assert stored(site) is None


def test_broken_chunks_store_nothing(site: Site) -> None:
    """A 400 in the middle of a body aborts too."""
    answer = site.ask("PUT", "/share/a", body_of(b"5\r\nhello\r\nx\r\n", None))
    assert (answer.status, stored(site), site.monitor.aborts) == (400, None, ["failed"])


@pytest.mark.parametrize(
    ("announced", "status"), [("5", 201), ("4", 400), ("6", 400), ("0", 400), ("x", 400)]
)
def test_what_finder_announces_must_come(site: Site, announced: str, status: int) -> None:
    """X-Expected-Entity-Length is held against the chunks that came."""
    body = body_of(b"5\r\nhello\r\n0\r\n\r\n", None)
    answer = site.ask("PUT", "/share/a", body, x_expected_entity_length=announced)
    assert answer.status == status
    assert stored(site) == (b"hello" if status == 201 else None)


def test_an_announced_size_over_the_quota_is_507_unread(site: Site) -> None:
    """Finder shows 507 as "full"; no byte of it is taken."""
    body = body_of(b"", QUOTA_BYTES + 1)
    assert site.ask("PUT", "/share/a", body).status == 507
    assert body.received_bytes == 0


@pytest.mark.parametrize("value", ["1700000000", "1700000000.5"])
def test_rclones_time_is_kept(site: Site, value: str) -> None:
    """X-OC-Mtime sets the modification time and is acknowledged."""
    answer = site.ask("PUT", "/share/a", b"x", x_oc_mtime=value)
    assert header(answer, "X-OC-MTime") == "accepted"
    assert site.monitor.nodes[FILE].info.modified_us == int(float(value) * 1_000_000)


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/share/a", {"content_range": "bytes 0-1/2"}, 400),
        ("/share/a", {"content_encoding": "gzip"}, 415),
        ("/share/a", {"x_oc_mtime": "-1"}, 400),
        ("/share/a", {"x_oc_mtime": "1" * 20}, 400),
        ("/share/sub", {}, 405),
        ("/share/new/", {}, 405),
        ("/share/none/a", {}, 409),
        ("/share/what?.txt", {}, 400),
        ("/share/a#b", {}, 400),
        ("/share/%2e%2e/a", {}, 400),
        ("/share/a%2Fb", {}, 400),
    ],
)
def test_puts_that_are_refused(
    site: Site, target: str, headers: dict[str, str], status: int
) -> None:
    """Parts, encodings, folders, missing folders and bad names; nothing is left behind."""
    site.monitor.make(FOLDER, Kind.FOLDER)
    before = set(site.monitor.nodes)
    assert site.ask("PUT", target, b"x", **headers).status == status
    assert set(site.monitor.nodes) == before


def test_conditions_guard_a_put(site: Site) -> None:
    """If-Match and If-None-Match, as editors use them against each other's saves."""
    assert site.ask("PUT", "/share/a", b"1", if_match="*").status == 412
    first = header(site.ask("PUT", "/share/a", b"1", if_none_match="*"), "ETag")
    assert site.ask("PUT", "/share/a", b"2", if_none_match="*").status == 412
    second = header(site.ask("PUT", "/share/a", b"2", if_match=first), "ETag")
    assert first != second
    assert site.ask("PUT", "/share/a", b"3", if_match=first).status == 412
    assert site.ask("PUT", "/share/a", b"3", if_=f"([{first}])").status == 412
    assert site.ask("PUT", "/share/a", b"3", if_=f"([{second}])").status == 204
    assert stored(site) == b"3"


def meanwhile(body: Body, act: Callable[[], object]) -> Body:
    """Return ``body``, whose sender does ``act`` before its first byte comes."""
    original = body._inbox._receive_into
    done: list[object] = []

    def receive(view: memoryview) -> int:
        if not done:
            done.append(act())
        return original(view)

    body._inbox._receive_into = receive
    return body


def test_a_change_during_a_conditional_put_is_412(site: Site) -> None:
    """The condition must still hold when the last byte has come."""
    first = header(site.ask("PUT", "/share/a", b"1"), "ETag")

    def change() -> None:
        site.monitor.make(FILE, Kind.FILE, b"theirs")

    for headers in ({"if_match": first}, {"if_": f"([{first}])"}, {"if_none_match": '"x", *x"'}):
        body = meanwhile(body_of(b"mine"), change)
        answer = site.ask("PUT", "/share/a", body, **headers)
        assert answer.status == (400 if "if_none_match" in headers else 412)
    assert stored(site) == b"theirs"
    body = meanwhile(body_of(b"mine"), change)
    assert site.ask("PUT", "/share/a", body, if_match="*").status == 204
    assert stored(site) == b"mine"


def test_a_file_made_during_a_put_that_wants_none_is_412(site: Site) -> None:
    """If-None-Match: * guards to the end, and whoever was first keeps the file."""

    def make() -> None:
        site.monitor.make(FILE, Kind.FILE, b"theirs")

    body = meanwhile(body_of(b"mine"), make)
    assert site.ask("PUT", "/share/a", body, if_none_match="*").status == 412
    assert stored(site) == b"theirs"


@pytest.mark.parametrize("name", ["repr_digest", "content_digest"])
def test_a_body_is_held_against_its_digest(site: Site, name: str) -> None:
    """RFC 9530: the right one is stored, a wrong or unreadable one leaves nothing behind."""
    right = digest_of(b"content")
    assert site.ask("PUT", "/share/a", b"content", **dict.fromkeys([name], right)).status == 201
    assert site.ask("PUT", "/share/a", b"c0ntent", **dict.fromkeys([name], right)).status == 400
    assert site.monitor.aborts == ["digest mismatch"]
    assert (
        site.ask("PUT", "/share/a", b"content", **dict.fromkeys([name], "sha-256=x")).status == 400
    )
    assert site.ask("PUT", "/share/a", b"", **dict.fromkeys([name], right)).status == 400
    assert stored(site) == b"content"
    assert site.ask("PUT", "/share/a", b"", **dict.fromkeys([name], digest_of(b""))).status == 204
    assert site.ask("PUT", "/share/a", b"x", **dict.fromkeys([name], "md5=:AAAA:")).status == 204


def test_a_digest_is_taken_over_all_blocks(site: Site) -> None:
    """Of a body longer than a block, whole and in chunks, not one byte may differ."""
    data = bytes(range(256)) * (BLOCK_BYTES // 256 * 2) + b"end"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    right = digest_of(data)
    assert site.ask("PUT", "/share/a", data, repr_digest=right).status == 201
    assert site.ask("PUT", "/share/a", body_of(chunked, None), repr_digest=right).status == 204
    assert site.ask("PUT", "/share/a", data[:-1] + b"x", repr_digest=right).status == 400
    assert site.ask("PUT", "/share/a", b"x" + data[1:], repr_digest=right).status == 400
    assert stored(site) == data


def test_a_cut_body_with_a_digest_is_still_a_cut_body(site: Site) -> None:
    """It is not held against anything before it is whole."""
    with pytest.raises(BodyCutError):
        site.ask("PUT", "/share/a", body_of(b"cont", 7), repr_digest=digest_of(b"cont"))
    assert site.monitor.aborts == ["connection lost"]


def test_mkcol(site: Site) -> None:
    """201; 405 when taken, by a file too; 409 without its parent; 415 with a body."""
    assert site.ask("MKCOL", "/share/sub/").status == 201
    assert site.ask("MKCOL", "/share/sub").status == 405
    site.ask("PUT", "/share/a", b"x")
    assert site.ask("MKCOL", "/share/a").status == 405
    assert site.ask("MKCOL", "/share/none/sub").status == 409
    assert site.ask("MKCOL", "/share/a/sub").status == 409
    assert site.ask("MKCOL", "/share/other", b"<x/>").status == 415
    assert site.ask("MKCOL", "/share/other", body_of(b"1\r\nx\r\n", None)).status == 415
    assert site.ask("MKCOL", "/share/other", body_of(b"0\r\n\r\n", None)).status == 201


@pytest.mark.parametrize(
    ("method", "target", "refused"),
    [
        ("MKCOL", "/share/sub", {"MKCOL"}),
        ("PUT", "/share/sub", {"PUT", "MKCOL"}),
        ("PUT", "/share/new/", {"PUT", "MKCOL"}),
    ],
)
def test_a_405_says_what_is_allowed(
    site: Site, method: str, target: str, refused: set[str]
) -> None:
    """RFC 9110 section 15.5.6: everything but what was just refused."""
    site.monitor.make(FOLDER, Kind.FOLDER)
    answer = site.ask(method, target, b"x" if method == "PUT" else b"")
    assert answer.status == 405
    allowed = set(header(answer, "Allow").split(", "))
    assert {"OPTIONS", "GET", "PROPFIND", "DELETE"} <= allowed
    assert not allowed & refused


@pytest.mark.parametrize("method", ["DELETE", "COPY", "MOVE"])
def test_a_body_that_nobody_reads_is_refused(site: Site, method: str) -> None:
    """RFC 4918 section 8.4: 415, for no client means it to be ignored; nothing happens."""
    site.ask("PUT", "/share/a", b"x")
    to = {"destination": "/share/b"}
    for body in (body_of(b"<x/>"), body_of(b"1\r\nx\r\n", None)):
        assert site.ask(method, "/share/a", body, **to).status == 415
    assert stored(site) == b"x"
    empty = body_of(b"0\r\n\r\n", None)
    assert site.ask(method, "/share/a", empty, **to).status in {201, 204}


def test_delete(site: Site) -> None:
    """Files and folders, with or without the slash; 404 for nothing, 400 for a shallow one."""
    site.ask("PUT", "/share/a", b"x")
    site.ask("MKCOL", "/share/sub/")
    site.ask("PUT", "/share/sub/b", b"x")
    for depth in ("0", "1", "none"):
        assert site.ask("DELETE", "/share/sub", depth=depth).status == 400
    assert site.ask("DELETE", "/share/sub").status == 204
    assert site.ask("DELETE", "/share/a", depth="1").status == 400
    assert site.ask("DELETE", "/share/a", depth="0").status == 204
    assert site.ask("DELETE", "/share/a").status == 404
    assert site.ask("DELETE", "/share").status == 403


@pytest.mark.parametrize("method", ["DELETE", "MOVE", "COPY", "PUT", "MKCOL", "PROPPATCH", "LOCK"])
def test_conditions_guard_every_change(site: Site, method: str) -> None:
    """Where a condition does not hold nothing changes, whatever the method."""
    target = "/share/new" if method == "MKCOL" else "/share/a"
    body = {"PUT": b"x", "PROPPATCH": UPDATE, "LOCK": LOCK_BODY}.get(method, b"")
    site.ask("PUT", "/share/a", b"1")
    site.ask("PUT", "/share/b", b"2")
    before = dict(site.monitor.nodes)
    refused = [{"if_match": '"old"'}, {"if_": '(["old"])'}, {"if_": "</share/b> (<urn:x>)"}]
    refused.append({"if_match": "*"} if method == "MKCOL" else {"if_none_match": "*"})
    for headers in refused:
        answer = site.ask(method, target, body, destination="/share/c", **headers)
        assert answer.status == 412, headers
    assert site.monitor.nodes == before
    assert site.monitor.held == []


@pytest.mark.parametrize("method", ["DELETE", "MOVE", "COPY", "PROPPATCH", "GET", "HEAD"])
def test_conditions_on_nothing_are_ignored(site: Site, method: str) -> None:
    """RFC 9110 section 13.2.1: what would fail anyway fails with its own status."""
    body = UPDATE if method == "PROPPATCH" else b""
    for condition in ('"x"', "*"):
        answer = site.ask(method, "/share/none", body, if_match=condition, destination="/share/c")
        assert answer.status == 404
    site.ask("MKCOL", "/share/sub")
    assert site.ask("MKCOL", "/share/sub", if_none_match="*").status == 405
    assert site.ask("PUT", "/share/no/a", b"x", if_match="*").status == 409
