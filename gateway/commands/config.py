"""``sealgate check-config`` and ``sealgate policy explain``; ``policy preview`` is beside it."""

from __future__ import annotations

import argparse
import sys

from auth.authenticator import principal_of
from auth.limits import Limits, decide_scp, limits, lock_timeout_s
from auth.policy import Decision, Situation, decide
from gateway.app import open_directory
from gateway.commands import preview
from gateway.commands.output import (
    DONE,
    PROBLEM,
    UsageError,
    config_of,
    config_path,
    print_json,
    say,
)
from gateway.config import (
    ConfigError,
    Problem,
    check_files,
    compile_policy,
    json_schema,
    warnings,
)
from gateway.model import Action, Wire, system_clock
from gateway.paths import VirtualPath
from gateway.starting import unusable_keys


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands and their options."""
    check = commands.add_parser("check-config", help="say everything wrong with a configuration")
    check.add_argument("--schema", action="store_true", help="print the JSON Schema for editors")
    check.set_defaults(run=run_check)
    policy = commands.add_parser("policy", help="ask what policy decides")
    kinds = policy.add_subparsers(dest="kind", required=True, metavar="explain|preview")
    explain = kinds.add_parser("explain", help="say what a user may do to a path, and why")
    explain.add_argument("user")
    explain.add_argument("path")
    explain.add_argument("--protocol", choices=["webdav", "sftp"], default="webdav")
    explain.add_argument("--address", default="127.0.0.1", help="the client's address")
    explain.set_defaults(run=run_explain)
    preview.add_parser(kinds)
    for parser in (check, explain):
        parser.add_argument("-c", "--config", default="")
        parser.add_argument("--json", action="store_true")


def run_check(arguments: argparse.Namespace) -> int:
    """Print every problem and every warning; 0 when there is no problem."""
    if arguments.schema:
        # Not say(): it would escape the ends of lines.
        sys.stdout.write(json_schema())
        return DONE
    problems: list[Problem] = []
    cautions: list[Problem] = []
    try:
        config = config_of(arguments)
        problems = check_files(config) or [config.place(each) for each in unusable_keys(config)]
        cautions = list(warnings(config))
    except ConfigError as error:
        problems = list(error.problems)
    if arguments.json:
        print_json(
            {
                "problems": [problem.described() for problem in problems],
                "warnings": [caution.described() for caution in cautions],
            }
        )
        return PROBLEM if problems else DONE
    for problem in problems:
        say(str(problem))
    for caution in cautions:
        say(f"warning: {caution}")
    if not problems:
        say(f"{config_path(arguments)} is good.")
    return PROBLEM if problems else DONE


def run_explain(arguments: argparse.Namespace) -> int:
    """Print what each action on the path would be answered, and the rule behind it."""
    config = config_of(arguments)
    policy = compile_policy(config)
    account = open_directory(config).find(arguments.user)
    if account is None:
        raise UsageError(f"The directory knows no user '{arguments.user}'.")
    principal = principal_of(account)
    path = VirtualPath.parse(arguments.path)
    situation = Situation(Wire(arguments.protocol), arguments.address, system_clock())
    held = limits(policy, principal, situation)
    admitted = isinstance(held, Limits)
    lock_s = lock_timeout_s(policy, principal)
    decisions = {action: decide(policy, principal, action, path, situation) for action in Action}
    by_scp = decide_scp(
        policy, principal, Situation(Wire.SFTP, arguments.address, situation.now_us)
    )
    if arguments.json:
        print_json(
            {
                "user": account.name,
                "path": str(path),
                "admitted": admitted,
                "limits": _limits(held, lock_s),
                "decisions": {
                    action.value: {"allowed": decision.allowed, "rule": decision.rule}
                    for action, decision in decisions.items()
                },
                "scp": {"allowed": by_scp.allowed, "rule": by_scp.rule},
            }
        )
        return DONE
    if isinstance(held, Limits):
        factor = "code required" if held.second_factor else "key only"
        say(
            f"{account.name}: groups {', '.join(held.groups)}; idle {held.idle_timeout_s} s, "
            f"session {held.session_timeout_s} s, lock {lock_s} s, {factor}, "
            f"{held.max_sessions} sessions"
        )
        say(f"over SFTP by: {', '.join(sorted(held.logins)) or 'nothing that all groups accept'}")
    else:
        say(f"{account.name} is not let in: {held.rule}")
    for action, decision in decisions.items():
        say(f"{'yes' if decision.allowed else 'no ':3}  {action.value:8}  {decision.rule}")
    say(f"scp's own protocol: {'allowed' if by_scp.allowed else 'refused'} by {by_scp.rule}")
    return DONE


def _limits(held: Limits | Decision, lock_s: int) -> dict[str, object]:
    """Return what a session would be held to; empty when there would be none."""
    if not isinstance(held, Limits):
        return {}
    return {
        "groups": list(held.groups),
        "idle_timeout_s": held.idle_timeout_s,
        "session_timeout_s": held.session_timeout_s,
        "lock_timeout_s": lock_s,
        "second_factor": held.second_factor,
        "sftp_logins": sorted(held.logins),
        "max_sessions": held.max_sessions,
    }
