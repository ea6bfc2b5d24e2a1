"""Where the master key file is, and a gateway opened with the keys in it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from backends.keyring import MasterKey, MasterKeySource
from gateway.app import Gateway, catalog_path, open_gateway
from gateway.commands.output import UsageError
from gateway.config import GatewayConfig


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


def has_data(config: GatewayConfig) -> bool:
    """Return whether there is a catalog that a master key belongs to."""
    return catalog_path(config).exists()


@contextlib.contextmanager
def opened_with(config: GatewayConfig, masters: MasterKeySource) -> Iterator[Gateway]:
    """Give the gateway of ``config``, its keys opened by ``masters``; there must be data."""
    if not has_data(config):
        raise UsageError(
            f"There is no data in {config.storage.data_dir} yet. Start the gateway first, or "
            "correct storage.data_dir."
        )
    gateway = open_gateway(config, masters=masters)
    try:
        yield gateway
    finally:
        gateway.close()
