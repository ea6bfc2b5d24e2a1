"""COPY and MOVE, and what locks forbid to whole folders."""

from __future__ import annotations

import pytest

from gateway.paths import VirtualPath
from tests.webdav.real_site import LOCK_BODY
from tests.webdav.support import Site, content, header, parsed


def stored(site: Site, name: str = "a") -> bytes | None:
    node = site.monitor.nodes.get(VirtualPath(("share", name)))
    return None if node is None else node.data


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_copy_and_move_tell_created_from_replaced(site: Site, method: str) -> None:
    """201 to a free name, 412 with Overwrite: F, 204 over an existing one."""
    for name in ("a", "b"):
        site.ask("PUT", f"/share/{name}", name.encode())
    to = "http://localhost/share/"
    assert site.ask(method, "/share/a", destination=to + "new%3Bv2").status == 201
    site.ask("PUT", "/share/a", b"a")
    assert site.ask(method, "/share/a", destination=to + "b", overwrite="F").status == 412
    assert stored(site, "b") == b"b"
    assert site.ask(method, "/share/a", destination=to + "b").status == 204
    assert stored(site, "b") == b"a"
    assert stored(site, "new;v2") == b"a"
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
        ("/share/sub", {"destination": "/share/x", "depth": "-1"}, 400),
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
    assert site.ask("MOVE", "/share/sub/b", destination="/share/d", depth="0").status == 201


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


@pytest.mark.parametrize(
    ("method", "source", "target"),
    [
        ("DELETE", "/share/sub", ""),
        ("MOVE", "/share/sub", "/share/new"),
        ("MOVE", "/share/a", "/share/sub"),
        ("COPY", "/share/a", "/share/sub"),
    ],
)
def test_a_locked_member_is_named(site: Site, method: str, source: str, target: str) -> None:
    """RFC 4918 section 9.6.1: a 207 with its 423, and all else as it was."""
    site.ask("PUT", "/share/a", b"x")
    site.ask("MKCOL", "/share/sub")
    site.ask("PUT", "/share/sub/b%3B", b"x")
    site.ask("LOCK", "/share/sub/b%3B", LOCK_BODY, user="bob")
    before = set(site.monitor.nodes)
    answer = site.ask(method, source, destination=target)
    assert answer.status == 207
    (response,) = parsed(answer)
    assert response.findtext("{DAV:}href") == "/share/sub/b%3B"
    assert response.findtext("{DAV:}status") == "HTTP/1.1 423 Locked"
    submitted = response.find("{DAV:}error/{DAV:}lock-token-submitted")
    assert submitted is not None
    assert submitted.findtext("{DAV:}href") == "/share/sub/b%3B"
    assert "bob" in (response.findtext("{DAV:}responsedescription") or "")
    assert set(site.monitor.nodes) == before


@pytest.mark.parametrize(
    ("locked", "method", "source", "target"),
    [
        ("/share/sub", "DELETE", "/share/sub", ""),
        ("/share", "DELETE", "/share/sub", ""),
        ("/share/sub", "MOVE", "/share/sub", "/share/new"),
        ("/share/sub", "MOVE", "/share/a", "/share/sub"),
        ("/share/sub", "COPY", "/share/a", "/share/sub"),
        ("/share/sub", "COPY", "/share/a", "/share/sub/c"),
    ],
)
def test_a_lock_on_what_is_named_is_a_plain_423(
    site: Site, locked: str, method: str, source: str, target: str
) -> None:
    """The resource itself, or a folder above it, is no member."""
    site.ask("PUT", "/share/a", b"x")
    site.ask("MKCOL", "/share/sub")
    site.ask("LOCK", locked, LOCK_BODY, user="bob")
    answer = site.ask(method, source, destination=target)
    assert answer.status == 423
    assert parsed(answer).find("{DAV:}lock-token-submitted/{DAV:}href") is not None
