"""What must be right before a gateway starts or takes a new configuration over.

Looks and asks, and makes nothing. Imports the configuration and the wiring.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
)

from auth.directory import Directory
from auth.errors import DirectoryUnavailableError
from gateway.config import ConfigError, GatewayConfig, check_files, load_config, parse_config
from gateway.config.problems import Finding
from gateway.errors import SealgateError


class StartError(SealgateError):
    """The gateway cannot start; the message tells the administrator why and what to do."""


def read_config(source: Path) -> str:
    """Return the text of the configuration file; ConfigError when it cannot be read."""
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        # The loader says in its own words what is wrong with such a file.
        load_config(source)
        raise


def checked_config(text: str, source: Path) -> GatewayConfig:
    """Return the configuration in ``text``; ConfigError with every problem, of files too."""
    config = parse_config(text.encode("utf-8"), source)
    problems = check_files(config) or [config.place(each) for each in unusable_keys(config)]
    if problems:
        raise ConfigError(problems)
    return config


def unusable_keys(config: GatewayConfig) -> Iterator[Finding]:
    """Yield what keeps the TLS and SSH keys, which ``check_files`` found readable, from use."""
    webdav, sftp = config.server.webdav, config.server.sftp
    if webdav is not None:
        try:
            # An empty passphrase: without one given, OpenSSL would ask for it at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                webdav.certificate, webdav.private_key, password=""
            )
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror
            yield Finding(
                ("server", "webdav", "certificate"),
                f"{webdav.certificate} and {webdav.private_key} cannot be used ({reason}).",
                "Name a certificate and its own key, both in PEM form and without a passphrase.",
            )
    for index, path in enumerate(sftp.host_keys if sftp is not None else ()):
        if not _opens(path.read_bytes()):
            yield Finding(
                ("server", "sftp", "host_keys", index),
                f"{path} is no SSH private key without a passphrase.",
                "Make one with 'ssh-keygen -t ed25519 -f FILE' and no passphrase.",
            )


def _opens(private_key: bytes) -> bool:
    for load in (load_ssh_private_key, load_pem_private_key):
        with contextlib.suppress(ValueError, TypeError, UnsupportedAlgorithm):
            load(private_key, password=None)
            return True
    return False


def require_directory(directory: Directory) -> None:
    """Raise when the directory does not answer: nobody could log in."""
    try:
        directory.refresh("00000000-0000-0000-0000-000000000000")
    except DirectoryUnavailableError as error:
        raise StartError(
            f"{error} Check directory.ldap.servers, and that this machine can reach them."
        ) from error


def require_reloadable(running: GatewayConfig, fresh: GatewayConfig) -> None:
    """Raise when the new configuration changes what only a start puts in force."""
    changed = []
    for section in ("server", "storage", "keys", "directory", "audit"):
        old, new = getattr(running, section), getattr(fresh, section)
        changed += [
            f"{section}.{field.alias or name}"
            for name, field in type(old).model_fields.items()
            if getattr(old, name) != getattr(new, name)
        ]
    if changed:
        raise StartError(f"A change of {', '.join(changed)} needs a restart.")
