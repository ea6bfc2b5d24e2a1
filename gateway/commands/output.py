"""What every sub-command shares: opening the gateway, printing, recording what was administered."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.app import Gateway, has_data, no_data, open_gateway
from gateway.audit.record import Record
from gateway.config import GatewayConfig, load_config
from gateway.errors import SealgateError
from gateway.model import Outcome, Transaction, Wire

DONE = 0
PROBLEM = 1
WRONG_USE = 2

CONFIG_VARIABLE = "SEALGATE_CONFIG"


class UsageError(SealgateError):
    """The command line asks for something that does not exist or does not fit."""


def config_path(arguments: argparse.Namespace) -> Path:
    """Return the configuration file that ``-c`` or SEALGATE_CONFIG names."""
    named = arguments.config or os.environ.get(CONFIG_VARIABLE, "")
    if not named:
        raise UsageError(f"No configuration is named. Add -c FILE, or set {CONFIG_VARIABLE}.")
    return Path(named)


def config_of(arguments: argparse.Namespace) -> GatewayConfig:
    """Return the loaded configuration; ConfigError with every problem."""
    return load_config(config_path(arguments))


@contextlib.contextmanager
def opened(arguments: argparse.Namespace, *, fresh: bool = False) -> Iterator[Gateway]:
    """Give the gateway of the named configuration, beside a running server or without one.

    Without ``fresh`` there must be data already: looking must not make any.
    """
    config = config_of(arguments)
    if not fresh and not has_data(config):
        raise UsageError(no_data(config))
    gateway = open_gateway(config)
    try:
        yield gateway
    finally:
        gateway.close()


def operator() -> str:
    """Return who runs the command, as records and versions name them."""
    return f"{getpass.getuser()} (local)"


def administrative(action: str, *, principal_id: str = "", note: str = "") -> Record:
    """Return the record of an administrative act."""
    return Record(
        action=action,
        outcome=Outcome.OK,
        principal_name=operator(),
        protocol=Wire.ADMIN.value,
        rule=principal_id,
        note=note,
    )


def administered(
    gateway: Gateway, tx: Transaction, action: str, *, principal_id: str = "", note: str = ""
) -> None:
    """Append the record of an administrative act to the transaction that holds it."""
    gateway.journal.append(tx, administrative(action, principal_id=principal_id, note=note))


def print_json(value: Any) -> None:  # noqa: ANN401  whatever json takes
    """Print ``value`` as one line of JSON."""
    sys.stdout.write(json.dumps(value) + "\n")


def say(line: str = "") -> None:
    """Print a line for a person; control characters from stored data come out escaped."""
    safe = "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line)
    sys.stdout.write(safe + "\n")
