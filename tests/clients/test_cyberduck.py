"""Cyberduck, and with it Mountain Duck.

Order as documented, not recorded here: Cyberduck's source (DAVWriteFeature sends
``Expect: 100-continue``) and github.com/iterate-ch/cyberduck/issues/17745, by which it cannot send
a large body twice: a 401 in the middle of an upload loses it.
"""

from __future__ import annotations

import pytest

from tests.clients.exchange import Program, Site, Step
from tests.door.support import IDLE_TIMEOUT_S, SESSION_TIMEOUT_S, get, outline

FILE = "{folder}/scan.bin"
CONTENT = b"what Cyberduck sends" * 50_000
ALWAYS = {
    "User-Agent": "Cyberduck/9.0.1.41941 (Mac OS X/14.5) (aarch64)",
    "Connection": "Keep-Alive",
    "Accept-Encoding": "gzip,deflate",
}
EXPECTING = {"Expect": "100-continue", "Content-Length": str(len(CONTENT))}


@pytest.fixture
def duck(site: Site) -> Program:
    """Cyberduck in an open window, by its own new login."""
    site.gate.clock.forward(60)
    return site.program(ALWAYS)


def upload(needs: int) -> Step:
    return Step("PUT", FILE, needs, EXPECTING)


def test_a_file_is_uploaded_when_the_server_says_so(site: Site, duck: Program) -> None:
    """100 comes before any of the body was sent, 201 after all of it."""
    sock = duck.begin(upload(100))
    duck.finish(upload(100))
    sock.sendall(CONTENT)
    duck.finish(upload(201))
    assert get(site.gate.door("bob"), f"{duck.folder}/scan.bin") == CONTENT


def test_a_refused_login_comes_before_the_body(site: Site, duck: Program) -> None:
    """401 instead of 100, so that nothing was sent in vain; and nothing is there."""
    stranger = site.program(ALWAYS, secret="wrong", folder=duck.folder)
    stranger.begin(upload(401))
    answer = stranger.finish(upload(401))
    assert answer.headers["www-authenticate"].startswith("Basic ")
    duck.play(Step("HEAD", FILE, 404))


def test_an_ended_session_is_known_before_the_body(site: Site, duck: Program) -> None:
    """After a pause too long the upload is not begun: 401 while Cyberduck still waits."""
    duck.play(Step("PROPFIND", "{folder}/", 207, {"Depth": "1"}))
    site.gate.clock.forward(IDLE_TIMEOUT_S + 1)
    duck.begin(upload(401))
    duck.finish(upload(401))


@pytest.mark.parametrize("pause_s", [IDLE_TIMEOUT_S + 1, SESSION_TIMEOUT_S + 1])
def test_a_session_that_ends_meanwhile_lets_it_finish(
    site: Site, duck: Program, pause_s: int
) -> None:
    """What was begun in time is stored and recorded; only the next request is 401."""
    gate = site.gate
    gate.new_records()
    sock = duck.begin(upload(100))
    duck.finish(upload(100))
    gate.clock.forward(pause_s)
    sock.sendall(CONTENT)
    duck.finish(upload(201))
    duck.play(Step("PROPFIND", "{folder}/", 401, {"Depth": "1"}))
    assert get(gate.door("bob"), f"{duck.folder}/scan.bin") == CONTENT
    assert ("create", "ok") in outline(gate.new_records())
