"""PROPFIND as clients read it."""

from __future__ import annotations

import re

import pytest

from gateway.model import Kind
from gateway.paths import VirtualPath
from gateway.webdav.messages import Response
from tests.webdav.support import Site, header, parsed, properties

NAMED = (
    '<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/><D:quota-available-bytes/>'
    '<D:quota-used-bytes/><D:nonsense/><z:Own xmlns:z="urn:z"/></D:prop></D:propfind>'
)


def fill(site: Site, *names: str) -> None:
    for name in names:
        site.monitor.make(VirtualPath.parse(f"/share/{name}"), Kind.FILE, b"hello")


def find(site: Site, target: str, depth: str, body: str = "") -> Response:
    return site.ask("PROPFIND", target, body.encode(), depth=depth)


def test_a_file_tells_what_drives_show(site: Site) -> None:
    """Size, strong quoted tag, times, type, kind and locks, in one propstat."""
    fill(site, "a.pdf")
    answer = find(site, "/share/a.pdf", "0")
    assert answer.status == 207
    assert header(answer, "Content-Type") == "application/xml; charset=utf-8"
    (found,) = properties(answer).values()
    texts = {tag.removeprefix("{DAV:}"): element.text for tag, element in found.items()}
    assert texts["getcontentlength"] == "5"
    assert re.fullmatch(r'"[0-9a-f]{32}"', texts["getetag"] or "")
    assert texts["getcontenttype"] == "application/pdf"
    assert texts["displayname"] == "a.pdf"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", texts["creationdate"] or "")
    assert (texts["getlastmodified"] or "").endswith(" GMT")
    assert "{DAV:}supportedlock" not in found
    assert len(found["{DAV:}resourcetype"]) == len(found["{DAV:}lockdiscovery"]) == 0
    assert not any("quota" in tag for tag in found)


def test_every_element_carries_a_prefix(site: Site) -> None:
    """Windows reads nothing in a default namespace."""
    fill(site, "a")
    text = find(site, "/share", "1", NAMED).body.decode()
    assert set(re.findall(r"</?([A-Za-z]+)[ />]", text)) == set()
    assert " xmlns=" not in text


def test_depth_one_lists_the_folder_then_its_children(site: Site) -> None:
    """Folders end with a slash, names are escaped in upper case, no grandchildren."""
    fill(site, "é;&<.txt")
    site.monitor.make(VirtualPath.parse("/share/sub"), Kind.FOLDER)
    site.monitor.make(VirtualPath.parse("/share/sub/deep"), Kind.FILE)
    found = properties(find(site, "/share", "1"))
    assert list(found) == ["/share/", "/share/%C3%A9%3B%26%3C.txt", "/share/sub/"]
    assert found["/share/%C3%A9%3B%26%3C.txt"]["{DAV:}displayname"].text == "é;&<.txt"
    assert len(found["/share/sub/"]["{DAV:}resourcetype"]) == 1


def test_the_root_lists_the_shares(site: Site) -> None:
    """The root is a folder like any other."""
    assert list(properties(find(site, "/", "1"))) == ["/", "/share/"]


def test_named_properties_come_with_404_for_the_unknown(site: Site) -> None:
    """What a node does not have stands in a propstat of its own."""
    fill(site, "a")
    answer = find(site, "/share/a", "0", NAMED)
    assert list(properties(answer)["/share/a"]) == ["{DAV:}getetag"]
    missing = properties(answer, 404)["/share/a"]
    assert {"{DAV:}nonsense", "{urn:z}Own", "{DAV:}quota-used-bytes"} <= set(missing)


def test_folders_tell_the_space_that_is_left(site: Site) -> None:
    """RFC 4331: what is left of the quota, not of the disk."""
    found = properties(find(site, "/share", "0", NAMED))["/share/"]
    left = int(found["{DAV:}quota-available-bytes"].text or "")
    used = int(found["{DAV:}quota-used-bytes"].text or "")
    assert left + used == 64 * 1024 * 1024
    assert "{DAV:}quota-used-bytes" in properties(find(site, "/", "0", NAMED), 404)["/"]


def test_propname_gives_names_without_values(site: Site) -> None:
    """Every property the node has, empty."""
    fill(site, "a")
    body = '<D:propfind xmlns:D="DAV:"><D:propname/></D:propfind>'
    found = properties(find(site, "/share/a", "0", body))["/share/a"]
    assert "{DAV:}getetag" in found
    assert all(element.text is None and len(element) == 0 for element in found.values())


