"""Hostile XML against the running gateway: bombs, foreign entities, sizes, script, live properties."""

from __future__ import annotations

import socket
import time

import pytest

from tests.attacks.support import Target
from tests.support.replies import Record

MIB = 1 << 20

# What each method reads, with a place for a definition before it and for text inside it.
BODIES = {
    "PROPFIND": '{head}<D:propfind xmlns:D="DAV:"><D:prop><D:x>{inner}</D:x></D:prop></D:propfind>',
    "PROPPATCH": '{head}<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x xmlns="urn:x">{inner}</x>'
    "</D:prop></D:set></D:propertyupdate>",
    "LOCK": '{head}<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype>'
    "<D:write/></D:locktype><D:owner>{inner}</D:owner></D:lockinfo>",
}
LAUGHS = "".join(
    f'<!ENTITY l{level} "{f"&l{level - 1};" * 10 if level else "lol"}">' for level in range(10)
)
BOMBS = {
    "billion laughs": (f"<!DOCTYPE x [{LAUGHS}]>", "&l9;"),
    "one large entity": (f'<!DOCTYPE x [<!ENTITY l "{"a" * 50_000}">]>', "&l;" * 50_000),
    "parameter entities": ('<!DOCTYPE x [<!ENTITY % a "b"> %a;]>', ""),
    "a file": ('<!DOCTYPE x [<!ENTITY l SYSTEM "file:///etc/passwd">]>', "&l;"),
    "an address": ('<!DOCTYPE x [<!ENTITY l SYSTEM "http://127.0.0.1:PORT/">]>', "&l;"),
    "a foreign DTD": ('<!DOCTYPE x SYSTEM "http://127.0.0.1:PORT/x.dtd">', ""),
    "a bare DTD": ("<!DOCTYPE x>", ""),
}


def body_of(method: str, head: str, inner: str, encoding: str = "utf-8") -> bytes:
    """Return a method's body with ``head`` before its element and ``inner`` in it."""
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'
    return (declared + BODIES[method].format(head=head, inner=inner)).encode(encoding)


