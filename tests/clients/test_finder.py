"""macOS Finder, which asks through the file system webdavfs.

Requests, headers and bodies as in Apple's published source of webdavfs (webdav_network.c and
webdav_parse.c), their order as in the log of github.com/owncloud/core/issues/24753; not recorded
here. Save folders and AppleDouble files as TextEdit and Finder leave them on any such drive.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest

from backends.errors import NotFoundError
from tests.clients.exchange import EMPTY, Program, Site, Step
from tests.door.support import at, get, names, put

FILE = "{folder}/Notes.txt"
CONTENT = b"what Finder copied " * 20_000

ALWAYS = {
    "Accept": "*/*",
    "User-Agent": "WebDAVFS/3.0.0 (03008000) Darwin/23.6.0 (arm64)",
    "Connection": "keep-alive",
}
XML = {"Content-Type": "text/xml"}
HELD = {"If": "(<{token}>)"}
LOCK_BODY = (
    b'<?xml version="1.0" encoding="utf-8"?>\n<D:lockinfo xmlns:D="DAV:">\n'
    b"<D:lockscope><D:exclusive/></D:lockscope>\n<D:locktype><D:write/></D:locktype>\n"
    b"<D:owner>\n<D:href>http://www.apple.com/webdav_fs/</D:href>\n</D:owner>\n</D:lockinfo>\n"
)
REFRESH = {**XML, **HELD, "Depth": "0", "Timeout": "Second-600", **EMPTY}
STAT = ("getlastmodified", "getcontentlength", "resourcetype")
SPACE = ("quota-available-bytes", "quota-used-bytes", "quota", "quotaused")


def asks(target: str, needs: int, *properties: str, depth: str = "0") -> Step:
    """Return the PROPFIND for ``properties``; without any, what every look asks for."""
    inner = "".join(f"<D:{name}/>\n" for name in properties or STAT)
    body = (
        '<?xml version="1.0" encoding="utf-8"?>\n<D:propfind xmlns:D="DAV:">\n'
        f"<D:prop>\n{inner}</D:prop>\n</D:propfind>\n"
    )
    return Step("PROPFIND", target, needs, {**XML, "Depth": depth}, body.encode())


def locks(target: str, needs: int = 200) -> Step:
    headers = {
        "Depth": "0",
        "Timeout": "Second-600",
        "Content-Type": 'text/xml; charset="utf-8"',
    }
    return Step("LOCK", target, needs, headers, LOCK_BODY)


def unlocks(target: str) -> Step:
    return Step("UNLOCK", target, 204, {"Lock-Token": "<{token}>"})


def streams(target: str, needs: int, content: bytes, announced: int | None = None) -> Step:
    """Return the PUT of a copy: chunked, the file's size in a header of its own."""
    size = len(content) if announced is None else announced
    chunks = [content[start : start + 65536] for start in range(0, len(content), 65536)]
    return Step("PUT", target, needs, {"X-Expected-Entity-Length": str(size), **HELD}, b"", chunks)


def creates(target: str, content: bytes) -> tuple[Step, ...]:
    """Return the order in which a file is copied to a free name."""
    return (
        asks(target, 404),
        Step("PUT", target, 201, EMPTY),
        locks(target),
        asks(target, 207),
        streams(target, 204, content),
        asks(target, 207, "getlastmodified", "getetag"),
        unlocks(target),
    )


@pytest.fixture
def finder(site: Site) -> Program:
    """Finder on a mounted volume."""
    return site.program(ALWAYS)


def exists(site: Site, path: str) -> bool:
    try:
        site.gate.door("alice").stat(at(path))
    except NotFoundError:
        return False
    return True


def test_a_volume_is_mounted_writable(finder: Program) -> None:
    """Only a token of its own, 2, between the commas makes it so; then space and root are asked."""
    told, root, _, space, listing = finder.play(
        Step("OPTIONS", "/archive/", 200),
        asks("/archive/", 207),
        asks("/archive/.metadata_never_index", 404),
        asks("/archive/", 207, *SPACE),
        asks("/archive/", 207, depth="1"),
    )
    assert "2" in [token.strip(" \t") for token in told.headers["dav"].split(",")]
    assert root.properties()["{DAV:}resourcetype"][0].tag == "{DAV:}collection"
    assert int(space.text("quota-available-bytes")) > 0
    assert int(space.text("quota-used-bytes")) >= 0
    assert "{DAV:}quota" not in space.properties()
    assert listing.hrefs[0] == "/archive/"


