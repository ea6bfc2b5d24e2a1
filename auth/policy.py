"""The policy: which principal may do what, where, over which protocol, from where and when.

Two rules carry everything. Rights come only from groups that apply to the situation at hand.
Restrictions (denies, timeouts, the second factor) come from every group of the principal,
whether it applies or not, so that coming in another way never loosens one.

Pure: no I/O, no clock, no parsing of configuration. Imports the shared nouns, the path patterns
and the hours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

from auth.chain import OF_PEOPLE, Chain
from auth.hours import Hours
from auth.pattern import Pattern
from auth.ssh_key import Authority
from gateway.model import Action, Principal, Wire
from gateway.paths import VirtualPath

DEFAULT_DENY = "default-deny"
NO_GROUP = "no-group"
OUTSIDE_PROTOCOLS = "outside-protocols"
OUTSIDE_NETWORKS = "outside-networks"
OUTSIDE_HOURS = "outside-hours"
ROOT_RULE = "root"
SHARE_ROOT_RULE = "share-root"

MAX_SESSIONS = 50
"""How many sessions a principal may have at a time unless its groups say less or more."""

MAX_SERVICE_SESSIONS = 1000
"""The same for a service account: each of its connections is a session of its own."""

_NEVER_ON_A_SHARE_ROOT = frozenset(
    {Action.CREATE, Action.DELETE, Action.MOVE, Action.RESTORE, Action.PURGE}
)
"""A share is made, emptied and removed by the administrator, never through a protocol."""

_SHOWS_METADATA = (Action.LIST, Action.READ, Action.WRITE)

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class PathRule:
    """What one path pattern inside a share adds to (allow) and takes from (deny) the rights."""

    pattern: str
    allow: frozenset[Action] = frozenset()
    deny: frozenset[Action] = frozenset()
    compiled: Pattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the pattern; raises InvalidPathError when it is none."""
        object.__setattr__(self, "compiled", Pattern.parse(self.pattern))


@dataclass(frozen=True, slots=True)
class Grant:
    """What a group adds to and takes from the rights in one share, and below some of its paths."""

    share: str
    allow: frozenset[Action] = frozenset()
    paths: tuple[PathRule, ...] = ()
    deny: frozenset[Action] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the policy.

    ``members`` are membership strings as the directory normalises them. Empty ``networks`` mean
    anywhere and empty ``hours`` always; empty ``wires`` mean that the rights never apply.
    ``ssh_keys`` are folded login names of members, each with key lines. ``scp``: whether members
    may use scp's own protocol; None says nothing about it.
    """

    name: str
    members: frozenset[str]
    grants: tuple[Grant, ...] = ()
    wires: frozenset[Wire] = frozenset({Wire.WEBDAV, Wire.SFTP})
    idle_timeout_s: int = 900
    session_timeout_s: int = 43_200
    lock_timeout_s: int = 3600
    second_factor: bool = True
    networks: tuple[Network, ...] = ()
    hours: tuple[Hours, ...] = ()
    logins: frozenset[Chain] = OF_PEOPLE
    max_sessions: int = MAX_SESSIONS
    ssh_keys: tuple[tuple[str, tuple[str, ...]], ...] = ()
    scp: bool | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """All groups, in order of name, and the revision of the configuration they came from.

    ``authorities`` certify users' SSH keys.
    """

    groups: tuple[Group, ...]
    revision: str = ""
    authorities: tuple[Authority, ...] = ()

    def __post_init__(self) -> None:
        """Put the groups in order, so that the order of writing never shows in a decision."""
        object.__setattr__(self, "groups", tuple(sorted(self.groups, key=lambda it: it.name)))


@dataclass(frozen=True, slots=True)
class Situation:
    """How and when a principal asks: ``address`` is a numeric IP address."""

    wire: Wire
    address: str
    now_us: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something is allowed, and the line of policy (or built-in rule) that decided."""

    allowed: bool
    rule: str


class Clause(NamedTuple):
    """One place of the policy that covers some path: a grant, or a path rule inside it."""

    group: Group
    grant: Grant
    path_rule: PathRule | None
    allow: frozenset[Action]
    deny: frozenset[Action]

    @property
    def rule(self) -> str:
        """The place in the configuration, without ``.allow`` or ``.deny``."""
        place = f"groups.{self.group.name}.shares.{self.grant.share}"
        return place if self.path_rule is None else f"{place}.paths.{self.path_rule.pattern}"


def decide(
    policy: Policy,
    principal: Principal,
    action: Action,
    path: VirtualPath,
    situation: Situation,
) -> Decision:
    """Return whether ``principal`` may do ``action`` to ``path`` in this situation.

    Whatever is not allowed is denied, and a deny beats every allow. The virtual root may be
    listed by whom any group lets in, and nothing else; a share's root cannot be created, moved,
    deleted, restored or purged. Whoever may write a node may lock it, unless lock is denied.
    """
    if path.is_root:
        return _decide_root(policy, principal, action, situation)
    if path.is_share and action in _NEVER_ON_A_SHARE_ROOT:
        return Decision(allowed=False, rule=SHARE_ROOT_RULE)
    found = clauses(policy, principal, path)
    decision = _judge(found, action, situation)
    if action is Action.LOCK and not decision.allowed and not _denied(found, Action.LOCK):
        by_write = _judge(found, Action.WRITE, situation)
        return by_write if by_write.allowed else decision
    return decision


