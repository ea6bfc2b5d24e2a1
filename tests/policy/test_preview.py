"""What another configuration would change: told for groups as written, for users in effect."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from auth.hours import Hours
from auth.policy import Grant, Group, PathRule, Policy, clauses
from auth.ssh_key import Authority
from gateway.config.schema import ShareConfig, VersionsConfig
from gateway.model import Action, Principal, Wire
from gateway.paths import VirtualPath
from gateway.preview import (
    Change,
    authority_changes,
    group_changes,
    share_changes,
    user_changes,
)

ALICE = Principal("1", "alice", memberships=frozenset({"user:alice", "file:staff"}))
READ = frozenset({Action.LIST, Action.READ})
STAFF = Group("staff", frozenset({"file:staff"}), (Grant("files", READ),))


def told(old: Policy | Group, new: Policy | Group) -> list[str]:
    """Return what is told of the groups."""
    return [str(each) for each in group_changes(*_policies(old, new))]


def effect(old: Policy | Group, new: Policy | Group, who: Principal = ALICE) -> list[str]:
    """Return what is told of one user."""
    return [str(each) for each in user_changes(*_policies(old, new), who)]


def _policies(*given: Policy | Group) -> tuple[Policy, Policy]:
    one, other = (each if isinstance(each, Policy) else Policy((each,)) for each in given)
    return one, other


def granting(*rules: PathRule, allow: frozenset[Action] = READ) -> Group:
    return replace(STAFF, grants=(Grant("files", allow, rules),))


def test_equal_policies_change_nothing() -> None:
    """Neither as written nor in effect."""
    assert told(STAFF, STAFF) == effect(STAFF, STAFF) == []


def test_every_limit_of_a_group_is_told() -> None:
    """By its key in the file, as it was and as it would be."""
    night = Hours(frozenset({0, 4}), 1200, 360, ZoneInfo("UTC"))
    other = replace(
        STAFF,
        members=frozenset({"user:alice"}),
        wires=frozenset({Wire.SFTP}),
        idle_timeout_s=60,
        session_timeout_s=600,
        lock_timeout_s=120,
        second_factor=False,
        networks=(ip_network("10.0.0.0/8"),),
        hours=(night,),
    )
    lines = told(STAFF, other)
    for line in (
        "groups.staff members: gains user:alice; loses file:staff",
        "groups.staff protocols: loses webdav",
        "groups.staff idle_timeout: 900 s -> 60 s",
        "groups.staff session_timeout: 43200 s -> 600 s",
        "groups.staff lock_timeout: 3600 s -> 120 s",
        "groups.staff second_factor: required -> none",
        "groups.staff networks: anywhere -> 10.0.0.0/8",
        "groups.staff hours: always -> Mon,Fri 20:00-06:00 UTC",
    ):
        assert line in lines
    assert len(lines) == 8


def test_keys_of_users_are_told_by_their_ends() -> None:
    """A changed key of the same user is a change."""
    one, other = (
        replace(STAFF, ssh_keys=(("alice", (f"ssh-ed25519 {end * 30}",)),)) for end in "AB"
    )
    assert told(one, other) == [
        f"groups.staff ssh_keys: gains alice ...{'B' * 12}; loses alice ...{'A' * 12}"
    ]


def test_new_and_gone_groups_are_told_whole() -> None:
    """With everything that they give or take."""
    lines = told(Policy(()), STAFF)
    assert lines[0] == "groups.staff: is new"
    assert "groups.staff.shares.files allow: gains list, read" in lines
    assert told(STAFF, Policy(()))[0] == "groups.staff: is gone"


def test_rules_below_patterns_have_their_place() -> None:
    """Allows and denies apart, each with its pattern."""
    rule = PathRule("/2019/**", allow=frozenset({Action.WRITE}), deny=frozenset({Action.READ}))
    assert told(STAFF, granting(rule)) == [
        "groups.staff.shares.files.paths./2019/** allow: gains write",
        "groups.staff.shares.files.paths./2019/** deny: gains read",
    ]


def test_a_user_gains_what_all_groups_together_give() -> None:
    """Another group that allows the same makes no difference to the user."""
    twin = replace(STAFF, name="twin")
    assert effect(STAFF, Policy((STAFF, twin))) == ["alice groups: gains twin"]
    writing = replace(twin, grants=(Grant("files", frozenset({Action.WRITE})),))
    assert effect(STAFF, Policy((STAFF, writing))) == [
        "alice groups: gains twin",
        "alice: files: gains lock, write",
    ]


def test_a_deny_anywhere_is_lost_everywhere() -> None:
    """It beats what the other groups allow."""
    denying = Group("deny", STAFF.members, (Grant("files", deny=frozenset({Action.READ})),))
    assert "alice: files: loses read" in effect(STAFF, Policy((STAFF, denying)))


def test_patterns_are_told_where_they_differ_from_the_rest() -> None:
    """Once, and also where something stays while the rest of the share changes."""
    deny = PathRule("/2019/**", deny=frozenset({Action.READ}))
    assert effect(STAFF, granting(deny)) == ["alice: files /2019/**: loses read"]
    keep = PathRule("/*/kept-*.pdf", allow=READ)
    assert effect(STAFF, granting(keep, allow=frozenset({Action.LIST}))) == [
        "alice: files: loses read",
        "alice: files /*/kept-*.pdf: stays as it is",
    ]


def test_where_and_when_rights_hold_is_told() -> None:
    """The same actions from fewer networks are less."""
    other = replace(STAFF, networks=(ip_network("10.0.0.0/8"),))
    assert effect(STAFF, other) == [
        "alice: files list, read: from other networks, protocols or hours than before"
    ]


def test_the_strictest_limits_are_those_of_the_user() -> None:
    """One stricter group is enough; a looser one changes nothing."""
    strict = replace(
        STAFF, name="strict", grants=(), idle_timeout_s=60, lock_timeout_s=60, session_timeout_s=99
    )
    assert effect(STAFF, Policy((STAFF, strict))) == [
        "alice groups: gains strict",
        "alice idle_timeout: 900 s -> 60 s",
        "alice session_timeout: 43200 s -> 99 s",
        "alice lock_timeout: 3600 s -> 60 s",
    ]
    machine = replace(STAFF, second_factor=False)
    assert "alice second_factor: none -> required" in effect(machine, STAFF)


def test_who_loses_every_group_cannot_log_in() -> None:
    """And the other way round; whom no group ever knew is not told of."""
    assert effect(STAFF, Policy(()))[0] == "alice: can log in no more: no group knows this user"
    assert effect(Policy(()), STAFF)[0] == "alice: can log in: some group knows this user"
    assert effect(STAFF, Policy(()), Principal("2", "bob")) == []


def test_shares_are_compared() -> None:
    """Their room and how long they keep things."""
    old = {"a": ShareConfig(), "b": ShareConfig()}
    new = {
        "b": ShareConfig.model_construct(
            quota_bytes=10, versions=VersionsConfig.model_construct(keep=1, for_s=2), trash_s=3
        ),
        "c": ShareConfig(),
    }
    assert [str(each) for each in share_changes(old, new)] == [
        "shares.a: is gone",
        "shares.b quota: none -> 10 bytes",
        "shares.b versions.keep: 30 -> 1",
        "shares.b versions.for: 7776000 s -> 2 s",
        "shares.b trash: 2592000 s -> 3 s",
        "shares.c: is new",
    ]


ACTIONS = st.frozensets(st.sampled_from(Action), max_size=4)
RULES = st.lists(
    st.builds(
        PathRule, st.sampled_from(["/a", "/a/**", "/*/b", "/**/c", "/*.pdf"]), ACTIONS, ACTIONS
    ),
    max_size=3,
    unique_by=lambda rule: rule.pattern,
).map(tuple)
GROUPS = st.builds(
    lambda name, allow, rules, deny: Group(
        name, STAFF.members, (Grant("files", allow, rules, deny),)
    ),
    st.sampled_from(["one", "two"]),
    ACTIONS,
    RULES,
    ACTIONS,
)


@given(GROUPS, GROUPS)
def test_what_is_not_told_does_not_change(old: Group, new: Group) -> None:
    """Where no pattern leads and nothing is told of the share, the clauses say the same."""
    policies = Policy((old,)), Policy((new,))
    lines = [each for each in user_changes(*policies, ALICE) if each.place == "alice: files"]
    path = VirtualPath(("files", "any name"))
    rights = []
    for policy in policies:
        found = clauses(policy, ALICE, path)
        denied = {action for clause in found for action in clause.deny}
        allowed = {action for clause in found for action in clause.allow} - denied
        if Action.WRITE in allowed and Action.LOCK not in denied:
            allowed.add(Action.LOCK)
        rights.append(allowed)
    gained, lost = sorted(rights[1] - rights[0]), sorted(rights[0] - rights[1])
    expected = [Change("alice: files", gained=tuple(gained), lost=tuple(lost))]
    assert lines == (expected if gained or lost else [])


def test_authorities_of_users_keys_are_compared() -> None:
    """Whom they certify, and what they have revoked."""
    one = Authority("ca", "ssh-ed25519 A", groups=frozenset({"staff"}))
    other = replace(one, groups=frozenset(), revoked_serials=frozenset({7}))
    old, new = (Policy((STAFF,), authorities=each) for each in ((one,), (other,)))
    assert [str(each) for each in authority_changes(old, new)] == [
        "user_cas.ca groups: loses staff",
        "user_cas.ca revoked_serials: gains 7",
    ]
    none = Policy((STAFF,))
    assert [str(each) for each in authority_changes(old, none)] == ["user_cas.ca: is gone"]
    assert [str(each) for each in authority_changes(none, new)] == ["user_cas.ca: is new"]
    assert list(authority_changes(old, old)) == []