def test_space_is_that_of_the_share(site: Site, finder: Program) -> None:
    """What the quota leaves is what Finder shows as free."""
    door = site.gate.door("alice")
    put(door, "/small/taken", b"x" * 300)
    (space,) = finder.play(asks("/small/", 207, *SPACE))
    assert (space.text("quota-used-bytes"), space.text("quota-available-bytes")) == ("300", "700")
    door.delete(at("/small/taken"))


@pytest.mark.parametrize("size_bytes", [1, len(CONTENT)])
def test_a_file_is_copied_in(site: Site, finder: Program, size_bytes: int) -> None:
    """In chunks, of exactly the announced size, under a lock of 600 seconds."""
    content = CONTENT[:size_bytes]
    answers = finder.play(*creates(FILE, content))
    assert answers[2].xml.findtext(".//{DAV:}timeout") == "Second-600"
    assert answers[3].text("getcontentlength") == "0"
    assert get(site.gate.door("bob"), f"{finder.folder}/Notes.txt") == content


def test_an_empty_file_is_copied_in(site: Site, finder: Program) -> None:
    """Nothing at all in chunked coding, announced as nothing, is an empty file."""
    finder.play(*creates(FILE, b""))
    assert get(site.gate.door("bob"), f"{finder.folder}/Notes.txt") == b""


@pytest.mark.parametrize("announced", [len(CONTENT) + 1, len(CONTENT) - 1, 1, 0])
def test_another_size_than_announced_is_refused(
    site: Site, finder: Program, announced: int
) -> None:
    """A copy that ends early, or goes on, must not look like the file."""
    finder.play(
        *creates(FILE, b"as it was"),
        locks(FILE),
        streams(FILE, 400, CONTENT, announced),
        unlocks(FILE),
    )
    assert get(site.gate.door("bob"), f"{finder.folder}/Notes.txt") == b"as it was"


def test_a_lock_is_refreshed(site: Site, finder: Program) -> None:
    """Empty body and If: the same token comes back in the body, with its time anew."""
    finder.play(Step("PUT", FILE, 201, EMPTY), locks(FILE))
    token = finder.tokens[FILE]
    for _ in range(3):
        site.gate.clock.forward(400)
        (answer,) = finder.play(Step("LOCK", FILE, 200, REFRESH))
        assert answer.lock_token == token
        assert answer.xml.findtext(".//{DAV:}timeout") == "Second-600"
        # A refresh is no activity: without any, the session would end before the lock does.
        finder.play(asks("{folder}/", 207, depth="1"))
    finder.play(streams(FILE, 204, b"still mine"), unlocks(FILE))


def refused_at_once(finder: Program, step: Step) -> None:
    """Play a PUT that is answered before any content; webdavfs then drops the connection."""
    finder.begin(step)
    finder.finish(step)
    finder.close()


def test_a_full_volume_says_so(site: Site, finder: Program) -> None:
    """507, the one 5xx that Finder does not read as "not found", before any content is sent."""
    target = "/small/too-much"
    finder.play(Step("PUT", target, 201, EMPTY), locks(target))
    refused_at_once(finder, streams(target, 507, b"", announced=10_000_000))
    finder.play(unlocks(target))
    assert get(site.gate.door("alice"), target) == b""


def test_a_busy_file_says_so(site: Site, finder: Program) -> None:
    """423 for whoever comes second, which Finder shows as "in use"."""
    other = site.program(ALWAYS, name="bob", folder=finder.folder)
    finder.play(Step("PUT", FILE, 201, EMPTY), locks(FILE))
    other.play(locks(FILE, 423), Step("DELETE", FILE, 423), streams_without_lock(FILE, 423))
    other.play(Step("MOVE", FILE, 423, {"Destination": "https://{host}{folder}/mine"}))
    finder.play(unlocks(FILE))


def streams_without_lock(target: str, needs: int) -> Step:
    return Step("PUT", target, needs, {"X-Expected-Entity-Length": "3"}, b"", [b"two"])


def test_what_is_too_big_says_so(finder: Program) -> None:
    """413 for a size that no file can have, whatever room there is."""
    finder.play(Step("PUT", FILE, 201, EMPTY), locks(FILE))
    refused_at_once(finder, streams(FILE, 413, b"", announced=2**50))


