"""PROPPATCH through wsgidav's RequestServer, on top of one request's door.

Here alone is wsgidav imported. Its RequestServer takes the XML apart and words the answer; the
provider and the resource below hand every decision to the door. What is relied on beyond
wsgidav's documented interface is pinned by ``tests/webdav/test_library.py``.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

from lxml import etree  # type: ignore[import-untyped]
from wsgidav.dav_error import HTTP_FORBIDDEN, HTTP_INTERNAL_ERROR, DAVError
from wsgidav.dav_provider import DAVProvider, _DAVResource
from wsgidav.request_server import RequestServer

from backends.errors import NotFoundError
from gateway.errors import SealgateError
from gateway.model import NodeInfo, PropertyName
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.conditions import parse_http_date
from gateway.webdav.element import parse_element, serialised
from gateway.webdav.exchange import SECOND_US, Exchange
from gateway.webdav.messages import HttpError, Response
from gateway.webdav.properties import LIVE
from gateway.webdav.settings import KIB, XML_BODY_LIMIT_BYTES
from gateway.webdav.xml_body import DAV, PROPERTY_COUNT_LIMIT, property_name

PROPERTY_LIMIT_BYTES: Final = 64 * KIB

_WIN32_MODIFIED: Final = PropertyName("urn:schemas-microsoft-com:", "Win32LastModifiedTime")
# Unix seconds, by which rclone sets the time of a file that is there already (as of 1.64).
_RCLONE_MODIFIED: Final = PropertyName(DAV, "lastmodified")
# RFC 4918 section 15.3: it should not be protected, and is kept as it was given.
_UNPROTECTED: Final = frozenset({PropertyName(DAV, "getcontentlanguage")})
_UNIX_SECONDS = re.compile(r"\s*(\d{1,11})\s*", re.ASCII)
_CONFIG: Final[dict[str, Any]] = {"hotfixes": {}}


def run(exchange: Exchange) -> Response:
    """Answer a PROPPATCH. Raises HttpError for what the protocol refuses, and as the door does."""
    body = exchange.request.body.read_all(XML_BODY_LIMIT_BYTES)
    if body:
        # What wsgidav reads is known to be small and free of DTDs; it takes comments for elements.
        body = etree.tostring(parse_element(body))
    provider = _Provider(exchange)
    environ = _environ(exchange, provider, body)
    started: list[tuple[str, list[tuple[str, str]]]] = []
    try:
        parts = RequestServer(provider)(environ, lambda *start: started.append(start[:2]))
        content = b"".join(parts)
    except DAVError as error:
        raise _translated(error, exchange) from error
    if provider.failure is not None:
        raise provider.failure
    if provider.protected:
        content = _with_reasons(content)
    status, headers = started[0]
    kept = [(name, value) for name, value in headers if name.lower() == "content-type"]
    return Response(int(status[:3]), kept, body=content)


def _environ(exchange: Exchange, provider: _Provider, body: bytes) -> dict[str, Any]:
    """Return a WSGI environment with no more in it than RequestServer reads."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": exchange.request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": str(exchange.path),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgidav.provider": provider,
        "wsgidav.config": _CONFIG,
        "wsgidav.verbose": 0,
        "wsgidav.auth.user_name": exchange.door.session.principal.id,
        # With these two set, its own parser of the If header is never reached: 60 kB of "<"
        # kept that busy for 12 seconds.
        "wsgidav.conditions.if": {},
        "wsgidav.ifLockTokenList": sorted(exchange.tokens),
    }
    if "depth" in exchange.request.headers:
        environ["HTTP_DEPTH"] = exchange.header("depth")
    return environ


def _seconds(text: str | None) -> int | None:
    """Return Unix seconds as microseconds; None when they are none."""
    match = _UNIX_SECONDS.fullmatch(text or "")
    return None if match is None else int(match[1]) * SECOND_US


