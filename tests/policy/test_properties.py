"""What holds for every policy, whatever it says."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given
from hypothesis import strategies as st

from auth.limits import limits
from auth.policy import (
    Grant,
    Group,
    PathRule,
    Policy,
    Situation,
    decide,
    decide_stat,
    rules_below,
    visible_shares,
)
from gateway.model import Action, Principal, Wire
from gateway.paths import VirtualPath

ME = Principal("id", "me", memberships=frozenset({"file:x", "file:y"}))
SITUATION = Situation(Wire.SFTP, "10.0.0.1", 0)
SHARES = ("s", "t")
NAMES = ("a", "b", "ab")
PATHS = [
    VirtualPath((share, *inner))
    for share in SHARES
    for depth in range(4)
    for inner in itertools.product(NAMES, repeat=depth)
]

actions = st.frozensets(st.sampled_from(Action), max_size=4)
patterns = st.lists(st.sampled_from(["a", "b", "a*", "*", "**"]), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
rules = st.builds(PathRule, patterns, actions, actions)
grants = st.builds(
    Grant,
    st.sampled_from(SHARES),
    actions,
    st.lists(rules, max_size=3).map(tuple),
    actions,
)
wires = st.sampled_from([frozenset({Wire.SFTP}), frozenset({Wire.WEBDAV}), frozenset(Wire)])
members = st.frozensets(st.sampled_from(["file:x", "file:y", "file:z"]), min_size=1)
groups = st.builds(
    Group,
    st.sampled_from(["g1", "g2", "g3", "g4"]),
    members,
    st.lists(grants, max_size=3).map(tuple),
    wires,
    st.integers(1, 100),
    st.integers(100, 1000),
    st.booleans(),
)
policies = st.lists(groups, max_size=4, unique_by=lambda group: group.name).map(
    lambda made: Policy(tuple(made))
)
asked_paths = st.sampled_from(PATHS)
asked_actions = st.sampled_from(Action)


def allowed(policy: Policy, action: Action, path: VirtualPath) -> bool:
    return decide(policy, ME, action, path, SITUATION).allowed


def with_group(policy: Policy, group: Group) -> Policy:
    return Policy((*policy.groups, dataclasses.replace(group, name="added")))


@given(policies, asked_actions, asked_paths)
def test_what_is_allowed_was_allowed_by_a_line_and_denied_by_none(
    policy: Policy, action: Action, path: VirtualPath
) -> None:
    """Default deny and deny-wins, told by an independent reading of the records."""
    allows: set[Action] = set()
    denies: set[Action] = set()
    for group in policy.groups:
        if not group.members & ME.memberships:
            continue
        for grant in group.grants:
            if grant.share != path.share:
                continue
            covering = [rule for rule in grant.paths if rule.compiled.covers(path.inner)]
            lines: list[Grant | PathRule] = [grant, *covering]
            for line in lines:
                denies |= line.deny
                if SITUATION.wire in group.wires:
                    allows |= line.allow
    rights = allows - denies
    if Action.WRITE in rights and Action.LOCK not in denies:
        rights |= {Action.LOCK}
    if path.is_share:
        rights &= {Action.LIST, Action.READ, Action.WRITE, Action.LOCK}
    assert allowed(policy, action, path) is (action in rights)


@given(policies, groups, asked_actions, asked_paths)
def test_group_of_denies_never_adds_a_right(
    policy: Policy, group: Group, action: Action, path: VirtualPath
) -> None:
    """Adding restrictions restricts."""
    denies = tuple(
        dataclasses.replace(
            grant,
            allow=frozenset(),
            paths=tuple(PathRule(rule.pattern, deny=rule.deny) for rule in grant.paths),
        )
        for grant in group.grants
    )
    more = with_group(policy, dataclasses.replace(group, grants=denies))
    assert allowed(more, action, path) <= allowed(policy, action, path)


@given(policies, groups, asked_actions, asked_paths)
def test_group_of_allows_never_takes_a_right(
    policy: Policy, group: Group, action: Action, path: VirtualPath
) -> None:
    """Adding permissions permits."""
    allows = tuple(
        dataclasses.replace(
            grant,
            deny=frozenset(),
            paths=tuple(PathRule(rule.pattern, rule.allow) for rule in grant.paths),
        )
        for grant in group.grants
    )
    more = with_group(policy, dataclasses.replace(group, grants=allows))
    assert allowed(more, action, path) >= allowed(policy, action, path)


@given(policies, groups, asked_actions, asked_paths)
def test_group_without_rules_changes_limits_alone(
    policy: Policy, group: Group, action: Action, path: VirtualPath
) -> None:
    """Such a group may shorten sessions, and that is all."""
    more = with_group(policy, dataclasses.replace(group, grants=()))
    assert decide(more, ME, action, path, SITUATION) == decide(policy, ME, action, path, SITUATION)
    assert visible_shares(more, ME, SITUATION) == visible_shares(policy, ME, SITUATION)


@given(policies, asked_actions, asked_paths)
def test_order_of_groups_never_shows(policy: Policy, action: Action, path: VirtualPath) -> None:
    """Not in decisions, nor in the line that they name, nor in limits."""
    turned = Policy(tuple(reversed(policy.groups)))
    assert decide(turned, ME, action, path, SITUATION) == decide(
        policy, ME, action, path, SITUATION
    )
    assert limits(turned, ME, SITUATION) == limits(policy, ME, SITUATION)


@given(policies, asked_paths)
def test_undivided_tree_decides_as_its_top(policy: Policy, path: VirtualPath) -> None:
    """When ``rules_below`` says no, walking the tree could not have changed an answer."""
    if rules_below(policy, ME, path):
        return
    for below in PATHS:
        if not below.is_within(path):
            continue
        for action in Action:
            top, deep = allowed(policy, action, path), allowed(policy, action, below)
            assert top <= deep if path.is_share else top is deep


@given(policies, asked_paths)
def test_listed_share_can_be_seen(policy: Policy, path: VirtualPath) -> None:
    """What the root shows can be stat'ed, and what can be listed or read too."""
    for share in visible_shares(policy, ME, SITUATION):
        assert decide_stat(policy, ME, VirtualPath((share,)), SITUATION, own=False).allowed
    if allowed(policy, Action.LIST, path) or allowed(policy, Action.READ, path):
        assert decide_stat(policy, ME, path, SITUATION, own=False).allowed
