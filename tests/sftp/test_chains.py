"""Chains of factors over the real door, walked by OpenSSH's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.chain import Chain
from auth.policy import Group, Policy
from tests.door.attempts import STEP_S
from tests.door.support import IDLE_TIMEOUT_S, OTHERS, grant, group, password_of
from tests.sftp.real_door import RealDoor, real_door

KEY_THEN_CODE = "publickey,keyboard-interactive"
EVERYTHING = "publickey,keyboard-interactive,password"


@pytest.fixture
def door(tmp_path: Path, host_key: Path, user_key: Path) -> Iterator[RealDoor]:
    """A listener over the real door, where alice has a key."""
    with real_door(tmp_path, host_key, user_key) as opened:
        opened.list_key(user_key)
        yield opened


def test_a_key_is_the_first_factor_and_a_code_the_second(door: RealDoor) -> None:
    """Partial success, then one prompt; the code that followed is worth a lease."""
    done = door.sftp(method=KEY_THEN_CODE, password="never asked for")
    assert done.returncode == 0, done.stderr
    assert door.logins() == [("denied", "code-missing"), ("ok", "ssh_key+totp")]
    done = door.sftp()
    assert done.returncode == 0, done.stderr
    assert door.logins() == [("ok", "lease+ssh_key")]


@pytest.mark.parametrize("method", ["keyboard-interactive", "password"])
def test_a_password_with_its_code_is_worth_a_lease(door: RealDoor, method: str) -> None:
    """By prompts or in one line; the key needs no code then, until nobody works any more."""
    secret = password_of("alice") + (door.gate.code("alice") if method == "password" else "")
    done = door.sftp(method=method, password=secret)
    assert done.returncode == 0, done.stderr
    assert door.sftp().returncode == 0
    assert door.logins() == [("ok", "password+totp"), ("ok", "lease+ssh_key")]
    door.gate.clock.forward(IDLE_TIMEOUT_S)
    assert door.sftp().returncode != 0
    assert door.logins() == [("denied", "code-missing")]


def test_after_an_accepted_key_a_password_gets_nobody_in(door: RealDoor) -> None:
    """The wrong code closes nothing but opens nothing either: no password is even offered."""
    secret = password_of("alice") + door.gate.code("alice")
    done = door.sftp(method=EVERYTHING, password=secret, code="000000")
    assert done.returncode != 0
    assert "Permission denied (keyboard-interactive)" in done.stderr
    assert door.logins() == [("denied", "code-missing"), ("denied", "code-wrong")]


def test_after_failed_prompts_a_password_alone_gets_nobody_in(door: RealDoor) -> None:
    """Whichever method is tried next: without a code the right password opens nothing."""
    done = door.sftp(method="keyboard-interactive,password", code="000000")
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    assert door.logins() == [("denied", "code-wrong"), ("denied", "code-missing")]


def test_a_wrong_code_may_be_followed_by_the_right_one(door: RealDoor) -> None:
    """The key stays proven for its connection."""
    script = door.folder / "askpass.sh"
    asked = door.folder / "asked"
    script.write_text(
        f'#!/bin/sh\nif [ -e "{asked}" ]; then echo {door.gate.code("alice")};'
        f' else : > "{asked}"; echo 000000; fi\n'
    )
    script.chmod(0o700)
    done = door.sftp(method=KEY_THEN_CODE, options=("-oNumberOfPasswordPrompts=3",))
    assert done.returncode == 0, done.stderr
    assert [rule for _, rule in door.logins()] == ["code-missing", "code-wrong", "ssh_key+totp"]


@pytest.mark.parametrize(
    ("accepted", "method", "outcomes"),
    [
        (Chain.PASSWORD_TOTP, "publickey", [("denied", "login-not-accepted")]),
        (Chain.PASSWORD_TOTP, "keyboard-interactive", [("ok", "password+totp")]),
        (Chain.KEY_TOTP, "keyboard-interactive", [("denied", "login-not-accepted")]),
        (Chain.KEY_TOTP, KEY_THEN_CODE, [("denied", "code-missing"), ("ok", "ssh_key+totp")]),
        (Chain.KEY_LEASE, KEY_THEN_CODE, [("denied", "lease-missing")]),
    ],
)
def test_only_the_chains_of_the_group_let_anybody_in(
    door: RealDoor, accepted: Chain, method: str, outcomes: list[tuple[str, str]]
) -> None:
    """Each record says what was wrong, and the client hears the same of all."""
    door.rules(logins=frozenset({accepted}))
    done = door.sftp(method=method)
    told = door.logins()
    assert told[: len(outcomes)] == outcomes
    assert (done.returncode == 0) == (outcomes[-1][0] == "ok"), done.stderr
    if done.returncode:
        assert "Permission denied" in done.stderr


def test_a_lease_is_of_no_use_where_policy_wants_a_code(door: RealDoor) -> None:
    """The key is asked for a code again at each log-in."""
    door.rules(logins=frozenset({Chain.PASSWORD_TOTP, Chain.KEY_TOTP}))
    assert door.sftp(method="keyboard-interactive").returncode == 0
    door.gate.clock.forward(STEP_S)
    assert door.sftp(method=KEY_THEN_CODE).returncode == 0
    rules = [rule for _, rule in door.logins()]
    assert rules == ["password+totp", "code-missing", "ssh_key+totp"]


def test_groups_without_a_common_chain_let_nobody_in(door: RealDoor) -> None:
    """Where memberships come from a directory the file cannot tell; the record does."""
    strict = Group("strict", frozenset({"file:staff"}), logins=frozenset({Chain.KEY_TOTP}))
    staff = group("staff", grant("radiology"), logins=frozenset({Chain.PASSWORD_TOTP}))
    door.put_in_force(staff, strict)
    assert door.sftp(method="keyboard-interactive").returncode != 0
    assert door.logins() == [("denied", "no-common-login")]


def test_a_service_account_needs_its_key_alone(door: RealDoor, user_key: Path) -> None:
    """From its networks, and no password gets it in."""
    door.list_key(user_key, "scanner")
    service = group("service", grant("inbox"), second_factor=False, logins=frozenset({Chain.KEY}))
    others = [one for one in OTHERS if one.name != "service"]
    door.gate.policy.replace(Policy((service, *others)))
    assert door.sftp(name="scanner").returncode == 0
    assert door.sftp(name="scanner", method="keyboard-interactive").returncode != 0
    assert door.logins() == [("ok", "ssh_key"), ("denied", "factor-missing")]


def test_who_has_too_many_sessions_is_told_so(door: RealDoor) -> None:
    """Not that the password was wrong."""
    door.rules(max_sessions=1)
    door.gate.session("alice")
    done = door.sftp(method="keyboard-interactive", options=("-oLogLevel=INFO",))
    assert done.returncode != 0
    assert door.logins() == [("denied", "session-limit")]
    assert "1 sessions open" in done.stderr
