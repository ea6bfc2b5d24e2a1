"""Who may use scp's own protocol: whom one group allows it and none refuses it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from auth.limits import decide_scp
from auth.policy import Decision, Group, Policy, Situation
from gateway.model import Principal, Wire

ALICE = Principal(id="1", name="alice", memberships=frozenset({"user:alice"}))
HERE = Situation(Wire.SFTP, "10.0.0.5", 0)


def group(name: str, scp: bool | None, **limits: object) -> Group:
    return Group(name, frozenset({"user:alice"}), scp=scp, **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "allowed", "rule"),
    [
        ([], False, "default-deny"),
        ([None], False, "default-deny"),
        ([True], True, "groups.g0.scp"),
        ([None, True], True, "groups.g1.scp"),
        ([False], False, "groups.g0.scp"),
        ([True, False], False, "groups.g1.scp"),
        ([False, True], False, "groups.g0.scp"),
    ],
)
def test_one_group_allows_and_none_refuses(
    said: list[bool | None], allowed: bool, rule: str
) -> None:
    """Silence allows nothing and refuses nothing."""
    policy = Policy(tuple(group(f"g{index}", each) for index, each in enumerate(said)))
    assert decide_scp(policy, ALICE, HERE) == Decision(allowed=allowed, rule=rule)


def test_a_group_allows_only_where_it_applies_and_refuses_everywhere() -> None:
    """Coming from elsewhere loosens nothing."""
    office = (ip_network("192.0.2.0/24"),)
    away = Policy((group("a", True, networks=office),))
    assert decide_scp(away, ALICE, HERE) == Decision(allowed=False, rule="outside-networks")
    barred = Policy((group("a", True), group("b", False, networks=office)))
    assert decide_scp(barred, ALICE, HERE) == Decision(allowed=False, rule="groups.b.scp")


def test_others_groups_allow_nothing() -> None:
    """Only one's own count."""
    other = Group("a", frozenset({"user:bob"}), scp=True)
    assert not decide_scp(Policy((other,)), ALICE, HERE).allowed