def decide_stat(
    policy: Policy,
    principal: Principal,
    path: VirtualPath,
    situation: Situation,
    *,
    own: bool,
) -> Decision:
    """Return whether ``principal`` may see the metadata of ``path``.

    List, read or write on it suffices, or create when ``own`` (the principal made that node). A
    share's root also shows to whom holds any right anywhere in the share: a drop box works.
    """
    if path.is_root:
        return decide(policy, principal, Action.LIST, path, situation)
    found = clauses(policy, principal, path)
    for action in (*_SHOWS_METADATA, Action.CREATE) if own else _SHOWS_METADATA:
        decision = _judge(found, action, situation)
        if decision.allowed:
            return decision
    if path.is_share:
        held = _any_right(policy, principal, path.share, situation)
        if held is not None:
            return held
    return _judge(found, Action.LIST, situation)


def visible_shares(policy: Policy, principal: Principal, situation: Situation) -> frozenset[str]:
    """Return the shares that ``/`` lists: those whose own root the principal may list."""
    named = {grant.share for group in groups_of(policy, principal) for grant in group.grants}
    return frozenset(
        share
        for share in named
        if decide(policy, principal, Action.LIST, VirtualPath((share,)), situation).allowed
    )


def rules_below(policy: Policy, principal: Principal, path: VirtualPath) -> bool:
    """Return whether any path rule could make a node below ``path`` decide unlike ``path``.

    False is certain, in every situation: what is allowed on ``path`` is allowed on all below it,
    and (a share's root apart, on which some actions are never allowed) what is denied is denied.
    """
    if path.is_root:
        return True
    return any(
        rule.compiled.divides(path.inner)
        for group in groups_of(policy, principal)
        for grant in group.grants
        if grant.share == path.share
        for rule in grant.paths
    )


def groups_of(policy: Policy, principal: Principal) -> tuple[Group, ...]:
    """Return the groups that ``principal`` belongs to, in order of name."""
    return tuple(
        group for group in policy.groups if not group.members.isdisjoint(principal.memberships)
    )


def obstacle(group: Group, situation: Situation) -> str:
    """Return ``""`` when the group's rights apply now, else the rule that stops them."""
    if situation.wire not in group.wires:
        return OUTSIDE_PROTOCOLS
    if group.networks and not _within(situation.address, group.networks):
        return OUTSIDE_NETWORKS
    if group.hours and not any(hours.open_at(situation.now_us) for hours in group.hours):
        return OUTSIDE_HOURS
    return ""


def clauses(policy: Policy, principal: Principal, path: VirtualPath) -> list[Clause]:
    """Return every place of the principal's groups that covers ``path``, in order of group.

    ``decide`` weighs these and nothing else, each with the ``obstacle`` of its group; the
    administrator's explanation shows them.
    """
    share, inner = path.share, path.inner
    found: list[Clause] = []
    for group in groups_of(policy, principal):
        for grant in group.grants:
            if grant.share != share:
                continue
            found.append(Clause(group, grant, None, grant.allow, grant.deny))
            found += [
                Clause(group, grant, rule, rule.allow, rule.deny)
                for rule in grant.paths
                if rule.compiled.covers(inner)
            ]
    return found


def _judge(found: list[Clause], action: Action, situation: Situation) -> Decision:
    """Weigh the clauses for one action: a deny, then an allow that applies, then the default."""
    for clause in found:
        if action in clause.deny:
            return Decision(allowed=False, rule=f"{clause.rule}.deny")
    held_up = ""
    for clause in found:
        if action in clause.allow:
            why_not = obstacle(clause.group, situation)
            if not why_not:
                return Decision(allowed=True, rule=f"{clause.rule}.allow")
            held_up = held_up or why_not
    return Decision(allowed=False, rule=held_up or DEFAULT_DENY)


def _denied(found: list[Clause], action: Action) -> bool:
    return any(action in clause.deny for clause in found)


def _decide_root(
    policy: Policy, principal: Principal, action: Action, situation: Situation
) -> Decision:
    if action is not Action.LIST:
        return Decision(allowed=False, rule=ROOT_RULE)
    return admission(groups_of(policy, principal), situation)


def admission(groups: tuple[Group, ...], situation: Situation) -> Decision:
    """Return whether any group lets the principal in now, else why the first one does not."""
    if not groups:
        return Decision(allowed=False, rule=NO_GROUP)
    obstacles = [obstacle(group, situation) for group in groups]
    if all(obstacles):
        return Decision(allowed=False, rule=obstacles[0])
    return Decision(allowed=True, rule=ROOT_RULE)


def _any_right(
    policy: Policy, principal: Principal, share: str, situation: Situation
) -> Decision | None:
    """Return the allow by which the principal holds some right somewhere in ``share``, or None."""
    found = [
        Clause(group, grant, rule, part.allow, part.deny)
        for group in groups_of(policy, principal)
        for grant in group.grants
        if grant.share == share
        for rule in (None, *grant.paths)
        for part in (rule or grant,)
    ]
    denied: set[Action] = set()
    for clause in found:
        if clause.path_rule is None or clause.path_rule.compiled.covers_everything:
            denied |= clause.deny
    for clause in found:
        if clause.allow - denied and not obstacle(clause.group, situation):
            return Decision(allowed=True, rule=f"{clause.rule}.allow")
    return None


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    """Return whether ``address`` lies in one of ``networks``; no address lies in none."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in networks)


@lru_cache(maxsize=4096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    # A dual-stack listener reports IPv4 clients as ::ffff:a.b.c.d; without this, a rule written
    # for their IPv4 network would not hold.
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