def test_decomposed_names_are_the_same_files(site: Site, finder: Program) -> None:
    """The Mac sends names decomposed (NFD); others find them composed, and so does the Mac."""
    name = "Übergröße é.txt"
    target = "{folder}/" + quote(unicodedata.normalize("NFD", name))
    finder.play(*creates(target, CONTENT))
    assert names(site.gate.door("bob"), finder.folder) == [name]
    (listing,) = finder.play(asks("{folder}/", 207, depth="1"))
    assert listing.hrefs[1] == f"{finder.folder}/{quote(name)}"
    finder.play(asks(target, 207), Step("DELETE", target, 204), asks(target, 404))


def test_resource_forks_lie_beside_their_files(site: Site, finder: Program) -> None:
    """Every file may have a ``._`` file, asked for more often than it exists."""
    fork = "{folder}/._Notes.txt"
    finder.play(*creates(FILE, CONTENT), *creates(fork, b"\0\5\x16\7" + b"\0" * 4092))
    finder.play(asks("{folder}/._.", 404), asks("{folder}/.DS_Store", 404))
    assert set(names(site.gate.door("bob"), finder.folder)) == {"._Notes.txt", "Notes.txt"}
    finder.play(Step("DELETE", fork, 204), Step("DELETE", FILE, 204))


def test_a_document_is_saved_through_a_folder(site: Site, finder: Program) -> None:
    """TextEdit writes into ``.sb-*`` and moves over the document, which keeps its history."""
    folder = "{folder}/Notes.txt.sb-6d2b1c5a-Xk3rTq"
    fresh = f"{folder}/Notes.txt"
    finder.play(*creates(FILE, b"first"))
    finder.play(
        asks(folder, 404),
        Step("MKCOL", f"{folder}/", 201, EMPTY),
        *creates(fresh, b"second"),
        Step("MOVE", fresh, 204, {"Destination": "https://{host}" + FILE}),
        asks(FILE, 207),
        asks(f"{folder}/", 207, "resourcetype", depth="1"),
        Step("DELETE", f"{folder}/", 204),
    )
    door = site.gate.door("alice")
    assert get(door, f"{finder.folder}/Notes.txt") == b"second"
    assert [one.size_bytes for one in door.versions(at(f"{finder.folder}/Notes.txt"))][:2] == [6, 5]
    assert names(door, finder.folder) == ["Notes.txt"]


def test_what_is_cached_is_not_sent_again(finder: Program) -> None:
    """If-Modified-Since with the Last-Modified of the answer before is 304."""
    finder.play(*creates(FILE, CONTENT))
    (first,) = finder.play(Step("GET", FILE, 200))
    since = {"If-Modified-Since": first.headers["last-modified"]}
    (second,) = finder.play(Step("GET", FILE, 304, since))
    assert second.headers["etag"] == first.headers["etag"]


def test_a_cut_download_is_taken_up(finder: Program) -> None:
    """If-Range gives the rest only by the entity tag; by a date, webdavfs's way, all of it."""
    finder.play(*creates(FILE, CONTENT))
    (first,) = finder.play(Step("GET", FILE, 200))
    rest = {"Range": "bytes=100-"}
    same = Step("GET", FILE, 206, {**rest, "If-Range": first.headers["etag"]})
    (part,) = finder.play(same)
    assert part.body == CONTENT[100:]
    assert part.headers["content-range"] == f"bytes 100-{len(CONTENT) - 1}/{len(CONTENT)}"
    dated = Step("GET", FILE, 200, {**rest, "If-Range": first.headers["last-modified"]})
    assert finder.play(dated)[0].body == CONTENT
    finder.play(locks(FILE), streams(FILE, 204, CONTENT[::-1]), unlocks(FILE))
    changed = Step("GET", FILE, 200, {**rest, "If-Range": first.headers["etag"]})
    assert finder.play(changed)[0].body == CONTENT[::-1]


def test_a_folder_goes_only_when_empty(finder: Program) -> None:
    """Finder looks first; what it then deletes or renames it names with a slash."""
    finder.play(
        Step("MKCOL", "{folder}/untitled%20folder/", 201, EMPTY),
        asks("{folder}/untitled%20folder", 207),
        Step(
            "MOVE",
            "{folder}/untitled%20folder/",
            201,
            {"Destination": "https://{host}{folder}/Photos/"},
        ),
        asks("{folder}/Photos/", 207, "resourcetype", depth="1"),
        Step("DELETE", "{folder}/Photos/", 204),
        asks("{folder}/Photos", 404),
    )
