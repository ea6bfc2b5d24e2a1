"""Commands that change who may be logged in take effect on the gateway that is running."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.commands.conftest import Sealgate
from tests.process.support import ServedGateway, served
from tests.support.paramiko_sftp import sftp_over
from tests.support.replies import Reply
from tests.support.users import Login, until


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """An installation on which a gateway runs."""
    with served(tmp_path_factory.mktemp("beside")) as running:
        yield running


def ask(gateway: ServedGateway, user: str, secret: str | None = None, last: int = 1) -> Reply:
    """List the top as ``user``; ``last`` ends the client's address, for throttling's sake."""
    address = f"127.0.0.{last}"
    headers = {"Depth": "0"}
    return gateway.curl(
        user, "PROPFIND", "/radiology", headers=headers, secret=secret, address=address
    )


def living(sealgate: Sealgate, user: str) -> list[dict[str, Any]]:
    """Return what ``sessions list`` says of a user."""
    listed = sealgate.records("sessions", "list", "--json")
    return [one for one in listed if one["principal_name"] == user]


def drawn(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many lines of a QR code were printed."""
    return sum(not set(line) - set("█▀▄ ") for line in done.stdout.splitlines() if line)


def test_ended_session_is_refused_at_its_next_request(sealgate: Sealgate) -> None:
    """A session that is ended by its id is gone for a client that goes on as before."""
    gateway = sealgate.gateway
    assert ask(gateway, "alice").status == 207
    (session,) = living(sealgate, "alice")
    assert session["protocol"] == "webdav"
    assert session["client_address"] == "127.0.0.1"
    assert session["factors"] == ["password", "totp"]
    assert session["idle_timeout_s"] == 900
    assert sealgate.parsed("sessions", "end", session["session"]) == {"ended": [session["session"]]}
    assert ask(gateway, "alice").status == 401
    assert living(sealgate, "alice") == []
    ends = sealgate.records("audit", "search", "--json", "--session", session["session"])
    assert [one["outcome"] for one in ends if one["action"] == "logoff"] == ["expired"]
    acts = sealgate.records("audit", "search", "--json", "--action", "sessions_end")
    assert acts[-1]["note"] == session["session"]


def test_sessions_of_a_user_are_ended_by_name(sealgate: Sealgate) -> None:
    """All sessions of a user end, those of SFTP connections that are open too."""
    gateway = sealgate.gateway
    assert ask(gateway, "bob").status == 207
    with gateway.ssh_transport("bob") as transport:
        client = sftp_over(transport)
        client.listdir("/radiology")
        before = living(sealgate, "bob")
        assert {one["protocol"] for one in before} == {"webdav", "sftp"}
        text = sealgate("sessions", "list").stdout
        assert all(one["session"] in text for one in before)
        ended = sealgate("sessions", "end", "bob")
        assert (ended.returncode, ended.stdout) == (0, f"{len(before)} sessions ended.\n")
        with pytest.raises((OSError, EOFError)):
            client.listdir("/radiology")
    assert ask(gateway, "bob").status == 401


def earn_lease(sealgate: Sealgate, address: str) -> None:
    """Have admin give a code from ``address`` and go."""
    gateway = sealgate.gateway
    admin = gateway.users["admin"]
    login = Login(admin.password, admin.next_code())
    done = gateway.sftp_batch("admin", ["pwd"], login=login, address=address)
    assert done.returncode == 0, done.stdout
    until(
        lambda: all(one["client_address"] != address for one in living(sealgate, "admin")),
        "the session is logged off",
    )


def last_lease_end(sealgate: Sealgate) -> tuple[str, str]:
    record = sealgate.records("audit", "search", "--json", "--action", "lease_end")[-1]
    return record["client_address"], record["rule"]


def test_a_lease_is_ended_by_name_without_any_session(sealgate: Sealgate) -> None:
    """Who was signed off must not come back by key alone."""
    earn_lease(sealgate, "127.0.0.22")
    done = sealgate("sessions", "end", "admin")
    assert done.returncode == 0, done.stderr
    assert last_lease_end(sealgate) == ("127.0.0.22", "ended-by-administrator")


