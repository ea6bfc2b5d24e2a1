"""Leases: what a code is worth to the keys of the same principal at the same address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from auth.chain import Chain
from auth.errors import LoginRefusedError, SessionLimitError
from auth.policy import Policy
from gateway.errors import SessionEndedError
from gateway.model import Attempt, Factor, Outcome, Session, Wire
from tests.door.attempts import CLIENT, STEP_S, basic, by_key, prompted
from tests.door.support import (
    IDLE_TIMEOUT_S,
    OTHERS,
    SCANNER_KEY,
    SESSION_TIMEOUT_S,
    Gate,
    at,
    grant,
    group,
    password_of,
)

EVERY_CATALOG = True

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
ELSEWHERE = "10.0.0.6"


@pytest.fixture(autouse=True)
def keys(gate: Gate) -> None:
    """Give alice and bob a key each."""
    for name, key in (("alice", KEY), ("bob", SCANNER_KEY)):
        gate.directory.accounts[name] = replace(gate.directory.accounts[name], ssh_keys=(key,))


def _come_back(gate: Gate, address: str = CLIENT.address) -> Session:
    return gate.monitor.login(by_key("alice", KEY, address))


def _refused(gate: Gate, attempt: Attempt | None = None) -> str:
    with pytest.raises(LoginRefusedError) as caught:
        gate.monitor.login(attempt or by_key("alice", KEY))
    return caught.value.reason


def _key_and_code(gate: Gate) -> Attempt:
    return replace(by_key("alice", KEY), code=gate.code("alice"))


@pytest.mark.parametrize("earn", [basic, prompted, _key_and_code])
def test_a_code_lets_the_key_in_without_one(gate: Gate, earn: Callable[[Gate], Attempt]) -> None:
    """Whichever protocol took the code; the record names the factors."""
    assert _refused(gate) == "code-missing"
    gate.monitor.login(earn(gate))
    gate.new_records()
    session = _come_back(gate)
    assert session.factors == {Factor.SSH_KEY, Factor.LEASE}
    (record,) = gate.new_records()
    assert (record["action"], record["rule"]) == ("login", "lease+ssh_key")
    gate.monitor.bind(session).scandir(at("/radiology"))


def test_a_lease_is_the_principals_own_at_its_address(gate: Gate) -> None:
    """Neither another address nor another principal has any use of it."""
    gate.monitor.login(basic(gate))
    assert _refused(gate, by_key("alice", KEY, ELSEWHERE)) == "code-missing"
    assert _refused(gate, by_key("bob", SCANNER_KEY)) == "code-missing"


@pytest.mark.parametrize("wire", [Wire.SFTP, Wire.WEBDAV])
def test_a_lease_never_stands_in_for_the_code_of_a_password(gate: Gate, wire: Wire) -> None:
    """The directory's password alone opens nothing, however it is presented."""
    gate.monitor.login(basic(gate))
    password = password_of("alice")
    for attempt in (
        Attempt("alice", wire, CLIENT, secret=password),
        Attempt("alice", wire, CLIENT, password=password),
    ):
        assert _refused(gate, attempt) == "code-missing"


def test_a_lease_outlives_the_session_that_earned_it(gate: Gate) -> None:
    """Clients disconnect and come back, and several are connected at once."""
    gate.monitor.end(gate.monitor.login(prompted(gate)), "disconnected")
    first, second = _come_back(gate), _come_back(gate)
    assert first.id != second.id
    gate.monitor.end(first, "disconnected")
    assert _come_back(gate).id not in {first.id, second.id}


def test_a_lease_ends_when_none_of_its_sessions_does_anything(gate: Gate) -> None:
    """Its idle time-out counts from the last activity of any of them."""
    gate.monitor.end(gate.monitor.login(prompted(gate)), "disconnected")
    gate.clock.forward(IDLE_TIMEOUT_S - 1)
    session = _come_back(gate)
    gate.monitor.bind(session).scandir(at("/radiology"))
    gate.monitor.end(session, "disconnected")
    gate.clock.forward(IDLE_TIMEOUT_S - 1)
    _come_back(gate)
    gate.clock.forward(1)
    assert _refused(gate) == "code-missing"


