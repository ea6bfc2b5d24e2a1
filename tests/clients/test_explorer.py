"""Windows Explorer, which asks through the WebClient service (the "mini-redirector").

Order and headers as documented, not recorded here: Microsoft's [MS-WDVME] and [MS-WDV], and the
logs in github.com/cryptomator/cryptomator/issues/1832 (headers, If, UNLOCK),
github.com/swisspol/GCDWebServer/issues/319 (LOCK without Depth) and
github.com/drakkan/sftpgo/issues/207 (PROPFIND, PUT, LOCK, PROPPATCH).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from auth.directory import Account, without_domain
from tests.clients.exchange import EMPTY, Program, Site, Step
from tests.door.support import MemoryDirectory, get, password_of, put

FILE = "{folder}/new%20file.txt"
NAME = "new file.txt"
CONTENT = b"what Explorer copied" * 1000

ALWAYS = {
    "Connection": "Keep-Alive",
    "User-Agent": "Microsoft-WebDAV-MiniRedir/10.0.19043",
    "translate": "f",
}
UNCACHED = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
XML = {"Content-Type": 'text/xml; charset="utf-8"'}
HELD = {"If": "(<{token}>)"}

LOCK_BODY = (
    b'<?xml version="1.0" encoding="utf-8" ?><D:lockinfo xmlns:D="DAV:"><D:lockscope>'
    b"<D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>"
    b"<D:href>PRACTICE\\alice</D:href></D:owner></D:lockinfo>"
)
MODIFIED = "Wed, 28 Jul 2010 15:09:30 GMT"
WIN32 = "{urn:schemas-microsoft-com:}Win32"
TIMES = (
    '<?xml version="1.0" encoding="utf-8" ?><D:propertyupdate xmlns:D="DAV:" '
    'xmlns:Z="urn:schemas-microsoft-com:"><D:set><D:prop>'
    "<Z:Win32CreationTime>Tue, 27 Jul 2010 08:00:00 GMT</Z:Win32CreationTime>"
    f"<Z:Win32LastAccessTime>{MODIFIED}</Z:Win32LastAccessTime>"
    f"<Z:Win32LastModifiedTime>{MODIFIED}</Z:Win32LastModifiedTime>"
    "<Z:Win32FileAttributes>00000020</Z:Win32FileAttributes></D:prop></D:set></D:propertyupdate>"
).encode()


def looks(target: str, needs: int, depth: str = "0") -> Step:
    """Return the PROPFIND with which Explorer looks at everything; it has no body."""
    return Step("PROPFIND", target, needs, {"Depth": depth, **EMPTY})


def creates(target: str, content: bytes, *, unlock: str = "<{token}>") -> tuple[Step, ...]:
    """Return the order in which Explorer copies a file to a free name."""
    return (
        looks(target, 404),
        Step("PUT", target, 201, {**UNCACHED, **EMPTY}),
        Step("LOCK", target, 200, {**UNCACHED, **XML, "Timeout": "Second-3600"}, LOCK_BODY),
        Step("PROPPATCH", target, 207, {**UNCACHED, **XML, **HELD}, TIMES),
        Step("HEAD", target, 200, UNCACHED),
        Step("PUT", target, 204, {**UNCACHED, **HELD}, content),
        Step("PROPPATCH", target, 207, {**UNCACHED, **XML, **HELD}, TIMES),
        Step("UNLOCK", target, 204, {**UNCACHED, "Lock-Token": unlock}),
    )


@pytest.fixture
def explorer(site: Site) -> Program:
    """Explorer on a mapped drive."""
    return site.program(ALWAYS)


def test_a_drive_is_mapped(site: Site) -> None:
    """OPTIONS without credentials is challenged for Basic; with them it names what Windows asks."""
    program = site.program(ALWAYS)
    credentials, program.authorization = program.authorization, ""
    (refused,) = program.play(Step("OPTIONS", "/archive", 401))
    assert refused.headers["www-authenticate"].startswith("Basic ")
    program.authorization = credentials
    told, _, folder = program.play(
        Step("OPTIONS", "/archive", 200),
        looks("/archive", 207),
        looks("/archive", 207, depth="1"),
    )
    assert {"1", "2"} <= {token.strip() for token in told.headers["dav"].split(",")}
    assert told.headers["ms-author-via"] == "DAV"
    assert folder.hrefs[0] == "/archive/"


def test_a_missing_path_is_a_plain_404(explorer: Program) -> None:
    """Explorer asks for these in every folder; a redirect or another error would stop it."""
    for name in ("desktop.ini", "folder.jpg", "Thumbs.db", "AutoRun.inf"):
        (answer,) = explorer.play(looks("{folder}/" + name, 404))
        assert "location" not in answer.headers


def test_a_folder_needs_no_slash(explorer: Program) -> None:
    """Neither looking at one nor listing it redirects."""
    explorer.play(looks("{folder}", 207), looks("{folder}", 207, "1"), looks("{folder}/", 207, "1"))


@pytest.mark.parametrize("unlock", ["<{token}>", "{token}"], ids=["in brackets", "bare"])
def test_a_file_is_copied_in(site: Site, explorer: Program, unlock: str) -> None:
    """The whole dance, with the time that the file had on the disk; nothing stays locked."""
    answers = explorer.play(*creates(FILE, CONTENT, unlock=unlock), looks(FILE, 207))
    for answer in (answers[3], answers[6]):
        assert {f"{WIN32}LastModifiedTime", f"{WIN32}FileAttributes"} <= answer.properties().keys()
    assert answers[4].headers["content-length"] == "0"
    assert answers[-1].text("getlastmodified") == MODIFIED
    assert answers[-1].text("getcontentlength") == str(len(CONTENT))
    assert answers[-1].lock_token == ""
    assert get(site.gate.door("bob"), f"{explorer.folder}/{NAME}") == CONTENT


def test_the_lock_binds_until_it_is_given_up(site: Site, explorer: Program) -> None:
    """Between LOCK and UNLOCK nobody else writes, and Explorer itself not without its token."""
    dance = creates(FILE, CONTENT)
    other = site.program(ALWAYS, name="bob", folder=explorer.folder)
    explorer.play(*dance[:3])
    for program in (explorer, other):
        program.play(Step("PUT", FILE, 423, UNCACHED, b"mine"), Step("DELETE", FILE, 423))
    explorer.play(*dance[3:])
    other.play(Step("PUT", FILE, 204, UNCACHED, b"mine"))


def test_a_file_is_opened_and_saved(site: Site, explorer: Program) -> None:
    """Notepad on a mapped drive: read under a lock, written under another."""
    put(site.gate.door("alice"), f"{explorer.folder}/{NAME}", CONTENT)
    lock = Step("LOCK", FILE, 200, {**UNCACHED, **XML, "Timeout": "Second-3600"}, LOCK_BODY)
    unlock = Step("UNLOCK", FILE, 204, {"Lock-Token": "<{token}>"})
    read = explorer.play(looks(FILE, 207), Step("GET", FILE, 200), lock, unlock)[1]
    assert read.body == CONTENT
    explorer.play(
        lock,
        Step("PROPFIND", FILE, 207, {"Depth": "0", **EMPTY}),
        Step("HEAD", FILE, 200, UNCACHED),
        Step("PUT", FILE, 204, {**UNCACHED, **HELD}, b"saved"),
        Step("PROPPATCH", FILE, 207, {**UNCACHED, **XML, **HELD}, TIMES),
        unlock,
    )
    assert get(site.gate.door("alice"), f"{explorer.folder}/{NAME}") == b"saved"


def test_a_folder_is_made_named_and_removed(explorer: Program) -> None:
    """Explorer makes "New folder" with its times, then renames it; it adds no slash anywhere."""
    made, named = "{folder}/New%20folder", "{folder}/Br%C3%BCche"
    destination = "https://{host}" + named
    answers = explorer.play(
        looks(made, 404),
        Step("MKCOL", made, 201, EMPTY),
        Step("PROPPATCH", made, 207, XML, TIMES),
        looks(made, 207),
        looks(named, 404),
        Step("MOVE", made, 201, {"Destination": destination, "Overwrite": "F", **EMPTY}),
        looks("{folder}", 207, "1"),
        Step("DELETE", named, 204),
        looks(named, 404),
    )
    assert f"{WIN32}CreationTime" in answers[2].properties()
    assert answers[6].hrefs == [f"{explorer.folder}/", f"{explorer.folder}/Br%C3%BCche/"]


def test_every_element_carries_the_prefix(explorer: Program) -> None:
    """The mini-redirector takes no default namespace, and no other prefix than D for DAV:."""
    answers = explorer.play(*creates(FILE, CONTENT)[:-1], looks("{folder}", 207, "1"))
    answers += explorer.play(Step("LOCK", FILE, 423, XML, LOCK_BODY))
    documents = [answer.body for answer in answers if answer.body.startswith(b"<?xml")]
    assert len(documents) == 5
    for document in documents:
        assert re.findall(rb"<[\w.-]+[\s/>]", document) == []
        assert set(re.findall(rb'xmlns:?(\w*)="DAV:"', document)) == {b"D"}


def sizes(explorer: Program, count: int) -> Iterator[int]:
    """Yield how many bytes a listing has with none, then with one, then with more files."""
    for number in range(count):
        (answer,) = explorer.play(looks("{folder}", 207, "1"))
        yield len(answer.body)
        explorer.play(*creates(f"{{folder}}/IMG_20231121_{number:05}.dcm", b"x"))


def test_a_thousand_files_stay_below_the_limit(explorer: Program) -> None:
    """Windows gives up on answers of 1,000,000 bytes; each file adds as much as the first did."""
    none, one, two = sizes(explorer, 3)
    assert two - one == one - none
    assert none + 1000 * (one - none) < 1_000_000, one - none


class Practice(MemoryDirectory):
    """A directory whose users may sign in as ``PRACTICE`` backslash name."""

    def find(self, name: str) -> Account | None:
        return MemoryDirectory.find(self, without_domain(name, "PRACTICE"))


def test_the_user_may_come_with_a_domain(site: Site) -> None:
    """Windows sends the name as it was typed, or with the machine's domain before it."""
    gate = site.gate
    gate.clock.forward(60)
    gate.login._authenticator._directory = Practice(gate.clock, gate.directory.accounts)
    for name, needs in (("PRACTICE\\alice", 207), ("ELSEWHERE\\bob", 401)):
        known = name.partition("\\")[2]
        secret = password_of(known) + gate.code(known)
        site.program(ALWAYS, name=name, secret=secret).play(looks("/archive", needs))