def _with_reasons(content: bytes) -> bytes:
    """Say of each refused property that it is protected (RFC 4918 sections 9.2.1 and 16).

    wsgidav words the statuses alone.
    """
    root = etree.fromstring(content)
    for propstat in root.iter(f"{{{DAV}}}propstat"):
        if "403" in (propstat.findtext(f"{{{DAV}}}status") or ""):
            error = etree.SubElement(propstat, f"{{{DAV}}}error")
            etree.SubElement(error, f"{{{DAV}}}cannot-modify-protected-property")
    return bytes(etree.tostring(root, xml_declaration=True, encoding="utf-8"))


def _translated(error: DAVError, exchange: Exchange) -> Exception:
    if error.value == 404:
        return NotFoundError("There is nothing at this address.")
    message = error.context_info or "The request was refused."
    return HttpError(error.value, message.replace(str(exchange.path), "this address"))


class _Provider(DAVProvider):
    """The tree as wsgidav sees it, for one request.

    ``failure`` is what the door raised where wsgidav would have swallowed it; ``protected``: a
    property that nobody may set was among those to be set.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.exchange = exchange
        self.failure: SealgateError | None = None
        self.protected = False
        self.set_share_path("")

    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> _Resource | None:
        """Return the resource at ``path``, None when there is nothing."""
        try:
            info = self.exchange.door.stat(VirtualPath.parse(path))
        except NotFoundError:
            return None
        return _Resource(info, environ)


class _Resource(_DAVResource):
    """A node whose properties are about to change."""

    provider: _Provider

    def __init__(self, info: NodeInfo, environ: dict[str, Any]) -> None:
        super().__init__(str(info.path), info.is_folder, environ)
        self.info = info
        self.put: dict[PropertyName, str] = {}
        self.remove: set[PropertyName] = set()
        self.modified_us: int | None = None
        self.applied = False

    def get_content_length(self) -> int | None:
        """Return the size of a file in bytes."""
        return None if self.is_collection else self.info.size_bytes

    def get_href(self) -> str:
        """Return the escaped address."""
        return urls.href(self.info.path, folder=self.info.is_folder)

    def get_etag(self) -> None:
        """Return nothing: conditions have been evaluated before."""

    def support_etag(self) -> bool:
        """Return False, as ``get_etag``."""
        return False

    def set_property_value(
        self, name: str, value: etree._Element | None, *, dry_run: bool = False
    ) -> None:
        """Take part in PROPPATCH: the dry run collects, the first real call applies it all."""
        if dry_run:
            self._collect(property_name(name), value)
            return
        if self.applied:
            return
        self.applied = True
        try:
            self.provider.exchange.door.set_properties(
                self.info.path,
                put=self.put,
                remove=frozenset(self.remove),
                modified_us=self.modified_us,
            )
        except SealgateError as error:
            self.provider.failure = error
            raise DAVError(HTTP_INTERNAL_ERROR) from error

    def _collect(self, name: PropertyName, value: etree._Element | None) -> None:
        if name == _RCLONE_MODIFIED and value is not None:
            self.modified_us = _seconds(value.text)
            if self.modified_us is not None:
                return
        if name in LIVE or (name.namespace == DAV and name not in _UNPROTECTED):
            self.provider.protected = True
            raise DAVError(HTTP_FORBIDDEN, "This property is protected.")
        if len(self.put) + len(self.remove) >= PROPERTY_COUNT_LIMIT:
            raise DAVError(HTTP_FORBIDDEN, "Too many properties in one request.")
        if value is None:
            self.put.pop(name, None)
            self.remove.add(name)
            return
        text = serialised(value)
        if len(text) > PROPERTY_LIMIT_BYTES:
            raise DAVError(HTTP_FORBIDDEN, f"A property is over {PROPERTY_LIMIT_BYTES} bytes.")
        self.remove.discard(name)
        self.put[name] = text
        if name == _WIN32_MODIFIED:
            seconds = parse_http_date((value.text or "").strip())
            if seconds is not None and seconds >= 0:
                self.modified_us = seconds * SECOND_US
