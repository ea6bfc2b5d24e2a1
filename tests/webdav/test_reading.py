"""GET and HEAD."""

from __future__ import annotations

import base64
import hashlib

import pytest

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.messages import Response
from gateway.webdav.settings import BLOCK_BYTES
from tests.webdav.fake_door import FakeDoor, FakeReader
from tests.webdav.support import Site, body_of, content, header

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
        ("bytes=0-1,20-30", (206, b"01", "bytes 0-1/10")),
        ("bytes=0-4,3-8", (206, b"012345678", "bytes 0-8/10")),
        ("bytes=5-2", (200, b"0123456789", "")),
        ("bytes=0-1,5-2", (200, b"0123456789", "")),
        ("octets=0-1", (200, b"0123456789", "")),
    ],
)
def test_one_range_is_served(
    site: Site, tag: str, value: str, expected: tuple[int, bytes, str]
) -> None:
    """206 with the one part that is left, or the whole where the header is to be ignored."""
    answer = site.ask("GET", "/share/a.html", range=value)
    found = (answer.status, content(answer), header(answer, "Content-Range"))
    assert found == expected
    assert header(answer, "Content-Type") == "text/html"
    assert header(answer, "ETag") == tag


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=-0", "bytes=10-11,20-"])
def test_a_range_beyond_the_end_is_416(site: Site, tag: str, value: str) -> None:
    """With the size that the client got wrong, and with nothing of the file's own headers."""
    answer = site.ask("GET", "/share/a.html", range=value)
    assert (answer.status, header(answer, "Content-Range")) == (416, "bytes */10")
    assert header(answer, "Content-Type").startswith("text/plain")
    assert header(answer, "ETag") == ""
    assert site.monitor.reads == [("/share/a.html", True)]


def parts_of(answer: Response) -> list[tuple[str, str, bytes]]:
    """Return type, place and content of each part, taken apart as RFC 2046 section 5.1.1 says."""
    kind, _, boundary = header(answer, "Content-Type").partition("; boundary=")
    assert kind == "multipart/byteranges"
    preamble, *pieces, epilogue = content(answer).split(f"\r\n--{boundary}".encode())
    assert (preamble, epilogue) == (b"", b"--\r\n")
    found = []
    for piece in pieces:
        head, _, data = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        assert fields.keys() == {"Content-Type", "Content-Range"}
        found.append((fields["Content-Type"], fields["Content-Range"], data))
    return found


def test_several_ranges_come_as_parts(site: Site, tag: str) -> None:
    """Each with its place, in the order asked for; the answer itself has no Content-Range."""
    answer = site.ask("GET", "/share/a.html", range="bytes=7-8, 0-1, 99-, 4-4")
    assert (answer.status, header(answer, "Content-Range")) == (206, "")
    assert (header(answer, "ETag"), header(answer, "Accept-Ranges")) == (tag, "bytes")
    assert parts_of(answer) == [
        ("text/html", "bytes 7-8/10", b"78"),
        ("text/html", "bytes 0-1/10", b"01"),
        ("text/html", "bytes 4-4/10", b"4"),
    ]
    assert site.monitor.reads == [("/share/a.html", True)]


def test_large_parts_are_streamed(site: Site) -> None:
    """No block but one at a time lies in memory, and the announced size is the sent one."""
    site.monitor.make(PATH, Kind.FILE, LARGE)
    value = f"bytes={BLOCK_BYTES}-{2 * BLOCK_BYTES},0-{BLOCK_BYTES - 10},-2"
    answer = site.ask("GET", "/share/a.html", range=value)
    assert answer.stream is not None
    blocks = list(answer.stream.blocks())
    assert sum(map(len, blocks)) == answer.stream_bytes
    assert max(map(len, blocks)) <= BLOCK_BYTES + 200
    assert site.monitor.reads == []
    answer.stream.close(complete=True)
    assert site.monitor.reads == [("/share/a.html", True)]
    again = site.ask("GET", "/share/a.html", range=value)
    assert [data for _, _, data in parts_of(again)] == [
        LARGE[BLOCK_BYTES : 2 * BLOCK_BYTES + 1],
        LARGE[: BLOCK_BYTES - 9],
        LARGE[-2:],
    ]


def test_a_hundred_ranges_are_served_and_more_are_sent_whole(site: Site) -> None:
    """Nobody makes the server put together an answer of ten thousand parts."""
    site.monitor.make(PATH, Kind.FILE, LARGE)
    for count, status in ((100, 206), (101, 200), (5000, 200)):
        value = "bytes=" + ",".join(f"{4 * n}-{4 * n + 1}" for n in range(count))
        answer = site.ask("GET", "/share/a.html", range=value)
        assert answer.status == status
        if status == 206:
            assert [data for _, _, data in parts_of(answer)] == [
                LARGE[4 * n : 4 * n + 2] for n in range(count)
            ]


def test_overlapping_ranges_are_never_more_than_the_file(site: Site, tag: str) -> None:
    """A hundred times the whole file is the file once."""
    answer = site.ask("GET", "/share/a.html", range="bytes=" + ",".join(["0-"] * 100))
    assert (answer.status, content(answer)) == (206, b"0123456789")


def test_a_boundary_is_not_known_before_the_content(site: Site, tag: str) -> None:
    """It is the version's id, which nobody could have put into that version's content."""
    answer = site.ask("GET", "/share/a.html", range="bytes=0-0,2-2")
    boundary = header(answer, "Content-Type").partition("boundary=")[2]
    assert boundary == tag.strip('"')


def test_a_range_over_blocks(site: Site) -> None:
    """A range that begins in one block and ends in another."""
    site.monitor.make(PATH, Kind.FILE, LARGE)
    answer = site.ask("GET", "/share/a.html", range=f"bytes=1000-{BLOCK_BYTES + 2000}")
    assert content(answer) == LARGE[1000 : BLOCK_BYTES + 2001]


