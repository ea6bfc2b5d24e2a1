"""What RFC 4918 and 4331 promise of folders, times and space, asked over the real door."""

from __future__ import annotations

import pytest

from auth.policy import PathRule
from gateway.model import Action
from gateway.webdav.conditions import http_date
from tests.door.support import ALL, staff
from tests.webdav.real_site import FILE, FOLDER, OTHER, UPDATE, RealSite
from tests.webdav.support import content, header, parsed, properties


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("DELETE", {}),
        ("MOVE", {"destination": f"{FOLDER}/new"}),
        ("MOVE", {"destination": "/radiology/elsewhere"}),
    ],
)
def test_a_locked_member_keeps_the_whole_folder(
    real: RealSite, method: str, headers: dict[str, str]
) -> None:
    """207 names it with its 423 and nothing is gone, until its token comes along."""
    token = real.lock(f"{FOLDER}/sub/deep", "bob")
    before = real.statuses()
    answer = real.ask(method, f"{FOLDER}/sub", headers=headers)
    assert answer.status == 207
    (response,) = parsed(answer)
    assert response.findtext("{DAV:}href") == f"{FOLDER}/sub/deep"
    assert response.findtext("{DAV:}status") == "HTTP/1.1 423 Locked"
    assert real.statuses() == before
    given = headers | {"if": f"<{FOLDER}/sub/deep> (<{token}>)"}
    assert real.ask(method, f"{FOLDER}/sub", headers=given).status == 412
    done = real.ask(method, f"{FOLDER}/sub", headers=given, user="bob")
    assert done.status in {201, 204}


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_a_locked_member_of_the_destination_is_kept_too(real: RealSite, method: str) -> None:
    """Replacing a folder deletes it, as RFC 4918 section 9.8.4 says: all of it or nothing."""
    real.lock(f"{FOLDER}/sub/deep", "bob")
    answer = real.ask(method, FILE, headers={"destination": f"{FOLDER}/sub"})
    assert answer.status == 207
    assert parsed(answer).findtext("{DAV:}response/{DAV:}href") == f"{FOLDER}/sub/deep"
    assert real.statuses()["/sub/deep"] == real.statuses()["/file"] == 200


def test_a_hidden_member_is_not_named(real: RealSite) -> None:
    """A lock on what policy hides prevents it all the same, and says no more than that."""
    real.lock(f"{FOLDER}/sub/deep", "bob")
    hidden = ALL - {Action.DELETE}
    real.gate.policy.replace(staff(PathRule("/f/sub/deep", deny=hidden)))
    answer = real.ask("DELETE", f"{FOLDER}/sub")
    assert answer.status == 423
    assert b"deep" not in answer.body


def test_a_lock_above_is_named_by_its_root(real: RealSite) -> None:
    """RFC 4918 section 16: the address in lock-token-submitted is that of the lock."""
    real.lock(FOLDER, "bob")
    for method in ("PUT", "DELETE", "PROPPATCH"):
        answer = real.ask(method, FILE, UPDATE if method == "PROPPATCH" else b"")
        assert answer.status == 423
        found = parsed(answer).findtext("{DAV:}lock-token-submitted/{DAV:}href")
        assert found == f"{FOLDER}/"


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_folders_replace_and_are_replaced(real: RealSite, method: str) -> None:
    """201 to a free name, 412 with Overwrite: F, 204 over a folder, of which nothing is left."""
    source, new = f"{FOLDER}/sub", f"{FOLDER}/new"
    assert real.ask(method, source, headers={"destination": new}).status == 201
    assert real.statuses()["/new/deep"] == 200
    assert real.statuses()["/sub"] == (200 if method == "COPY" else 404)
    to = {"destination": new, "overwrite": "F"}
    assert real.ask(method, FILE, headers=to).status == 412
    assert real.ask(method, FILE, headers=to | {"overwrite": "T"}).status == 204
    assert real.statuses()["/new/deep"] == 404
    assert content(real.ask("GET", new)) == b"0123456789"


