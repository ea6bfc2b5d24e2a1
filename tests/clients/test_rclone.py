"""rclone, with a remote of type webdav.

Recorded here, request by request, from rclone 1.60.1 (Debian 12) with the vendors ``owncloud`` and
``other``; ``tests/e2e/test_rclone.py`` runs the program itself.
"""

from __future__ import annotations

import hashlib

import pytest

from tests.clients.exchange import EMPTY, Program, Site, Step
from tests.door.support import at, get, names

TREE = "{folder}/tree"
FILE = f"{TREE}/deep/%C3%BC%20;%20%3F.bin"
CONTENT = b"what rclone copied" * 20_000
TIME_S = 1_500_000_000
HTTP_TIME = "Fri, 14 Jul 2017 02:40:00 GMT"

ALWAYS = {"User-Agent": "rclone/v1.60.1", "Accept-Encoding": "gzip"}
LOOK_BODY = (
    b'<?xml version="1.0"?>\n<d:propfind  xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" '
    b'xmlns:nc="http://nextcloud.org/ns">\n <d:prop>\n  <d:displayname />\n  <d:getlastmodified />'
    b"\n  <d:getcontentlength />\n  <d:resourcetype />\n  <d:getcontenttype />\n  <oc:checksums />"
    b"\n </d:prop>\n</d:propfind>\n"
)
SPACE_BODY = (
    b'<?xml version="1.0" ?>\n<D:propfind xmlns:D="DAV:">\n <D:prop>\n  <D:quota-available-bytes/>'
    b"\n  <D:quota-used-bytes/>\n </D:prop>\n</D:propfind>\n"
)


def looks(target: str, needs: int, body: bytes = LOOK_BODY) -> Step:
    """Return the look of vendor ``owncloud``; that of ``other`` has no body."""
    return Step("PROPFIND", target, needs, {"Depth": "1"}, body)


def puts(target: str, content: bytes, modified_s: int, needs: int = 201) -> Step:
    """Return the PUT of vendor ``owncloud``."""
    headers = {
        "Content-Type": "application/octet-stream",
        "OC-Checksum": f"SHA1:{hashlib.sha1(content).hexdigest()}",
        "X-OC-Mtime": str(modified_s),
        **({} if content else EMPTY),
    }
    return Step("PUT", target, needs, headers, content)


@pytest.fixture
def rclone(site: Site) -> Program:
    """A remote on a folder, which is what rclone sends as its Referer."""
    program = site.program(ALWAYS)
    program.always = {**ALWAYS, "Referer": f"https://{program.host}{program.folder}/"}
    return program


def test_a_tree_is_copied_in(site: Site, rclone: Program) -> None:
    """Folders from the inside out: 409 where one above is missing, 405 where it is there."""
    answers = rclone.play(
        looks(TREE, 404),
        looks(f"{TREE}/", 404),
        Step("MKCOL", f"{TREE}/deep/", 409),
        Step("MKCOL", f"{TREE}/", 201),
        puts(f"{TREE}/empty", b"", TIME_S),
        Step("MKCOL", f"{TREE}/", 405),
        looks(f"{TREE}/empty", 207),
        Step("MKCOL", f"{TREE}/deep/", 201),
        puts(FILE, CONTENT, TIME_S),
        looks(FILE, 207),
        looks(f"{TREE}/", 207),
    )
    assert answers[-2].text("getcontentlength") == str(len(CONTENT))
    tree = f"{rclone.folder}/tree/"
    assert sorted(answers[-1].hrefs) == [tree, f"{tree}deep/", f"{tree}empty"]
    assert get(site.gate.door("bob"), f"{rclone.folder}/tree/deep/ü ; ?.bin") == CONTENT


def test_the_time_of_the_file_is_kept(rclone: Program) -> None:
    """X-OC-Mtime sets it, the answer says so, and moving keeps it."""
    answers = rclone.play(
        puts("{folder}/a", b"one", TIME_S),
        looks("{folder}/a", 207),
        puts("{folder}/a", b"two", TIME_S + 1, needs=204),
        puts("{folder}/a", b"six", TIME_S, needs=204),
        Step(
            "MOVE",
            "{folder}/a",
            201,
            {
                "Destination": "https://{host}{folder}/b",
                "Overwrite": "F",
                "X-OC-Mtime": str(TIME_S),
            },
        ),
        looks("{folder}/b", 207),
        Step("GET", "{folder}/b", 200, {"Depth": "0"}),
    )
    assert answers[0].headers["x-oc-mtime"] == "accepted"
    assert answers[1].text("getlastmodified") == HTTP_TIME
    assert answers[5].text("getlastmodified") == HTTP_TIME
    assert answers[6].headers["last-modified"] == HTTP_TIME
    assert answers[6].body == b"six"


def test_another_vendor_sends_no_time(site: Site, rclone: Program) -> None:
    """The file then has the time of its arrival, and every look is for all properties."""
    _, looked, _ = rclone.play(
        Step("PUT", "{folder}/a", 201, {"Content-Type": "application/octet-stream"}, b"one"),
        looks("{folder}/a", 207, b""),
        looks("{folder}/", 207, b""),
    )
    info = site.gate.door("alice").stat(at(f"{rclone.folder}/a"))
    assert info.modified_us == site.gate.clock()
    assert looked.text("getcontentlength") == "3"


def test_a_tree_is_moved_and_purged(site: Site, rclone: Program) -> None:
    """In one request each, with a slash."""
    rclone.play(
        Step("MKCOL", f"{TREE}/", 201),
        puts(f"{TREE}/a", b"one", TIME_S),
        looks("{folder}/moved", 404),
        Step(
            "MOVE",
            f"{TREE}/",
            201,
            {"Destination": "https://{host}{folder}/moved/", "Overwrite": "F"},
        ),
        looks("{folder}/moved", 207),
        Step("DELETE", "{folder}/moved/", 204),
    )
    assert names(site.gate.door("alice"), rclone.folder) == []


def test_space_is_told(rclone: Program) -> None:
    """What ``rclone about`` and df on a mount show."""
    (space,) = rclone.play(Step("PROPFIND", "{folder}/", 207, {"Depth": "0"}, SPACE_BODY))
    assert int(space.text("quota-available-bytes")) > 0
    assert int(space.text("quota-used-bytes")) >= 0


def test_parts_are_read(rclone: Program) -> None:
    """A mount reads from anywhere; rclone takes 206 with the range that it asked for alone."""
    rclone.play(puts("{folder}/a", CONTENT, TIME_S))
    for first, last in ((0, 9), (65_530, 65_545), (len(CONTENT) - 5, len(CONTENT) - 1)):
        asked = {"Range": f"bytes={first}-{last}", "Depth": "0"}
        (part,) = rclone.play(Step("GET", "{folder}/a", 206, asked))
        assert part.body == CONTENT[first : last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{last}/{len(CONTENT)}"
