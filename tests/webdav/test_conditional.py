"""Conditions, parts and digests of RFC 9110, 4918 and 9530, asked over the real door."""

from __future__ import annotations

import base64
import hashlib
import threading

import pytest

from auth.policy import PathRule
from gateway.model import Action, Wire
from gateway.webdav.conditions import http_date
from tests.door.support import ALL, at, outline, staff
from tests.webdav.real_site import FILE, FOLDER, LOCK_BODY, OTHER, UPDATE, RealSite
from tests.webdav.support import content, header

LARGE = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(60_000))

REQUESTS = [
    ("PUT", FILE, b"x", {}),
    ("DELETE", FILE, b"", {}),
    ("MOVE", FILE, b"", {"destination": f"{FOLDER}/new"}),
    ("COPY", FILE, b"", {"destination": f"{FOLDER}/new"}),
    ("PROPPATCH", FILE, UPDATE, {}),
    ("LOCK", FILE, LOCK_BODY, {}),
]


@pytest.mark.parametrize(("method", "target", "body", "headers"), REQUESTS)
def test_a_condition_is_judged_on_what_is_stored(
    real: RealSite, method: str, target: str, body: bytes, headers: dict[str, str]
) -> None:
    """412 for another tag, a list without it, an earlier time; else the change happens."""
    etag, before = real.etag(), real.gate.content()
    past = http_date(real.gate.clock() // 1_000_000 - 100)
    refused = (
        {"if-match": '"old"'},
        {"if-match": f"W/{etag}"},
        {"if-none-match": f'"x", {etag}'},
        {"if-none-match": "*"},
        {"if-unmodified-since": past},
        {"if": '(["old"])'},
        {"if": f"(Not [{etag}])"},
        {"if": f"<{FILE}> (<urn:uuid:none>)"},
        {"if": f'<{OTHER}> (["old"])'},
    )
    for condition in refused:
        answer = real.ask(method, target, body, headers=headers | condition)
        assert answer.status == 412, condition
    assert real.gate.content() == before
    good = headers | {
        "if-match": f'"x", {etag}',
        "if-unmodified-since": past,
        "if-none-match": '"x"',
        "if": f"(<urn:x>) ([{etag}] Not <DAV:no-lock>)",
    }
    assert real.ask(method, target, body, headers=good).status in {200, 201, 204, 207}
    assert real.gate.content() != before


@pytest.mark.parametrize(("method", "target", "body", "headers"), REQUESTS)
def test_rights_come_before_conditions(
    real: RealSite, method: str, target: str, body: bytes, headers: dict[str, str]
) -> None:
    """RFC 4918 section 8.2: whoever may not do it is not told whether the condition holds."""
    needs = Action.READ if method == "COPY" else None
    real.gate.policy.replace(staff(without=ALL - {Action.LIST} - {needs}))
    for condition in ({"if-match": '"old"'}, {"if-match": "*"}, {"if": '(["old"])'}):
        assert real.ask(method, target, body, headers=headers | condition).status == 403


def test_what_may_not_be_seen_is_absent_to_a_condition(real: RealSite) -> None:
    """A tag or a lock of a file that policy hides can be asked after, and never matches."""
    etag, token = real.etag(OTHER), real.lock(OTHER)
    hidden = PathRule("/f/other", deny=ALL)
    real.gate.policy.replace(staff(hidden))
    for state in (f"[{etag}]", f"<{token}>"):
        for method, body in (("PUT", b"x"), ("GET", b""), ("PROPFIND", b"")):
            given = {"if": f"<{OTHER}> ({state})", "depth": "0"}
            assert real.ask(method, FILE, body, headers=given).status == 412


def test_a_condition_may_speak_of_the_destination(real: RealSite) -> None:
    """RFC 4918 section 10.4.9: the tag of what is about to be replaced."""
    etag = real.etag(OTHER)
    assert real.ask("PUT", OTHER, b"newer").status == 204
    for method in ("COPY", "MOVE"):
        given = {"destination": OTHER, "if": f"<{OTHER}> ([{etag}])"}
        assert real.ask(method, FILE, headers=given).status == 412
    given["if"] = f"<https://localhost{OTHER}> ([{real.etag(OTHER)}])"
    assert real.ask("MOVE", FILE, headers=given).status == 204


def test_a_false_if_header_fails_even_where_locked(real: RealSite) -> None:
    """RFC 4918 section 10.4.1: 412 for a stale token; 423 only for who submits none."""
    token = real.lock(FILE)
    assert real.ask("PUT", FILE, b"x", headers={"if": "(<urn:uuid:stale>)"}).status == 412
    assert real.ask("PUT", FILE, b"x").status == 423
    etag = real.etag()
    assert real.ask("PUT", FILE, b"x", headers={"if": f"(<{token}> [{etag}])"}).status == 204
    assert real.ask("PUT", FILE, b"x", headers={"if": f"(<{token}> [{etag}])"}).status == 412


def test_a_free_name_is_made_under_if_none_match(real: RealSite) -> None:
    """``*`` holds for PUT, MKCOL and LOCK of a free name; If-Match of anything does not."""
    for method, name, body in (("PUT", "a", b"x"), ("MKCOL", "b", b""), ("LOCK", "c", LOCK_BODY)):
        target = f"{FOLDER}/{name}"
        assert real.ask(method, target, body, headers={"if-match": "*"}).status == 412
        assert real.ask("HEAD", target).status == 404
        assert real.ask(method, target, body, headers={"if-none-match": "*"}).status == 201


@pytest.mark.parametrize("method", ["PUT", "DELETE", "MOVE"])
def test_of_many_who_saw_one_version_one_changes_it(real: RealSite, method: str) -> None:
    """The condition is judged in the transaction of the change: no update is lost."""
    threads, statuses = 6, []
    given = {"if-match": real.etag()}
    real.ask("OPTIONS", "/")
    together = threading.Barrier(threads)

    def change(number: int) -> None:
        together.wait(10)
        headers = given | {"destination": f"{FOLDER}/moved-{number}"}
        # Half of them write, so that the others never act on a version that they did not see.
        done = "PUT" if number % 2 else method
        body = b"x" if done == "PUT" else b""
        statuses.append(real.ask(done, FILE, body, headers=headers).status)

    running = [threading.Thread(target=change, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(30)
    assert len([status for status in statuses if status in {201, 204}]) == 1
    assert set(statuses) <= {201, 204, 404, 412}


# Parts and digests


def test_parts_of_a_large_file_are_its_bytes(real: RealSite) -> None:
    """Across blocks and chunks, streamed, of the announced size, with the digest of the whole."""
    assert real.ask("PUT", FILE, LARGE).status == 204
    wanted = [(1_000_000, 1_500_000), (0, 0), (65_535, 65_536), (300_000, 999_990)]
    value = "bytes=" + ",".join(f"{first}-{last}" for first, last in wanted)
    answer = real.ask("GET", FILE, headers={"range": value})
    assert answer.status == 206
    assert answer.stream is not None
    boundary = header(answer, "Content-Type").partition("boundary=")[2]
    data = content(answer)
    assert len(data) == answer.stream_bytes
    assert (
        data
        == b"".join(
            f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Range: bytes {first}-{last}/{len(LARGE)}\r\n\r\n".encode()
            + LARGE[first : last + 1]
            for first, last in wanted
        )
        + f"\r\n--{boundary}--\r\n".encode()
    )
    assert header(answer, "Repr-Digest") == digest_of(LARGE)
    ended = [record for record in real.gate.records() if record["action"] == "read_end"]
    assert ended[-1]["bytes"] == sum(last - first + 1 for first, last in wanted)


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "inline", "segments"])
def test_the_digest_is_stored_told_and_checked(real: RealSite, data: bytes) -> None:
    """What GET and HEAD tell is what PUT accepts; another content is refused and not kept."""
    assert real.ask("PUT", FILE, data, headers={"repr-digest": digest_of(data)}).status == 204
    for method in ("GET", "HEAD"):
        answer = real.ask(method, FILE)
        assert header(answer, "Repr-Digest") == digest_of(data)
    assert content(real.ask("GET", FILE)) == data
    real.gate.new_records()
    before = real.gate.content()
    wrong = {"content-digest": digest_of(data + b"x")}
    assert real.ask("PUT", FILE, data, headers=wrong).status == 400
    assert real.gate.content() == before
    records = real.gate.new_records()
    assert outline(records) == [("write", "aborted")]
    assert records[0]["rule"] == "digest mismatch"
    assert real.ask("PUT", f"{FOLDER}/new", data, headers=wrong).status == 400
    assert real.ask("HEAD", f"{FOLDER}/new").status == 404


def test_content_changed_in_place_has_no_digest_yet(real: RealSite) -> None:
    """Nothing is told rather than something old; a whole new content has one again."""
    assert real.ask("PUT", FILE, LARGE).status == 204
    handle = real.gate.door("alice", wire=Wire.SFTP).open_write(at(FILE), keep=True)
    handle.write_at(500_000, b"changed")
    handle.commit()
    for method in ("GET", "HEAD"):
        answer = real.ask(method, FILE)
        assert (answer.status, header(answer, "Repr-Digest")) == (200, "")
        content(answer)
    assert real.ask("PUT", FILE, b"x").status == 204
    assert header(real.ask("HEAD", FILE), "Repr-Digest") == digest_of(b"x")


def test_who_may_only_list_is_not_told_the_digest(real: RealSite) -> None:
    """It would confirm a guess at the content."""
    real.gate.policy.replace(staff(without=ALL - {Action.LIST}))
    answer = real.ask("HEAD", FILE)
    assert (answer.status, header(answer, "Repr-Digest")) == (200, "")
    assert real.ask("GET", FILE).status == 403
