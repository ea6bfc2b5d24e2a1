"""What the file system has against a configuration: missing files, open secrets, keys in the data.

Looks and never writes. Imports the models and the checks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.config.checks import anchor_inside_data, master_key_inside_data
from gateway.config.host_keys import kind_of
from gateway.config.problems import Finding, Keys, Problem
from gateway.config.schema import GatewayConfig
from gateway.config.section import SecretSource
from gateway.config.sftp import SftpConfig
from gateway.sftp.algorithms import PROFILES

_WORLD = stat.S_IRWXO


def check_files(config: GatewayConfig, *, credentials_dir: Path | None = None) -> list[Problem]:
    """Return what is wrong with the files that ``config`` names, in order of line.

    ``credentials_dir`` is where systemd put credentials; $CREDENTIALS_DIRECTORY when left out.
    """
    if credentials_dir is None and os.environ.get("CREDENTIALS_DIRECTORY"):
        credentials_dir = Path(os.environ["CREDENTIALS_DIRECTORY"])
    found = [config.place(finding) for finding in _findings(config, credentials_dir)]
    return sorted(found, key=lambda it: (it.line, it.column))


def _findings(config: GatewayConfig, credentials_dir: Path | None) -> Iterator[Finding]:
    server, directory = config.server, config.directory
    if server.webdav is not None:
        keys: Keys = ("server", "webdav")
        yield from _readable((*keys, "certificate"), server.webdav.certificate)
        yield from _secret((*keys, "private_key"), server.webdav.private_key)
    if server.sftp is not None:
        for index, path in enumerate(server.sftp.host_keys):
            yield from _secret(("server", "sftp", "host_keys", index), path)
        yield from _signing(server.sftp)
    yield from _data_folder(config)
    yield from _other_storage(config, credentials_dir)
    yield from _secret_source(("keys", "master_key"), config.keys.master_key, credentials_dir)
    yield from _kept_apart(config, credentials_dir)
    if directory.file is not None:
        yield from _secret(("directory", "file", "users"), directory.file.users)
    if directory.ldap is not None:
        keys = ("directory", "ldap")
        if directory.ldap.ca_file is not None:
            yield from _readable((*keys, "ca_file"), directory.ldap.ca_file)
        if directory.ldap.bind_password is not None:
            source = directory.ldap.bind_password
            yield from _secret_source((*keys, "bind_password"), source, credentials_dir)
    if config.audit.anchor is not None:
        yield from _writable_folder(("audit", "anchor"), config.audit.anchor.parent)


def _readable(keys: Keys, path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding(keys, f"there is no file {path}.", "Create it, or correct the path.")
    elif not path.is_file():
        yield Finding(keys, f"{path} is not a file.", "Name a file.")
    elif not os.access(path, os.R_OK):
        yield Finding(keys, f"{path} cannot be read.", "Let the gateway's account read it.")


def _secret(keys: Keys, path: Path) -> Iterator[Finding]:
    problems = list(_readable(keys, path))
    yield from problems
    if not problems and path.stat().st_mode & _WORLD:
        yield Finding(keys, f"{path} is open to every account here.", f"Run 'chmod o= {path}'.")


def _signing(sftp: SftpConfig) -> Iterator[Finding]:
    """Yield that no host key signs by an algorithm of the profile: no client could connect."""
    kinds = [kind_of(path) for path in sftp.host_keys]
    signatures = set(PROFILES[sftp.algorithms].signatures)
    if None not in kinds and not any(kind and kind.signatures & signatures for kind in kinds):
        message = f"none of these keys signs by an algorithm of '{sftp.algorithms}'."
        yield Finding(
            ("server", "sftp", "host_keys"),
            message,
            "Add one made with 'ssh-keygen -t ecdsa -f FILE' and no passphrase.",
        )


def _secret_source(
    keys: Keys, source: SecretSource, credentials_dir: Path | None
) -> Iterator[Finding]:
    if source.file is not None:
        yield from _secret((*keys, "file"), source.file)
        return
    path = source.path(credentials_dir)
    if path is None or not path.is_file():
        message = f"systemd handed over no credential '{source.credential}'."
        remedy = f"Add 'LoadCredentialEncrypted={source.credential}:...' to the service."
        yield Finding((*keys, "credential"), message, remedy)


def _data_folder(config: GatewayConfig) -> Iterator[Finding]:
    keys: Keys = ("storage", "data_dir")
    data_dir = config.storage.data_dir
    if not data_dir.exists():
        yield from _writable_folder(keys, data_dir.parent)
        return
    problems = list(_writable_folder(keys, data_dir))
    yield from problems
    if not problems and data_dir.stat().st_mode & _WORLD:
        message = f"{data_dir} is open to every account here."
        yield Finding(keys, message, f"Run 'chmod o= {data_dir}'.")


def _other_storage(config: GatewayConfig, credentials_dir: Path | None) -> Iterator[Finding]:
    storage, s3 = config.storage, config.storage.s3
    keys: Keys = ("storage",)
    if storage.catalog_password is not None:
        place = (*keys, "catalog_password")
        yield from _secret_source(place, storage.catalog_password, credentials_dir)
    if storage.catalog_ca_file is not None:
        yield from _readable((*keys, "catalog_ca_file"), storage.catalog_ca_file)
    if s3 is not None:
        yield from _secret_source((*keys, "s3", "access_key"), s3.access_key, credentials_dir)
        yield from _secret_source((*keys, "s3", "secret_key"), s3.secret_key, credentials_dir)
        if s3.ca_file is not None:
            yield from _readable((*keys, "s3", "ca_file"), s3.ca_file)


def _writable_folder(keys: Keys, folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding(keys, f"there is no folder {folder}.", "Create it, or correct the path.")
    elif not os.access(folder, os.W_OK | os.X_OK):
        message = f"the folder {folder} cannot be written to."
        yield Finding(keys, message, "Let the gateway's account write there.")


def _kept_apart(config: GatewayConfig, credentials_dir: Path | None) -> Iterator[Finding]:
    """Yield what a link leads into the data folder although its name lies outside."""
    data_dir = config.storage.data_dir.resolve()
    master_key = config.keys.master_key.path(credentials_dir)
    if master_key is not None and master_key.resolve().is_relative_to(data_dir):
        yield master_key_inside_data()
    anchor = config.audit.anchor
    if anchor is not None and anchor.resolve().is_relative_to(data_dir):
        yield anchor_inside_data()
