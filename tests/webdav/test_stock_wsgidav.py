"""What wsgidav itself does, beside what is served natively here: each departure has its reason.

Every attack runs against a stock wsgidav over a folder and against ours over a fake door. When the
stock half of a test fails after an update of wsgidav, upstream has mended it. What is still used of
wsgidav, and pinned, is in ``test_library.py``.
"""

from __future__ import annotations

import base64
import gc
import io
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from wsgidav.default_conf import DEFAULT_CONFIG
from wsgidav.fs_dav_provider import FilesystemProvider
from wsgidav.wsgidav_app import WsgiDAVApp

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.messages import BodyCutError
from tests.webdav.support import Site, body_of, content, header

LOCKINFO = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/>'
    b"</D:locktype><D:owner>me</D:owner></D:lockinfo>"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a WSGI application answered; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Cut(io.RawIOBase):
    """A body whose client is gone."""

    def read(self, _size: int = -1) -> bytes:
        raise ConnectionResetError


@dataclass(frozen=True, slots=True)
class Stock:
    """Stock wsgidav that serves ``folder`` as ``/share`` to alice and bob."""

    folder: Path
    app: WsgiDAVApp

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Cut = b"",
        *,
        user: str = "alice",
        **headers: str,
    ) -> Answer:
        """Return the answer; ``if_match="..."`` sends the header If-Match."""
        stream = io.BytesIO(body) if isinstance(body, bytes) else body
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "HTTP_AUTHORIZATION": "Basic " + base64.b64encode(f"{user}:x".encode()).decode(),
            "CONTENT_LENGTH": str(len(body)) if isinstance(body, bytes) else "10",
            "wsgi.url_scheme": "http",
            "wsgi.input": stream,
            "wsgi.errors": io.StringIO(),
        }
        environ |= {f"HTTP_{name.rstrip('_').upper()}": value for name, value in headers.items()}
        started: list[tuple[str, list[tuple[str, str]]]] = []
        parts = self.app(environ, lambda *start: started.append(start[:2]))
        data = b"".join(parts)
        parts.close()
        status, fields = started[-1]
        return Answer(int(status[:3]), {name.lower(): text for name, text in fields}, data)

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    """A stock wsgidav over an empty folder, silent."""
    users = {name: {"password": "x"} for name in ("alice", "bob")}
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/share": FilesystemProvider(str(tmp_path))},
            "simple_dc": {"user_mapping": {"*": users}},
            "http_authenticator": {"accept_digest": False, "default_to_digest": False},
            "lock_storage": True,
            "logging": {"enable": False},
            "verbose": 0,
        }
    )
    logging.disable(logging.CRITICAL)
    yield Stock(tmp_path, app)
    logging.disable(logging.NOTSET)


def put(stock: Stock, site: Site, *names: str) -> None:
    """Put files of ten bytes into both."""
    for name in names:
        stock.write(name, b"0123456789")
        site.monitor.make(VirtualPath.parse(f"/share/{name}"), Kind.FILE, b"0123456789")


def names(site: Site) -> set[str]:
    return {path.name for path in site.monitor.nodes if path.parent.name == "share"}


@pytest.mark.parametrize(
    ("escaped", "hit", "meant"),
    [("a%3Bb", "a", "a;b"), ("a%3Fb", "a", "a?b")],
)
def test_a_destination_is_taken_apart_before_it_is_unescaped(
    stock: Stock, site: Site, escaped: str, hit: str, meant: str
) -> None:
    """Stock undoes the escapes first, and overwrites another file."""
    put(stock, site, "source", "a")
    url = f"http://localhost/share/{escaped}"
    assert stock.ask("MOVE", "/share/source", destination=url).status == 204
    assert stock.names() == {hit}
    assert site.ask("MOVE", "/share/source", destination=url).status == 201
    assert names(site) == {"a", meant}


def test_a_forwarded_host_is_not_believed(stock: Stock, site: Site) -> None:
    """Stock takes a field that any client may send for the name of this server."""
    put(stock, site, "a")
    for server, status in ((stock, 201), (site, 502)):
        answer = server.ask(
            "COPY", "/share/a", destination="http://elsewhere/share/b", x_forwarded_host="elsewhere"
        )
        assert answer.status == status


