"""Hostile addresses against the running gateway: targets and destinations."""

from __future__ import annotations

import pytest

from tests.attacks.support import Target
from tests.support.replies import Record

# What can name nothing, below a folder: never a node, whatever the method.
NAMELESS = {
    "dot dot": "../inbox",
    "escaped dot dot": "%2e%2e/inbox",
    "half escaped dot dot": ".%2E/inbox",
    "dot": "./a",
    "escaped dot": "%2e",
    "escaped slash": "a%2Fb",
    "escaped slash up": "..%2F..%2Fetc%2Fpasswd",
    "escaped NUL": "a%00b",
    "backslash": "a\\b",
    "escaped backslash": "..%5C..%5Cinbox",
    "two slashes": "/a",
    "slashes within": "a//b",
    "overlong slash": "a%C0%AFb",
    "overlong dot dot": "%C0%AE%C0%AE/inbox",
    "overlong in three": "%E0%80%AF",
    "invalid UTF-8": "%FF%FE",
    "cut UTF-8": "a%C3",
    "a surrogate": "%ED%A0%80",
    "beyond Unicode": "%F4%90%80%80",
    "raw Latin-1": "a\xe9",
    "a broken escape": "50%",
    "no escape": "50%zz",
    "256 bytes": "n" * 256,
    "256 bytes in 128 letters": "%C3%BC" * 128,
    "128 decomposed letters": "u%CC%88" * 128,
    "a thousand deep": "/".join("d" * 1000),
}
METHODS = ("GET", "HEAD", "PUT", "DELETE", "MKCOL", "PROPFIND", "PROPPATCH", "LOCK", "COPY")


def said(records: list[Record]) -> list[tuple[str, str]]:
    return [(record.outcome, record.rule) for record in records]


@pytest.mark.parametrize("name", NAMELESS.values(), ids=NAMELESS.keys())
def test_addresses_that_name_nothing_are_refused(target: Target, folder: str, name: str) -> None:
    """400 for every method, each with one record, and nothing is made in or beside the folder."""
    mark = target.mark()
    for method in METHODS:
        body = b"x" if method == "PUT" else b""
        reply = target.ask(method, f"{folder}/{name}", f"Destination: {folder}/b", body=body)
        assert reply.status == 400, method
    assert said(target.since(mark)) == [("denied", f"{method} 400") for method in METHODS]
    listing = target.ask("PROPFIND", folder, "Depth: 1")
    assert listing.body.count(b"<D:response>") == 1


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
@pytest.mark.parametrize("name", NAMELESS.values(), ids=NAMELESS.keys())
def test_destinations_that_name_nothing_are_refused(
    target: Target, folder: str, name: str, method: str
) -> None:
    """400 and one record; the source stays, and nothing else appears."""
    assert target.ask("PUT", f"{folder}/a", body=b"x").status == 201
    destination = f"Destination: https://localhost{folder}/{name}"
    reply, records = target.audited(method, f"{folder}/a", destination)
    assert reply.status == 400
    assert said(records) == [("denied", f"{method} 400")]
    listing = target.ask("PROPFIND", folder, "Depth: 1")
    assert listing.body.count(b"<D:response>") == 2


@pytest.mark.parametrize(
    ("escaped", "name"),
    [
        ("report%3Bv2.txt", "report%3Bv2.txt"),
        ("report;v2.txt", "report%3Bv2.txt"),
        ("what%3F.txt", "what%3F.txt"),
        ("number%23.txt", "number%23.txt"),
        ("50%25", "50%25"),
        ("50%2525", "50%2525"),
        ("%61", "a"),
        ("a%20b", "a%20b"),
        ("u%CC%88", "%C3%BC"),
    ],
)
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_destinations_are_unescaped_once(
    target: Target, folder: str, escaped: str, name: str, method: str
) -> None:
    """Stock wsgidav takes the URL apart after it undid its escapes, and hits another file."""
    assert target.ask("PUT", f"{folder}/source", body=b"x").status == 201
    for other in ("report", "what", "number", "50", "50%25" if "2525" in name else "x"):
        assert target.ask("PUT", f"{folder}/{other}", body=b"other").status == 201
    reply, records = target.audited(
        method, f"{folder}/source", f"Destination: https://localhost{folder}/{escaped}"
    )
    assert reply.status == 201
    assert [(record.action, record.outcome) for record in records] == [(method.lower(), "ok")]
    listing = target.ask("PROPFIND", folder, "Depth: 1").body.decode()
    assert f"{folder}/{name.replace('%3B', ';')}<" in listing or f"{folder}/{name}<" in listing
    for other in ("report", "what", "number", "50"):
        assert target.ask("GET", f"{folder}/{other}").body == b"other"


