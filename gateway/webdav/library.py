"""PROPPATCH, LOCK and UNLOCK through wsgidav's RequestServer, on top of one request's door.

Here alone is wsgidav imported. Its RequestServer takes the XML apart and words the answers; the
provider, resource and lock manager below hand every decision to the door. What is relied on
beyond wsgidav's documented interface is pinned by ``tests/webdav/test_library.py``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lxml import etree  # type: ignore[import-untyped]
from wsgidav.dav_error import HTTP_CONFLICT, HTTP_FORBIDDEN, HTTP_INTERNAL_ERROR, DAVError
from wsgidav.dav_provider import DAVProvider, _DAVResource
from wsgidav.request_server import RequestServer

from backends.errors import NotFoundError, ParentMissingError
from gateway.errors import LockTokenError, SealgateError
from gateway.model import Kind, LockInfo, NodeInfo, PropertyName
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.conditions import parse_http_date
from gateway.webdav.exchange import SECOND_US, Exchange
from gateway.webdav.messages import HttpError, Response
from gateway.webdav.properties import LIVE, lock_discovery
from gateway.webdav.settings import KIB, XML_BODY_LIMIT_BYTES
from gateway.webdav.xml_body import DAV, PROPERTY_COUNT_LIMIT, parse_xml, property_name

PROPERTY_LIMIT_BYTES: Final = 64 * KIB
OWNER_LIMIT_BYTES: Final = 8 * KIB

_WIN32_MODIFIED: Final = PropertyName("urn:schemas-microsoft-com:", "Win32LastModifiedTime")
_XML_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_CONFIG: Final[dict[str, Any]] = {"hotfixes": {}}
_KEPT_HEADERS: Final = frozenset({"content-type", "lock-token"})


def run(exchange: Exchange) -> Response:
    """Answer a PROPPATCH, LOCK or UNLOCK. Its If header has been evaluated already.

    Raises HttpError for what the protocol refuses, and what the door raises.
    """
    body = exchange.request.body.read_all(XML_BODY_LIMIT_BYTES)
    if body:
        # wsgidav reads it again with lxml: by then it is known to be small and free of DTDs.
        parse_xml(body)
    if exchange.conditional:
        exchange.check_preconditions(exchange.stat_or_none(), safe=False)
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
    status, headers = started[0]
    kept = [(name, value) for name, value in headers if name.lower() in _KEPT_HEADERS]
    return Response(int(status[:3]), kept, body=b"" if status.startswith("204") else content)


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
    for name, key in (("depth", "HTTP_DEPTH"), ("timeout", "HTTP_TIMEOUT")):
        if name in exchange.request.headers:
            environ[key] = exchange.header(name)
    if "lock-token" in exchange.request.headers:
        environ["HTTP_LOCK_TOKEN"] = exchange.header("lock-token")
    return environ


def _translated(error: DAVError, exchange: Exchange) -> Exception:
    if error.value == 404:
        return NotFoundError("There is nothing at this address.")
    condition = "" if error.err_condition is None else error.err_condition.condition_code
    message = error.context_info or "The request was refused."
    return HttpError(
        error.value,
        message.replace(str(exchange.path), "this address"),
        condition=condition.removeprefix("{DAV:}"),
    )


class _Provider(DAVProvider):
    """The tree as wsgidav sees it, for one request.

    ``failure`` is what the door raised where wsgidav would have swallowed it.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.exchange = exchange
        self.failure: SealgateError | None = None
        self.set_share_path("")
        self.set_lock_manager(_Locks(exchange))

    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> _Resource | None:
        """Return the resource at ``path``, None when there is nothing."""
        try:
            info = self.exchange.door.stat(VirtualPath.parse(path))
        except NotFoundError:
            return None
        return _Resource(info, environ)

    def ref_url_to_path(self, ref_url: str) -> str:
        """Return the path behind a reference, which here is that path itself."""
        return ref_url


