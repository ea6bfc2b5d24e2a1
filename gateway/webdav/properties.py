"""Live properties: which there are, and each as an XML fragment in the house prefix ``D:``.

Pure text from records; every fragment can be joined into any document that binds ``D`` to
``DAV:``. Imports the shared model and the pure modules of this package.
"""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.model import LockInfo, NodeInfo, PropertyName, Usage
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.conditions import http_date
from gateway.webdav.xml_body import DAV, escape

SECOND_US: Final = 1_000_000

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


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What properties need beyond the node: locks that may cover it, its share's space, the time.

    ``usage`` returns None where space cannot be told.
    """

    locks: Sequence[LockInfo]
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
    """Return the lockdiscovery element for ``path``; tokens of others' locks are left out."""
    parts = [
        _active_lock(lock, folder=folder or lock.path != path, now_us=now_us)
        for lock in locks
        if covers(lock, path)
    ]
    return (
        f"<D:lockdiscovery>{''.join(parts)}</D:lockdiscovery>" if parts else ("<D:lockdiscovery/>")
    )


def covers(lock: LockInfo, path: VirtualPath) -> bool:
    """Return whether ``lock`` protects ``path``, itself or from a folder above."""
    return lock.path == path or (lock.depth_infinity and path.is_within(lock.path))


def _active_lock(lock: LockInfo, *, folder: bool, now_us: int) -> str:
    scope = "exclusive" if lock.exclusive else "shared"
    depth = "infinity" if lock.depth_infinity else "0"
    # Rounded up: a client that has just been granted 600 s is to read 600.
    left_s = max(0, -((now_us - lock.expires_us) // SECOND_US))
    owner = lock.owner or f"<D:owner>{escape(lock.principal_name)}</D:owner>"
    token = (
        f"<D:locktoken><D:href>{escape(lock.token)}</D:href></D:locktoken>" if lock.token else ""
    )
    return (
        f"<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/></D:lockscope>"
        f"<D:depth>{depth}</D:depth>{owner}<D:timeout>Second-{left_s}</D:timeout>{token}"
        f"<D:lockroot><D:href>{urls.href(lock.path, folder=folder)}</D:href></D:lockroot>"
        "</D:activelock>"
    )


def _resource_type(info: NodeInfo, _: Surroundings) -> str:
    return (
        "<D:resourcetype><D:collection/></D:resourcetype>"
        if info.is_folder
        else ("<D:resourcetype/>")
    )


def _display_name(info: NodeInfo, _: Surroundings) -> str:
    return f"<D:displayname>{escape(info.name or '/')}</D:displayname>"


def _creation_date(info: NodeInfo, _: Surroundings) -> str:
    return f"<D:creationdate>{iso_date(info.created_us)}</D:creationdate>"


def _last_modified(info: NodeInfo, _: Surroundings) -> str:
    return f"<D:getlastmodified>{http_date(info.modified_us // SECOND_US)}</D:getlastmodified>"


def _content_length(info: NodeInfo, _: Surroundings) -> str | None:
    if info.is_folder:
        return None
    return f"<D:getcontentlength>{info.size_bytes}</D:getcontentlength>"


def _content_type(info: NodeInfo, _: Surroundings) -> str | None:
    if info.is_folder:
        return None
    return f"<D:getcontenttype>{content_type(info.name)}</D:getcontenttype>"


def _etag(info: NodeInfo, _: Surroundings) -> str | None:
    return f'<D:getetag>"{info.version_id}"</D:getetag>' if info.version_id else None


def _supported_lock(_: NodeInfo, __: Surroundings) -> str:
    return SUPPORTED_LOCK


def _lock_discovery(info: NodeInfo, around: Surroundings) -> str:
    if not around.locks:
        return "<D:lockdiscovery/>"
    return lock_discovery(around.locks, path=info.path, folder=info.is_folder, now_us=around.now_us)


def _quota_used(info: NodeInfo, around: Surroundings) -> str | None:
    usage = around.usage(info.path) if info.is_folder else None
    if usage is None:
        return None
    return f"<D:quota-used-bytes>{usage.used_bytes}</D:quota-used-bytes>"


def _quota_available(info: NodeInfo, around: Surroundings) -> str | None:
    usage = around.usage(info.path) if info.is_folder else None
    if usage is None:
        return None
    available = usage.available_bytes
    if usage.quota_bytes is not None:
        available = min(available, usage.quota_bytes - usage.used_bytes)
    return f"<D:quota-available-bytes>{max(0, available)}</D:quota-available-bytes>"


Render = Callable[[NodeInfo, Surroundings], str | None]
"""Returns a property as an XML fragment, None when the node does not have it."""

_ALWAYS: Final[dict[str, Render]] = {
    "resourcetype": _resource_type,
    "displayname": _display_name,
    "creationdate": _creation_date,
    "getlastmodified": _last_modified,
    "getcontentlength": _content_length,
    "getcontenttype": _content_type,
    "getetag": _etag,
    "lockdiscovery": _lock_discovery,
    "supportedlock": _supported_lock,
}
# RFC 4331 section 2: not to be part of an allprop answer.
_ON_REQUEST: Final[dict[str, Render]] = {
    "quota-used-bytes": _quota_used,
    "quota-available-bytes": _quota_available,
}

ALLPROP: Final[tuple[Render, ...]] = tuple(_ALWAYS.values())
"""What an allprop answer holds, dead properties aside."""

LIVE: Final[dict[PropertyName, Render]] = {
    PropertyName(DAV, local): render for local, render in {**_ALWAYS, **_ON_REQUEST}.items()
}
"""Every live property; all of them are protected."""