def test_if_range_sends_the_whole_of_a_changed_file(site: Site, tag: str) -> None:
    """A resumed download must not be stitched from two versions."""
    modified = header(site.ask("HEAD", "/share/a.html"), "Last-Modified")
    for value, status in ((tag, 206), ('"old"', 200), (f"W/{tag}", 200), (modified, 200)):
        for ranges in ("bytes=5-", "bytes=0-1,5-6"):
            answer = site.ask("GET", "/share/a.html", range=ranges, if_range=value)
            assert answer.status == status
    beyond = site.ask("GET", "/share/a.html", range="bytes=10-", if_range='"old"')
    assert (beyond.status, content(beyond)) == (200, b"0123456789")


def test_an_unchanged_file_is_not_sent_again(site: Site, tag: str) -> None:
    """304 for the tag and for an equal date, without opening the file."""
    modified = header(site.ask("HEAD", "/share/a.html"), "Last-Modified")
    for method in ("GET", "HEAD"):
        for headers in ({"if_none_match": tag}, {"if_modified_since": modified}):
            answer = site.ask(method, "/share/a.html", b"", range="bytes=0-1", **headers)
            assert (answer.status, header(answer, "ETag")) == (304, tag)
            assert header(answer, "Last-Modified") == modified
            assert header(answer, "Cache-Control") == "private, no-cache"
            assert (answer.body, header(answer, "Content-Type")) == (b"", "")
        assert site.ask(method, "/share/a.html", if_match='"old"').status == 412
        assert site.ask(method, "/share/a.html", if_match='"old').status == 400
    assert site.monitor.reads == []


def test_a_change_between_look_and_open_is_noticed(site: Site, tag: str) -> None:
    """What is sent is judged by itself, not by what lay there a moment before."""
    original = FakeDoor.open_read
    newer: list[str] = []

    def open_read(door: FakeDoor, path: VirtualPath, **options: int) -> FakeReader:
        newer.append(site.monitor.make(PATH, Kind.FILE, b"newer").info.version_id)
        return original(door, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeDoor, "open_read", open_read)
        assert site.ask("GET", "/share/a.html", if_match=tag).status == 412
        answer = site.ask("GET", "/share/a.html", if_none_match=f'"{newer[-1]}x"')
        assert (answer.status, content(answer)) == (200, b"newer")
    assert site.monitor.reads == [("/share/a.html", False), ("/share/a.html", True)]


def test_conditions_hold_for_folders_too(site: Site) -> None:
    """A folder exists, and has neither tag nor time."""
    for target in ("/", "/share"):
        for method in ("GET", "HEAD"):
            assert site.ask(method, target, if_match="*").status == 200
            assert site.ask(method, target, if_match='"x"').status == 412
            answer = site.ask(method, target, if_none_match="*")
            assert (answer.status, header(answer, "ETag")) == (304, "")
            assert site.ask(method, target, if_none_match='"x"').status == 200


def test_the_stored_digest_is_told(site: Site, tag: str) -> None:
    """Of the whole file, whatever part is sent; unless the client says that it wants none."""
    digest = base64.b64encode(hashlib.sha256(b"0123456789").digest()).decode()
    asked: tuple[tuple[str, str], ...] = (
        ("GET", ""),
        ("HEAD", ""),
        ("GET", "bytes=2-3"),
        ("GET", "bytes=2-3,5-6"),
    )
    for method, value in asked:
        headers = {"range": value} if value else {}
        answer = site.ask(method, "/share/a.html", b"", **headers)
        assert header(answer, "Repr-Digest") == f"sha-256=:{digest}:"
        answer = site.ask(method, "/share/a.html", b"", want_repr_digest="sha-256=0", **headers)
        assert header(answer, "Repr-Digest") == ""
    assert header(site.ask("HEAD", "/share"), "Repr-Digest") == ""


def test_an_unknown_digest_is_not_told(site: Site, tag: str) -> None:
    """A file that was changed in place has none until the scrubber has read it."""
    site.monitor.unhashed.add(PATH)
    for method in ("GET", "HEAD"):
        answer = site.ask(method, "/share/a.html")
        assert (answer.status, header(answer, "Repr-Digest")) == (200, "")


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
        head = site.ask("HEAD", target)
        assert (head.status, head.length, head.headers) == (200, len(answer.body), answer.headers)


def test_a_folder_tells_its_own_address(site: Site) -> None:
    """RFC 4918 section 5.2: asked for without the slash, it names itself with it."""
    site.monitor.make(VirtualPath.parse("/share/a b"), Kind.FOLDER)
    for target, location in (("/share/a%20b", "/share/a%20b/"), ("/share/a%20b/", ""), ("/", "")):
        for method in ("GET", "HEAD"):
            assert header(site.ask(method, target), "Content-Location") == location


def test_a_body_that_nobody_reads_is_refused(site: Site, tag: str) -> None:
    """RFC 4918 section 8.4: 415, for no client means it to be ignored."""
    for method in ("GET", "HEAD"):
        assert site.ask(method, "/share/a.html", b"<x/>").status == 415
        assert site.ask(method, "/share/a.html", body_of(b"0\r\n\r\n", None)).status == 200


def test_an_empty_file_is_sent(site: Site) -> None:
    """Nothing to read is no error."""
    site.monitor.make(PATH, Kind.FILE)
    answer = site.ask("GET", "/share/a.html")
    assert (answer.status, answer.body) == (200, b"")


def test_a_missing_file_is_404(site: Site) -> None:
    """Whatever conditions come with it."""
    assert site.ask("GET", "/share/none").status == 404
    assert site.ask("GET", "/share/none", if_match="*").status == 404
