"""Fixtures of the command line: an installation with users that no server runs on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.app import open_gateway
from gateway.audit.record import Record
from gateway.config import load_config
from gateway.model import Outcome
from tests.process.support import ServedGateway, prepared, run_here


@dataclass(frozen=True, slots=True)
class Sealgate:
    """The command ``sealgate`` with the configuration of one installation."""

    gateway: ServedGateway
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_here(self.capsys, *arguments, "-c", self.gateway.config)

    def parsed(self, *arguments: str, status: int = 0) -> Any:
        """Return what the command prints with --json, as one JSON value."""
        done = self(*arguments, "--json")
        assert done.returncode == status, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    def records(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the JSON lines that the command prints."""
        done = self(*arguments)
        assert done.stderr == ""
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """An installation that the tests of one module share."""
    made = prepared(tmp_path_factory.mktemp("installation"))
    yield made
    made.notified.close()


@pytest.fixture
def sealgate(installation: ServedGateway, capsys: pytest.CaptureFixture[str]) -> Sealgate:
    return Sealgate(installation, capsys)


def put_record(installation: ServedGateway, record: Record) -> None:
    """Append one record to the installation's trail, as a server would."""
    gateway = open_gateway(load_config(installation.config))
    try:
        with gateway.journal.begin() as tx:
            gateway.journal.append(tx, record)
    finally:
        gateway.close()


@pytest.fixture(scope="module")
def trail(installation: ServedGateway) -> ServedGateway:
    """The installation with records of a few operations."""
    for number, path in enumerate(("/radiology/a", "/radiology/a/b", "/scans/\x1b[2J", "/inbox/ü")):
        put_record(
            installation,
            Record(
                action="write",
                outcome=Outcome.DENIED if number == 3 else Outcome.OK,
                principal_id="id-of-alice",
                principal_name="alice",
                session=f"session-{number}",
                protocol="webdav",
                client_address="127.0.0.9",
                share=path.split("/")[1],
                path=path,
            ),
        )
    return installation
