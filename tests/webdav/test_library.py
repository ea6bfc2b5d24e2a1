"""PROPPATCH, LOCK and UNLOCK, and what is relied on of wsgidav's inside."""

from __future__ import annotations

import inspect

import pytest
from wsgidav import util
from wsgidav.dav_provider import DAVProvider, _DAVResource
from wsgidav.request_server import RequestServer

from gateway.errors import LockedError
from gateway.model import Kind, PropertyName
from gateway.paths import VirtualPath
from gateway.webdav.conditions import http_date
from gateway.webdav.messages import Response
from tests.webdav.support import Site, header, parsed, properties

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


def lock(
    site: Site,
    target: str = "/share/a",
    *,
    scope: str = "exclusive",
    user: str = "alice",
    **headers: str,
) -> Response:
    body = (
        f'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:{scope}/></D:lockscope><D:locktype>'
        "<D:write/></D:locktype><D:owner><D:href>alice</D:href></D:owner></D:lockinfo>"
    )
    return site.ask("LOCK", target, body.encode(), user=user, **headers)


def token_of(answer: Response) -> str:
    return header(answer, "Lock-Token").strip("<>")


def stored(site: Site) -> dict[PropertyName, str]:
    return site.monitor.nodes[FILE].properties


# PROPPATCH


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
    token = token_of(lock(site))
    assert update(site, "+<z:Own>1</z:Own>").status == 423
    assert update(site, "+<z:Own>1</z:Own>", if_=f"(<{token}>)").status == 207
    assert update(site, "+<z:Own>1</z:Own>", target="/share/none").status == 404


# LOCK and UNLOCK


def test_an_exclusive_lock_keeps_others_out(site: Site) -> None:
    """A second editor gets 423 and learns who has it; the holder needs its token too."""
    answer = lock(site, timeout="Second-120")
    assert answer.status == 200
    token = token_of(answer)
    active = parsed(answer).find("{DAV:}lockdiscovery/{DAV:}activelock")
    assert active is not None
    assert active.findtext("{DAV:}locktoken/{DAV:}href") == token
    assert active.findtext("{DAV:}timeout") == "Second-120"
    assert active.findtext("{DAV:}owner/{DAV:}href") == "alice"
    for user in ("alice", "bob"):
        refused = lock(site, user=user)
        assert refused.status == 423
        assert parsed(refused).find("{DAV:}no-conflicting-lock") is not None
        assert b"Locked by alice" in refused.body
        put = site.ask("PUT", "/share/a", b"x", user=user)
        assert put.status == 423
        assert parsed(put).findtext("{DAV:}lock-token-submitted/{DAV:}href") == "/share/a"
    assert site.ask("PUT", "/share/a", b"x", if_=f"(<{token}>)").status == 204
    assert site.ask("PUT", "/share/a", b"x", user="bob", if_=f"(<{token}>)").status == 412
    assert site.ask("UNLOCK", "/share/a", lock_token=f"<{token}>").status == 204
    assert site.ask("PUT", "/share/a", b"x", user="bob").status == 204


def test_shared_locks_go_together(site: Site) -> None:
    """Two shared ones are two tokens; an exclusive one does not join them."""
    tokens = {token_of(lock(site, scope="shared")) for _ in range(2)}
    assert len(tokens) == 2
    assert lock(site).status == 423


def test_a_lock_on_a_free_name_makes_an_empty_file(site: Site) -> None:
    """201, as davfs2 expects."""
    assert lock(site, "/share/new").status == 201
    assert site.monitor.nodes[VirtualPath.parse("/share/new")].data == b""
    assert lock(site, "/share/none/new").status == 409
    assert lock(site, "/share/a/new").status == 409


def test_a_refused_lock_makes_nothing(site: Site) -> None:
    """The stock handler creates the file before it asks whether it may be locked."""
    lock(site, "/share")
    assert lock(site, "/share/new", user="bob").status == 423
    assert VirtualPath.parse("/share/new") not in site.monitor.nodes


def test_a_refresh_keeps_the_token_and_is_for_its_owner(site: Site) -> None:
    """LOCK without a body and with If; with another's or a wrong token it is 412."""
    token = token_of(lock(site))
    refresh = site.ask("LOCK", "/share/a", if_=f"(<{token}>)", timeout="Second-77")
    assert refresh.status == 200
    assert b"Second-77" in refresh.body
    assert token.encode() in refresh.body
    assert header(refresh, "Lock-Token") == ""
    assert site.ask("LOCK", "/share/a", user="bob", if_=f"(<{token}>)").status == 412
    assert site.ask("LOCK", "/share/a", if_="(<urn:uuid:wrong>)").status == 412
    assert site.ask("LOCK", "/share/a").status == 400


