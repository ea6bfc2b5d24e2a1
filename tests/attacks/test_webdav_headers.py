"""Hostile header fields against the running gateway: If, Depth, Range, Timeout, dates and sizes."""

from __future__ import annotations

import re
import time

import pytest

from tests.attacks.support import Target

CONTENT = bytes(range(256)) * 4
LOCKINFO = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/>'
    b"</D:locktype></D:lockinfo>"
)


@pytest.fixture
def file(target: Target, folder: str) -> str:
    """The path of a file of 1,024 bytes."""
    assert target.ask("PUT", f"{folder}/a", body=CONTENT).status == 201
    return f"{folder}/a"


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "LOCK", "PROPPATCH"])
@pytest.mark.parametrize("unit", ["<", "(", "[", "(<", "<a>", "(<a>", "Not ", "(<a> Not "])
def test_a_hostile_if_header_costs_little(
    target: Target, file: str, unit: str, method: str
) -> None:
    """60 kB of it took stock wsgidav's parser 12.5 s of processor time; here: 400, one record."""
    before = target.cpu_s()
    value = unit * (60_000 // len(unit))
    body = {"PUT": b"x", "LOCK": LOCKINFO}.get(method, b"")
    reply, records = target.audited(method, file, f"If: {value}", body=body)
    assert reply.status == 400
    assert [(record.outcome, record.rule) for record in records] == [("denied", f"{method} 400")]
    assert target.cpu_s() - before < 0.3
    assert target.ask("GET", file).body == CONTENT


def test_an_if_header_that_names_many_resources_is_refused(target: Target, file: str) -> None:
    """Each would cost a look-up: a thousand of them are not made."""
    before = target.cpu_s()
    value = "".join(f"</radiology/{number}> (<urn:x>)" for number in range(2000))
    assert target.ask("PUT", file, f"If: {value}", body=b"x").status == 400
    assert target.cpu_s() - before < 0.3


def test_an_if_header_tells_nothing_of_others_files(target: Target, file: str) -> None:
    """A condition on what alice may not see fails as one on what is not there, with "Not" too."""
    answers = set()
    for share in ("inbox", "no-such-share"):
        for condition in ("(<urn:x>)", '(["x"])', "(Not <urn:x>)", '(Not ["x"])'):
            for name in ("patient-4711-others-secret", "nothing"):
                value = f"</{share}/{name}> {condition}"
                reply = target.ask("PUT", file, f"If: {value}", body=CONTENT)
                answers.add((condition, reply.status, reply.body))
    assert len(answers) == 4


@pytest.mark.parametrize("depth", ["infinity", "Infinity", None])
def test_a_large_tree_is_not_listed_in_one_go(
    target: Target, folder: str, depth: str | None
) -> None:
    """403 propfind-finite-depth, also where no Depth means it, at the cost of one look-up."""
    for number in range(5):
        assert target.ask("MKCOL", f"{folder}/{number}").status == 201
    fields = () if depth is None else (f"Depth: {depth}",)
    for path in (folder, "/radiology", "/"):
        reply, records = target.audited("PROPFIND", path, *fields)
        assert reply.status == 403
        assert b"propfind-finite-depth" in reply.body
        assert len(reply.body) < 1000
        assert [record.rule for record in records] == ["PROPFIND 403"]


@pytest.mark.parametrize("depth", ["2", "-1", "0,1", "1, noroot", "infinity,noroot", "\xb9", "0 1"])
def test_other_depths_are_refused(target: Target, folder: str, depth: str) -> None:
    """400 and one record; a DELETE or COPY that was not understood changes nothing."""
    for method in ("PROPFIND", "DELETE", "COPY", "MOVE", "LOCK"):
        body = LOCKINFO if method == "LOCK" else b""
        reply, records = target.audited(
            method, folder, f"Depth: {depth}", f"Destination: {folder}-copy", body=body
        )
        assert reply.status == 400
        assert [record.rule for record in records] == [f"{method} 400"]
    assert target.holds(folder)
    assert not target.holds(f"{folder}-copy")


@pytest.mark.parametrize("method", ["DELETE", "MOVE"])
def test_a_folder_is_not_deleted_or_moved_without_its_content(
    target: Target, folder: str, method: str
) -> None:
    """RFC 4918 sections 9.6.1 and 9.9.2 know no other Depth than infinity."""
    for depth in ("0", "1"):
        reply = target.ask(method, folder, f"Depth: {depth}", f"Destination: {folder}-copy")
        assert reply.status == 400
    assert target.holds(folder)


@pytest.mark.parametrize(
    "value",
    [
        "bytes=5-2",
        "bytes=-",
        "bytes=",
        "bytes=a-b",
        "bytes=0x1-5",
        "bytes=+1-5",
        "bytes=1_0-50",
        "bytes=\xb2-5",
        "bytes=0-5;6-9",
        "lines=0-5",
        "0-5",
        "bytes 0-5",
        "bytes=" + ",".join(f"{number}-{number}" for number in range(0, 1000, 2)),
        "bytes=" + "0-," * 5000,
        "bytes=" + "9" * 5000 + "-",
        "bytes=-" + "9" * 5000,
    ],
)
def test_ranges_that_mean_nothing_are_ignored(target: Target, file: str, value: str) -> None:
    """The whole file, as RFC 9110 section 14.2 says; stock wsgidav answers some with a 206."""
    reply = target.ask("GET", file, f"Range: {value}")
    assert (reply.status, reply.body) == (200, CONTENT)


@pytest.mark.parametrize(
    "value",
    ["bytes=1024-", "bytes=1024-2000", "bytes=-0", f"bytes={2**63 - 1}-", f"bytes={2**64}-"],
)
def test_ranges_beyond_the_file_are_416(target: Target, file: str, value: str) -> None:
    """With the size that it has, and nothing of its content."""
    reply = target.ask("GET", file, f"Range: {value}")
    assert reply.status == 416
    assert "content-range: bytes */1024" in reply.head.lower()
    assert reply.body == b"" or CONTENT[:16] not in reply.body


@pytest.mark.parametrize(
    ("value", "offset", "size"),
    [
        (f"bytes=0-{2**63 - 1}", 0, 1024),
        (f"bytes=-{2**63}", 0, 1024),
        ("bytes=1000-99999", 1000, 24),
        ("bytes=-1", 1023, 1),
    ],
)
def test_oversized_ranges_end_with_the_file(
    target: Target, file: str, value: str, offset: int, size: int
) -> None:
    """What there is of it."""
    reply = target.ask("GET", file, f"Range: {value}")
    assert (reply.status, reply.body) == (206, CONTENT[offset : offset + size])


def test_overlapping_ranges_send_no_byte_twice(target: Target, folder: str) -> None:
    """A hundred times the same megabyte would be a hundred megabytes for one small request."""
    path, before = f"{folder}/large", target.peak_mib()
    assert target.ask("PUT", path, body=bytes(1 << 20)).status == 201
    for value in ("0-," * 99 + "0-", ",".join(f"{number}-" for number in range(100))):
        reply = target.ask("GET", path, f"Range: bytes={value}")
        assert reply.status in {200, 206}
        assert len(reply.body) <= (1 << 20) + 1000
    assert target.peak_mib() - before < 16


@pytest.mark.parametrize(
    ("value", "granted"),
    [
        ("Infinite", 3600),
        ("Infinite, Second-4100000000", 3600),
        ("Second-4294967295", 3600),
        ("Second-99999999999999999999", 3600),
        ("Second-" + "9" * 5000, 3600),
        ("Second-" + "0" * 60_000 + "7", 7),
        ("Second-" + "0" * 60_000 + "x", 600),
        ("Second-7", 7),
        ("Second--7", 600),
        ("Second-0x7", 600),
        ("Second-\xb2", 600),
        ("Second-1_0", 600),
        ("x" * 60_000, 600),
        ("Second-," * 7000, 600),
        ("," * 60_000, 600),
    ],
)
def test_no_lock_lives_for_ever(target: Target, folder: str, value: str, granted: int) -> None:
    """Whatever Timeout says, a lock that nobody refreshes runs out within the hour."""
    before = target.cpu_s()
    reply = target.ask("LOCK", f"{folder}/a", f"Timeout: {value}", "Depth: 0", body=LOCKINFO)
    assert reply.status == 201
    match = re.search(rb"Second-(\d+)", reply.body)
    assert match is not None
    assert granted - 1 <= int(match[1]) <= granted
    assert b"Infinite" not in reply.body
    assert target.cpu_s() - before < 0.3


@pytest.mark.parametrize(
    "field",
    [
        "If-Match: " + '"a",' * 15_000,
        "If-None-Match: " + 'W/"' * 20_000,
        "If-Modified-Since: " + "Sun, " * 12_000,
        "If-Range: " + '"' * 60_000,
        "Overwrite: " + "T" * 60_000,
        "Lock-Token: " + "<" * 60_000,
        "X-OC-Mtime: " + "9" * 60_000,
        "X-Expected-Entity-Length: " + "9" * 60_000,
        "Content-Type: " + "x;" * 30_000,
        "Accept-Encoding: " + "gzip;q=0.1," * 5_000,
        "User-Agent: " + "\xe9" * 60_000,
    ],
    ids=lambda field: field.partition(":")[0],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "COPY", "UNLOCK"])
def test_long_fields_cost_little(target: Target, file: str, field: str, method: str) -> None:
    """60 kB of any field: an answer at once, and never a failure of ours."""
    before, began = target.cpu_s(), time.monotonic()
    body = b"x" if method == "PUT" else b""
    reply = target.ask(method, file, field, f"Destination: {file}-copy", body=body)
    assert reply.status in {200, 201, 204, 304, 400, 409, 412, 413, 415}
    assert target.cpu_s() - before < 0.3
    assert time.monotonic() - began < 5