def test_a_shallow_copy_takes_properties_and_no_members(real: RealSite) -> None:
    """RFC 4918 section 9.8.3: Depth 0 copies the folder and what is said of it."""
    real.ask("PROPPATCH", f"{FOLDER}/sub", UPDATE)
    given = {"destination": f"{FOLDER}/new", "depth": "0"}
    assert real.ask("COPY", f"{FOLDER}/sub", headers=given).status == 201
    found = properties(real.ask("PROPFIND", f"{FOLDER}/new", headers={"depth": "0"}))
    assert found[f"{FOLDER}/new/"]["{urn:z}z"].text == "1"
    assert real.statuses()["/new/deep"] == 404


def test_another_share_is_another_server_to_copy_and_move(real: RealSite) -> None:
    """RFC 4918 section 9.8.5: 502; each share has keys of its own."""
    for method in ("COPY", "MOVE"):
        answer = real.ask(method, FILE, headers={"destination": "/archive/file"})
        assert answer.status == 502
    assert real.ask("HEAD", FILE).status == 200


# Times and space


def test_a_time_that_a_client_sets_is_told_everywhere(real: RealSite) -> None:
    """X-OC-Mtime and Win32LastModifiedTime reach Last-Modified and getlastmodified."""
    assert real.ask("PUT", FILE, b"x", headers={"x-oc-mtime": "1500000000.25"}).status == 204
    body = (
        '<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><w:Win32LastModifiedTime '
        f'xmlns:w="urn:schemas-microsoft-com:">{http_date(1_400_000_000)}'
        "</w:Win32LastModifiedTime></D:prop></D:set></D:propertyupdate>"
    )
    assert real.ask("PROPPATCH", OTHER, body.encode()).status == 207
    for target, seconds in ((FILE, 1_500_000_000), (OTHER, 1_400_000_000)):
        assert header(real.ask("HEAD", target), "Last-Modified") == http_date(seconds)
        found = properties(real.ask("PROPFIND", target, headers={"depth": "0"}))[target]
        assert found["{DAV:}getlastmodified"].text == http_date(seconds)
        since = {"if-modified-since": http_date(seconds)}
        assert real.ask("GET", target, headers=since).status == 304


def test_a_time_to_come_is_kept_but_not_told_by_http(real: RealSite) -> None:
    """RFC 9110 section 8.8.2.1: Last-Modified is never later than the present."""
    now_s = real.gate.clock() // 1_000_000
    later = now_s + 86_400
    assert real.ask("PUT", FILE, b"x", headers={"x-oc-mtime": str(later)}).status == 204
    for method in ("GET", "HEAD"):
        assert header(real.ask(method, FILE), "Last-Modified") == http_date(now_s)
    same = real.ask("GET", FILE, headers={"if-none-match": real.etag()})
    assert (same.status, header(same, "Last-Modified")) == (304, http_date(now_s))
    found = properties(real.ask("PROPFIND", FILE, headers={"depth": "0"}))[FILE]
    assert found["{DAV:}getlastmodified"].text == http_date(later)


def test_a_full_share_says_so(real: RealSite) -> None:
    """RFC 4331 section 6: 507 with quota-not-exceeded; what is left is told before."""
    ask = b'<D:propfind xmlns:D="DAV:"><D:prop><D:quota-available-bytes/></D:prop></D:propfind>'
    found = properties(real.ask("PROPFIND", "/small", ask, headers={"depth": "0"}))
    left = int(found["/small/"]["{DAV:}quota-available-bytes"].text or "")
    answer = real.ask("PUT", "/small/a", b"x" * (left + 1))
    assert answer.status == 507
    assert parsed(answer).find("{DAV:}quota-not-exceeded") is not None
    assert real.ask("PUT", "/small/a", b"x" * left).status == 201
    assert real.ask("COPY", "/small/a", headers={"destination": "/small/b"}).status == 507


def test_the_root_has_no_times_that_nobody_set(real: RealSite) -> None:
    """1970 is worse than nothing."""
    found = properties(real.ask("PROPFIND", "/", headers={"depth": "0"}))["/"]
    assert "{DAV:}resourcetype" in found
    assert not {"{DAV:}creationdate", "{DAV:}getlastmodified"} & set(found)
