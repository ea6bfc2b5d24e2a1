"""The application over the real door, and people who ask it to lock things."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from gateway.webdav.messages import Response
from tests.door.support import Gate
from tests.webdav.real_site import RealSite
from tests.webdav.support import header, parsed

FOLDER = "/radiology/a"
FILE = "/radiology/a/file"
INFO = (
    '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:{scope}/></D:lockscope><D:locktype><D:write/>'
    "</D:locktype>{owner}</D:lockinfo>"
)
OWNER = "<D:owner><D:href>alice@pc7</D:href></D:owner>"


@dataclass(slots=True)
class Office:
    """A gateway with a folder and two files in it, and whoever asks it something."""

    site: RealSite
    said: list[str] = field(default_factory=list)

    @property
    def gate(self) -> Gate:
        return self.site.gate

    def ask(
        self, method: str, path: str, body: bytes = b"", /, *, user: str = "alice", **headers: str
    ) -> Response:
        """Return the answer; ``lock_token="..."`` sends the header ``lock-token``."""
        sent = {name.rstrip("_").replace("_", "-"): value for name, value in headers.items()}
        answer = self.site.ask(method, path, body, user=user, headers=sent)
        if user != "alice":
            self.said.append(f"{answer.headers} {answer.body!r}")
        return answer

    def lock(
        self,
        path: str = FILE,
        *,
        scope: str = "exclusive",
        owner: str = OWNER,
        user: str = "alice",
        **headers: str,
    ) -> Response:
        body = INFO.format(scope=scope, owner=owner).encode()
        return self.ask("LOCK", path, body, user=user, **headers)

    def token(self, path: str = FILE, **wanted: str) -> str:
        """Return the token of a new lock, in its brackets."""
        answer = self.lock(path, **wanted)
        assert answer.status in {200, 201}
        return header(answer, "Lock-Token")

    def refresh(self, path: str, given: str, *, user: str = "alice", **headers: str) -> Response:
        return self.ask("LOCK", path, user=user, if_=given, **headers)

    def put(self, path: str = FILE, *, user: str = "alice", **headers: str) -> int:
        return self.ask("PUT", path, b"new", user=user, **headers).status

    def locks(self, path: str = FILE, *, user: str = "alice", depth: str = "0") -> list[ET.Element]:
        answer = self.ask("PROPFIND", path, user=user, depth=depth)
        return parsed(answer).findall(".//{DAV:}activelock")

    def lives(self) -> int:
        return int(self.gate.sql("SELECT count(*) FROM locks")[0][0])


def text(element: ET.Element, path: str) -> str:
    return element.findtext("/".join(f"{{DAV:}}{part}" for part in path.split("/"))) or ""


def condition(answer: Response) -> tuple[str, str]:
    """Return the broken condition's name and the address in it."""
    (error, *_) = parsed(answer)
    return error.tag.removeprefix("{DAV:}"), error.findtext("{DAV:}href") or ""


def message(answer: Response) -> str:
    return parsed(answer).findtext("{urn:sealgate}message") or ""


@contextmanager
def open_office(gate: Gate) -> Iterator[Office]:
    """Give an office over ``gate``; Alice and Bob may do everything.

    At its end nobody but Alice must ever have been told a token.
    """
    office = Office(RealSite(gate))
    assert office.ask("MKCOL", FOLDER).status == 201
    for path in (FILE, f"{FOLDER}/other"):
        assert office.put(path) == 201
    yield office
    tokens = re.compile(r"urn:uuid:[0-9a-f-]{36}")
    assert not [one for one in office.said if tokens.search(one)]