def test_a_cut_upload_leaves_nothing(stock: Stock, site: Site) -> None:
    """Stock makes the file before it reads the body."""
    with warnings.catch_warnings():
        # It also leaves the file open.
        warnings.simplefilter("ignore", ResourceWarning)
        assert stock.ask("PUT", "/share/cut", Cut()).status == 500
        gc.collect()
    assert stock.names() == {"cut"}
    with pytest.raises(BodyCutError):
        site.ask("PUT", "/share/cut", body_of(b"01234", 10))
    assert names(site) == set()


def test_a_refused_lock_leaves_nothing(stock: Stock, site: Site) -> None:
    """Stock makes the empty file, and refuses then."""
    (stock.folder / "folder").mkdir()
    site.monitor.make(VirtualPath.parse("/share/folder"), Kind.FOLDER)
    for server in (stock, site):
        assert server.ask("LOCK", "/share/folder", LOCKINFO, depth="infinity").status in {200, 201}
        new = server.ask("LOCK", "/share/folder/new", LOCKINFO, user="bob")
        assert new.status == 423
    assert (stock.folder / "folder" / "new").exists()
    assert VirtualPath.parse("/share/folder/new") not in site.monitor.nodes


def test_a_token_is_told_to_its_owner_alone(stock: Stock, site: Site) -> None:
    """Stock tells it to everyone, who can then give the lock back."""
    put(stock, site, "a")
    asked = b'<D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop></D:propfind>'
    for server, told in ((stock, True), (site, False)):
        assert server.ask("LOCK", "/share/a", LOCKINFO).status == 200
        answer = server.ask("PROPFIND", "/share/a", asked, user="bob", depth="0")
        assert b"activelock>" in answer.body
        assert (b"<D:locktoken>" in answer.body) is told


def test_an_inherited_lock_is_told(stock: Stock, site: Site) -> None:
    """Stock's lockdiscovery knows only what lies on the node itself."""
    (stock.folder / "folder").mkdir()
    stock.write("folder/a", b"")
    site.monitor.make(VirtualPath.parse("/share/folder"), Kind.FOLDER)
    site.monitor.make(VirtualPath.parse("/share/folder/a"), Kind.FILE)
    asked = b'<D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop></D:propfind>'
    for server, told in ((stock, False), (site, True)):
        assert server.ask("LOCK", "/share/folder", LOCKINFO, depth="infinity").status == 200
        answer = server.ask("PROPFIND", "/share/folder/a", asked, depth="0")
        assert (b"activelock>" in answer.body) is told


@pytest.mark.parametrize(
    ("value", "taken", "status"),
    [
        ("bytes=5-2", b"89", 200),
        ("bytes=-0", b"", 416),
        ("bytes=0-1,4-5", b"45", 206),
    ],
)
def test_odd_ranges(stock: Stock, site: Site, value: str, taken: bytes, status: int) -> None:
    """Stock answers a reversed range, an empty one, and the last of several, each with a 206."""
    put(stock, site, "a")
    answer = stock.ask("GET", "/share/a", range=value)
    assert (answer.status, answer.body) == (206, taken)
    ours = site.ask("GET", "/share/a", range_=value)
    assert ours.status == status
    if status == 200:
        assert content(ours) == b"0123456789"


def test_the_same_time_is_not_modified(stock: Stock, site: Site) -> None:
    """Stock sends a file again to who has it."""
    put(stock, site, "a")
    when = stock.ask("GET", "/share/a").headers["last-modified"]
    assert stock.ask("GET", "/share/a", if_modified_since=when).status == 200
    when = header(site.ask("GET", "/share/a"), "Last-Modified")
    assert site.ask("GET", "/share/a", if_modified_since=when).status == 304


def test_what_must_exist_is_not_made(stock: Stock, site: Site) -> None:
    """Stock makes a file for If-Match: *."""
    assert stock.ask("PUT", "/share/a", b"x", if_match="*").status == 201
    assert site.ask("PUT", "/share/a", b"x", if_match="*").status == 412


