"""Where keys and what they seal are: the key file, a gateway opened with it, shares, segments."""

from __future__ import annotations

import argparse
import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from backends.catalog import erasure, keys
from backends.keyring import MasterKey, MasterKeySource
from backends.share import Shares, ShareSettings
from gateway.app import Gateway, catalog_path, has_data, no_data, open_gateway
from gateway.commands.output import UsageError
from gateway.config import GatewayConfig
from gateway.model import Transaction

SQLITE = "sqlite"


def key_file(arguments: argparse.Namespace, config: GatewayConfig) -> Path:
    """Return the key file that may be changed: ``--key-file``, else the configured one.

    Never a systemd credential, which is a copy that ends with the service.
    """
    path: Path | None = arguments.key_file or config.keys.master_key.file
    if path is None:
        raise UsageError(
            "The configuration takes the master key from systemd, which hands over a copy. Name "
            "the file that LoadCredential= reads with --key-file."
        )
    require_outside_data(path, config)
    return path


def require_outside_data(path: Path, config: GatewayConfig) -> None:
    """Raise UsageError when ``path`` is in the data folder: a copy of it would hold its own key."""
    if path.resolve().is_relative_to(config.storage.data_dir.resolve()):
        raise UsageError(f"{path} is in the data folder, whose copies may hold no key of it.")


def write_new_key(master: MasterKey, path: Path) -> None:
    """Write the new key file; UsageError when it exists or cannot be written."""
    try:
        master.write(path)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists and is left alone: without it all data is lost for good."
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error


@contextlib.contextmanager
def opened_with(config: GatewayConfig, masters: MasterKeySource) -> Iterator[Gateway]:
    """Give the gateway of ``config``, its keys opened by ``masters``; there must be data."""
    if not has_data(config):
        raise UsageError(no_data(config))
    gateway = open_gateway(config, masters=masters)
    try:
        yield gateway
    finally:
        gateway.close()


def chosen_shares(tx: Transaction, names: Sequence[str]) -> list[keys.ShareRow]:
    """Return the shares of these names, configured or not; every one when there are no names."""
    rows = keys.all_shares(tx)
    unknown = set(names) - {row.name for row in rows}
    if unknown:
        known = ", ".join(row.name for row in rows)
        raise UsageError(f"There is no share '{min(unknown)}'. There are: {known}.")
    return [row for row in rows if not names or row.name in names]


def all_shares(gateway: Gateway, names: Sequence[str]) -> Shares:
    """Return the keys of shares that need not be in the configuration any more."""
    settings = {name: ShareSettings(name) for name in names}
    return Shares(gateway.masters, settings, secrets.token_bytes)


def files_holding(config: GatewayConfig, pieces: Sequence[bytes]) -> list[Path]:
    """Return which files of an SQLite catalog hold one of ``pieces``, its log settled before.

    Only while this process has no gateway open.
    """
    path = catalog_path(config)
    erasure.settle(path)
    return erasure.holding(path, pieces)