def test_a_new_seed_ends_the_leases_of_the_old_one(sealgate: Sealgate) -> None:
    """Whoever had found the old one out may have earned one."""
    earn_lease(sealgate, "127.0.0.23")
    enrolled = sealgate.parsed("totp", "enrol", "admin")
    admin = sealgate.gateway.users["admin"]
    admin.totp_secret, admin.last_counter = enrolled["secret"], -1
    assert last_lease_end(sealgate) == ("127.0.0.23", "seed-changed")


def test_end_of_nobody_has_status_1(sealgate: Sealgate) -> None:
    """Where nothing was to be ended the status says so."""
    assert sealgate.parsed("sessions", "end", "nobody", status=1) == {"ended": []}


def test_new_seed_stops_the_old_codes(sealgate: Sealgate) -> None:
    """After ``totp enrol`` only codes of the new seed open a session."""
    gateway = sealgate.gateway
    admin = gateway.users["admin"]
    enrolled = sealgate.parsed("totp", "enrol", "admin")
    assert set(enrolled) == {"user", "secret", "uri"}
    assert enrolled["uri"].startswith("otpauth://totp/")
    assert f"secret={enrolled['secret']}" in enrolled["uri"]
    old = admin.password + admin.next_code()
    assert ask(gateway, "admin", old, last=20).status == 401
    admin.totp_secret, admin.last_counter = enrolled["secret"], -1
    login = Login(admin.password, admin.next_code())
    assert gateway.sftp_batch("admin", ["pwd"], login=login, address="127.0.0.21").returncode == 0
    everything = sealgate("audit", "export").stdout
    assert enrolled["secret"] not in everything
    records = [json.loads(line) for line in everything.splitlines()]
    assert [one["rule"] for one in records if one["action"] == "totp_enrol"][-1]


def test_enrolment_shows_the_secret_once_as_a_code_to_scan(sealgate: Sealgate) -> None:
    """For people the seed comes as a QR code and as text, and never again."""
    done = sealgate("totp", "enrol", "admin")
    assert done.returncode == 0
    assert drawn(done) > 15
    secret = next(word for word in done.stdout.split() if len(word) == 32 and word.isalnum())
    sealgate.gateway.users["admin"].totp_secret = secret
    for arguments in (("totp", "status", "admin"), ("audit", "export"), ("keys", "status")):
        assert secret not in sealgate(*arguments).stdout
    assert secret not in sealgate.gateway.log()


def test_user_without_a_seed_is_not_let_in(sealgate: Sealgate) -> None:
    """After ``totp remove`` no code is right any more; a second removal finds nothing."""
    gateway = sealgate.gateway
    assert sealgate.parsed("totp", "status", "admin") == {"user": "admin", "enrolled": True}
    assert sealgate.parsed("totp", "remove", "admin") == {"user": "admin", "removed": True}
    assert sealgate.parsed("totp", "remove", "admin", status=1) == {
        "user": "admin",
        "removed": False,
    }
    assert sealgate.parsed("totp", "status", "admin", status=1)["enrolled"] is False
    admin = gateway.users["admin"]
    for code in (admin.next_code(), ""):
        assert ask(gateway, "admin", admin.password + code, last=30).status == 401
    assert sealgate("totp", "status", "admin").stdout == "admin: has no seed\n"


@pytest.mark.parametrize("kind", ["enrol", "status", "remove"])
def test_unknown_user_is_wrong_use(sealgate: Sealgate, kind: str) -> None:
    """Nobody is enrolled whom the directory does not know."""
    done = sealgate("totp", kind, "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'nobody'" in done.stderr


def test_trail_of_a_running_gateway_is_whole(sealgate: Sealgate) -> None:
    """The live trail verifies while the server goes on writing it."""
    verified = sealgate.parsed("audit", "verify")
    assert verified["records"] > 5
    assert verified["findings"] == []
