"""Who loses a right, or the account, in the middle of a transfer over SFTP: it ends there."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
import yaml

from gateway.janitor import Janitor
from tests.attacks.sftp_support import (
    CLOSE,
    DENIED,
    EXTENDED,
    FOR_READING,
    NEW,
    OK,
    READ,
    WRITE,
    Attacker,
    channel_on,
    long,
    text,
    word,
)
from tests.attacks.support import Target
from tests.support.users import until

CONNECTION_LOST = 7
BLOCK = bytes(range(256)) * 128
ENDS = (DENIED, CONNECTION_LOST)


@pytest.fixture
def attacker(target: Target) -> Iterator[Attacker]:
    """The scanner, and at the end the gateway is well."""
    attacker = Attacker(target)
    yield attacker
    attacker.healthy()


@contextlib.contextmanager
def disabled(target: Target) -> Iterator[None]:
    """Take the scanner's account away, as another node of the gateway finds it gone."""
    accounts = Path(target.inside.config.directory.file.users)  # type: ignore[union-attr]
    before = accounts.read_text()

    def write(content: str) -> None:
        draft = accounts.with_suffix(".new")
        draft.write_text(content)
        draft.chmod(0o600)
        draft.rename(accounts)

    users = yaml.safe_load(before)
    for user in users["users"]:
        user["enabled"] = user["name"] != "scanner"
    write(yaml.safe_dump(users))
    try:
        Janitor(target.inside).recheck_accounts()
        yield
    finally:
        write(before)


@contextlib.contextmanager
def without_group(target: Target) -> Iterator[None]:
    """Take the scanner's group out of the configuration, and reload it."""
    before = target.gateway.config.read_text()

    def change(config: dict[str, Any]) -> None:
        del config["groups"]["scanners"]

    target.gateway.write_config(change)
    target.gateway.reload()
    try:
        yield
    finally:
        target.gateway.write_text(before)
        target.gateway.reload()


Revoked = Callable[[Target], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize("revoked", [disabled, without_group])
def test_a_transfer_does_not_outlive_its_right(
    attacker: Attacker, target: Target, revoked: Revoked
) -> None:
    """Neither up nor down nor by a copy; what was under way is not stored, and that is recorded."""
    path, kept = (f"/scans/{uuid.uuid4().hex[:12]}" for _ in range(2))
    with attacker.transport() as transport:
        client = channel_on(transport)
        client.put(kept, BLOCK)
        reading = client.open(kept, FOR_READING).handle
        writing = client.open(path, NEW).handle
        assert client.ask(WRITE, text(writing), long(0), text(BLOCK)).code == OK
        assert client.ask(READ, text(reading), long(0), word(10)).data == BLOCK[:10]
        mark = target.mark()

        def refused(kind: int, *parts: bytes) -> bool:
            try:
                return client.ask(kind, *parts).code in ENDS
            except (AssertionError, OSError):
                # The gateway may hang up as well.
                return not transport.is_active()

        with revoked(target):
            copy = (text("copy-data"), text(reading), long(0), long(9), text(writing), long(0))
            for kind, *parts in (
                (WRITE, text(writing), long(len(BLOCK)), text(BLOCK)),
                (READ, text(reading), long(0), word(10)),
                (EXTENDED, *copy),
            ):
                until(lambda kind=kind, parts=parts: refused(kind, *parts), "it is refused")  # type: ignore[misc]
            with contextlib.suppress(AssertionError, OSError):
                assert client.ask(CLOSE, text(writing)).code != OK
            key = paramiko.Ed25519Key.from_private_key_file(
                str(attacker.gateway.users["scanner"].ssh_key)
            )
            with attacker.stranger() as stranger, pytest.raises(paramiko.SSHException):
                stranger.auth_publickey("scanner", key)
    assert not target.holds(path)
    assert target.ask("GET", kept, user="admin").body == BLOCK
    outcomes = {one.outcome for one in target.since(mark) if one.path == path}
    assert "ok" not in outcomes
    assert outcomes
