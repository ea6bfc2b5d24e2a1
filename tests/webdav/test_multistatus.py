"""The 207 that names a locked member."""

from __future__ import annotations

import pytest

from gateway.errors import LockConflictError, LockedError
from gateway.paths import VirtualPath
from gateway.webdav.multistatus import member_locked
from tests.webdav.support import header, parsed

TOP = VirtualPath.parse("/share/top")
MEMBER = "/share/top/a;&<b"


def test_the_member_is_named_with_its_423() -> None:
    """Address, status, condition and who holds it; escaped, in the house prefix."""
    answer = member_locked(LockedError("<bob>", root=MEMBER), VirtualPath.parse("/x"), TOP)
    assert answer.status == 207
    assert header(answer, "Content-Type") == "application/xml; charset=utf-8"
    (response,) = parsed(answer)
    assert [element.tag.removeprefix("{DAV:}") for element in response] == [
        "href",
        "status",
        "error",
        "responsedescription",
    ]
    assert response.findtext("{DAV:}href") == "/share/top/a%3B%26%3Cb"
    submitted = response.findtext("{DAV:}error/{DAV:}lock-token-submitted/{DAV:}href")
    assert submitted == "/share/top/a%3B%26%3Cb"
    assert "<bob>" in (response.findtext("{DAV:}responsedescription") or "")


def test_a_lock_names_what_failed_because_of_the_member_too() -> None:
    """RFC 4918 section 9.10.3: a 424 for the folder itself, and the condition of a new lock."""
    error = LockConflictError("bob", root=MEMBER, root_is_folder=True)
    answer = member_locked(error, TOP, dependent=True)
    first, second = parsed(answer)
    assert first.findtext("{DAV:}href") == "/share/top/a%3B%26%3Cb/"
    assert first.find("{DAV:}error/{DAV:}no-conflicting-lock") is not None
    assert second.findtext("{DAV:}href") == "/share/top/"
    assert second.findtext("{DAV:}status") == "HTTP/1.1 424 Failed Dependency"


@pytest.mark.parametrize(
    "root", ["", "/", "/share", "/share/top", "/share/topmost", "/other/top/a"]
)
def test_a_lock_that_is_on_no_member_stays_what_it_is(root: str) -> None:
    """On the folder itself, above it, beside it, or where policy hides it."""
    error = LockedError("bob", root=root)
    with pytest.raises(LockedError) as caught:
        member_locked(error, TOP)
    assert caught.value is error
