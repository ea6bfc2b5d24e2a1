"""PROPPATCH, and what is relied on of wsgidav's inside."""

from __future__ import annotations

import inspect

import pytest
from wsgidav import util
from wsgidav.dav_provider import DAVProvider, _DAVResource
from wsgidav.request_server import RequestServer

from gateway.model import Kind, PropertyName
from gateway.paths import VirtualPath
from gateway.webdav.conditions import http_date
from gateway.webdav.messages import Response
from tests.webdav.support import Site, header, properties

FILE = VirtualPath.parse("/share/a")
OWN = PropertyName("urn:z", "Own")
OTHER = PropertyName("urn:z", "Other")


@pytest.fixture(autouse=True)
def _file(site: Site) -> None:
    site.monitor.make(FILE, Kind.FILE, b"hello")


def update(site: Site, *parts: str, target: str = "/share/a", **headers: str) -> Response:
    """Send a PROPPATCH; a part is ``+`` or ``-`` and the properties to set or remove."""
    inner = "".join(
        f"<D:set><D:prop>{part[1:]}</D:prop></D:set>"
        if part[0] == "+"
        else f"<D:remove><D:prop>{part[1:]}</D:prop></D:remove>"
        for part in parts
    )
    body = (
        '<D:propertyupdate xmlns:D="DAV:" xmlns:z="urn:z" '
        f'xmlns:w="urn:schemas-microsoft-com:">{inner}</D:propertyupdate>'
    )
    return site.ask("PROPPATCH", target, body.encode(), **headers)


def stored(site: Site) -> dict[PropertyName, str]:
    return site.monitor.nodes[FILE].properties


def test_properties_are_set_and_removed_in_order(site: Site) -> None:
    """Later instructions win, and each property is answered 200."""
    answer = update(site, "+<z:Own>1</z:Own>", "+<z:Other/>", "-<z:Own/>", "+<z:Own>2</z:Own>")
    assert answer.status == 207
    assert set(properties(answer)["/share/a"]) == {"{urn:z}Own", "{urn:z}Other"}
    assert set(stored(site)) == {OWN, OTHER}
    assert ">2</" in stored(site)[OWN]
    update(site, "+<z:Own>3</z:Own>", "-<z:Own/>")
    assert set(stored(site)) == {OTHER}


@pytest.mark.parametrize("name", ["getetag", "getcontentlength", "resourcetype", "getlastmodified"])
def test_a_protected_property_spoils_the_whole_request(site: Site, name: str) -> None:
    """403 for it, 424 for the others, and nothing stored."""
    answer = update(site, "+<z:Own>1</z:Own>", f"+<D:{name}>x</D:{name}>")
    assert set(properties(answer, 424)["/share/a"]) == {"{urn:z}Own"}
    assert set(properties(answer, 403)["/share/a"]) == {f"{{DAV:}}{name}"}
    assert stored(site) == {}


def test_windows_sets_the_time_of_a_copied_file(site: Site) -> None:
    """Win32LastModifiedTime sets the modification time; all four come back as they were."""
    stamp = http_date(1_600_000_000)
    names = ("Win32LastModifiedTime", "Win32CreationTime", "Win32FileAttributes")
    answer = update(site, *(f"+<w:{name}>{stamp}</w:{name}>" for name in names))
    assert len(properties(answer)["/share/a"]) == 3
    assert site.monitor.nodes[FILE].info.modified_us == 1_600_000_000_000_000
    found = properties(site.ask("PROPFIND", "/share/a", depth="0"))["/share/a"]
    assert found["{urn:schemas-microsoft-com:}Win32CreationTime"].text == stamp
    assert found["{DAV:}getlastmodified"].text == stamp


def test_the_language_around_a_property_is_kept(site: Site) -> None:
    """RFC 4918 section 4.3: xml:lang in scope belongs to the value."""
    body = (
        '<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop xml:lang="de"><z:Own xmlns:z="urn:z">x'
        "</z:Own></D:prop></D:set></D:propertyupdate>"
    )
    site.ask("PROPPATCH", "/share/a", body.encode())
    assert 'xml:lang="de"' in stored(site)[OWN]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"<a/>", 400),
        (b"<!DOCTYPE a><a/>", 400),
        (b"<a" + b" " * (10 << 20) + b"/>", 413),
        (b'<D:propertyupdate xmlns:D="DAV:"><D:other/></D:propertyupdate>', 400),
    ],
)
def test_a_bad_propertyupdate_is_refused(site: Site, body: bytes, status: int) -> None:
    """Empty, something else, with a DTD, ten megabytes."""
    assert site.ask("PROPPATCH", "/share/a", body).status == status
    assert stored(site) == {}


