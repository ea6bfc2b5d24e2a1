"""A checked configuration to the policy that decides.

Pure translation: words to actions, names to memberships. Imports the models and ``auth``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from auth.directory import membership
from auth.policy import Grant, Group, PathRule, Policy
from gateway.config.scalars import ALL
from gateway.config.schema import GatewayConfig, GrantConfig, GroupConfig, MembersConfig
from gateway.model import Action, Wire


def compile_policy(config: GatewayConfig) -> Policy:
    """Return the policy that ``config`` writes.

    Its revision is a digest of the groups, equal for equal rules whatever their layout.
    """
    groups = tuple(
        sorted(
            (_group(name, group) for name, group in config.groups.items()),
            key=lambda group: group.name,
        )
    )
    canonical = "\n".join(_canonical(group) for group in groups)
    return Policy(groups, hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16])


def _group(name: str, group: GroupConfig) -> Group:
    wires = group.protocols or (Wire.SFTP, Wire.WEBDAV)
    return Group(
        name=name,
        members=_members(group.members),
        grants=tuple(_grant(share, grant) for share, grant in group.shares.items()),
        # A service group proves itself by an SSH key, which only SFTP carries.
        wires=frozenset({Wire.SFTP}) if group.is_service else frozenset(map(Wire, wires)),
        idle_timeout_s=group.idle_timeout_s,
        session_timeout_s=group.session_timeout_s,
        lock_timeout_s=group.lock_timeout_s,
        second_factor=not group.is_service,
        networks=group.networks or (),
        hours=group.hours or (),
    )


def _members(members: MembersConfig) -> frozenset[str]:
    return frozenset(
        [membership("ldap", name) for name in members.ldap]
        + [membership("file", name) for name in members.file]
        + [membership("user", name) for name in members.users]
    )


def _grant(share: str, grant: GrantConfig) -> Grant:
    rules = tuple(
        PathRule(pattern, _actions(rule.allow), _actions(rule.deny))
        for pattern, rule in grant.paths.items()
    )
    return Grant(share, _actions(grant.allow), rules, _actions(grant.deny))


def _actions(words: Iterable[str]) -> frozenset[Action]:
    if ALL in words:
        return frozenset(Action)
    return frozenset(Action(word) for word in words)


def _canonical(group: Group) -> str:
    """Return one text for all ways to write the same group."""
    grants = sorted(
        (
            grant.share,
            sorted(grant.allow),
            sorted(grant.deny),
            sorted((rule.pattern, sorted(rule.allow), sorted(rule.deny)) for rule in grant.paths),
        )
        for grant in group.grants
    )
    hours = sorted(
        (sorted(span.days), span.start_minute, span.end_minute, str(span.zone))
        for span in group.hours
    )
    return repr(
        (
            group.name,
            sorted(group.members),
            grants,
            sorted(group.wires),
            group.idle_timeout_s,
            group.session_timeout_s,
            group.lock_timeout_s,
            group.second_factor,
            sorted(map(str, group.networks)),
            hours,
        )
    )
