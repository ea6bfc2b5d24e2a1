"""Coming in: what opens or joins a session, what is refused, and what is written down of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest

from auth.errors import DirectoryUnavailableError, LoginRefusedError
from auth.policy import Policy
from gateway.errors import AuditUnavailableError, SessionEndedError
from gateway.login import REFUSAL_TIME_S
from gateway.model import Attempt, Factor, Wire
from tests.door.attempts import CLIENT, STEP_S, basic, by_key, live_sessions, prompted
from tests.door.support import IDLE_TIMEOUT_S, OFFICE, SCANNER_KEY, Gate, at, outline, password_of

OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP8BAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.mark.parametrize("attempt", [basic, prompted])
def test_password_and_code_open_a_session(gate: Gate, attempt: Callable[[Gate], Attempt]) -> None:
    """Joined as one secret or asked apart; the record names the factors."""
    session = gate.monitor.login(attempt(gate))
    assert session.principal.id == "id-alice"
    assert session.factors == {Factor.PASSWORD, Factor.TOTP}
    assert session.idle_timeout_s == IDLE_TIMEOUT_S
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"]) == ("login", "ok")
    assert (record["rule"], record["session"]) == ("password+totp", session.id)
    assert (record["client_address"], record["client_software"]) == (OFFICE, "a client")
    gate.monitor.bind(session).scandir(at("/radiology"))


def test_a_service_account_comes_in_by_key_alone(gate: Gate) -> None:
    """From its networks; no code is asked."""
    assert gate.monitor.key_may_log_in("scanner", SCANNER_KEY, CLIENT)
    session = gate.monitor.login(by_key())
    assert session.factors == {Factor.SSH_KEY}
    assert gate.new_records()[0]["rule"] == "ssh_key"


def test_asking_whether_a_key_is_listed_proves_and_records_nothing(gate: Gate) -> None:
    """Only enabled users' own keys are listed."""
    assert not gate.monitor.key_may_log_in("scanner", OTHER_KEY, CLIENT)
    assert not gate.monitor.key_may_log_in("carl", SCANNER_KEY, CLIENT)
    assert not gate.monitor.key_may_log_in("nobody", SCANNER_KEY, CLIENT)
    assert gate.new_records() == []


def _used(gate: Gate) -> Attempt:
    attempt = prompted(gate)
    session = gate.monitor.login(attempt)
    gate.monitor.end(session, "disconnected")
    gate.new_records()
    return attempt


def _without_code(gate: Gate) -> Attempt:
    return Attempt("alice", Wire.WEBDAV, CLIENT, secret=password_of("alice"))


def _wrong_code(gate: Gate) -> Attempt:
    code = f"{(int(gate.code('alice')) + 1) % 1_000_000:06d}"
    return Attempt("alice", Wire.SFTP, CLIENT, password=password_of("alice"), code=code)


def _old_code(gate: Gate) -> Attempt:
    attempt = prompted(gate)
    gate.clock.forward(3 * STEP_S)
    return attempt


def _no_group(gate: Gate) -> Attempt:
    gate.policy.replace(Policy(()))
    return basic(gate)


REFUSED: dict[str, tuple[Callable[[Gate], Attempt], str, str]] = {
    "unknown user": (
        lambda _gate: Attempt("nobody", Wire.WEBDAV, CLIENT, secret="nobody's password 1123456"),
        "unknown-user",
        "",
    ),
    "wrong password": (
        lambda gate: Attempt("alice", Wire.WEBDAV, CLIENT, secret=f"wrong{gate.code('alice')}"),
        "wrong-password",
        "id-alice",
    ),
    "disabled": (lambda gate: basic(gate, "carl"), "account-disabled", "id-carl"),
    "disabled with a key": (lambda _gate: by_key("carl"), "account-disabled", "id-carl"),
    "wrong code": (_wrong_code, "code-wrong", "id-alice"),
    "old code": (_old_code, "code-wrong", "id-alice"),
    "used code": (_used, "code-replayed", "id-alice"),
    "wrong key": (lambda _gate: by_key(key=OTHER_KEY), "wrong-key", "id-scanner"),
    "key of an unknown user": (lambda _gate: by_key("nobody"), "unknown-user", ""),
    "key from elsewhere": (
        lambda _gate: by_key(address="192.0.2.7"),
        "outside-networks",
        "id-scanner",
    ),
    "service account by password": (
        lambda gate: basic(gate, "scanner", wire=Wire.SFTP),
        "factor-missing",
        "id-scanner",
    ),
    "no group": (_no_group, "no-group", "id-alice"),
}
every_refusal = pytest.mark.parametrize(
    ("make", "reason", "principal_id"), REFUSED.values(), ids=REFUSED
)


@every_refusal
def test_a_refusal_says_nothing_and_its_record_says_why(
    gate: Gate, make: Callable[[Gate], Attempt], reason: str, principal_id: str
) -> None:
    """One message for all, one record with the reason and the name as it was typed."""
    attempt = make(gate)
    before = live_sessions(gate)
    with pytest.raises(LoginRefusedError) as caught:
        gate.monitor.login(attempt)
    assert str(caught.value) == str(LoginRefusedError("any"))
    (record,) = gate.new_records()
    assert (record["action"], record["outcome"]) == ("login", "denied")
    assert (record["rule"], record["principal_id"]) == (reason, principal_id)
    assert record["login_name"] == attempt.name
    assert record["principal_name"] == ""
    assert live_sessions(gate) == before


