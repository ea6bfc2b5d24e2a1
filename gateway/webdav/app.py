"""The application: signs in, finds the handler, and turns every error into an answer.

One call is one request; nothing is kept from one to the next. Imports the door, the status table
and this package; knows nothing of sockets.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import secrets
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from backends.errors import QuotaExceededError, StorageFullError
from gateway import status
from gateway.errors import (
    InvalidPathError,
    LockConflictError,
    LockedError,
    SealgateError,
    SessionEndedError,
)
from gateway.model import Attempt, Client, Session, Wire
from gateway.paths import VirtualPath
from gateway.webdav import library, lock, propfind, reading, urls, writing
from gateway.webdav.exchange import METHODS, Exchange, refuse_body, with_conditions
from gateway.webdav.messages import BodyCutError, HttpError, Request, Response
from gateway.webdav.settings import WebdavSettings
from gateway.webdav.xml_body import escape

if TYPE_CHECKING:
    from gateway.monitor import Monitor

log = logging.getLogger(__name__)

Handler = Callable[[Exchange], Response]
"""Answers one authenticated request."""

HANDLERS: Final[dict[str, Handler]] = {
    "GET": reading.get,
    "HEAD": reading.head,
    "PUT": writing.put,
    "PROPFIND": propfind.propfind,
    "PROPPATCH": library.run,
    "MKCOL": writing.mkcol,
    "COPY": writing.copy,
    "MOVE": writing.move,
    "DELETE": writing.delete,
    "LOCK": lock.lock,
    "UNLOCK": lock.unlock,
}
ALLOW: Final = ", ".join(METHODS)
CREDENTIAL_LIMIT_CHARACTERS: Final = 1024
SOFTWARE_LIMIT_CHARACTERS: Final = 200
RETRY_AFTER_S: Final = 30

# Known to HTTP, but not for what is here.
_FOREIGN: Final = frozenset({"POST", "PATCH", "TRACE", "CONNECT", "SEARCH", "REPORT", "ACL"})
# What the door was asked about before it was refused here, and has recorded.
_SEEN_AT_THE_DOOR: Final = frozenset({404, 412})
# RFC 4331 section 6, RFC 4918 section 16.
_CONDITIONS: Final[dict[type[SealgateError], str]] = {
    LockedError: "lock-token-submitted",
    LockConflictError: "no-conflicting-lock",
    QuotaExceededError: "quota-not-exceeded",
    StorageFullError: "sufficient-disk-space",
}
_READING: Final = frozenset({"GET", "HEAD", "PROPFIND"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TEXT_TYPE: Final = ("Content-Type", "text/plain; charset=utf-8")
_XML_TYPE: Final = ("Content-Type", "application/xml; charset=utf-8")


class WebdavApp:
    """Answers requests through ``monitor``; calling it never raises but BodyCutError."""

    def __init__(
        self,
        monitor: Monitor,
        settings: WebdavSettings,
        *,
        new_request_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._monitor = monitor
        self._settings = settings
        self._new_request_id = new_request_id
        # wsgidav words its log lines with paths, which no application log may hold.
        logging.getLogger("wsgidav").setLevel(logging.CRITICAL + 1)

    def __call__(self, request: Request) -> Response:
        """Return the answer to ``request``; raises BodyCutError when the client has gone."""
        try:
            return self._answer(request)
        except HttpError as error:
            return self._refusal(error.status, error.message, error.condition, error.headers)
        except SealgateError as error:
            return self._translated(request, error)
        except BodyCutError:
            raise
        except Exception as error:  # noqa: BLE001  a listener answers for every bug below it
            return self._failure(request, error)

    def _answer(self, request: Request) -> Response:
        credentials = parse_basic(request.headers.get("authorization", ""))
        if credentials is None:
            return self._challenge("Sign in with your name, and your password and code.")
        name, secret = credentials
        software = request.headers.get("user-agent", "")[:SOFTWARE_LIMIT_CHARACTERS]
        client = Client(request.client_address, software)
        attempt = Attempt(name=name, wire=Wire.WEBDAV, client=client, secret=secret)
        session = self._monitor.recall(attempt) if _passes_the_door(request) else None
        if session is None:
            session = self._monitor.login(attempt)
        try:
            return self._handled(request, session)
        except SessionEndedError:
            self._monitor.forget(attempt)
            raise
        except (HttpError, InvalidPathError) as error:
            code = error.status if isinstance(error, HttpError) else status.http_status(error)
            seen = code in _SEEN_AT_THE_DOOR or isinstance(error.__cause__, SealgateError)
            if not seen and not (request.method == "PUT" and request.body.started):
                what = f"{request.method} {code}"
                self._monitor.refused(client, Wire.WEBDAV, what, session)
            raise

    def _handled(self, request: Request, session: Session) -> Response:
        if request.method == "OPTIONS":
            refuse_body(request)
            return _options()
        handler = HANDLERS.get(request.method)
        if handler is None:
            code = 405 if request.method in _FOREIGN else 501
            raise HttpError(code, "This method is not served here.", headers=(("Allow", ALLOW),))
        path_text, query = urls.split_target(request.target)
        if query and request.method not in _READING:
            # A client that forgot to escape "?" means another file than the one left of it.
            raise HttpError(400, "A question mark in a name must be written %3F.")
        exchange = Exchange(
            request=request,
            path=urls.decode_path(path_text),
            folder_named=path_text != "/" and path_text.endswith("/"),
            door=self._monitor.bind(session),
            settings=self._settings,
            clock=self._monitor.clock,
        )
        return handler(with_conditions(exchange))

    def _challenge(self, message: str) -> Response:
        realm = self._settings.realm.replace('"', "'")
        return Response(
            401,
            [("WWW-Authenticate", f'Basic realm="{realm}", charset="UTF-8"'), _TEXT_TYPE],
            body=f"{message}\n".encode(),
        )

    def _translated(self, request: Request, error: SealgateError) -> Response:
        code = status.http_status(error)
        if code == 401:
            return self._challenge(str(error))
        if code >= 500:
            log.warning("%s answered with %d: %s", request.method, code, type(error).__name__)
        condition = _CONDITIONS.get(type(error), "")
        headers = (("Retry-After", str(RETRY_AFTER_S)),) if code == 503 else ()
        if code == 405:
            headers = (("Allow", ALLOW),)
        href = _locked_href(error) if isinstance(error, LockedError) else ""
        return self._refusal(code, str(error), condition, headers, href)

    def _refusal(
        self,
        code: int,
        message: str,
        condition: str,
        headers: tuple[tuple[str, str], ...],
        href: str = "",
    ) -> Response:
        if not condition:
            return Response(code, [_TEXT_TYPE, *headers], body=f"{message}\n".encode())
        body = (
            '<?xml version="1.0" encoding="utf-8"?><D:error xmlns:D="DAV:">'
            f"<D:{condition}>{href}</D:{condition}>"
            f'<S:message xmlns:S="urn:sealgate">{escape(message)}</S:message></D:error>'
        )
        return Response(code, [_XML_TYPE, *headers], body=body.encode())

    def _failure(self, request: Request, error: Exception) -> Response:
        request_id = self._new_request_id()
        # Only where it happened: the message of a foreign error may hold a file name.
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        places = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
        log.error(
            "request %s: %s failed: %s in %s",
            request_id,
            request.method,
            type(error).__name__,
            places,
        )
        return Response(
            500,
            [_TEXT_TYPE],
            body=f"Something went wrong here. The administrator finds it as {request_id}.\n".encode(),
        )


def _passes_the_door(request: Request) -> bool:
    """Return whether no request of this kind is answered without an operation of the door."""
    return request.method in HANDLERS and request.target != "/"


def _locked_href(error: LockedError) -> str:
    """Return the address of what is locked, as RFC 4918 section 16 wants it, if it may be told."""
    if not error.root:
        return ""
    href = urls.href(VirtualPath.parse(error.root), folder=error.root_is_folder)
    return f"<D:href>{escape(href)}</D:href>"


def parse_basic(value: str) -> tuple[str, str] | None:
    """Return name and secret of a Basic Authorization header (RFC 7617), None when malformed.

    The text is UTF-8; Latin-1, which old clients send, is taken where it is not.
    """
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        raw = base64.b64decode(encoded.strip(" ").encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    name, colon, secret = text.partition(":")
    if not colon or not name or max(len(name), len(secret)) > CREDENTIAL_LIMIT_CHARACTERS:
        return None
    if _CONTROL.search(text):
        return None
    return name, secret


def _options() -> Response:
    # Finder mounts read-only unless "2" stands alone as a token; Windows asks for MS-Author-Via.
    return Response(
        200,
        [
            ("DAV", "1, 2, 3"),
            ("MS-Author-Via", "DAV"),
            ("Allow", ALLOW),
            ("Accept-Ranges", "bytes"),
        ],
    )
