"""GNOME Files, which asks through gvfs.

Recorded here, request by request, from gvfs 1.50.3 (Debian 12) driven by ``gio``; the HEAD before
a new file as in gvfs's source (gvfsbackenddav.c). ``tests/e2e/test_gio.py`` runs the program.
"""

from __future__ import annotations

import re

import pytest

from tests.clients.exchange import EMPTY, Program, Site, Step
from tests.door.support import at, get, names

NOTE = "{folder}/note"
FOLDER = "{folder}/sub%20gr%C3%B6%C3%9Fe"
FILE = f"{FOLDER}/file%20%5B1%5D.bin"
CONTENT = b"what gvfs copied" * 20_000

ALWAYS = {
    "Accept-Encoding": "gzip, deflate, br",
    "User-Agent": "gvfs/1.50.3",
    "Accept-Language": "en",
    "Connection": "Keep-Alive",
}
LISTED = (
    "creationdate",
    "displayname",
    "getcontentlength",
    "getcontenttype",
    "getetag",
    "getlastmodified",
    "resourcetype",
)
OF_KIND = ("resourcetype", "getcontentlength")
SPACE = ("quota-available-bytes", "quota-used-bytes")


def asks(target: str, needs: int, properties: tuple[str, ...] = LISTED, depth: str = "0") -> Step:
    """Return the PROPFIND as gvfs words it."""
    inner = "".join(f"<D:{name}/>\n" for name in properties)
    body = (
        '<?xml version="1.0" encoding="utf-8" ?>\n <D:propfind xmlns:D="DAV:">\n  <D:prop>\n'
        f"{inner}  </D:prop>\n </D:propfind>"
    )
    headers = {"Content-Type": "application/xml", "Depth": depth}
    if properties == LISTED:
        headers["Apply-To-Redirect-Ref"] = "T"
    return Step("PROPFIND", target, needs, headers, body.encode())


def moves(target: str, to: str, method: str = "MOVE", overwrite: str = "T") -> Step:
    return Step(method, target, 201, {"Destination": "https://{host}" + to, "Overwrite": overwrite})


@pytest.fixture
def files(site: Site) -> Program:
    """GNOME Files in a mounted folder."""
    return site.program(ALWAYS)


def test_a_server_is_mounted(site: Site) -> None:
    """OPTIONS must tell DAV; gvfs then goes up to the topmost folder that also does."""
    program = site.program(ALWAYS)
    credentials, program.authorization = program.authorization, ""
    program.play(Step("OPTIONS", "{folder}", 401))
    program.authorization = credentials
    answers = program.play(
        Step("OPTIONS", "{folder}", 200),
        asks("{folder}", 207, OF_KIND, "1"),
        Step("OPTIONS", "/archive/", 200),
        asks("/archive/", 207, OF_KIND, "1"),
        Step("OPTIONS", "/", 200),
        asks("/", 207, OF_KIND, "1"),
        asks("{folder}/", 207, depth="1"),
    )
    assert all("dav" in answer.headers for answer in answers[0:5:2])
    assert answers[1].properties()["{DAV:}resourcetype"][0].tag == "{DAV:}collection"


def test_a_new_file_is_looked_for_by_head(site: Site, files: Program) -> None:
    """Creating is HEAD, 404, PUT; copying in asks by PROPFIND."""
    files.play(
        Step("HEAD", NOTE, 404),
        Step("PUT", NOTE, 201, {}, b"hello\n"),
        Step("MKCOL", f"{FOLDER}/", 201),
        asks(FILE, 404),
        Step("PUT", FILE, 201, {"Overwrite": "T"}, CONTENT),
    )
    assert get(site.gate.door("bob"), f"{files.folder}/sub größe/file [1].bin") == CONTENT


def test_a_file_is_replaced_only_if_unchanged(site: Site, files: Program) -> None:
    """HEAD with If-Match, then PUT with it; after a change of somebody else's both are 412."""
    (made,) = files.play(Step("PUT", NOTE, 201, {}, b"hello\n"))
    known = {"If-Match": made.headers["etag"]}
    (looked,) = files.play(asks(NOTE, 207))
    assert looked.text("getetag") == made.headers["etag"]
    files.play(Step("HEAD", NOTE, 200, known), Step("PUT", NOTE, 204, known, b"hellO\n"))
    files.play(Step("HEAD", NOTE, 412, known), Step("PUT", NOTE, 412, known, b"helLO\n"))
    (read,) = files.play(Step("GET", NOTE, 200))
    assert read.body == b"hellO\n"


def test_an_edit_within_a_second_changes_the_tag(site: Site, files: Program) -> None:
    """Also when the size stays: the clock stands still here, and each write has its own tag."""
    contents = [b"one", b"two", b"two", b"six"]
    files.play(Step("PUT", NOTE, 201, {}, b"new"))
    tags = []
    for content in contents:
        files.play(Step("PUT", NOTE, 204, {}, content))
        (head,) = files.play(Step("HEAD", NOTE, 200))
        tags.append(head.headers["etag"])
    assert len(set(tags)) == len(contents)
    assert all(re.fullmatch(r'"[^"]+"', tag) for tag in tags)


def test_escapes_are_upper_case(files: Program) -> None:
    """Addresses are compared as text: the answer writes them as gvfs did."""
    files.play(Step("MKCOL", f"{FOLDER}/", 201), Step("PUT", FILE, 201, EMPTY))
    (listing,) = files.play(asks(f"{FOLDER}/", 207, depth="1"))
    (alone,) = files.play(asks(FILE.replace("%5B", "%5b"), 207))
    assert listing.hrefs[0] == f"{files.folder}/sub%20gr%C3%B6%C3%9Fe/"
    assert listing.hrefs[1] == alone.hrefs[0] == f"{listing.hrefs[0]}file%20%5B1%5D.bin"


def test_folders_move_and_go_without_a_slash(site: Site, files: Program) -> None:
    """Neither the folder nor its destination is named with one."""
    files.play(
        Step("MKCOL", f"{FOLDER}/", 201),
        Step("PUT", FILE, 201, {"Overwrite": "T"}, CONTENT),
        asks("{folder}/sub2", 404),
        asks(FOLDER, 207, OF_KIND),
        moves(FOLDER, "{folder}/sub2"),
        moves("{folder}/sub2", "{folder}/sub3", overwrite="F"),
        asks("{folder}/sub3/copy", 404),
        moves("{folder}/sub3/file%20%5B1%5D.bin", "{folder}/sub3/copy", "COPY"),
    )
    door = site.gate.door("alice")
    assert set(names(door, f"{files.folder}/sub3")) == {"copy", "file [1].bin"}
    assert get(door, f"{files.folder}/sub3/copy") == CONTENT
    files.play(
        asks("{folder}/sub3", 207, OF_KIND, "1"),
        Step("DELETE", "{folder}/sub3", 204),
        asks("{folder}/sub3", 404),
    )
    assert names(door, files.folder) == []


def test_space_is_told(site: Site, files: Program) -> None:
    """What the bar at the window's foot shows."""
    (space,) = files.play(asks("{folder}", 207, SPACE))
    usage = site.gate.door("alice").usage(at(files.folder))
    assert int(space.text("quota-used-bytes")) == usage.used_bytes
    assert int(space.text("quota-available-bytes")) > 0
