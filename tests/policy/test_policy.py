"""The policy's rules, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from ipaddress import ip_network

import pytest

from auth.chain import OF_PEOPLE
from auth.hours import Hours
from auth.limits import Limits, limits, lock_timeout_s
from auth.policy import (
    MAX_SESSIONS,
    Decision,
    Grant,
    Group,
    PathRule,
    Policy,
    Situation,
    clauses,
    decide,
    decide_stat,
    rules_below,
    visible_shares,
)
from gateway.errors import InvalidPathError
from gateway.model import Action, Principal, Wire
from gateway.paths import ROOT, VirtualPath

ALICE = Principal("id-1", "alice", memberships=frozenset({"file:staff", "user:alice"}))
STRANGER = Principal("id-2", "mallory", memberships=frozenset({"user:mallory"}))
NOON = Situation(Wire.SFTP, "10.0.0.5", 12 * 3600 * 1_000_000)


def at(text: str) -> VirtualPath:
    return VirtualPath.parse(text)


def only(*actions: Action) -> frozenset[Action]:
    return frozenset(actions)


def staff(*grants: Grant, **other: object) -> Group:
    values: dict[str, object] = {"members": only_members("file:staff"), "grants": grants}
    return Group("staff", **(values | other))  # type: ignore[arg-type]  # checked by Group's users


def only_members(*names: str) -> frozenset[str]:
    return frozenset(names)


def may(
    groups: Iterable[Group], action: Action, path: str, situation: Situation = NOON
) -> Decision:
    return decide(Policy(tuple(groups)), ALICE, action, at(path), situation)


READS = Grant("files", only(Action.LIST, Action.READ))


def test_nothing_is_allowed_by_default() -> None:
    """No group, no grant, or a grant elsewhere: denied."""
    assert may([], Action.READ, "/files/a") == Decision(allowed=False, rule="default-deny")
    assert may([staff()], Action.READ, "/files/a").rule == "default-deny"
    assert may([staff(READS)], Action.READ, "/other/a").rule == "default-deny"
    assert may([staff(READS)], Action.WRITE, "/files/a").rule == "default-deny"


def test_grant_allows_and_names_its_line() -> None:
    """The decision carries the place in the configuration that made it."""
    expected = Decision(allowed=True, rule="groups.staff.shares.files.allow")
    assert may([staff(READS)], Action.READ, "/files/a/b") == expected


def test_rights_are_the_union_of_all_groups() -> None:
    """Each group adds to the others."""
    writers = Group("writers", only_members("user:alice"), (Grant("files", only(Action.WRITE)),))
    groups = [staff(READS), writers]
    assert may(groups, Action.READ, "/files/a").allowed
    assert may(groups, Action.WRITE, "/files/a").rule == "groups.writers.shares.files.allow"


def test_someone_elses_group_adds_nothing() -> None:
    """Membership is by the directory's normalised strings, exactly."""
    policy = Policy((staff(READS),))
    assert not decide(policy, STRANGER, Action.READ, at("/files/a"), NOON).allowed


def test_deny_beats_every_allow() -> None:
    """One group's deny holds against another's allow, and names its line."""
    strict = Group("strict", only_members("user:alice"), (Grant("files", deny=only(Action.READ)),))
    decision = may([staff(READS), strict], Action.READ, "/files/a")
    assert decision == Decision(allowed=False, rule="groups.strict.shares.files.deny")


def test_deny_holds_even_when_its_group_does_not_apply() -> None:
    """Coming in another way never loosens a restriction."""
    strict = Group(
        "strict",
        only_members("user:alice"),
        (Grant("files", deny=only(Action.READ)),),
        wires=frozenset({Wire.WEBDAV}),
        networks=(ip_network("192.0.2.0/24"),),
    )
    assert not may([staff(READS), strict], Action.READ, "/files/a").allowed


def test_path_deny_takes_away_below_the_pattern_alone() -> None:
    """The pattern's own folder is covered too; its neighbours are not."""
    rule = PathRule("/2019/**", deny=only(Action.READ))
    groups = [staff(Grant("files", only(Action.LIST, Action.READ), (rule,)))]
    denied = may(groups, Action.READ, "/files/2019/scan")
    assert denied == Decision(allowed=False, rule="groups.staff.shares.files.paths./2019/**.deny")
    assert not may(groups, Action.READ, "/files/2019").allowed
    assert may(groups, Action.LIST, "/files/2019").allowed
    assert may(groups, Action.READ, "/files/2020/scan").allowed


def test_path_allow_adds_below_the_pattern_alone() -> None:
    """A path rule can give what the share does not."""
    rule = PathRule("/in/**", only(Action.CREATE))
    groups = [staff(Grant("files", only(Action.LIST), (rule,)))]
    allowed = may(groups, Action.CREATE, "/files/in/x")
    assert allowed == Decision(allowed=True, rule="groups.staff.shares.files.paths./in/**.allow")
    assert not may(groups, Action.CREATE, "/files/out").allowed