def test_logging_in_is_no_activity(gate: Gate) -> None:
    """Two programs that come back in turns and do nothing keep nobody signed in."""
    gate.monitor.login(prompted(gate))
    for _ in range(3):
        gate.clock.forward(IDLE_TIMEOUT_S // 4)
        session = _come_back(gate)
    gate.clock.forward(IDLE_TIMEOUT_S - 3 * (IDLE_TIMEOUT_S // 4))
    assert not gate.alive(session)
    assert _refused(gate) == "code-missing"


def test_a_session_by_lease_ends_with_the_lease_at_the_latest(gate: Gate) -> None:
    """However busy it is, and it earns no other lease."""
    gate.monitor.login(prompted(gate))
    began_us = gate.clock()
    session = _come_back(gate)
    while gate.clock() + 500_000_000 < began_us + SESSION_TIMEOUT_S * 1_000_000:
        gate.clock.forward(500)
        session = _come_back(gate)
        gate.monitor.bind(session).scandir(at("/radiology"))
    assert session.ends_us == began_us + SESSION_TIMEOUT_S * 1_000_000
    gate.clock.forward(500)
    assert _refused(gate) == "code-missing"
    with pytest.raises(SessionEndedError):
        gate.monitor.bind(session).scandir(at("/radiology"))


def test_another_code_renews_the_lease(gate: Gate) -> None:
    """Its sessions go on keeping it alive, those from before too; there is one row for all."""
    first = gate.monitor.login(prompted(gate))
    gate.clock.forward(STEP_S)
    gate.monitor.login(basic(gate))
    assert gate.sql("SELECT count(*) FROM leases") == [(1,)]
    gate.clock.forward(IDLE_TIMEOUT_S - 2 * STEP_S)
    gate.monitor.bind(first).scandir(at("/radiology"))
    gate.clock.forward(IDLE_TIMEOUT_S - 1)
    _come_back(gate)


def test_a_code_after_the_end_opens_another_lease(gate: Gate) -> None:
    """Sessions of the old one do not keep the new one alive."""
    gate.monitor.login(prompted(gate))
    (old,) = gate.sql("SELECT id FROM leases")
    gate.clock.forward(IDLE_TIMEOUT_S)
    gate.monitor.login(prompted(gate))
    (new,) = gate.sql("SELECT id FROM leases")
    assert old != new


def test_ending_a_session_ends_its_lease(gate: Gate) -> None:
    """An administrator who signs somebody off wants to see a code; both ends are recorded."""
    gate.monitor.login(prompted(gate))
    session = _come_back(gate)
    gate.new_records()
    gate.login.log_off(session, "ended-by-administrator", Outcome.EXPIRED)
    ended = [(one["action"], one["rule"]) for one in gate.new_records()]
    assert ended == [
        ("lease_end", "ended-by-administrator"),
        ("logoff", "ended-by-administrator"),
    ]
    assert _refused(gate) == "code-missing"


def test_a_lease_without_a_session_can_be_ended(gate: Gate) -> None:
    """By its principal's name or id; the second time there is none."""
    gate.monitor.end(gate.monitor.login(prompted(gate)), "disconnected")
    assert gate.login.end_leases("bob", "ended-by-administrator") == 0
    assert gate.login.end_leases("alice", "ended-by-administrator") == 1
    assert gate.login.end_leases("id-alice", "ended-by-administrator") == 0
    assert _refused(gate) == "code-missing"
    assert gate.records()[-2]["action"] == "lease_end"


@pytest.mark.parametrize("reason", ["idle", "disconnected"])
def test_a_session_that_ends_by_itself_leaves_the_lease(gate: Gate, reason: str) -> None:
    """Others may keep it alive."""
    session = gate.monitor.login(prompted(gate))
    if reason == "idle":
        gate.monitor.expire(session, reason)
    else:
        gate.monitor.end(session, reason)
        with pytest.raises(SessionEndedError):
            gate.monitor.bind(session).scandir(at("/radiology"))
    _come_back(gate)


def test_a_disabled_account_has_no_lease(gate: Gate) -> None:
    """The directory is asked at each log-in."""
    gate.monitor.login(prompted(gate))
    alice = gate.directory.accounts["alice"]
    gate.directory.accounts["alice"] = replace(alice, enabled=False)
    assert _refused(gate) == "account-disabled"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"idle_timeout_s": 60}, "code-missing"),
        ({"session_timeout_s": 60}, "code-missing"),
        ({"logins": frozenset({Chain.KEY_TOTP})}, "code-missing"),
        ({"logins": frozenset({Chain.PASSWORD_TOTP})}, "login-not-accepted"),
    ],
)
def test_a_reload_shortens_or_removes_leases(
    gate: Gate, limits: dict[str, object], reason: str
) -> None:
    """The policy in force decides, not the one under which the code was given."""
    gate.monitor.login(prompted(gate))
    gate.clock.forward(90)
    _come_back(gate)
    staff = group("staff", grant("radiology"), **limits)
    gate.policy.replace(Policy((staff, *OTHERS)))
    assert _refused(gate) == reason


