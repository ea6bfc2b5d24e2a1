"""A checked configuration to the policy that decides.

Pure translation: words to actions, names to memberships. Imports the models and ``auth``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from auth.chain import OF_PEOPLE, Chain
from auth.directory import fold, membership
from auth.policy import MAX_SERVICE_SESSIONS, MAX_SESSIONS, Grant, Group, PathRule, Policy
from auth.ssh_key import Authority
from gateway.config.scalars import ALL
from gateway.config.schema import (
    GatewayConfig,
    GrantConfig,
    GroupConfig,
    MembersConfig,
    UserCaConfig,
)
from gateway.model import Action, Wire


def compile_policy(config: GatewayConfig) -> Policy:
    """Return the policy that ``config`` writes.

    Its revision is a digest of the rules, equal for equal rules whatever their layout.
    """
    groups = tuple(
        sorted(
            (_group(name, group) for name, group in config.groups.items()),
            key=lambda group: group.name,
        )
    )
    authorities = tuple(_authority(name, config.user_cas[name]) for name in sorted(config.user_cas))
    canonical = "\n".join([*map(_canonical, groups), *map(_canonical_authority, authorities)])
    revision = hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]
    return Policy(groups, revision, authorities)


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
        logins=_chains(group),
        max_sessions=group.max_sessions or _usual_sessions(group),
        ssh_keys=tuple(sorted((fold(name), keys) for name, keys in group.ssh_keys.items())),
        scp=None if group.scp is None else group.scp == "allowed",
    )


def _usual_sessions(group: GroupConfig) -> int:
    return MAX_SERVICE_SESSIONS if group.is_service else MAX_SESSIONS


def _chains(group: GroupConfig) -> frozenset[Chain]:
    if group.is_service:
        return frozenset({Chain.KEY})
    return OF_PEOPLE if group.sftp_logins is None else frozenset(map(Chain, group.sftp_logins))


def _authority(name: str, authority: UserCaConfig) -> Authority:
    return Authority(
        name=name,
        key=authority.key,
        groups=frozenset(authority.groups or ()),
        revoked_serials=frozenset(authority.revoked_serials),
        revoked_key_ids=frozenset(authority.revoked_key_ids or ()),
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
            sorted(group.logins),
            group.max_sessions,
            group.ssh_keys,
            group.scp,
        )
    )


def _canonical_authority(authority: Authority) -> str:
    return repr(
        (
            authority.name,
            authority.key,
            sorted(authority.groups),
            sorted(authority.revoked_serials),
            sorted(authority.revoked_key_ids),
        )
    )