def test_path_allow_does_not_undo_a_deny_of_the_share() -> None:
    """More exact is not stronger: deny wins everywhere."""
    rule = PathRule("/in/**", only(Action.READ))
    groups = [staff(Grant("files", paths=(rule,), deny=only(Action.READ)))]
    assert may(groups, Action.READ, "/files/in/x").rule == "groups.staff.shares.files.deny"


def test_bad_pattern_is_refused_when_the_rule_is_made() -> None:
    """No policy with an unreadable rule can exist."""
    with pytest.raises(InvalidPathError):
        PathRule("no-slash")


def test_root_may_be_listed_by_whom_a_group_lets_in_and_nothing_else() -> None:
    """The virtual root holds the shares and belongs to nobody."""
    everything = staff(Grant("files", frozenset(Action)))
    policy = Policy((everything,))
    for action in Action:
        expected = action is Action.LIST
        assert decide(policy, ALICE, action, ROOT, NOON).allowed is expected
    assert decide(policy, STRANGER, Action.LIST, ROOT, NOON).rule == "no-group"


def test_share_root_cannot_be_made_moved_or_removed() -> None:
    """Whatever the policy allows, a share's own folder is the administrator's."""
    groups = [staff(Grant("files", frozenset(Action)))]
    fixed = (Action.CREATE, Action.DELETE, Action.MOVE, Action.RESTORE, Action.PURGE)
    for action in Action:
        decision = may(groups, action, "/files")
        assert decision.allowed is (action not in fixed)
        assert (decision.rule == "share-root") is (action in fixed)


def test_writer_may_lock_unless_lock_is_denied() -> None:
    """Locking protects a write, so it comes with it; creating alone does not bring it."""
    writes = Grant("files", only(Action.WRITE))
    assert may([staff(writes)], Action.LOCK, "/files/a").allowed
    assert not may([staff(Grant("files", only(Action.CREATE)))], Action.LOCK, "/files/a").allowed
    assert may([staff(Grant("files", only(Action.LOCK)))], Action.LOCK, "/files/a").allowed
    denied = [staff(Grant("files", only(Action.WRITE), deny=only(Action.LOCK)))]
    assert may(denied, Action.LOCK, "/files/a").rule == "groups.staff.shares.files.deny"
    no_write = [staff(Grant("files", only(Action.WRITE), deny=only(Action.WRITE)))]
    assert may(no_write, Action.LOCK, "/files/a").rule == "default-deny"