def said(records: list[Record]) -> list[tuple[str, str]]:
    return [(record.outcome, record.rule) for record in records]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("method", BODIES)
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_definitions_are_refused(
    target: Target, folder: str, bomb: tuple[str, str], method: str, encoding: str
) -> None:
    """400 without expanding or fetching anything, one record, and nothing is made or locked."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0)
        head = bomb[0].replace("PORT", str(trap.getsockname()[1]))
        body = body_of(method, head, bomb[1], encoding)
        cpu_s, peak_mib = target.cpu_s(), target.peak_mib()
        path = f"{folder}/a" if method == "LOCK" else folder
        reply, records = target.audited(method, path, "Depth: 0", body=body)
        assert reply.status == 400
        assert b"root:" not in reply.body
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert said(records) == [("denied", f"{method} 400")]
    assert target.cpu_s() - cpu_s < 0.5
    assert target.peak_mib() - peak_mib < 8
    assert not target.holds(f"{folder}/a")


@pytest.mark.parametrize("method", ["PROPFIND", "PROPPATCH"])
def test_utf_16_is_read(target: Target, folder: str, method: str) -> None:
    """RFC 4918 section 8.2 obliges servers to: it is the DTD that is refused."""
    body = body_of(method, "", "\u00e9", "utf-16")
    assert target.ask(method, folder, "Depth: 0", body=body).status == 207


@pytest.mark.parametrize("coded", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("method", BODIES)
def test_ten_megabytes_are_not_read(target: Target, folder: str, method: str, coded: bool) -> None:
    """413, one record, a flat memory."""
    peak_mib = target.peak_mib()
    body = body_of(method, "", "x" * (10 * MIB))
    coding = ("Transfer-Encoding: chunked",) if coded else ()
    if coded:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    reply, records = target.audited(method, folder, "Depth: 0", *coding, body=body)
    assert reply.status == 413
    assert said(records) == [("denied", f"{method} 413")]
    assert target.peak_mib() - peak_mib < 8


@pytest.mark.parametrize("method", BODIES)
@pytest.mark.parametrize("inner", ["<a/>" * 200_000, "<a>" * 100_000, "<a>" * 200 + "</a>" * 200])
def test_many_and_deep_elements_are_refused(
    target: Target, folder: str, method: str, inner: str
) -> None:
    """A small body that would be a large tree is not built."""
    peak_mib, cpu_s = target.peak_mib(), target.cpu_s()
    reply, records = target.audited(method, folder, "Depth: 0", body=body_of(method, "", inner))
    assert reply.status == 413
    assert said(records) == [("denied", f"{method} 413")]
    assert target.peak_mib() - peak_mib < 8
    assert target.cpu_s() - cpu_s < 0.5


def propfind(target: Target, path: str, *names: str) -> bytes:
    """Return the answer about these properties; with none, about all."""
    asked = f"<D:prop>{''.join(names)}</D:prop>" if names else "<D:allprop/>"
    body = f'<D:propfind xmlns:D="DAV:">{asked}</D:propfind>'.encode()
    return target.ask("PROPFIND", path, "Depth: 0", body=body).body


@pytest.mark.parametrize(
    "name",
    [
        "getetag",
        "getcontentlength",
        "getlastmodified",
        "creationdate",
        "resourcetype",
        "lockdiscovery",
        "supportedlock",
        "quota-used-bytes",
        "quota-available-bytes",
        "made-up",
    ],
)
@pytest.mark.parametrize("verb", ["set", "remove"])
def test_live_properties_are_protected(target: Target, folder: str, name: str, verb: str) -> None:
    """403 for the property of DAV:, 424 for the innocent one beside it, and neither is changed."""
    before = propfind(target, folder)
    body = (
        f'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x xmlns="urn:x">1</x></D:prop></D:set>'
        f"<D:{verb}><D:prop><D:{name}/></D:prop></D:{verb}></D:propertyupdate>"
    )
    reply = target.ask("PROPPATCH", folder, body=body.encode())
    assert reply.status == 207
    assert b" 403 " in reply.body
    assert b" 424 " in reply.body
    assert b" 200 " not in reply.body
    assert propfind(target, folder) == before


def test_script_in_a_lock_owner_stays_xml(target: Target, folder: str) -> None:
    """It comes back as data of an XML document that a browser runs nothing of."""
    script = '<h:script xmlns:h="http://www.w3.org/1999/xhtml">alert(1)</h:script>'
    lock = target.ask("LOCK", f"{folder}/a", body=body_of("LOCK", "", script))
    assert lock.status == 201
    for reply in (lock, target.ask("PROPFIND", folder, "Depth: 1")):
        head = reply.head.lower()
        assert "content-type: application/xml" in head
        assert "sandbox" in head.partition("content-security-policy:")[2].partition("\r\n")[0]
        assert b"<script" not in reply.body


@pytest.mark.parametrize(
    "name",
    [
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "%3Cimg%20src=x%20onerror=alert(1)%3E.html",
        "a'%22%3E.svg",
    ],
)
def test_script_in_names_and_files_never_runs(target: Target, folder: str, name: str) -> None:
    """Downloaded, not shown; escaped in listings; never repeated in an error."""
    content = b"<html><script>alert(1)</script></html>"
    path = f"{folder}/{name}"
    put = target.ask("PUT", path, body=content)
    if "%2F" in name:
        assert put.status == 400
        return
    assert put.status == 201
    reply = target.ask("GET", path)
    assert reply.body == content
    assert "content-disposition: attachment" in reply.head.lower()
    listing = target.ask("PROPFIND", folder, "Depth: 1")
    for answer in (listing, target.ask("GET", f"{path}x"), target.ask("GET", folder)):
        assert b"<img" not in answer.body
        assert b"<script" not in answer.body


def test_a_page_for_browsers_names_nothing(target: Target, folder: str) -> None:
    """A GET on a folder says how to connect; other methods do not list it either."""
    assert target.ask("PUT", f"{folder}/some-name", body=b"x").status == 201
    for path in ("/", "/radiology", folder, f"{folder}/"):
        page = target.ask("GET", path)
        assert page.status == 200
        assert b"some-name" not in page.body
        assert b"radiology" not in page.body
        for method in ("POST", "TRACE", "SEARCH", "REPORT", "PATCH", "CONNECT"):
            reply = target.ask(method, path)
            assert reply.status == 405
            assert b"some-name" not in reply.body


def test_bombs_cost_no_time_of_others(target: Target, folder: str) -> None:
    """While one client sends bombs as fast as it can, another is served at once."""
    body = body_of("PROPFIND", *BOMBS["billion laughs"])
    for _ in range(10):
        with target.connect() as sock:
            sock.sendall(target.request("PROPFIND", folder, body=body) * 20)
            began = time.monotonic()
            assert target.ask("PROPFIND", folder, "Depth: 0").status == 207
            assert time.monotonic() - began < 5
