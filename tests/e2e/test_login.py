"""Who is not let in learns nothing from how they were refused."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.replies import Reply
from tests.support.users import Login


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway of its own: failed logins slow down whoever shares it."""
    with running_gateway(tmp_path_factory.mktemp("guarded")) as running:
        yield running


def visible(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """Return what a client can tell two answers apart by."""
    headers = {name: value for name, value in reply.headers.items() if name != "date"}
    return reply.status, headers, reply.body


def wrong_code(gateway: RunningGateway, user: str) -> str:
    """Return six digits that are no code of ``user`` in any step near now."""
    step = int(time.time()) // 30
    near = {gateway.users[user].code_at(step + shift) for shift in range(-3, 4)}
    return next(code for code in ("000000", "111111", "222222", "333333") if code not in near)


@pytest.mark.parametrize("first", ["webdav", "sftp"])
def test_code_is_accepted_once_whatever_the_protocol(guarded: RunningGateway, first: str) -> None:
    """A code that opened a session on one protocol opens none on the other."""
    login = guarded.sftp_login("admin", fresh=True)

    def by_webdav() -> bool:
        secret = login.password + login.code
        return guarded.curl("admin", "OPTIONS", "/", secret=secret).status == 200

    def by_sftp() -> bool:
        return guarded.sftp_batch("admin", ["pwd"], login=login).returncode == 0

    attempts = [by_webdav, by_sftp] if first == "webdav" else [by_sftp, by_webdav]
    assert attempts[0]()
    assert not attempts[1]()


def test_webdav_refuses_every_wrong_secret_alike(guarded: RunningGateway) -> None:
    """Unknown user, wrong password, wrong code and a used code get one and the same answer."""
    alice = guarded.users["alice"]
    used = alice.password + guarded.code("alice")
    first = guarded.curl("alice", "PROPFIND", "/", headers={"Depth": "0"}, secret=used)
    assert first.status == 207
    secrets = {
        ("nobody", "127.0.0.2"): "some password123456",
        ("alice", "127.0.0.3"): "not her password" + guarded.code("alice"),
        ("bob", "127.0.0.4"): guarded.users["bob"].password + wrong_code(guarded, "bob"),
        ("bob", "127.0.0.5"): guarded.users["bob"].password,
        # The same secret from another address joins no session, and its code is spent.
        ("alice", "127.0.0.6"): used,
    }
    answers = [
        visible(
            guarded.curl(
                user, "PROPFIND", "/", headers={"Depth": "0"}, secret=secret, address=address
            )
        )
        for (user, address), secret in secrets.items()
    ]
    assert answers[0][0] == 401
    assert "basic" in answers[0][1]["www-authenticate"].lower()
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("method", ["keyboard-interactive", "password"])
def test_sftp_refuses_every_wrong_secret_alike(guarded: RunningGateway, method: str) -> None:
    """The same four mistakes look the same to OpenSSH."""
    bob = guarded.users["bob"]
    last = {"keyboard-interactive": 10, "password": 20}[method]
    # A user has three fresh codes at a time, and other tests here take some of them.
    known = {"keyboard-interactive": "admin", "password": "alice"}[method]
    attempts = {
        ("nobody", f"127.0.0.{last}"): Login("some password", "123456"),
        (known, f"127.0.0.{last + 1}"): Login("not the password", guarded.code(known)),
        ("bob", f"127.0.0.{last + 2}"): Login(bob.password, wrong_code(guarded, "bob")),
    }
    answers = []
    for (user, address), login in attempts.items():
        done = guarded.sftp_batch(user, ["pwd"], method=method, login=login, address=address)
        answers.append((done.returncode, done.stdout.replace(f"{user}@", "USER@")))
    assert answers[0][0] != 0
    assert all(answer == answers[0] for answer in answers)


def test_every_refused_login_is_recorded_without_its_secret(guarded: RunningGateway) -> None:
    """A failed login leaves one denied record, with the name tried and nothing that was typed."""
    mark = guarded.audit_mark()
    typed = "tried-and-wrong-987654"
    reply = guarded.curl("mallory", "OPTIONS", "/", secret=typed, address="127.0.0.30")
    assert reply.status == 401
    guarded.wait_for_record(
        lambda record: record.action == "login" and (record.journal, record.seq) not in mark,
        "the refused login",
    )
    logins = [record for record in guarded.audit_since(mark) if record.action == "login"]
    assert [record.outcome for record in logins] == ["denied"]
    assert typed not in str(logins[0].fields)


def test_password_without_code_never_works(guarded: RunningGateway) -> None:
    """An enrolled user's bare password is refused by each way in."""
    password = guarded.users["bob"].password
    assert guarded.curl("bob", "OPTIONS", "/", secret=password, address="127.0.0.40").status == 401
    for method in ("password", "keyboard-interactive"):
        login = Login(password, "")
        done = guarded.sftp_batch("bob", ["pwd"], method=method, login=login, address="127.0.0.41")
        assert done.returncode != 0