def test_a_copy_of_depth_zero_is_a_folder_alone(stock: Stock, site: Site) -> None:
    """Stock copies all that it holds."""
    (stock.folder / "folder").mkdir()
    stock.write("folder/a", b"")
    site.monitor.make(VirtualPath.parse("/share/folder"), Kind.FOLDER)
    site.monitor.make(VirtualPath.parse("/share/folder/a"), Kind.FILE)
    for server in (stock, site):
        copied = server.ask("COPY", "/share/folder", destination="/share/copy", depth="0")
        assert copied.status == 201
    assert (stock.folder / "copy" / "a").exists()
    assert VirtualPath.parse("/share/copy/a") not in site.monitor.nodes


def test_answers_of_propfind(stock: Stock, site: Site) -> None:
    """Stock names no property for propname, sends tags unquoted and unknown ones as empty."""
    put(stock, site, "a")
    for inner, theirs, ours in (
        ("<D:propname/>", b"<D:href>/share/a</D:href></D:response>", b"<D:getetag/>"),
        ("<D:prop><D:getetag/></D:prop>", b"<D:getetag>", b'<D:getetag>"'),
        ("<D:prop><D:quota-used-bytes/></D:prop>", b"200 OK", b"404 Not Found"),
    ):
        body = f'<D:propfind xmlns:D="DAV:">{inner}</D:propfind>'.encode()
        answers = [one.ask("PROPFIND", "/share/a", body, depth="0") for one in (stock, site)]
        assert theirs in answers[0].body
        assert ours not in answers[0].body
        assert ours in answers[1].body


def test_a_whole_tree_is_not_listed(stock: Stock, site: Site) -> None:
    """Stock goes down to the last file, for anyone and always."""
    assert stock.ask("PROPFIND", "/share", depth="infinity").status == 207
    assert site.ask("PROPFIND", "/share", depth="infinity").status == 403


def test_shares_have_one_spelling(stock: Stock, site: Site) -> None:
    """Stock finds a share by any, so that rules by path would meet another path than its own."""
    put(stock, site, "a")
    assert stock.ask("GET", "/SHARE/a").status == 200
    assert site.ask("GET", "/SHARE/a").status == 404


def test_an_if_header_costs_its_length(stock: Stock, site: Site) -> None:
    """Stock's parser backtracks: eight times the header, sixty times the processor time."""
    put(stock, site, "a")
    took_s = []
    for size in (1_000, 8_000):
        began = time.thread_time()
        stock.ask("PUT", "/share/a", b"x", if_="<" * size)
        took_s.append(time.thread_time() - began)
    assert took_s[1] > 20 * took_s[0]
    began = time.thread_time()
    assert site.ask("PUT", "/share/a", b"x", if_="<" * 60_000).status == 400
    assert time.thread_time() - began < 0.1


def test_a_malformed_sign_in_is_refused(stock: Stock, site: Site) -> None:
    """Stock fails over it: 500."""
    assert stock.ask("GET", "/share", authorization="Basic !!!!").status == 500
    assert site.ask("GET", "/share", authorization="Basic !!!!").status == 401


def test_what_people_upload_is_not_shown(stock: Stock, site: Site) -> None:
    """Stock has the browser run it in the name of this server."""
    put(stock, site, "a.html")
    assert "content-disposition" not in stock.ask("GET", "/share/a.html").headers
    assert header(site.ask("GET", "/share/a.html"), "Content-Disposition") == "attachment"


def test_a_large_body_is_refused(stock: Stock, site: Site) -> None:
    """Stock parses XML of any size."""
    put(stock, site, "a")
    inner = "<D:prop>" + "<a/>" * 20_000 + "</D:prop>"
    body = f'<D:propfind xmlns:D="DAV:">{inner}</D:propfind>'.encode()
    assert stock.ask("PROPFIND", "/share/a", body, depth="0").status == 207
    assert site.ask("PROPFIND", "/share/a", body, depth="0").status == 413


def test_basic_is_the_only_way_to_sign_in(site: Site) -> None:
    """Stock offers Digest first, which needs passwords that can be read back."""
    assert DEFAULT_CONFIG["http_authenticator"]["default_to_digest"]
    challenge = header(site.ask("GET", "/share", authorization=""), "WWW-Authenticate")
    assert challenge.startswith("Basic ")
    assert "Digest" not in challenge