@every_refusal
def test_the_typed_name_is_sealed(
    gate: Gate, make: Callable[[Gate], Attempt], reason: str, principal_id: str
) -> None:
    """People type passwords into the name field: the body in clear does not hold it."""
    typed = "secretword-" + reason
    attempt = Attempt(typed, Wire.WEBDAV, CLIENT, secret="whatever123456")
    with pytest.raises(LoginRefusedError):
        gate.monitor.login(attempt)
    for body, detail in gate.sql("SELECT body, detail_sealed FROM audit"):
        assert "secretword" not in body
        assert b"secretword" not in detail
    assert gate.records()[0]["login_name"] == typed


@every_refusal
@pytest.mark.parametrize("directory_delay_s", [0.0, 0.3])
def test_every_refusal_takes_the_same_time(
    gate: Gate,
    make: Callable[[Gate], Attempt],
    reason: str,
    principal_id: str,
    directory_delay_s: float,
) -> None:
    """Whatever refused and however long the directory took."""
    attempt = make(gate)
    gate.directory.delay_s = directory_delay_s
    began_us = gate.clock()
    with pytest.raises(LoginRefusedError):
        gate.monitor.login(attempt)
    assert gate.clock() - began_us == pytest.approx(REFUSAL_TIME_S * 1_000_000, abs=2)


def test_no_secret_is_in_any_record(gate: Gate) -> None:
    """Neither passwords nor codes nor keys, of good and of bad logins."""
    attempts = [basic(gate), _wrong_code(gate), by_key(), by_key(key=OTHER_KEY)]
    for attempt in attempts:
        with contextlib.suppress(LoginRefusedError):
            gate.monitor.login(attempt)
    text = json.dumps(gate.records())
    for attempt in attempts:
        for secret in (attempt.secret, attempt.password, attempt.ssh_key, password_of("alice")):
            assert not secret or secret not in text


def test_an_unavailable_directory_is_recorded_as_failed(gate: Gate) -> None:
    """It is no refusal: nobody is throttled for it, and the code was not burnt."""
    attempt = basic(gate)
    gate.directory.down = True
    for _ in range(10):
        with pytest.raises(DirectoryUnavailableError):
            gate.monitor.login(attempt)
    records = gate.new_records()
    assert outline(records) == [("login", "failed")] * 10
    assert records[0]["error"] == "DirectoryUnavailableError"
    gate.directory.down = False
    gate.monitor.login(attempt)


# Fail closed


@pytest.mark.parametrize("attempt", [basic, lambda _gate: by_key(), prompted])
def test_a_login_whose_record_fails_opens_nothing(
    gate: Gate, attempt: Callable[[Gate], Attempt]
) -> None:
    """No session, and the code is not burnt."""
    tried = attempt(gate)
    gate.refuse_records()
    with pytest.raises(AuditUnavailableError):
        gate.monitor.login(tried)
    assert live_sessions(gate) == []
    gate.accept_records()
    gate.monitor.login(tried)


def test_a_join_whose_record_fails_is_refused(gate: Gate) -> None:
    """And is not counted as a connection."""
    tried = prompted(gate)
    session = gate.monitor.login(tried)
    gate.refuse_records()
    with pytest.raises(AuditUnavailableError):
        gate.monitor.login(tried)
    gate.accept_records()
    gate.monitor.end(session, "disconnected")
    assert not gate.alive(session)


def test_a_refusal_whose_record_fails_is_no_answer(gate: Gate) -> None:
    """Guessing goes on nowhere unrecorded."""
    gate.refuse_records()
    with pytest.raises(AuditUnavailableError):
        gate.monitor.login(Attempt("alice", Wire.WEBDAV, CLIENT, secret="wrong123456"))


def test_a_session_never_outlives_its_principals_session_timeout(gate: Gate) -> None:
    """The same header joins until the absolute end and not after it."""
    attempt = basic(gate)
    session = gate.monitor.login(attempt)
    door = gate.monitor.bind(session)
    while gate.clock() + 500_000_000 < session.ends_us:
        gate.clock.forward(500)
        door.scandir(at("/radiology"))
    gate.clock.forward(500)
    with pytest.raises(SessionEndedError):
        door.scandir(at("/radiology"))
    with pytest.raises(LoginRefusedError):
        gate.monitor.login(attempt)


@pytest.mark.parametrize(
    "edit",
    [
        "principal_id = 'id-bob'",
        'principal = \'["bob","",[]]\'',
        "wire = 'sftp'",
        "client_address = '10.0.0.6'",
        "factors = 'password,totp,ssh_key'",
        "binding = x'00'",
        "idle_timeout_s = 86400",
        "ends_us = ends_us + 1",
        "mac = x''",
        "mac = 'text'",
        "principal_id = x'ff'",
    ],
)
def test_a_session_whose_row_was_edited_is_over(gate: Gate, edit: str) -> None:
    """Whoever can write to the catalog does not thereby become somebody else."""
    session = gate.monitor.login(basic(gate))
    door = gate.monitor.bind(session)
    door.stat(at("/radiology"))
    with gate.catalog.begin() as tx:
        tx.connection.execute(f"UPDATE sessions SET {edit}")
    with pytest.raises(SessionEndedError):
        door.stat(at("/radiology"))
    assert live_sessions(gate) == []