def test_dead_properties_come_with_all_and_by_name(site: Site) -> None:
    """What PROPPATCH stored is found again, as it was, once."""
    fill(site, "a")
    update = (
        '<D:propertyupdate xmlns:D="DAV:" xmlns:z="urn:z"><D:set><D:prop>'
        '<z:Own kind="x"><z:inner>1 &lt; 2</z:inner></z:Own></D:prop></D:set></D:propertyupdate>'
    )
    assert site.ask("PROPPATCH", "/share/a", update.encode()).status == 207
    including = (
        '<D:propfind xmlns:D="DAV:"><D:allprop/><D:include><z:Own xmlns:z="urn:z"/>'
        "<D:quota-used-bytes/></D:include></D:propfind>"
    )
    for body in ("", NAMED, including):
        answer = find(site, "/share/a", "0", body)
        own = properties(answer)["/share/a"]["{urn:z}Own"]
        assert own.get("kind") == "x"
        assert own[0].text == "1 < 2"
        assert answer.body.count(b"1 &lt; 2") == 1


@pytest.mark.parametrize("headers", [{"depth": "infinity"}, {"depth": "Infinity"}, {}])
def test_a_tree_is_not_listed_at_once(site: Site, headers: dict[str, str]) -> None:
    """Depth infinity, which no Depth means too, is 403 propfind-finite-depth."""
    answer = site.ask("PROPFIND", "/share", b"", **headers)
    assert answer.status == 403
    assert parsed(answer).find("{DAV:}propfind-finite-depth") is not None


def test_a_file_has_no_depth(site: Site) -> None:
    """Any Depth on a file answers for the file."""
    fill(site, "a")
    for depth in ("0", "1", "infinity"):
        assert list(properties(find(site, "/share/a", depth))) == ["/share/a"]


@pytest.mark.parametrize(
    ("depth", "body", "status"),
    [
        ("2", "", 400),
        ("-1", "", 400),
        ("1", "<a/>", 400),
        ("1", "nonsense", 400),
        ("1", " " * (1 << 20) + " ", 413),
    ],
)
def test_a_bad_question_is_refused(site: Site, depth: str, body: str, status: int) -> None:
    """Unknown depths and bad or oversized bodies."""
    assert find(site, "/share", depth, body).status == status


def test_a_missing_path_is_a_plain_404(site: Site) -> None:
    """Windows asks for what it is about to create, without a slash and with one."""
    for target in ("/share/none", "/share/none/", "/none"):
        assert find(site, target, "0").status == 404


def test_a_thousand_files_fit_windows(site: Site) -> None:
    """WebClient gives up beyond 1,000,000 bytes for one listing."""
    fill(site, *(f"Quarterly report of the department {n:04d}.docx" for n in range(1000)))
    assert len(find(site, "/share", "1").body) < 1_000_000


def test_locks_show_on_all_they_cover_but_tokens_only_to_their_owner(site: Site) -> None:
    """An infinite lock shows on the children; another principal sees who, not the token."""
    fill(site, "a")
    body = (
        '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype>'
        "<D:write/></D:locktype><D:owner>alice at work</D:owner></D:lockinfo>"
    )
    token = header(site.ask("LOCK", "/share", body.encode()), "Lock-Token").strip("<>")
    for user, tokens in (("alice", 1), ("bob", 0)):
        answer = site.ask("PROPFIND", "/share", depth="1", user=user)
        found = properties(answer)["/share/a"]["{DAV:}lockdiscovery"]
        (active,) = found
        assert active.findtext("{DAV:}owner") == "alice at work"
        assert active.findtext("{DAV:}lockroot/{DAV:}href") == "/share/"
        assert active.findtext("{DAV:}depth") == "infinity"
        assert len(active.findall("{DAV:}locktoken")) == tokens
        assert (token.encode() in answer.body) is bool(tokens)


def test_what_windows_stores_is_bound_once(site: Site) -> None:
    """Its four properties with every file would make a folder of 1,000 files too long for it."""
    fill(site, "a")
    value = ' xmlns:Z="urn:schemas-microsoft-com:" is no declaration here'
    update = (
        '<D:propertyupdate xmlns:D="DAV:" xmlns:Z="urn:schemas-microsoft-com:"><D:set><D:prop>'
        f"<Z:Win32FileAttributes>20</Z:Win32FileAttributes><Z:Note>{value}</Z:Note>"
        "</D:prop></D:set></D:propertyupdate>"
    )
    assert site.ask("PROPPATCH", "/share/a", update.encode()).status == 207
    answer = find(site, "/share/a", "0")
    own = properties(answer)["/share/a"]
    assert own["{urn:schemas-microsoft-com:}Win32FileAttributes"].text == "20"
    assert own["{urn:schemas-microsoft-com:}Note"].text == value
    assert answer.body.count(b'xmlns:Z="urn:schemas-microsoft-com:"') == 2


def test_the_locks_that_there_could_be_are_told_when_asked_for(site: Site) -> None:
    """Exclusive and shared write locks."""
    fill(site, "a")
    body = '<D:propfind xmlns:D="DAV:"><D:prop><D:supportedlock/></D:prop></D:propfind>'
    assert (
        len(properties(find(site, "/share/a", "0", body))["/share/a"]["{DAV:}supportedlock"]) == 2
    )
