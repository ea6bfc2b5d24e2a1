"""davfs2, a WebDAV folder mounted on Linux.

Recorded here, request by request, from davfs2 1.6.1 with neon 0.32.5 (Debian 12);
``tests/e2e/test_davfs2.py`` runs the program itself.
"""

from __future__ import annotations

import pytest

from tests.clients.exchange import Program, Site, Step
from tests.door.support import get, names

FILE = "{folder}/sub/file"
ALWAYS = {
    "User-Agent": "davfs2/1.6.1 neon/0.32.5",
    "Connection": "TE",
    "TE": "trailers",
}
XML = {"Content-Type": "application/xml"}
LOCK_BODY = (
    b'<?xml version="1.0" encoding="utf-8"?>\n<lockinfo xmlns=\'DAV:\'>\n <lockscope><exclusive/>'
    b"</lockscope>\n<locktype><write/></locktype><owner>alice</owner>\n</lockinfo>\n"
)
HELD = {"If-Match": "{etag}", "If": "<https://{host}" + FILE + "> (<{token}>)"}


def asks(target: str, depth: str, *properties: str, rest: str = "") -> Step:
    """Return a PROPFIND as neon words it; every element names its namespace."""
    inner = "".join(f'<{name} xmlns="DAV:"/>\n' for name in properties) + rest
    body = (
        '<?xml version="1.0" encoding="utf-8"?>\n<propfind xmlns="DAV:"><prop>\n'
        f"{inner}</prop></propfind>\n"
    )
    return Step("PROPFIND", target, 207, {**XML, "Depth": depth}, body.encode())


def lists(target: str) -> Step:
    listed = ("resourcetype", "getcontentlength", "getetag", "getlastmodified")
    executable = '<executable xmlns="http://apache.org/dav/props/"/>\n'
    return asks(target, "1", *listed, rest=executable)


def locks(needs: int) -> Step:
    return Step("LOCK", FILE, needs, {**XML, "Depth": "0", "Timeout": "Second-1800"}, LOCK_BODY)


def unlocks() -> Step:
    return Step("UNLOCK", FILE, 204, {"Lock-Token": "<{token}>"})


@pytest.fixture
def mounted(site: Site) -> Program:
    """davfs2 on a mounted folder, in which it has made a folder."""
    program = site.program(ALWAYS)
    program.play(Step("MKCOL", "{folder}/sub/", 201))
    return program


def test_a_folder_is_mounted(site: Site) -> None:
    """Without credentials first, on a connection that is to be kept; then listing and space."""
    program = site.program({**ALWAYS, "Keep-Alive": "", "Connection": "TE, Keep-Alive"})
    credentials, program.authorization = program.authorization, ""
    program.play(Step("OPTIONS", "{folder}/", 401))
    program.authorization = credentials
    _, listing, space = program.play(
        Step("OPTIONS", "{folder}/", 200),
        lists("{folder}/"),
        asks("{folder}/", "0", "quota-available-bytes", "quota-used-bytes"),
    )
    assert listing.hrefs == [f"{program.folder}/"]
    assert int(space.text("quota-available-bytes")) > 0


def test_a_lock_makes_the_file(site: Site, mounted: Program) -> None:
    """LOCK on a free name is 201 and an empty file, which is filled under the lock's tag."""
    locked, head, *_ = mounted.play(
        locks(201),
        Step("HEAD", FILE, 200),
        Step("PUT", FILE, 204, HELD, b"first\n"),
        unlocks(),
    )
    assert head.headers["content-length"] == "0"
    assert locked.headers["lock-token"] == f"<{locked.lock_token}>"
    assert get(site.gate.door("bob"), f"{mounted.folder}/sub/file") == b"first\n"


def test_a_lock_alone_leaves_an_empty_file(site: Site, mounted: Program) -> None:
    """Also for others, and after the lock is gone."""
    mounted.play(locks(201), unlocks())
    assert get(site.gate.door("bob"), f"{mounted.folder}/sub/file") == b""


def test_a_file_is_edited(site: Site, mounted: Program) -> None:
    """Each time the quoted tag of the last answer goes along; an older one is refused."""
    mounted.play(locks(201), Step("HEAD", FILE, 200), Step("PUT", FILE, 204, HELD, b"first\n"))
    stale = mounted.etag
    mounted.play(unlocks(), locks(200), Step("PUT", FILE, 204, HELD, b"fiXXt\n"))
    mounted.play(unlocks(), locks(200), Step("PUT", FILE, 204, HELD, b"fiXXt\nmore\n"))
    assert stale.startswith('"')
    mounted.play(Step("PUT", FILE, 412, {**HELD, "If-Match": stale}, b"lost"), unlocks())
    assert get(site.gate.door("bob"), f"{mounted.folder}/sub/file") == b"fiXXt\nmore\n"


def test_files_and_folders_are_renamed_and_removed(site: Site, mounted: Program) -> None:
    """With whole addresses as Destination, folders with their slash."""
    to = {"Overwrite": "T", "Destination": "https://{host}{folder}/renamed"}
    mounted.play(
        locks(201),
        unlocks(),
        lists("{folder}/"),
        lists("{folder}/sub/"),
        Step("MOVE", FILE, 201, to),
        Step("HEAD", "{folder}/renamed", 200),
        Step(
            "MOVE",
            "{folder}/sub/",
            201,
            {"Overwrite": "T", "Destination": "https://{host}{folder}/sub2/"},
        ),
        Step("DELETE", "{folder}/sub2/", 204),
        Step("DELETE", "{folder}/renamed", 204),
    )
    assert names(site.gate.door("alice"), mounted.folder) == []