@pytest.mark.parametrize(
    ("limit", "rule"),
    [
        ({"wires": frozenset({Wire.WEBDAV})}, "outside-protocols"),
        ({"networks": (ip_network("192.0.2.0/24"),)}, "outside-networks"),
        ({"hours": (Hours(frozenset(range(7)), 0, 60, UTC),)}, "outside-hours"),
        ({"wires": frozenset()}, "outside-protocols"),
    ],
)
def test_group_that_does_not_apply_gives_no_right(limit: dict[str, object], rule: str) -> None:
    """The reason stands in the decision, at the door and inside."""
    group = staff(READS, **limit)
    assert may([group], Action.READ, "/files/a") == Decision(allowed=False, rule=rule)
    assert limits(Policy((group,)), ALICE, NOON) == Decision(allowed=False, rule=rule)
    assert visible_shares(Policy((group,)), ALICE, NOON) == frozenset()


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.0.0.5", True),
        ("::ffff:10.0.0.5", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("11.0.0.5", False),
        ("", False),
        ("localhost", False),
        ("10.0.0.5:22", False),
    ],
)
def test_network_decides_by_numeric_address(address: str, *, inside: bool) -> None:
    """IPv4 seen through an IPv6 socket is IPv4; what is no address is nowhere."""
    group = staff(READS, networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
    situation = Situation(Wire.SFTP, address, 0)
    assert may([group], Action.READ, "/files/a", situation).allowed is inside


def test_stat_needs_a_right_that_shows_the_node() -> None:
    """List, read or write shows metadata; delete or lock alone does not."""
    for action in Action:
        policy = Policy((staff(Grant("files", only(action))),))
        decision = decide_stat(policy, ALICE, at("/files/a"), NOON, own=False)
        assert decision.allowed is (action in {Action.LIST, Action.READ, Action.WRITE})


def test_drop_box_shows_its_root_and_what_one_put_there() -> None:
    """Create alone is enough to work with one's own files and to enter the share."""
    policy = Policy((staff(Grant("inbox", only(Action.CREATE))),))
    assert decide_stat(policy, ALICE, at("/inbox"), NOON, own=False).allowed
    assert decide_stat(policy, ALICE, at("/inbox/mine"), NOON, own=True).allowed
    assert not decide_stat(policy, ALICE, at("/inbox/theirs"), NOON, own=False).allowed
    assert visible_shares(policy, ALICE, NOON) == frozenset()


def test_share_root_shows_to_whom_only_a_path_rule_helps() -> None:
    """Rights deep inside a share need a way in."""
    policy = Policy((staff(Grant("files", paths=(PathRule("/in/**", only(Action.READ)),))),))
    decision = decide_stat(policy, ALICE, at("/files"), NOON, own=False)
    assert decision.rule == "groups.staff.shares.files.paths./in/**.allow"
    assert not decide_stat(policy, ALICE, at("/files/out"), NOON, own=False).allowed


def test_share_root_hides_when_every_right_is_denied_or_asleep() -> None:
    """A right that a deny takes away entirely, or that does not apply now, opens nothing."""
    everywhere = PathRule("/**", deny=frozenset(Action))
    for grant in (
        Grant("files", only(Action.READ), deny=frozenset(Action)),
        Grant("files", only(Action.READ), (everywhere,)),
    ):
        policy = Policy((staff(grant),))
        assert not decide_stat(policy, ALICE, at("/files"), NOON, own=False).allowed
    in_path = Grant("files", paths=(PathRule("/in/**", only(Action.READ)),))
    asleep = Policy((staff(READS, in_path, wires=frozenset({Wire.WEBDAV})),))
    assert not decide_stat(asleep, ALICE, at("/files"), NOON, own=False).allowed
    assert not decide_stat(asleep, ALICE, ROOT, NOON, own=False).allowed
    elsewhere = Policy((staff(READS),))
    assert not decide_stat(elsewhere, ALICE, at("/other"), NOON, own=False).allowed


def test_root_stat_is_as_its_listing() -> None:
    """Whoever may come in may see the root."""
    assert decide_stat(Policy((staff(),)), ALICE, ROOT, NOON, own=False).allowed


def test_listed_shares_are_those_that_may_be_listed() -> None:
    """A denied or unlistable share does not show in the root."""
    hidden = Grant("hidden", only(Action.LIST), deny=only(Action.LIST))
    drop = Grant("drop", only(Action.CREATE))
    assert visible_shares(Policy((staff(READS, hidden, drop),)), ALICE, NOON) == {"files"}


def test_rules_below_tell_when_a_tree_must_be_walked() -> None:
    """Only a path rule of the principal's own groups, in that share, reaching below, counts."""
    rule = PathRule("/2019/**", deny=only(Action.READ))
    policy = Policy((staff(Grant("files", only(Action.READ), (rule,)), Grant("other")),))
    assert rules_below(policy, ALICE, ROOT)
    assert rules_below(policy, ALICE, at("/files"))
    assert not rules_below(policy, ALICE, at("/files/2019"))
    assert not rules_below(policy, ALICE, at("/files/2019/x"))
    assert not rules_below(policy, ALICE, at("/files/2020"))
    assert not rules_below(policy, ALICE, at("/other"))
    assert not rules_below(policy, STRANGER, at("/files"))


def test_strictest_limits_of_all_groups_win() -> None:
    """Also those of a group that does not apply now: it may come to apply during the session."""
    short = Group(
        "short",
        only_members("user:alice"),
        idle_timeout_s=60,
        wires=frozenset({Wire.WEBDAV}),
        second_factor=False,
    )
    policy = Policy((staff(READS, session_timeout_s=3600), short))
    assert limits(policy, ALICE, NOON) == Limits(
        60, 3600, True, False, ("staff",), OF_PEOPLE, MAX_SESSIONS
    )


def test_strictest_lock_timeout_of_all_groups_wins() -> None:
    """An hour where nothing is written, and nothing for whom no group knows."""
    short = Group("short", only_members("user:alice"), lock_timeout_s=60, wires=frozenset())
    assert lock_timeout_s(Policy((staff(READS),)), ALICE) == 3600
    assert lock_timeout_s(Policy((staff(READS, lock_timeout_s=7200), short)), ALICE) == 60
    assert lock_timeout_s(Policy((short,)), STRANGER) == 0


def test_service_account_is_key_only_unless_another_group_asks_for_more() -> None:
    """One group with a second factor makes the account a person's."""
    machine = Group("machine", only_members("user:alice"), second_factor=False)
    alone = limits(Policy((machine,)), ALICE, NOON)
    assert isinstance(alone, Limits)
    assert alone.key_only
    assert not alone.second_factor
    both = limits(Policy((machine, staff())), ALICE, NOON)
    assert isinstance(both, Limits)
    assert not both.key_only
    assert both.second_factor


def test_login_without_a_group_is_refused() -> None:
    """Being known to the directory is not enough."""
    refused = Decision(allowed=False, rule="no-group")
    assert limits(Policy((staff(READS),)), STRANGER, NOON) == refused


def test_clauses_name_every_place_that_was_weighed() -> None:
    """What the administrator is shown is what decided, and nothing else."""
    rules = (PathRule("/a/**", deny=only(Action.READ)), PathRule("/b/**", only(Action.READ)))
    policy = Policy((staff(Grant("files", only(Action.LIST), rules), Grant("other")),))
    found = clauses(policy, ALICE, at("/files/a/x"))
    assert [clause.rule for clause in found] == [
        "groups.staff.shares.files",
        "groups.staff.shares.files.paths./a/**",
    ]
    assert clauses(policy, STRANGER, at("/files/a/x")) == []
