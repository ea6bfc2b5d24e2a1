"""PUT, MKCOL, DELETE, COPY and MOVE."""

from __future__ import annotations

import pytest

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.messages import BodyCutError
from tests.webdav.fake_door import QUOTA_BYTES
from tests.webdav.support import Site, body_of, content, header

FILE = VirtualPath.parse("/share/a")
FOLDER = VirtualPath.parse("/share/sub")


def stored(site: Site, path: VirtualPath = FILE) -> bytes | None:
    node = site.monitor.nodes.get(path)
    return None if node is None else node.data


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


def test_a_change_during_a_conditional_put_is_412(site: Site) -> None:
    """The condition must still hold when the last byte has come."""
    first = header(site.ask("PUT", "/share/a", b"1"), "ETag")
    body = body_of(b"mine")
    original = body._inbox._receive_into

    def receive(view: memoryview) -> int:
        site.monitor.make(FILE, Kind.FILE, b"theirs")
        return original(view)

    body._inbox._receive_into = receive
    assert site.ask("PUT", "/share/a", body, if_match=first).status == 412
    assert stored(site) == b"theirs"


def test_mkcol(site: Site) -> None:
    """201; 405 when taken, by a file too; 409 without its parent; 415 with a body."""
    assert site.ask("MKCOL", "/share/sub/").status == 201
    assert site.ask("MKCOL", "/share/sub").status == 405
    site.ask("PUT", "/share/a", b"x")
    assert site.ask("MKCOL", "/share/a").status == 405
    assert site.ask("MKCOL", "/share/none/sub").status == 409
    assert site.ask("MKCOL", "/share/a/sub").status == 409
    assert site.ask("MKCOL", "/share/other", b"<x/>").status == 415
    assert site.ask("MKCOL", "/share/other", body_of(b"0\r\n\r\n", None)).status == 415


def test_delete(site: Site) -> None:
    """Files and folders, with or without the slash; 404 for nothing, 400 for a shallow one."""
    site.ask("PUT", "/share/a", b"x")
    site.ask("MKCOL", "/share/sub/")
    site.ask("PUT", "/share/sub/b", b"x")
    assert site.ask("DELETE", "/share/sub", depth="0").status == 400
    assert site.ask("DELETE", "/share/sub").status == 204
    assert site.ask("DELETE", "/share/a", if_match='"old"').status == 412
    assert site.ask("DELETE", "/share/a").status == 204
    assert site.ask("DELETE", "/share/a").status == 404
    assert site.ask("DELETE", "/share").status == 403


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_copy_and_move_tell_created_from_replaced(site: Site, method: str) -> None:
    """201 to a free name, 412 with Overwrite: F, 204 over an existing one."""
    for name in ("a", "b"):
        site.ask("PUT", f"/share/{name}", name.encode())
    to = "http://localhost/share/"
    assert site.ask(method, "/share/a", destination=to + "new%3Bv2").status == 201
    site.ask("PUT", "/share/a", b"a")
    assert site.ask(method, "/share/a", destination=to + "b", overwrite="F").status == 412
    assert stored(site, VirtualPath.parse("/share/b")) == b"b"
    assert site.ask(method, "/share/a", destination=to + "b").status == 204
    assert stored(site, VirtualPath.parse("/share/b")) == b"a"
    assert stored(site, VirtualPath.parse("/share/new;v2")) == b"a"
    assert stored(site) == (b"a" if method == "COPY" else None)


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
@pytest.mark.parametrize(
    ("source", "headers", "status"),
    [
        ("/share/sub", {}, 400),
        ("/share/sub", {"destination": "http://elsewhere/share/x"}, 502),
        ("/share/sub", {"destination": "/share/sub"}, 403),
        ("/share/sub", {"destination": "/share/sub/"}, 403),
        ("/share/sub", {"destination": "/share/sub/in/itself"}, 403),
        ("/share/sub/b", {"destination": "/share/sub"}, 403),
        ("/share/sub", {"destination": "/share/none/x"}, 409),
        ("/share/none", {"destination": "/share/x"}, 404),
        ("/share/sub", {"destination": "/share/x", "overwrite": "yes"}, 400),
        ("/share/sub", {"destination": "/share/x", "depth": "1"}, 400),
        ("/share/sub", {"destination": "/share/x%2Fy"}, 400),
    ],
)
def test_transfers_that_are_refused(
    site: Site, method: str, source: str, headers: dict[str, str], status: int
) -> None:
    """Nowhere, elsewhere, onto and into itself, over its own folder, malformed."""
    site.ask("MKCOL", "/share/sub")
    site.ask("PUT", "/share/sub/b", b"x")
    before = set(site.monitor.nodes)
    assert site.ask(method, source, b"", **headers).status == status
    assert set(site.monitor.nodes) == before


def test_a_shallow_copy_takes_the_folder_alone(site: Site) -> None:
    """COPY with Depth: 0 leaves the content where it is (wsgidav copies it all)."""
    site.ask("MKCOL", "/share/sub")
    site.ask("PUT", "/share/sub/b", b"x")
    assert site.ask("COPY", "/share/sub", destination="/share/c", depth="0").status == 201
    assert VirtualPath.parse("/share/c") in site.monitor.nodes
    assert VirtualPath.parse("/share/c/b") not in site.monitor.nodes
    assert site.ask("MOVE", "/share/sub", destination="/share/d", depth="0").status == 400


def test_the_public_address_is_a_destination(site: Site) -> None:
    """Behind a proxy clients name it by the address they know."""
    site.ask("PUT", "/share/a", b"x")
    to = "https://files.example.org/share/b"
    assert site.ask("MOVE", "/share/a", destination=to).status == 502
    site.settings = type(site.settings)(public_url="https://files.example.org")
    assert site.ask("MOVE", "/share/a", destination=to).status == 201


def test_a_tagged_list_can_name_another_resource(site: Site) -> None:
    """The If header of a COPY may speak of its destination (RFC 4918 section 10.4.9)."""
    site.ask("PUT", "/share/a", b"x")
    tag = header(site.ask("PUT", "/share/b", b"y"), "ETag")
    good, bad = f"</share/b> ([{tag}])", '<http://localhost/share/b> (["old"])'
    assert site.ask("COPY", "/share/a", destination="/share/b", if_=bad).status == 412
    assert site.ask("COPY", "/share/a", destination="/share/b", if_=good).status == 204
    assert content(site.ask("GET", "/share/b")) == b"x"
