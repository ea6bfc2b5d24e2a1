"""What policy holds a principal to besides its rights: times, ways in, keys, scp.

Pure, like ``auth.policy``, on whose groups it works. Imports it and the shared nouns.
"""

from __future__ import annotations

from dataclasses import dataclass

from auth.chain import Chain
from auth.directory import fold
from auth.policy import (
    DEFAULT_DENY,
    Decision,
    Policy,
    Situation,
    admission,
    groups_of,
    obstacle,
)
from gateway.model import Principal


@dataclass(frozen=True, slots=True)
class Limits:
    """What a new session is held to. ``groups`` are the principal's groups that apply now.

    ``key_only``: a service account, which comes in by an SSH key and by nothing else. ``logins``
    are the ways in over SFTP that all groups accept.
    """

    idle_timeout_s: int
    session_timeout_s: int
    second_factor: bool
    key_only: bool
    groups: tuple[str, ...]
    logins: frozenset[Chain]
    max_sessions: int


def limits(policy: Policy, principal: Principal, situation: Situation) -> Limits | Decision:
    """Return what a session of ``principal`` is held to, or the denial that keeps it from opening.

    One group must apply now. The limits are the strictest of all the principal's groups, because
    one that does not apply yet may come to apply while the session lives.
    """
    groups = groups_of(policy, principal)
    admitted = admission(groups, situation)
    if not admitted.allowed:
        return admitted
    # A service account that is also a person's is treated as a person.
    of_people = [group.logins for group in groups if group.second_factor]
    second_factor = bool(of_people)
    return Limits(
        idle_timeout_s=min(group.idle_timeout_s for group in groups),
        session_timeout_s=min(group.session_timeout_s for group in groups),
        second_factor=second_factor,
        key_only=not second_factor,
        groups=tuple(group.name for group in groups if not obstacle(group, situation)),
        logins=frozenset(Chain).intersection(*of_people or [frozenset({Chain.KEY})]),
        max_sessions=min(group.max_sessions for group in groups),
    )


def lock_timeout_s(policy: Policy, principal: Principal) -> int:
    """Return the longest that a lock of ``principal`` lives without a refresh, in seconds.

    The strictest of all its groups; 0 for whom no group knows.
    """
    return min((group.lock_timeout_s for group in groups_of(policy, principal)), default=0)


def decide_scp(policy: Policy, principal: Principal, situation: Situation) -> Decision:
    """Return whether ``principal`` may use scp's own protocol, ``scp -O``.

    Some group that applies now must allow it, and none may refuse it, whether it applies or not.
    """
    groups = groups_of(policy, principal)
    for group in groups:
        if group.scp is False:
            return Decision(allowed=False, rule=f"groups.{group.name}.scp")
    held_up = ""
    for group in groups:
        if group.scp:
            why_not = obstacle(group, situation)
            if not why_not:
                return Decision(allowed=True, rule=f"groups.{group.name}.scp")
            held_up = held_up or why_not
    return Decision(allowed=False, rule=held_up or DEFAULT_DENY)


def ssh_keys(
    policy: Policy, principal: Principal, situation: Situation | None = None
) -> tuple[str, ...]:
    """Return the key lines that groups list for ``principal``; with a situation, that apply now."""
    name = fold(principal.name)
    return tuple(
        line
        for group in groups_of(policy, principal)
        if situation is None or not obstacle(group, situation)
        for listed, lines in group.ssh_keys
        if listed == name
        for line in lines
    )
