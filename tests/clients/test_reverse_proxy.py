"""Clients behind a reverse proxy (nginx, Apache, Caddy) that ends TLS or renames the host.

What such proxies do to Host and leave of Destination and If is that of their own documentation
(``proxy_set_header``, ``ProxyPreserveHost``, ``header_up``); not recorded here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.webdav.settings import TlsFiles
from tests.clients.exchange import SETTINGS, Program, Site, Step, listening
from tests.door.support import get, names, open_gate, put

PUBLIC = "files.example.org"
LOCK_BODY = (
    b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype><D:owner>alice</D:owner></D:lockinfo>"
)


@pytest.fixture(scope="module")
def public_site(
    prepared: Path, tls_files: TlsFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A gateway that was told its public address."""
    data = tmp_path_factory.mktemp("public") / "data"
    settings = replace(SETTINGS, public_url=f"https://{PUBLIC}")
    with (
        open_gate(Path(shutil.copytree(prepared, data))) as gate,
        listening(gate, tls_files, settings) as running,
    ):
        yield running


def client(site: Site, host: str = "") -> Program:
    """Return a client with a file ``a``; ``host`` is what the proxy hands on, if not its own."""
    program = site.program({"Host": host} if host else {})
    put(site.gate.door("alice"), f"{program.folder}/a")
    return program


def moves(to: str, needs: int, **headers: str) -> Step:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step("MOVE", "{folder}/a", needs, {"Destination": to, "Overwrite": "F", **sent})


@pytest.mark.parametrize(
    ("host", "destination"),
    [
        ("", "http://{host}{folder}/b"),
        ("", "https://{host}{folder}/b"),
        ("", "{folder}/b"),
        (PUBLIC, f"http://{PUBLIC}{{folder}}/b"),
        (PUBLIC, f"https://{PUBLIC}{{folder}}/b"),
        (PUBLIC, f"https://{PUBLIC}:443{{folder}}/b"),
        (PUBLIC, f"HTTPS://{PUBLIC.upper()}{{folder}}/b"),
        (f"{PUBLIC}:8443", f"http://{PUBLIC}:8443{{folder}}/b"),
    ],
)
def test_the_scheme_of_a_destination_does_not_matter(
    site: Site, host: str, destination: str
) -> None:
    """A proxy that ends TLS hands on what the client meant by https; the host is what counts."""
    program = client(site, host)
    program.play(moves(destination, 201))
    assert names(site.gate.door("alice"), program.folder) == ["b"]


@pytest.mark.parametrize("method", ["MOVE", "COPY"])
def test_the_public_address_decides(public_site: Site, method: str) -> None:
    """The proxy asks by the listener's own address; clients name the public one."""
    program = client(public_site)
    step = replace(moves(f"https://{PUBLIC}{{folder}}/b", 201), method=method)
    program.play(step)
    assert get(public_site.gate.door("alice"), f"{program.folder}/b") == b"content"


def test_the_listeners_own_address_still_holds(public_site: Site) -> None:
    """Who comes past the proxy names the host that he asks."""
    client(public_site).play(moves("https://{host}{folder}/b", 201))


@pytest.mark.parametrize(
    "destination",
    [
        "https://elsewhere.example.org{folder}/b",
        f"https://{PUBLIC}:8443{{folder}}/b",
        f"https://alice@{PUBLIC}{{folder}}/b",
        f"https://{PUBLIC}.example.com{{folder}}/b",
    ],
)
def test_another_server_is_none_of_ours(public_site: Site, destination: str) -> None:
    """502, and nothing has moved."""
    program = client(public_site)
    program.play(moves(destination, 502))
    assert names(public_site.gate.door("alice"), program.folder) == ["a"]


@pytest.mark.parametrize("header", ["X_Forwarded_Host", "Forwarded", "X_Original_Host"])
def test_nobody_but_the_configuration_names_the_public_address(site: Site, header: str) -> None:
    """Whoever sends the request could write these; without a public address they count nothing."""
    value = f"host={PUBLIC}" if header == "Forwarded" else PUBLIC
    client(site).play(moves(f"https://{PUBLIC}{{folder}}/b", 502, **{header: value}))


def test_an_if_header_may_name_the_public_address(public_site: Site) -> None:
    """A tagged list holds for the resource that it names, by whichever address."""
    program = client(public_site)
    tagged = {"If": f"<https://{PUBLIC}{{folder}}/a> (<{{token}}>)"}
    lock = {"Depth": "0", "Timeout": "Second-600", "Content-Type": "application/xml"}
    program.play(
        Step("LOCK", "{folder}/a", 200, lock, LOCK_BODY),
        Step("PUT", "{folder}/a", 204, tagged, b"held"),
        Step("PUT", "{folder}/a", 423, {}, b"not held"),
        moves(f"https://{PUBLIC}{{folder}}/b", 201, **tagged),
    )
    assert get(public_site.gate.door("alice"), f"{program.folder}/b") == b"held"


def test_addresses_in_answers_are_paths(public_site: Site) -> None:
    """A client joins them to the address that it knows, whatever the proxy did to it."""
    program = client(public_site)
    (listing,) = program.play(Step("PROPFIND", "{folder}/", 207, {"Depth": "1"}))
    assert listing.hrefs == [f"{program.folder}/", f"{program.folder}/a"]
