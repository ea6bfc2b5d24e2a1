"""How the file's words on logging in reach the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from auth.chain import OF_PEOPLE, Chain
from auth.limits import Limits, limits, ssh_keys
from auth.policy import Policy, Situation
from auth.ssh_key import Authority
from gateway.config import compile_policy, parse_config
from gateway.model import Principal, Wire

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
TEXT = """\
server: {sftp: {host_keys: host_key}}
storage: {data_dir: data}
keys: {master_key: {file: master.key}}
directory: {file: {users: users.yaml}}
shares: {files: {}}
groups:
  staff:
    members: {file: staff}
    %s
  night:
    members: {file: night}
    networks: 10.0.0.0/8
    %s
  robots:
    members: {users: robot}
    second_factor: none
    networks: 10.0.0.0/24
%s"""
HERE = Situation(Wire.SFTP, "10.0.0.5", 0)
AWAY = Situation(Wire.SFTP, "192.0.2.7", 0)


def policy(staff: str = "", night: str = "", more: str = "") -> Policy:
    text = TEXT % (staff, night, more)
    return compile_policy(parse_config(text.encode(), Path("/etc/x/config.yaml")))


def who(*groups: str, name: str = "alice") -> Principal:
    memberships = {f"user:{name}", *(f"file:{group}" for group in groups)}
    return Principal("id", name, memberships=frozenset(memberships))


def held_to(rules: Policy, principal: Principal) -> Limits:
    found = limits(rules, principal, HERE)
    assert isinstance(found, Limits)
    return found


def test_every_way_of_people_is_open_unless_a_group_says_otherwise() -> None:
    """A service account has its key, and nothing else."""
    rules = policy()
    assert held_to(rules, who("staff")).logins == OF_PEOPLE
    assert held_to(rules, who(name="robot")).logins == {Chain.KEY}


@pytest.mark.parametrize(
    ("night", "common"),
    [
        ("publickey+totp", {Chain.KEY_TOTP}),
        ("[publickey+lease, publickey+totp]", {Chain.KEY_TOTP}),
        ("publickey+lease", set()),
    ],
)
def test_what_all_groups_accept_counts(night: str, common: set[Chain]) -> None:
    """The strictest wins, also where nothing is left and the file cannot tell."""
    rules = policy("sftp_logins: [password+totp, publickey+totp]", f"sftp_logins: {night}")
    assert held_to(rules, who("staff", "night")).logins == common
    assert len(held_to(rules, who("staff")).logins) == 2


def test_a_person_who_is_a_service_account_too_stays_a_person() -> None:
    """The service group takes no way in from them and adds none."""
    rules = policy("sftp_logins: publickey+totp")
    assert held_to(rules, who("staff", name="robot")).logins == {Chain.KEY_TOTP}


def test_the_fewest_sessions_win() -> None:
    """Where nobody says anything, fifty for a person and a thousand for a machine."""
    rules = policy("max_sessions: 7", "max_sessions: 9")
    assert held_to(rules, who("staff", "night")).max_sessions == 7
    assert held_to(rules, who("night")).max_sessions == 9
    assert held_to(policy(), who("staff")).max_sessions == 50
    assert held_to(rules, who(name="robot")).max_sessions == 1000


def test_keys_count_for_members_while_their_group_applies() -> None:
    """Case of the name does not matter; comments are dropped; another's keys are not taken."""
    rules = policy(
        f"ssh_keys: {{Alice: '{KEY} alice@laptop'}}", f"ssh_keys: {{alice: ['{OTHER_KEY}']}}"
    )
    assert set(ssh_keys(rules, who("staff", "night"), HERE)) == {KEY, OTHER_KEY}
    assert ssh_keys(rules, who("staff", "night"), AWAY) == (KEY,)
    assert ssh_keys(rules, who("night"), HERE) == (OTHER_KEY,)
    assert ssh_keys(rules, who("staff", name="bob"), HERE) == ()
    assert ssh_keys(rules, who(), HERE) == ()


def test_options_that_narrow_a_key_are_kept_or_refused() -> None:
    """What nobody may do here anyway may be forbidden once more."""
    rules = policy(f"ssh_keys: {{alice: ['restrict,no-pty {KEY} x']}}")
    assert ssh_keys(rules, who("staff")) == (KEY,)


def test_authorities_reach_the_policy_and_its_revision() -> None:
    """With what they have revoked; a further serial number is another policy."""
    text = "user_cas: {clinic: {key: '%s ca', groups: staff, revoked_serials: [%s]}}\n"
    rules = policy(more=text % (KEY, "7, 18446744073709551615"))
    assert rules.authorities == (
        Authority("clinic", KEY, frozenset({"staff"}), frozenset({7, 2**64 - 1})),
    )
    revisions = {rules.revision, policy().revision, policy(more=text % (KEY, "7, 8")).revision}
    assert len(revisions) == 3


@pytest.mark.parametrize(
    "line",
    ["sftp_logins: publickey+totp", "max_sessions: 3", f"ssh_keys: {{alice: {KEY}}}"],
)
def test_the_words_are_part_of_the_revision(line: str) -> None:
    """Records name the policy that was in force."""
    assert policy(line).revision != policy().revision