def test_where_policy_has_no_use_for_leases_none_is_kept(gate: Gate) -> None:
    """Allowing them later opens nothing that was not meant when the code was given."""
    without = group("staff", grant("radiology"), logins=frozenset({Chain.PASSWORD_TOTP}))
    before = gate.policy()
    gate.policy.replace(Policy((without, *OTHERS)))
    gate.monitor.login(prompted(gate))
    gate.policy.replace(before)
    assert _refused(gate) == "code-missing"


@pytest.mark.parametrize(
    "edit",
    [
        "ends_us = ends_us + 1",
        "idle_timeout_s = 86400",
        "opened_us = opened_us + 1",
        "id = 'another'",
        "principal_name = 'bob'",
    ],
)
def test_an_edited_lease_is_none(gate: Gate, edit: str) -> None:
    """Whoever can write to the catalog cannot give themselves more time."""
    gate.monitor.login(prompted(gate))
    gate.sql(f"UPDATE leases SET {edit}")
    assert _refused(gate) == "code-missing"


def test_a_lease_that_was_moved_to_another_holder_is_none(gate: Gate) -> None:
    """Neither to another principal nor to another address."""
    gate.monitor.login(prompted(gate))
    gate.sql("UPDATE leases SET principal_id = 'id-bob'")
    assert _refused(gate, by_key("bob", SCANNER_KEY)) == "code-missing"
    gate.sql(f"UPDATE leases SET principal_id = 'id-alice', client_address = '{ELSEWHERE}'")
    assert _refused(gate, by_key("alice", KEY, ELSEWHERE)) == "code-missing"


def test_a_key_that_keeps_trying_without_a_lease_is_no_guess(gate: Gate) -> None:
    """A mount that reconnects all night must not hold up its owner in the morning."""
    staff = group("staff", grant("radiology"), logins=frozenset(Chain) - {Chain.KEY_TOTP})
    gate.policy.replace(Policy((staff, *OTHERS)))
    for _ in range(20):
        assert _refused(gate) == "lease-missing"
    gate.monitor.login(prompted(gate))
    _come_back(gate)


def test_guessing_codes_behind_a_proven_key_is_slowed_down(gate: Gate) -> None:
    """Whoever has stolen the key has a million guesses to make."""
    wrong = replace(by_key("alice", KEY), code="000000")
    reasons = [_refused(gate, wrong) for _ in range(10)]
    assert reasons[0] == "code-wrong"
    assert reasons[-1] == "throttled"


def test_a_replayed_code_is_refused_though_there_is_a_lease(gate: Gate) -> None:
    """A failed factor opens no other way in."""
    attempt = _key_and_code(gate)
    gate.monitor.login(attempt)
    assert _refused(gate, attempt) == "code-replayed"
    _come_back(gate)


# Sessions of one principal


def test_a_principal_has_no_more_sessions_than_policy_says(gate: Gate) -> None:
    """The answer says why, and the code is not burnt; one that is over does not count."""
    staff = group("staff", grant("radiology"), max_sessions=2)
    gate.policy.replace(Policy((staff, *OTHERS)))
    gate.monitor.login(basic(gate))
    second = _come_back(gate)
    with pytest.raises(SessionLimitError, match="2 sessions") as caught:
        _come_back(gate)
    assert caught.value.reason == "session-limit"
    record = gate.records()[-1]
    assert (record["outcome"], record["rule"]) == ("denied", "session-limit")
    gate.clock.forward(STEP_S)
    attempt = prompted(gate)
    assert _refused(gate, attempt) == "session-limit"
    gate.monitor.end(second, "disconnected")
    gate.monitor.login(attempt)


def test_the_number_of_sessions_tells_nothing_to_whoever_has_no_code(gate: Gate) -> None:
    """A wrong code is refused as a wrong code."""
    staff = group("staff", grant("radiology"), max_sessions=1)
    gate.policy.replace(Policy((staff, *OTHERS)))
    gate.monitor.login(basic(gate))
    wrong = Attempt("alice", Wire.SFTP, CLIENT, password=password_of("alice"), code="000000")
    assert _refused(gate, wrong) == "code-wrong"


def test_sessions_that_idled_out_make_room(gate: Gate) -> None:
    """Before the janitor has come by."""
    staff = group("staff", grant("radiology"), max_sessions=1)
    gate.policy.replace(Policy((staff, *OTHERS)))
    gate.monitor.login(basic(gate))
    gate.clock.forward(IDLE_TIMEOUT_S)
    gate.monitor.login(prompted(gate))
