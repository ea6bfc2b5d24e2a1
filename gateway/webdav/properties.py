"""Live properties: which there are, and each as an XML fragment in the house prefix ``D:``.

Pure text from records; every fragment can be joined into any document that binds ``D`` to
``DAV:``. Imports the shared model and the pure modules of this package.
"""

from __future__ import annotations

import mimetypes
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from gateway.model import Entry, LockInfo, NodeInfo, PropertyName, Usage
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.conditions import http_date
from gateway.webdav.xml_body import DAV, escape

SECOND_US: Final = 1_000_000

_NO_LOCKS: Final = "<D:lockdiscovery/>"

SUPPORTED_LOCK: Final = (
    "<D:supportedlock><D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/>"
    "</D:locktype></D:lockentry><D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype>"
    "<D:write/></D:locktype></D:lockentry></D:supportedlock>"
)

# A table of our own, so that an answer does not depend on the files of the machine it runs on.
_TYPES: Final = {
    **mimetypes.MimeTypes(filenames=()).types_map[True],
    ".7z": "application/x-7z-compressed",
    ".dcm": "application/dicom",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


Described = NodeInfo | Entry
"""What properties are told of."""


@dataclass(frozen=True, slots=True)
class Locks:
    """The locks that an answer is to show: those from above on all of it, and each node's own.

    Found by path, because one person's thousand locks must not cost everybody a second.
    """

    above: Sequence[LockInfo] = ()
    at: Mapping[VirtualPath, Sequence[LockInfo]] = field(default_factory=dict)

    @classmethod
    def of(cls, locks: Sequence[LockInfo], path: VirtualPath) -> Locks:
        """Return ``locks`` sorted for an answer about ``path`` and perhaps what lies in it."""
        above, at = [], defaultdict(list)
        for lock in locks:
            if lock.path != path and path.is_within(lock.path):
                above.append(lock)
            else:
                at[lock.path].append(lock)
        return cls(above + [lock for lock in at[path] if lock.depth_infinity], at)

    def covering(self, path: VirtualPath) -> list[LockInfo]:
        """Return the locks that protect ``path``, itself or from a folder above."""
        return [*(lock for lock in self.above if lock.path != path), *self.at.get(path, ())]

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.above) or any(self.at.values())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What properties need beyond the node: locks that may cover it, its share's space, the time.

    ``usage`` returns None where space cannot be told.
    """

    locks: Locks
    usage: Callable[[VirtualPath], Usage | None]
    now_us: int


def content_type(name: str) -> str:
    """Return the media type that a name's ending stands for."""
    _, dot, ending = name.rpartition(".")
    return (
        _TYPES.get("." + ending.lower(), "application/octet-stream")
        if dot
        else ("application/octet-stream")
    )


@lru_cache(maxsize=4096)
def iso_date(microseconds: int) -> str:
    """Return an RFC 3339 date and time in UTC, whole seconds."""
    moment = time.gmtime(microseconds // SECOND_US)
    return (
        f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}"
        f"T{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}Z"
    )


def lock_discovery(
    locks: Sequence[LockInfo], *, path: VirtualPath, folder: bool, now_us: int
) -> str:
    """Return the lockdiscovery element for ``path``, which all of ``locks`` cover.

    Tokens of others' locks are left out.
    """
    parts = [
        _active_lock(lock, folder=folder or lock.path != path, now_us=now_us) for lock in locks
    ]
    return f"<D:lockdiscovery>{''.join(parts)}</D:lockdiscovery>" if parts else _NO_LOCKS


