"""``sealgate policy preview``: what another configuration file would change, and for whom."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from auth.authenticator import principal_of
from auth.directory import Directory
from auth.errors import DirectoryUnavailableError
from auth.policy import Policy
from gateway.commands.output import DONE, PROBLEM, config_of, config_path, print_json, say
from gateway.config import (
    ConfigError,
    GatewayConfig,
    Problem,
    check_files,
    compile_policy,
    load_config,
    parse_config,
)
from gateway.people import asking, named_users
from gateway.preview import (
    Change,
    authority_changes,
    group_changes,
    share_changes,
    user_changes,
)
from gateway.starting import StartError, require_reloadable, unusable_keys


def add_parser(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``preview`` to the kinds of ``sealgate policy``."""
    preview = kinds.add_parser("preview", help="say what another file would change, and for whom")
    preview.add_argument("file", help="the configuration that would take the place of the other")
    preview.add_argument(
        "--user", action="append", default=[], help="look at this user of the directory too"
    )
    preview.add_argument("-c", "--config", default="")
    preview.add_argument("--json", action="store_true")
    preview.set_defaults(run=run_preview)


def run_preview(arguments: argparse.Namespace) -> int:
    """Print every change; 1 with every problem when the new file could not take effect."""
    old = config_of(arguments)
    try:
        new = _loaded(Path(arguments.file), config_path(arguments))
    except ConfigError as error:
        return _refuse(error.problems, as_json=arguments.json)
    policies = compile_policy(old), compile_policy(new)
    groups = [*group_changes(*policies), *authority_changes(*policies)]
    shares = list(share_changes(old.shares, new.shares))
    users, unasked = _of_users(old, new, policies, arguments.user)
    restart = _restart(old, new)
    if arguments.json:
        print_json(
            {
                "problems": [],
                "shares": [dataclasses.asdict(each) for each in shares],
                "groups": [dataclasses.asdict(each) for each in groups],
                "users": [dataclasses.asdict(each) for each in users],
                "users_unknown": unasked,
                "needs_restart": restart,
            }
        )
        return DONE
    _show("As written:", [*shares, *groups])
    _show("In effect:", users)
    if unasked:
        say(f"In effect: not known. {unasked}")
    if restart:
        say(restart)
    if not (shares or groups or users or restart):
        say("Nobody's rights or limits change.")
    return DONE


def _loaded(file: Path, place: Path) -> GatewayConfig:
    """Return what ``file`` writes, read as if it stood in ``place``; ConfigError names ``file``."""
    try:
        text = file.read_bytes()
    except OSError:
        # The loader says in its own words what is wrong with such a file.
        return load_config(file)
    config, problems = None, []
    try:
        config = parse_config(text, place)
        problems = check_files(config) or [config.place(each) for each in unusable_keys(config)]
    except ConfigError as error:
        problems = list(error.problems)
    if problems or config is None:
        raise ConfigError(dataclasses.replace(each, file=file) for each in problems)
    return config


def _refuse(problems: Iterable[Problem], *, as_json: bool) -> int:
    if as_json:
        print_json({"problems": [problem.described() for problem in problems]})
    else:
        for problem in problems:
            say(str(problem))
    return PROBLEM


def _of_users(
    old: GatewayConfig, new: GatewayConfig, policies: tuple[Policy, Policy], asked: list[str]
) -> tuple[list[Change], str]:
    """Return the changes of all users known by name, and why there are none to look at."""
    names = sorted({*named_users(old), *named_users(new), *asked})
    try:
        with asking(old) as directory:
            return [each for name in names for each in _of_user(directory, policies, name)], ""
    except DirectoryUnavailableError as error:
        return [], str(error)


def _of_user(directory: Directory, policies: tuple[Policy, Policy], name: str) -> Iterable[Change]:
    account = directory.find(name)
    return () if account is None else user_changes(*policies, principal_of(account))


def _restart(old: GatewayConfig, new: GatewayConfig) -> str:
    try:
        require_reloadable(old, new)
    except StartError as error:
        return str(error)
    return ""


def _show(heading: str, changes: list[Change]) -> None:
    if changes:
        say(heading)
    for change in changes:
        say(f"  {change}")
