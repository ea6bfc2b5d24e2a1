"""GET and HEAD."""

from __future__ import annotations

import pytest

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.settings import BLOCK_BYTES
from tests.webdav.support import Site, content, header

PATH = VirtualPath.parse("/share/a.html")
LARGE = bytes(range(256)) * (BLOCK_BYTES // 256 * 2) + b"tail"


@pytest.fixture
def tag(site: Site) -> str:
    """The entity tag of ``/share/a.html``, which holds ``0123456789``."""
    return f'"{site.monitor.make(PATH, Kind.FILE, b"0123456789").info.version_id}"'


def test_a_file_is_sent_whole_and_as_a_download(site: Site, tag: str) -> None:
    """With tag, time and type; never to be shown in this server's name."""
    answer = site.ask("GET", "/share/a.html")
    assert (answer.status, content(answer)) == (200, b"0123456789")
    assert header(answer, "ETag") == tag
    assert header(answer, "Content-Type") == "text/html"
    assert header(answer, "Content-Disposition") == "attachment"
    assert header(answer, "Accept-Ranges") == "bytes"
    assert header(answer, "Last-Modified").endswith(" GMT")
    assert site.monitor.reads == [("/share/a.html", True)]


def test_a_large_file_comes_in_blocks(site: Site) -> None:
    """No block is larger than BLOCK_BYTES, and together they are the file."""
    site.monitor.make(PATH, Kind.FILE, LARGE)
    answer = site.ask("GET", "/share/a.html")
    assert answer.stream is not None
    blocks = list(answer.stream.blocks())
    assert b"".join(blocks) == LARGE
    assert answer.stream_bytes == len(LARGE)
    assert max(map(len, blocks)) <= BLOCK_BYTES
    answer.stream.close(complete=False)
    assert site.monitor.reads == [("/share/a.html", False)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=2-5", (206, b"2345", "bytes 2-5/10")),
        ("bytes=-3", (206, b"789", "bytes 7-9/10")),
        ("bytes=7-", (206, b"789", "bytes 7-9/10")),
        ("bytes=10-", (416, b"", "bytes */10")),
        ("bytes=-0", (416, b"", "bytes */10")),
        ("bytes=5-2", (200, b"0123456789", "")),
        ("bytes=0-1,4-5", (200, b"0123456789", "")),
    ],
)
def test_one_range_is_served(
    site: Site, tag: str, value: str, expected: tuple[int, bytes, str]
) -> None:
    """206, 416, or the whole where the header is to be ignored."""
    answer = site.ask("GET", "/share/a.html", range=value)
    found = (answer.status, content(answer), header(answer, "Content-Range"))
    assert found == expected


def test_a_range_over_blocks(site: Site) -> None:
    """A range that begins in one block and ends in another."""
    site.monitor.make(PATH, Kind.FILE, LARGE)
    answer = site.ask("GET", "/share/a.html", range=f"bytes=1000-{BLOCK_BYTES + 2000}")
    assert content(answer) == LARGE[1000 : BLOCK_BYTES + 2001]


def test_if_range_sends_the_whole_of_a_changed_file(site: Site, tag: str) -> None:
    """A resumed download must not be stitched from two versions."""
    same = site.ask("GET", "/share/a.html", range="bytes=5-", if_range=tag)
    other = site.ask("GET", "/share/a.html", range="bytes=5-", if_range='"old"')
    assert (same.status, other.status) == (206, 200)


def test_an_unchanged_file_is_not_sent_again(site: Site, tag: str) -> None:
    """304 for the tag and for an equal date, without opening the file."""
    modified = header(site.ask("HEAD", "/share/a.html"), "Last-Modified")
    for method in ("GET", "HEAD"):
        for headers in ({"if_none_match": tag}, {"if_modified_since": modified}):
            answer = site.ask(method, "/share/a.html", b"", **headers)
            assert (answer.status, header(answer, "ETag")) == (304, tag)
        assert site.ask(method, "/share/a.html", if_match='"old"').status == 412
    assert site.monitor.reads == []


def test_head_announces_what_get_sends(site: Site, tag: str) -> None:
    """The same headers, the size, no content; a Range is ignored."""
    got = site.ask("GET", "/share/a.html")
    head = site.ask("HEAD", "/share/a.html", range="bytes=0-1")
    assert (head.status, head.length, head.headers) == (200, 10, got.headers)


def test_a_folder_shows_how_to_connect_and_no_names(site: Site, tag: str) -> None:
    """Browsers get a fixed page; HEAD on a folder is 200 (Office asks)."""
    for target in ("/", "/share", "/share/"):
        answer = site.ask("GET", target)
        assert answer.status == 200
        assert b"a.html" not in answer.body
        assert site.ask("HEAD", target).status == 200


def test_an_empty_file_is_sent(site: Site) -> None:
    """Nothing to read is no error."""
    site.monitor.make(PATH, Kind.FILE)
    answer = site.ask("GET", "/share/a.html")
    assert (answer.status, answer.body) == (200, b"")


def test_a_missing_file_is_404(site: Site) -> None:
    """Whatever conditions come with it."""
    assert site.ask("GET", "/share/none").status == 404
    assert site.ask("GET", "/share/none", if_match="*").status == 404