class _Resource(_DAVResource):
    """A node, or (from ``create_empty_resource``) a name that LOCK is about to fill."""

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

    def get_ref_url(self) -> str:
        """Return the path: what ``_Locks`` is given as a URL."""
        return str(self.info.path)

    def get_href(self) -> str:
        """Return the escaped address."""
        return urls.href(self.info.path, folder=self.info.is_folder)

    def get_etag(self) -> None:
        """Return nothing: conditions have been evaluated before."""

    def support_etag(self) -> bool:
        """Return False, as ``get_etag``."""
        return False

    def create_empty_resource(self, name: str) -> _Resource:
        """Return a resource for a name that is still free; ``_Locks.acquire`` fills it."""
        if not self.is_collection:
            raise ParentMissingError("The folder for this name does not exist.")
        return _Resource(NodeInfo(path=self.info.path.child(name), kind=Kind.FILE), self.environ)

    def get_property_value(self, name: str) -> etree._Element:
        """Return the lockdiscovery element, the one property that RequestServer asks for."""
        assert name == "{DAV:}lockdiscovery"
        exchange = self.provider.exchange
        text = lock_discovery(
            exchange.door.locks(self.info.path),
            path=self.info.path,
            folder=self.is_collection,
            now_us=exchange.clock(),
        )
        return etree.fromstring(f'<D:prop xmlns:D="DAV:">{text}</D:prop>')[0]

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
        if name in LIVE or name.namespace == DAV:
            raise DAVError(HTTP_FORBIDDEN, "This property is protected.")
        if len(self.put) + len(self.remove) >= PROPERTY_COUNT_LIMIT:
            raise DAVError(HTTP_FORBIDDEN, "Too many properties in one request.")
        if value is None:
            self.put.pop(name, None)
            self.remove.add(name)
            return
        text = _serialised(value)
        if len(text) > PROPERTY_LIMIT_BYTES:
            raise DAVError(HTTP_FORBIDDEN, f"A property is over {PROPERTY_LIMIT_BYTES} bytes.")
        self.remove.discard(name)
        self.put[name] = text
        if name == _WIN32_MODIFIED:
            seconds = parse_http_date((value.text or "").strip())
            if seconds is not None and seconds >= 0:
                self.modified_us = seconds * SECOND_US


class _Locks:
    """wsgidav's lock manager, as far as RequestServer calls it; every answer is the door's."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def check_write_permission(self, **_: object) -> None:
        """Leave the check to the door, which makes it in the transaction of the change."""

    @contextmanager
    def write_transaction(self, **_: object) -> Iterator[None]:
        """Leave this to the door too."""
        yield

    def acquire(
        self,
        *,
        url: str,
        lock_scope: str,
        lock_depth: str,
        lock_owner: bytes,
        timeout: int | None,
        **_: object,
    ) -> dict[str, str]:
        """Lock ``url``, creating an empty file where there is nothing."""
        owner = lock_owner.decode("utf-8")
        if len(lock_owner) > OWNER_LIMIT_BYTES:
            raise HttpError(413, f"The lock's owner is over {OWNER_LIMIT_BYTES} bytes.")
        # Serialised by wsgidav with the XML declaration before it and the text after it.
        owner = owner[owner.find("?>") + 2 :].strip() if owner.startswith("<?xml") else owner
        lock, _created = self._exchange.door.lock(
            VirtualPath.parse(url),
            exclusive=lock_scope == "exclusive",
            depth_infinity=lock_depth == "infinity",
            owner=owner[: owner.rfind(">") + 1],
            timeout_s=self._timeout_s(timeout),
        )
        return {"token": lock.token}

    def is_url_locked_by_token(self, url: str, lock_token: str) -> bool:
        """Return whether the asker's own lock of that token covers ``url``."""
        return self._own_lock(url, lock_token) is not None

    def is_token_locked_by_user(self, _token: str, _principal: str) -> bool:
        """Return True: only tokens of the asker's own locks get as far as this question."""
        return True

    def refresh(self, token: str, *, timeout: int | None = None) -> dict[str, str]:
        """Start the lock's time anew."""
        try:
            self._exchange.door.refresh_lock(
                self._exchange.path, token, timeout_s=self._timeout_s(timeout)
            )
        except LockTokenError as error:
            raise HttpError(412, str(error), condition="lock-token-matches-request-uri") from error
        return {"root": str(self._exchange.path)}

    def release(self, token: str) -> None:
        """Give the lock up."""
        try:
            self._exchange.door.unlock(self._exchange.path, token)
        except LockTokenError as error:
            raise DAVError(
                HTTP_CONFLICT, str(error), err_condition="{DAV:}lock-token-matches-request-uri"
            ) from error

    def _own_lock(self, url: str, token: str) -> LockInfo | None:
        locks = self._exchange.door.locks(VirtualPath.parse(url))
        return next((lock for lock in locks if token and lock.token == token), None)

    def _timeout_s(self, timeout: int | None) -> int:
        settings = self._exchange.settings
        if timeout is None:
            return settings.lock_timeout_default_s
        return (
            settings.lock_timeout_max_s
            if timeout < 0
            else min(timeout, settings.lock_timeout_max_s)
        )


def _serialised(element: etree._Element) -> str:
    """Return the element alone as XML, with the language that was in force around it."""
    if _XML_LANG not in element.attrib:
        for ancestor in element.iterancestors():
            language = ancestor.get(_XML_LANG)
            if language is not None:
                element.set(_XML_LANG, language)
                break
    return str(etree.tostring(element, encoding="unicode", with_tail=False))
