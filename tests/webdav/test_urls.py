"""URLs to paths and back."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidPathError
from gateway.paths import VirtualPath
from gateway.webdav import urls
from gateway.webdav.messages import HttpError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=20
).filter(lambda name: name not in {".", ".."})


@given(st.lists(NAMES, max_size=5))
def test_an_address_leads_back_to_its_path(names: list[str]) -> None:
    """Every path survives being written as a URL, as target and as Destination."""
    path = VirtualPath.parse("/" + "/".join(names))
    href = urls.href(path, folder=True)
    assert href.isascii()
    assert urls.decode_path(href) == path
    assert urls.destination(f"https://localhost{href}", "localhost", "") == path


@given(NAMES)
def test_what_other_clients_escape_is_understood(name: str) -> None:
    """However much of a name a client escapes, it names the same file."""
    path = VirtualPath.parse(f"/{name}")
    assert urls.decode_path("/" + quote(name, safe="")) == path
    assert urls.decode_path("/" + "".join(f"%{byte:02x}" for byte in name.encode())) == path


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/a%00",
        "/a/../b",
        "/a/%2e%2e/b",
        "/a/./b",
        "//a",
        "/a//b",
        "/a%",
        "/a%zz",
        "/a%c3",
        "/a%c0%af",
        "/a%ed%a0%80",
        "/\xff",
        "/" + "a" * 256,
        "/" + "a/" * 1000,
    ],
)
def test_a_path_that_no_file_can_have_is_refused(target: str) -> None:
    """Escaped separators, dot segments, empty names, bad UTF-8 and oversized names are errors."""
    with pytest.raises(InvalidPathError):
        urls.decode_path(target)


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        ("report%3Bv2.txt", "report;v2.txt"),
        ("report;v2.txt", "report;v2.txt"),
        ("what%3F.txt", "what?.txt"),
        ("a%23b", "a#b"),
        ("100%25", "100%"),
        ("100%2525", "100%25"),
        ("a+b", "a+b"),
    ],
)
def test_a_destination_is_taken_apart_before_it_is_unescaped(escaped: str, name: str) -> None:
    """An escaped delimiter belongs to the name; wsgidav cuts the name off there."""
    found = urls.destination(f"http://localhost/share/{escaped}", "localhost", "")
    assert found == VirtualPath(("share", name))


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("http://elsewhere/share/a", 502),
        ("http://localhost:1/share/a", 502),
        ("http://user@localhost/share/a", 502),
        ("//elsewhere/share/a", 400),
        ("ftp://localhost/a", 400),
        ("share/a", 400),
        ("", 400),
        ("http://localhost/share/what?.txt", 400),
        ("http://localhost/share/a#b", 400),
        ("http://localhost/" + "a" * 20_000, 400),
    ],
)
def test_a_bad_destination_is_refused(value: str, status: int) -> None:
    """Another server is 502; what is no URL of a file is 400."""
    with pytest.raises(HttpError) as caught:
        urls.destination(value, "localhost", "")
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("value", "host", "public"),
    [
        ("/share/a", "localhost", ""),
        ("https://localhost/share/a", "localhost", ""),
        ("http://LOCALHOST:80/share/a", "localhost", ""),
        ("https://localhost:8443/share/a", "localhost:8443", ""),
        ("http://localhost:8443/share/a", "localhost:8443", ""),
        ("https://files.example.org/share/a", "10.0.0.1:8443", "https://files.example.org/"),
        ("https://files.example.org:443/share/a", "10.0.0.1", "https://files.example.org"),
    ],
)
def test_a_destination_here_is_found(value: str, host: str, public: str) -> None:
    """Path alone, any scheme, default ports, and the public address all mean this server."""
    assert urls.destination(value, host, public) == VirtualPath(("share", "a"))


def test_escapes_are_upper_case() -> None:
    """GNOME Files compares addresses as text and writes %XX in upper case."""
    assert urls.href(VirtualPath(("é;?",)), folder=False) == "/%C3%A9%3B%3F"