def test_a_huge_property_is_refused(site: Site) -> None:
    """One value may not fill the catalog."""
    assert properties(update(site, f"+<z:Own>{'x' * 70_000}</z:Own>"), 403)["/share/a"]


def test_what_the_door_refuses_is_the_answer(site: Site) -> None:
    """The stock handler would have made it a 500 within the 207."""
    body = (
        b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype>'
        b"<D:write/></D:locktype></D:lockinfo>"
    )
    token = header(site.ask("LOCK", "/share/a", body), "Lock-Token")
    assert update(site, "+<z:Own>1</z:Own>").status == 423
    assert update(site, "+<z:Own>1</z:Own>", if_=f"({token})").status == 207
    assert update(site, "+<z:Own>1</z:Own>", target="/share/none").status == 404


def test_comments_in_a_propertyupdate_say_nothing(site: Site) -> None:
    """The stock handler takes them for elements, and fails."""
    body = (
        '<?xml version="1.0"?><!-- a --><D:propertyupdate xmlns:D="DAV:" xmlns:z="urn:z"><!-- b -->'
        "<D:set><!-- c --><D:prop><!-- d --><z:Own>1</z:Own></D:prop></D:set></D:propertyupdate>"
    )
    assert site.ask("PROPPATCH", "/share/a", body.encode()).status == 207
    assert set(stored(site)) == {OWN}


# What is relied on of wsgidav beyond its documented interface


def test_the_if_header_is_not_parsed_again() -> None:
    """RequestServer takes the conditions from this key when it is there."""
    environ = {"wsgidav.conditions.if": {}, "HTTP_IF": "<" * 60_000}
    util.parse_if_header_dict(environ)
    assert environ["wsgidav.conditions.if"] == {}


def test_without_a_lock_manager_no_lock_is_looked_for() -> None:
    """The door looks for them, in the transaction of the change."""
    for method in (RequestServer._check_write_permission, RequestServer._write_transaction):
        assert "if lock_man is None or res is None" in inspect.getsource(method)


def test_proppatch_tries_all_before_it_does_any() -> None:
    """The dry run comes first, and nothing is applied when any of it fails."""
    source = inspect.getsource(RequestServer.do_PROPPATCH)
    assert (
        source.index("dry_run=True")
        < source.index("if not successflag")
        < source.index("dry_run=False")
    )


def test_the_base_classes_are_what_ours_build_on() -> None:
    """The private base of resources still takes path, kind and environment."""
    assert list(inspect.signature(_DAVResource.__init__).parameters)[1:4] == [
        "path",
        "is_collection",
        "environ",
    ]
    assert "self.lock_manager = None" in inspect.getsource(DAVProvider.__init__)


def test_a_refused_property_comes_with_the_reason(site: Site) -> None:
    """RFC 4918 section 16: cannot-modify-protected-property, prefixed like everything else."""
    answer = update(site, "+<D:getetag>x</D:getetag>")
    assert answer.body.count(b"<D:error><D:cannot-modify-protected-property/></D:error>") == 1
    assert b"cannot-modify" not in update(site, "+<z:Own>1</z:Own>").body


def test_rclone_sets_the_time_of_a_file_that_is_there(site: Site) -> None:
    """Its DAV:lastmodified holds Unix seconds; it is no property, and nothing else is taken."""
    answer = update(site, "+<D:lastmodified>1600000000</D:lastmodified>")
    assert set(properties(answer)["/share/a"]) == {"{DAV:}lastmodified"}
    assert site.monitor.nodes[FILE].info.modified_us == 1_600_000_000 * 1_000_000
    assert stored(site) == {}
    for bad in ("", "-1", "yesterday", "1" * 12):
        refused = update(site, f"+<D:lastmodified>{bad}</D:lastmodified>")
        assert set(properties(refused, 403)["/share/a"]) == {"{DAV:}lastmodified"}


def test_the_language_of_a_content_is_the_clients_to_say(site: Site) -> None:
    """RFC 4918 section 15.3: getcontentlanguage should not be protected."""
    update(site, "+<D:getcontentlanguage>de</D:getcontentlanguage>")
    assert [name.local for name in stored(site)] == ["getcontentlanguage"]
