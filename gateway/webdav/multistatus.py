"""The 207 by which an operation on a folder names the member that prevented all of it.

Nothing is ever done in part here, so one member is named and nothing else. Imports the shared
errors and the pure modules of this package.
"""

from __future__ import annotations

from typing import Final

from gateway.errors import LockConflictError, LockedError
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.messages import Response
from gateway.webdav.xml_body import escape

_XML_TYPE: Final = ("Content-Type", "application/xml; charset=utf-8")
_FAILED_DEPENDENCY: Final = "<D:status>HTTP/1.1 424 Failed Dependency</D:status>"


def member_locked(error: LockedError, *tops: VirtualPath, dependent: bool = False) -> Response:
    """Return the answer to ``error`` where its lock lies below one of ``tops``; else raise it.

    RFC 4918 sections 9.6.1, 9.8.5 and 9.9.3. With ``dependent`` the first of ``tops`` is named
    too, as what failed because of the member: LOCK wants that (section 9.10.3), the others do not.
    """
    root = VirtualPath.parse(error.root or "/")
    if not any(root != top and root.is_within(top) for top in tops):
        raise error
    is_conflict = isinstance(error, LockConflictError)
    condition = "no-conflicting-lock" if is_conflict else "lock-token-submitted"
    href = f"<D:href>{urls.href(root, folder=error.root_is_folder)}</D:href>"
    rest = ""
    if dependent:
        top = f"<D:href>{urls.href(tops[0], folder=True)}</D:href>"
        rest = f"<D:response>{top}{_FAILED_DEPENDENCY}</D:response>"
    body = (
        '<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:"><D:response>'
        f"{href}<D:status>HTTP/1.1 423 Locked</D:status>"
        f"<D:error><D:{condition}>{href}</D:{condition}></D:error>"
        f"<D:responsedescription>{escape(str(error))}</D:responsedescription></D:response>"
        f"{rest}</D:multistatus>"
    )
    return Response(207, [_XML_TYPE], body=body.encode())
