"""Microsoft Office: on a mapped drive, and with documents opened by their address.

Orders as documented, not recorded here: github.com/OpenMarshal/npm-WebDAV-Server/issues/37 (the
owner file on a mapped drive), github.com/mikedeboer/jsDAV/issues/129 and
github.com/sabre-io/dav/issues/955 (Word's own requests), and Microsoft's description of how Word
saves through temporary files (support article 211632).
"""

from __future__ import annotations

import pytest

from tests.clients.exchange import EMPTY, Program, Site, Step
from tests.clients.test_explorer import ALWAYS as DRIVE
from tests.clients.test_explorer import HELD, TIMES, UNCACHED, XML, looks
from tests.door.support import at, get, names, put

DOCUMENT = "{folder}/Befund%202.docx"
NAME = "Befund 2.docx"
OWNER_FILE = "{folder}/~$fund%202.docx"
CONTENTS = [b"first" * 5_000, b"second" * 6_000, b"third" * 7_000]

DISCOVERY = {"User-Agent": "Microsoft Office Protocol Discovery", "X-MS-CookieUri-Requested": "t"}
EXISTENCE = {"User-Agent": "Microsoft Office Existence Discovery"}
WORD = {
    "User-Agent": "Microsoft Office Word 2014",
    "X-Office-Major-Version": "16",
    "X-MS-CookieUri-Requested": "t",
    "X-FeatureVersion": "1",
    "X-IDCRL_ACCEPTED": "t",
    "translate": "f",
}
LOCK_BODY = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/>'
    b"</D:locktype><D:owner><D:href>PC-17\\alice</D:href></D:owner></D:lockinfo>"
)
LOCKING = {**XML, "Timeout": "Second-3600"}


def locks(target: str, needs: int = 200) -> Step:
    return Step("LOCK", target, needs, {**LOCKING, "Depth": "0"}, LOCK_BODY)


def unlocks(target: str) -> Step:
    return Step("UNLOCK", target, 204, {"Lock-Token": "<{token}>"})


def writes(target: str, content: bytes) -> tuple[Step, ...]:
    """Return the order in which the drive makes a new file with content."""
    return (
        looks(target, 404),
        Step("PUT", target, 201, {**UNCACHED, **EMPTY}),
        Step("LOCK", target, 200, {**UNCACHED, **LOCKING}, LOCK_BODY),
        Step("HEAD", target, 200, UNCACHED),
        Step("PUT", target, 204, {**UNCACHED, **HELD}, content),
        Step("PROPPATCH", target, 207, {**UNCACHED, **XML, **HELD}, TIMES),
        unlocks(target),
    )


def renames(target: str, to: str) -> Step:
    headers = {"Destination": "https://{host}" + to, "Overwrite": "F", **EMPTY}
    return Step("MOVE", target, 201, headers)


def saves(number: int, content: bytes) -> tuple[Step, ...]:
    """Return how Word saves on a drive: a temporary file, two renames, the old one deleted."""
    fresh, old = f"{{folder}}/~WRD{number:04}.tmp", f"{{folder}}/~WRL{number:04}.tmp"
    return (
        *writes(fresh, content),
        unlocks(DOCUMENT),
        looks(old, 404),
        renames(DOCUMENT, old),
        looks(DOCUMENT, 404),
        renames(fresh, DOCUMENT),
        looks(DOCUMENT, 207),
        Step("DELETE", old, 204),
        Step("LOCK", DOCUMENT, 200, {**UNCACHED, **LOCKING}, LOCK_BODY),
    )


@pytest.fixture
def word(site: Site) -> Program:
    """Word of alice, with a document in her folder."""
    program = site.program(WORD)
    put(site.gate.door("alice"), f"{program.folder}/{NAME}", CONTENTS[0])
    return program


@pytest.fixture
def drive(site: Site, word: Program) -> Program:
    """The same folder as a mapped drive."""
    return site.program(DRIVE, folder=word.folder)