def test_an_infinite_lock_is_refreshed_from_below(site: Site) -> None:
    """The address may be any that the lock covers (RFC 4918 section 9.10.2)."""
    token = token_of(lock(site, "/share"))
    assert site.ask("LOCK", "/share/a", if_=f"(<{token}>)").status == 200


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        ("Infinite", 3600),
        ("Infinite, Second-4100000000", 3600),
        ("Second-999999999", 3600),
        ("Second-60", 60),
        ("Second-0", 600),
        ("nonsense", 600),
        ("", 600),
    ],
)
def test_a_timeout_is_capped(site: Site, timeout: str, expected: int) -> None:
    """Nobody locks for ever."""
    lock(site, timeout=timeout)
    assert site.monitor.held[0].timeout_s == expected


def test_depth_belongs_to_the_lock(site: Site) -> None:
    """0 and infinity (also without a header, as Windows sends it); nothing else."""
    for depth, infinite in (({"depth": "0"}, False), ({"depth": "Infinity"}, True), ({}, True)):
        lock(site, **depth)
        assert site.monitor.held.pop().depth_infinity is infinite
    assert lock(site, depth="1").status == 400


def test_unlock(site: Site) -> None:
    """Without brackets too; 409 for a token that is not one of the asker's here; 400 without."""
    token = token_of(lock(site))
    assert site.ask("UNLOCK", "/share/a").status == 400
    other = site.ask("UNLOCK", "/share/a", user="bob", lock_token=f"<{token}>")
    assert other.status == 409
    assert parsed(other).find("{DAV:}lock-token-matches-request-uri") is not None
    assert site.ask("UNLOCK", "/share/a", lock_token="<urn:uuid:wrong>").status == 409
    assert site.ask("UNLOCK", "/share/a", lock_token=token).status == 204
    assert site.monitor.held == []


@pytest.mark.parametrize(
    "body",
    [
        b"<a/>",
        b'<D:lockinfo xmlns:D="DAV:"/>',
        b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:odd/></D:lockscope></D:lockinfo>',
        b"<!DOCTYPE a><a/>",
    ],
)
def test_a_bad_lockinfo_is_refused(site: Site, body: bytes) -> None:
    """What is no lockinfo locks nothing."""
    assert site.ask("LOCK", "/share/a", body).status == 400
    assert site.monitor.held == []


def test_an_owner_cannot_break_out_of_its_element(site: Site) -> None:
    """Text after the owner element, and markup in it, stay inert; a huge one is refused."""
    body = (
        '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype>'
        "<D:write/></D:locktype><D:owner>&lt;script&gt;</D:owner>tail &gt; x</D:lockinfo>"
    )
    assert site.ask("LOCK", "/share/a", body.encode()).status == 200
    answer = site.ask("PROPFIND", "/share/a", depth="0")
    owner = parsed(answer).find(".//{DAV:}owner")
    assert owner is not None
    assert owner.text == "<script>"
    assert b"tail" not in answer.body
    site.monitor.held.clear()
    assert (
        site.ask(
            "LOCK", "/share/a", body.replace("tail", "").replace("&lt;", "y" * 9000).encode()
        ).status
        == 413
    )


def test_errors_of_the_door_in_a_lock_are_its_answer(site: Site) -> None:
    """Raised in the middle of wsgidav's handler, they come through it."""
    site.monitor.failure = LockedError("carol")
    answer = lock(site)
    assert answer.status == 423
    assert b"carol" in answer.body


# What is relied on of wsgidav beyond its documented interface


def test_the_if_header_is_not_parsed_again() -> None:
    """RequestServer takes tokens and conditions from these two keys when they are there."""
    environ = {"wsgidav.conditions.if": {}, "HTTP_IF": "<" * 60_000}
    util.parse_if_header_dict(environ)
    assert environ["wsgidav.conditions.if"] == {}
    assert '"wsgidav.ifLockTokenList"' in inspect.getsource(RequestServer.do_LOCK)


def test_the_lock_manager_is_called_as_ours_expects() -> None:
    """do_LOCK, do_UNLOCK and do_PROPPATCH call these methods with these arguments, no others."""
    source = "".join(
        inspect.getsource(method)
        for method in (
            RequestServer.do_LOCK,
            RequestServer.do_UNLOCK,
            RequestServer.do_PROPPATCH,
            RequestServer._check_write_permission,
            RequestServer._write_transaction,
        )
    )
    called = set()
    for part in source.split("lock_man.")[1:]:
        called.add(part.partition("(")[0].split()[0])
    assert called == {
        "acquire",
        "check_write_permission",
        "is_token_locked_by_user",
        "is_url_locked_by_token",
        "refresh",
        "release",
        "write_transaction",
    }
    for argument in ("url", "lock_scope", "lock_depth", "lock_owner", "timeout"):
        assert f"{argument}=" in inspect.getsource(RequestServer.do_LOCK)


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
    assert callable(DAVProvider.set_lock_manager)
