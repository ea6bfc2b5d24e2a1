"""The directory, server by server, and the people who cannot log in for want of a code.

Imports the wiring, the configuration and ``auth``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from auth.authenticator import principal_of
from auth.directory import Directory
from auth.errors import AuthError
from auth.policy import Policy, groups_of
from auth.totp import Seed
from backends.catalog.engine import Catalog
from backends.catalog.factors import SqlSeedStore
from backends.keyring import MasterKeySource, RecordCipher
from backends.share import master_key_id, system_key
from gateway.config import GatewayConfig, compile_policy
from gateway.doctor.finding import Detail, Finding, ok, problem, warning
from gateway.people import asking, named_users

NOBODY = "00000000-0000-0000-0000-000000000000"
SLOW_S = 1.0


def check_directory(config: GatewayConfig) -> Iterator[Finding]:
    """Yield whether each server of the directory answers its service account, over TLS."""
    if config.directory.file is not None:
        subject = f"directory {config.directory.file.users}"
        yield from _answering(config, subject)
        return
    assert config.directory.ldap is not None
    for server in config.directory.ldap.servers:
        ldap = config.directory.ldap.model_copy(update={"servers": (server,)})
        directory = config.directory.model_copy(update={"ldap": ldap})
        alone = config.model_copy(update={"directory": directory})
        yield from _answering(alone, f"directory {server}")


def _answering(config: GatewayConfig, subject: str) -> Iterator[Finding]:
    with _overheard("auth.ldap") as said:
        began_s = time.monotonic()
        try:
            with asking(config) as directory:
                directory.refresh(NOBODY)
        except AuthError as error:
            details = tuple(Detail("log", line) for line in said)
            remedy = "See 'directory' in the configuration, and that this machine can reach it."
            yield problem(subject, str(error), remedy, *details)
            return
    took_s = time.monotonic() - began_s
    if took_s > SLOW_S:
        message = f"answers after {took_s:.1f} s; every log-in waits for it."
        yield warning(subject, message, "Put a nearer server first.")
    else:
        yield ok(subject, "answers.")


@contextlib.contextmanager
def _overheard(logger_name: str) -> Iterator[list[str]]:
    """Collect what is logged below that name, in place of the log."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, handler = logging.getLogger(logger_name), Listener()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def check_enrolment(
    config: GatewayConfig, catalog: Catalog, masters: MasterKeySource
) -> Iterator[Finding]:
    """Yield the users that are known by name, need a code, and have no seed to make one."""
    with asking(config) as directory:
        known = _needing_codes(directory, compile_policy(config), named_users(config))
    with catalog.snapshot() as tx:
        if master_key_id(tx) is None:
            return
        seeds = SqlSeedStore(RecordCipher(system_key(tx, masters), "totp"), Seed)
        without = [name for name, account_id in known if seeds.seed(tx, account_id) is None]
    if without:
        message = f"{len(without)} users need a code and have no seed: they cannot log in."
        remedy = "Run 'sealgate totp enrol USER' with each of them."
        yield warning("one-time codes", message, remedy, Detail("users", " ".join(without)))
    elif known:
        yield ok("one-time codes", f"all {len(known)} users known by name have a seed.")


def _needing_codes(directory: Directory, policy: Policy, names: list[str]) -> list[tuple[str, str]]:
    """Return name and id of the enabled users whom some group wants a second factor of."""
    found = []
    for name in names:
        account = directory.find(name)
        if account is None or not account.enabled:
            continue
        if any(group.second_factor for group in groups_of(policy, principal_of(account))):
            found.append((account.name, account.id))
    return found
