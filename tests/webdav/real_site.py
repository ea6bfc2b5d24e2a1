"""The application over a real gateway: storage, policy, transactions and audit as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from gateway.webdav.messages import Response
from tests.door.support import Gate, password_of
from tests.webdav.fake_door import FakeMonitor
from tests.webdav.support import Site, basic, header

FOLDER = "/radiology/f"
FILE = "/radiology/f/file"
OTHER = "/radiology/f/other"
LOCK_BODY = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype>'
    b"<D:write/></D:locktype></D:lockinfo>"
)
UPDATE = (
    b'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><z xmlns="urn:z">1</z></D:prop></D:set>'
    b"</D:propertyupdate>"
)


@dataclass(slots=True)
class RealSite:
    """The application over a real gateway; each user signs in once."""

    gate: Gate
    secrets: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        user: str = "alice",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        if user not in self.secrets:
            self.secrets[user] = password_of(user) + self.gate.code(user)
        site = Site(cast(FakeMonitor, self.gate.monitor))
        given = {"authorization": basic(user, self.secrets[user])} | dict(headers or {})
        return site.ask(method, target, body, **given)

    def etag(self, target: str = FILE) -> str:
        return header(self.ask("HEAD", target), "ETag")

    def lock(self, target: str, user: str = "alice", depth: str = "infinity") -> str:
        answer = self.ask("LOCK", target, LOCK_BODY, user=user, headers={"depth": depth})
        assert answer.status in {200, 201}
        return header(answer, "Lock-Token").strip("<>")

    def statuses(self) -> dict[str, int]:
        """Return what there is below the folder, with its status."""
        names = ("", "/file", "/other", "/sub", "/sub/deep", "/new", "/new/deep")
        return {name: self.ask("HEAD", FOLDER + name).status for name in names}