def test_a_document_is_opened_by_its_address(site: Site, word: Program) -> None:
    """Discovery asks about the folder, by HEAD too; then lock, get, put and unlock."""
    told, *_ = word.play(
        Step("OPTIONS", "{folder}/", 200, DISCOVERY),
        Step("HEAD", "{folder}/", 200, DISCOVERY),
        Step("HEAD", "{folder}", 200, DISCOVERY),
        Step("HEAD", DOCUMENT, 200, EXISTENCE),
    )
    assert told.headers["ms-author-via"] == "DAV"
    assert "2" in told.headers["dav"].split(", ")
    _, read, *_ = word.play(
        locks(DOCUMENT),
        Step("GET", DOCUMENT, 200, {"Depth": "0", **XML}),
        looks(DOCUMENT, 207),
        Step("PUT", DOCUMENT, 204, HELD, CONTENTS[1]),
        Step("LOCK", DOCUMENT, 200, {**LOCKING, **HELD, **EMPTY}),
        Step("PUT", DOCUMENT, 204, HELD, CONTENTS[2]),
        unlocks(DOCUMENT),
    )
    assert read.body == CONTENTS[0]
    assert get(site.gate.door("bob"), f"{word.folder}/{NAME}") == CONTENTS[2]


def test_a_missing_document_is_a_404(word: Program) -> None:
    """Existence discovery is a HEAD, also below folders that are not there."""
    word.play(
        Step("HEAD", "{folder}/none.docx", 404, EXISTENCE),
        Step("HEAD", "{folder}/none/none.docx", 404, EXISTENCE),
        Step("HEAD", "{folder}/none/", 404, DISCOVERY),
    )


def test_the_second_user_learns_who_holds_it(site: Site, word: Program) -> None:
    """423 with the name, and in lockdiscovery who and for how long, but never the token."""
    colleague = site.program(WORD, name="bob", folder=word.folder)
    word.play(locks(DOCUMENT))
    refused, found = colleague.play(locks(DOCUMENT, 423), looks(DOCUMENT, 207))
    assert b"Alice" in refused.body
    assert refused.xml.findtext("{DAV:}no-conflicting-lock/{DAV:}href")
    active = found.properties()["{DAV:}lockdiscovery"][0]
    assert active.findtext("{DAV:}owner/{DAV:}href") == "PC-17\\alice"
    assert active.findtext("{DAV:}timeout") == "Second-3600"
    assert active.find("{DAV:}locktoken") is None
    assert word.tokens[DOCUMENT].encode() not in refused.body + found.body
    colleague.play(
        Step("GET", DOCUMENT, 200),
        Step("PUT", DOCUMENT, 423, {}, b"mine"),
        Step("DELETE", DOCUMENT, 423),
        Step("MOVE", DOCUMENT, 423, {"Destination": "{folder}/away.docx"}),
    )
    word.play(unlocks(DOCUMENT))
    colleague.play(locks(DOCUMENT), unlocks(DOCUMENT))


def test_a_forgotten_lock_ends_by_itself(site: Site, word: Program) -> None:
    """An Office that crashed leaves the document locked no longer than it asked for."""
    word.play(locks(DOCUMENT))
    site.gate.clock.forward(3601)
    colleague = site.program(WORD, name="bob", folder=word.folder)
    colleague.play(locks(DOCUMENT), unlocks(DOCUMENT))


def test_the_owner_file_comes_and_goes(site: Site, drive: Program) -> None:
    """Beside every open document lies a small one that names its editor."""
    drive.play(
        looks(DOCUMENT, 207),
        Step("LOCK", DOCUMENT, 200, {**UNCACHED, **LOCKING}, LOCK_BODY),
        looks("{folder}", 207),
        *writes(OWNER_FILE, b"\5alice" + b" " * 156),
        looks(OWNER_FILE, 207),
        Step("LOCK", OWNER_FILE, 200, {**UNCACHED, **LOCKING}, LOCK_BODY),
        Step("GET", OWNER_FILE, 200),
        unlocks(OWNER_FILE),
        Step("GET", DOCUMENT, 200),
        Step("DELETE", OWNER_FILE, 204),
        unlocks(DOCUMENT),
    )
    assert names(site.gate.door("alice"), drive.folder) == [NAME]


@pytest.mark.parametrize("pause_s", [1, 60])
def test_saving_on_a_drive_keeps_one_history(site: Site, drive: Program, pause_s: int) -> None:
    """After two saves the name has three contents, newest first, and nothing else lies about."""
    drive.play(Step("LOCK", DOCUMENT, 200, {**UNCACHED, **LOCKING}, LOCK_BODY))
    for number, content in enumerate(CONTENTS[1:]):
        site.gate.clock.forward(pause_s)
        drive.play(*saves(number, content))
    drive.play(unlocks(DOCUMENT))
    door = site.gate.door("alice")
    kept = [one.size_bytes for one in door.versions(at(f"{drive.folder}/{NAME}"))]
    assert [size for size in kept if size] == [len(one) for one in reversed(CONTENTS)]
    assert get(door, f"{drive.folder}/{NAME}") == CONTENTS[2]
    assert names(door, drive.folder) == [NAME]
