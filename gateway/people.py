"""The directory as commands ask it, and who is known by name: no directory is read through.

Reads the users file, if there is one. Imports the wiring and the configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import yaml

from auth.directory import Directory
from auth.ldap import LdapDirectory
from gateway.app import open_directory
from gateway.config import GatewayConfig

NAMES_LIMIT = 500
"""How many users are looked at."""


@contextlib.contextmanager
def asking(config: GatewayConfig) -> Iterator[Directory]:
    """Lend the directory of ``config``; its connections are closed at the end."""
    directory = open_directory(config)
    try:
        yield directory
    finally:
        if isinstance(directory, LdapDirectory):
            directory.close()


def named_users(config: GatewayConfig) -> list[str]:
    """Return the login names that stand in files here, in order; those of the users file too."""
    names = {name for group in config.groups.values() for name in group.members.users}
    if config.directory.file is not None:
        names |= set(_names_in(config.directory.file.users))
    return sorted(names)[:NAMES_LIMIT]


def _names_in(users: Path) -> Iterator[str]:
    """Yield the names in a users file; none from one that the directory's driver would refuse."""
    try:
        found = yaml.safe_load(users.read_text(encoding="utf-8"))
        names = [str(entry["name"]) for entry in found["users"]]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return
    yield from names