def _active_lock(lock: LockInfo, *, folder: bool, now_us: int) -> str:
    scope = "exclusive" if lock.exclusive else "shared"
    depth = "infinity" if lock.depth_infinity else "0"
    # Rounded up: a client that has just been granted 600 s is to read 600.
    left_s = max(0, -((now_us - lock.expires_us) // SECOND_US))
    owner = lock.owner or f"<D:owner>{escape(lock.principal_name)}</D:owner>"
    # What the holder's program calls its owner may be anything; this is who signed in (an
    # extension element, RFC 4918 section 17).
    holder = (
        ""
        if lock.token
        else f'<S:holder xmlns:S="urn:sealgate">{escape(lock.principal_name)}</S:holder>'
    )
    token = (
        f"<D:locktoken><D:href>{escape(lock.token)}</D:href></D:locktoken>" if lock.token else ""
    )
    return (
        f"<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/></D:lockscope>"
        f"<D:depth>{depth}</D:depth>{owner}{holder}<D:timeout>Second-{left_s}</D:timeout>{token}"
        f"<D:lockroot><D:href>{urls.href(lock.path, folder=folder)}</D:href></D:lockroot>"
        "</D:activelock>"
    )


def _resource_type(info: Described, _: Surroundings) -> str:
    return (
        "<D:resourcetype><D:collection/></D:resourcetype>"
        if info.is_folder
        else ("<D:resourcetype/>")
    )


def _display_name(info: Described, _: Surroundings) -> str:
    return f"<D:displayname>{escape(info.name or '/')}</D:displayname>"


def _creation_date(info: Described, _: Surroundings) -> str | None:
    if not info.created_us:
        return None  # the root, which nobody made
    return f"<D:creationdate>{iso_date(info.created_us)}</D:creationdate>"


def _last_modified(info: Described, _: Surroundings) -> str | None:
    if not info.created_us:
        return None
    return f"<D:getlastmodified>{http_date(info.modified_us // SECOND_US)}</D:getlastmodified>"


def _content_length(info: Described, _: Surroundings) -> str | None:
    if info.is_folder:
        return None
    return f"<D:getcontentlength>{info.size_bytes}</D:getcontentlength>"


def _content_type(info: Described, _: Surroundings) -> str | None:
    if info.is_folder:
        return None
    return f"<D:getcontenttype>{content_type(info.name)}</D:getcontenttype>"


def _etag(info: Described, _: Surroundings) -> str | None:
    return f'<D:getetag>"{info.version_id}"</D:getetag>' if info.version_id else None


def _supported_lock(_: Described, __: Surroundings) -> str:
    return SUPPORTED_LOCK


def _lock_discovery(info: Described, around: Surroundings) -> str:
    if not around.locks:
        return _NO_LOCKS
    assert isinstance(info, NodeInfo)
    return lock_discovery(
        around.locks.covering(info.path),
        path=info.path,
        folder=info.is_folder,
        now_us=around.now_us,
    )


def _space(info: Described, around: Surroundings) -> Usage | None:
    if not info.is_folder:
        return None
    assert isinstance(info, NodeInfo)
    return around.usage(info.path)


def _quota_used(info: Described, around: Surroundings) -> str | None:
    usage = _space(info, around)
    if usage is None:
        return None
    return f"<D:quota-used-bytes>{usage.used_bytes}</D:quota-used-bytes>"


def _quota_available(info: Described, around: Surroundings) -> str | None:
    usage = _space(info, around)
    if usage is None:
        return None
    available = usage.available_bytes
    if usage.quota_bytes is not None:
        available = min(available, usage.quota_bytes - usage.used_bytes)
    return f"<D:quota-available-bytes>{max(0, available)}</D:quota-available-bytes>"


Render = Callable[[Described, Surroundings], str | None]
"""Returns a property as an XML fragment, None when the node does not have it.

Locks and space belong to a path: their renderers want a NodeInfo where there are any to show.
"""

_ALWAYS: Final[dict[str, Render]] = {
    "resourcetype": _resource_type,
    "displayname": _display_name,
    "creationdate": _creation_date,
    "getlastmodified": _last_modified,
    "getcontentlength": _content_length,
    "getcontenttype": _content_type,
    "getetag": _etag,
    "lockdiscovery": _lock_discovery,
}
# Not part of an allprop answer. The space must not be (RFC 4331 section 2); the locks that there
# could be say the same of every file, and Windows takes no listing of a million bytes.
_ON_REQUEST: Final[dict[str, Render]] = {
    "supportedlock": _supported_lock,
    "quota-used-bytes": _quota_used,
    "quota-available-bytes": _quota_available,
}

ALLPROP: Final[tuple[Render, ...]] = tuple(_ALWAYS.values())
"""What an allprop answer holds, dead properties aside."""

LIVE: Final[dict[PropertyName, Render]] = {
    PropertyName(DAV, local): render for local, render in {**_ALWAYS, **_ON_REQUEST}.items()
}
"""Every live property; all of them are protected."""