@pytest.mark.parametrize(
    ("destination", "status"),
    [
        ("https://localhost{folder}/b?x", 400),
        ("https://localhost{folder}/b#x", 400),
        ("https://elsewhere.example{folder}/b", 502),
        ("https://localhost:1{folder}/b", 502),
        ("https://localhost.elsewhere.example{folder}/b", 502),
        ("https://alice@localhost{folder}/b", 502),
        ("//localhost{folder}/b", 400),
        ("ftp://localhost{folder}/b", 400),
        ("{folder}b/../b", 400),
        ("b", 400),
        ("", 400),
        ("/" + "b" * 20_000, 400),
    ],
)
@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_destinations_elsewhere_are_refused(
    target: Target, folder: str, destination: str, status: int, method: str
) -> None:
    """With a query, a fragment, on another host or no address at all: one record, nothing moved."""
    assert target.ask("PUT", f"{folder}/a", body=b"x").status == 201
    field = f"Destination: {destination.format(folder=folder)}"
    # Stock wsgidav takes the host in this field for its own.
    forwarded = "X-Forwarded-Host: elsewhere.example"
    reply, records = target.audited(method, f"{folder}/a", field, forwarded)
    assert reply.status == status
    assert said(records) == [("denied", f"{method} {status}")]
    assert target.ask("GET", f"{folder}/a").body == b"x"
    assert not target.holds(f"{folder}/b")


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_destinations_without_right_are_denied(target: Target, folder: str, method: str) -> None:
    """In a share that alice has no right on, or in none: the same answer, one record each."""
    assert target.ask("PUT", f"{folder}/a", body=b"x").status == 201
    bodies = set()
    for share in ("inbox", "no-such-share"):
        reply, records = target.audited(method, f"{folder}/a", f"Destination: /{share}/b")
        assert reply.status == 403
        assert [(record.path, record.outcome) for record in records] == [(f"{folder}/a", "denied")]
        bodies.add(reply.body)
    assert len(bodies) == 1
    assert not target.holds("/inbox/b")


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
def test_between_shares_nothing_goes_in_one_step(target: Target, folder: str, method: str) -> None:
    """Who has every right on both is told to copy it over himself: 502, one record."""
    assert target.ask("PUT", f"{folder}/a", body=b"x").status == 201
    mark = target.mark()
    reply = target.ask(method, f"{folder}/a", "Destination: /inbox/b", user="admin")
    assert reply.status == 502
    assert [record.outcome for record in target.since(mark)] == ["failed"]
    assert target.holds(f"{folder}/a")
    assert not target.holds("/inbox/b")


@pytest.mark.parametrize("method", ["COPY", "MOVE"])
@pytest.mark.parametrize("destination", ["", "/sub", "/sub/deeper", "/sub/new"])
def test_a_folder_never_goes_into_itself(
    target: Target, folder: str, method: str, destination: str
) -> None:
    """Onto itself, below itself, or onto what holds it: 403, one record, and all is as it was."""
    for path in ("/sub", "/sub/deeper"):
        assert target.ask("MKCOL", folder + path).status == 201
    assert target.ask("PUT", f"{folder}/sub/deeper/a", body=b"x").status == 201
    field = f"Destination: https://localhost{folder}{destination}"
    reply, records = target.audited(method, f"{folder}/sub", "Overwrite: T", field)
    assert reply.status == 403
    assert [record.outcome for record in records] == ["denied"]
    assert target.ask("GET", f"{folder}/sub/deeper/a").body == b"x"
    assert not target.holds(f"{folder}/sub/new")


def test_a_folder_is_not_made_over_a_file(target: Target, folder: str) -> None:
    """MKCOL on a file or a folder: 405, one record, the file stays."""
    assert target.ask("PUT", f"{folder}/a", body=b"x").status == 201
    for path in (f"{folder}/a", folder, f"{folder}/", "/radiology"):
        reply, records = target.audited("MKCOL", path)
        assert reply.status in {403, 405}
        assert "allow:" in reply.head.lower() or reply.status == 403
        assert len(records) == 1
    assert target.ask("MKCOL", f"{folder}/a/b").status in {403, 409}
    assert target.ask("GET", f"{folder}/a").body == b"x"


@pytest.mark.parametrize("path", ["", "/", "/sub/"])
def test_a_file_is_not_put_over_a_folder(target: Target, folder: str, path: str) -> None:
    """PUT on a folder, or on an address that ends as a folder's: 405, one record."""
    assert target.ask("PUT", f"{folder}/a", body=b"x").status == 201
    reply, records = target.audited("PUT", folder + path, body=b"y")
    assert reply.status == 405
    assert len(records) == 1
    assert target.ask("GET", f"{folder}/a").body == b"x"
    assert target.ask("PROPFIND", folder, "Depth: 1").body.count(b"<D:response>") == 2


@pytest.mark.parametrize("path", ["/", "/radiology", "/no-such-share"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "MOVE", "MKCOL"])
def test_the_roots_are_nobodys_to_change(target: Target, method: str, path: str) -> None:
    """The virtual root, a share and the name of none are not made, removed or moved."""
    body = b"x" if method == "PUT" else b""
    field = "Destination: https://localhost/radiology/taken"
    reply, records = target.audited(method, path, field, "Depth: infinity", body=body)
    assert reply.status in {403, 404, 405, 409}
    assert len(records) == 1
    assert target.holds("/radiology")
