"""Signing in, dispatch, and what errors become."""

from __future__ import annotations

import base64
import logging

import pytest

from backends.errors import IntegrityError, StorageUnavailableError
from gateway.errors import AuditUnavailableError, DeniedError, SessionEndedError
from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.app import parse_basic
from tests.webdav.support import Site, basic, header


def encoded(raw: bytes) -> str:
    return "Basic " + base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (encoded(b"alice:pass:word"), ("alice", "pass:word")),
        (encoded(b"alice:"), ("alice", "")),
        (encoded("jürgen:pässword".encode()), ("jürgen", "pässword")),
        (encoded("jürgen:pässword".encode("latin-1")), ("jürgen", "pässword")),
        (encoded(b"DOMAIN\\alice:x"), ("DOMAIN\\alice", "x")),
        (encoded(b"alice:x").replace("Basic", "bAsIc"), ("alice", "x")),
        ("", None),
        ("Basic", None),
        ("Basic !!!!", None),
        ("Basic YWxpY2U", None),
        ("Basic \xe9", None),
        (encoded(b"alice"), None),
        (encoded(b":x"), None),
        (encoded(b"al\0ice:x"), None),
        (encoded(b"alice:x\r\n"), None),
        (encoded(b"a" * 2000 + b":x"), None),
        ("Bearer YWxpY2U6eA==", None),
        ("Digest username=alice", None),
    ],
)
def test_basic_credentials_are_read_strictly(value: str, expected: tuple[str, str] | None) -> None:
    """UTF-8, else Latin-1; everything malformed is nothing."""
    assert parse_basic(value) == expected


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "PROPFIND", "PUT", "NONSENSE"])
@pytest.mark.parametrize("value", ["", "Basic !!!!", basic("alice", "wrong"), basic("mallory")])
def test_without_a_valid_sign_in_all_is_401(site: Site, method: str, value: str) -> None:
    """Whatever is wrong the answer is the same kind, with the challenge; never a 500."""
    answer = site.ask(method, "/share/", authorization=value)
    assert answer.status == 401
    assert header(answer, "WWW-Authenticate") == 'Basic realm="Sealgate", charset="UTF-8"'


def test_the_door_learns_who_asks_and_with_what(site: Site) -> None:
    """Name, secret, address and software reach the log-in."""
    site.ask("OPTIONS", "/", user_agent="rclone/1.0" + "x" * 500)
    (attempt,) = site.monitor.attempts
    assert (attempt.name, attempt.client.address) == ("alice", "127.0.0.1")
    assert attempt.client.software.startswith("rclone/1.0")
    assert len(attempt.client.software) == 200


@pytest.mark.parametrize("target", ["/", "/share/none", "*"])
def test_options_tells_windows_and_finder_what_they_need(site: Site, target: str) -> None:
    """A separate token 2, MS-Author-Via and the methods; no look at any node. Class 3 too."""
    site.monitor.failure = AssertionError("OPTIONS asked for a node")
    answer = site.ask("OPTIONS", target)
    assert answer.status == 200
    assert {"1", "2", "3"} == {token.strip() for token in header(answer, "DAV").split(",")}
    assert header(answer, "MS-Author-Via") == "DAV"
    assert {"LOCK", "PROPPATCH"} <= set(header(answer, "Allow").split(", "))


@pytest.mark.parametrize(
    ("method", "status"), [("POST", 405), ("PATCH", 405), ("TRACE", 405), ("BREW", 501)]
)
def test_other_methods_are_refused(site: Site, method: str, status: int) -> None:
    """405 where the method is known (RFC 9110 section 15.6.2), with the list of those served."""
    answer = site.ask(method, "/share")
    assert answer.status == status
    assert "PROPFIND" in header(answer, "Allow")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DeniedError("default"), 403),
        (SessionEndedError("idle"), 401),
        (AuditUnavailableError("The audit trail cannot be written."), 503),
        (StorageUnavailableError("The catalog does not answer."), 503),
        (IntegrityError("The content does not verify."), 500),
    ],
)
def test_errors_of_the_door_become_their_status(site: Site, error: Exception, status: int) -> None:
    """By the one table; 401 with its challenge, 503 with a time to come back."""
    site.monitor.failure = error
    answer = site.ask("HEAD", "/share")
    assert answer.status == status
    assert bool(header(answer, "WWW-Authenticate")) is (status == 401)
    assert bool(header(answer, "Retry-After")) is (status == 503)


@pytest.mark.parametrize("user", ["nodirectory", "noaudit"])
def test_a_login_that_cannot_be_decided_is_503(site: Site, user: str) -> None:
    """A directory or audit trail that is down is no wrong password."""
    assert site.ask("GET", "/share", user=user).status == 503


def test_a_bug_is_a_500_that_tells_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the answer nor the log shows the error's own words; an id joins the two."""
    site.monitor.failure = RuntimeError("secret name /share/patient.txt")
    with caplog.at_level(logging.ERROR):
        answer = site.ask("HEAD", "/share/patient.txt")
    assert answer.status == 500
    assert b"patient" not in answer.body
    assert "patient" not in caplog.text
    assert "RuntimeError" in caplog.text
    request_id = caplog.records[0].getMessage().split()[1].rstrip(":")
    assert request_id.encode() in answer.body


def test_a_query_is_ignored_only_where_nothing_is_written(site: Site) -> None:
    """Reading with one is common; writing with one means a name with a question mark."""
    assert site.ask("HEAD", "/share?x=1").status == 200
    assert site.ask("DELETE", "/share/a?x=1").status == 400


@pytest.mark.parametrize("value", ["<", "(<urn:a>", "(Not)"])
def test_a_malformed_if_header_is_400_for_every_method(site: Site, value: str) -> None:
    """Also for those that need no token."""
    for method in ("GET", "PROPFIND", "PUT", "LOCK"):
        assert site.ask(method, "/share", if_=value).status == 400


@pytest.mark.parametrize(
    ("method", "target", "headers", "what"),
    [
        ("BREW", "/share", {}, "BREW 501"),
        ("POST", "/share", {}, "POST 405"),
        ("MOVE", "/share/a", {"destination": "http://elsewhere.example/b"}, "MOVE 502"),
        ("MOVE", "/share/a", {}, "MOVE 400"),
        ("GET", "/share/%00", {}, "GET 400"),
        ("PROPFIND", "/share", {"depth": "7"}, "PROPFIND 400"),
        ("PUT", "/share/b/", {}, "PUT 405"),
    ],
)
def test_what_never_reaches_the_door_is_recorded_once(
    site: Site, method: str, target: str, headers: dict[str, str], what: str
) -> None:
    """A refusal by the protocol alone, after the log-in, is an operation too."""
    site.monitor.make(VirtualPath.parse("/share/a"), Kind.FILE, b"x")
    site.ask(method, target, b"", **headers)
    assert site.monitor.refusals == [what]


def test_what_the_door_has_refused_is_not_recorded_again(site: Site) -> None:
    """Missing, of the wrong kind, failed conditions."""
    site.monitor.make(VirtualPath.parse("/share/a"), Kind.FILE, b"x")
    assert site.ask("GET", "/share/none").status == 404
    assert site.ask("MKCOL", "/share/a").status == 405
    assert site.ask("GET", "/share/a", b"", **{"if-match": '"other"'}).status == 412
    assert site.monitor.refusals == []
