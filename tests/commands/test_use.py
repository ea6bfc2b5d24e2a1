"""How the command is used: where its configuration comes from, and where its output goes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.commands.conftest import Sealgate
from tests.process.support import ServedGateway, run_here, run_sealgate
from tests.support.gateway import SEALGATE


def unread(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``sealgate`` with nobody reading what it prints."""
    reader, writer = os.pipe()
    os.close(reader)
    # Unbuffered output would notice at each line, not at the end as everyone else's does.
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        return subprocess.run(
            [str(SEALGATE), *map(str, arguments)],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
    finally:
        os.close(writer)


def test_configuration_from_the_environment(
    installation: ServedGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SEALGATE_CONFIG stands in for -c, and -c wins over it."""
    monkeypatch.setenv("SEALGATE_CONFIG", str(installation.config))
    assert run_here(capsys, "keys", "status", "--json").returncode == 0
    monkeypatch.setenv("SEALGATE_CONFIG", "no-such-file")
    assert run_here(capsys, "keys", "status").returncode == 2
    assert run_here(capsys, "keys", "status", "-c", installation.config).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        "check-config",
        "keys init",
        "keys status",
        "policy explain alice /radiology",
        "totp status alice",
        "sessions list",
        "audit export",
        "audit search",
        "audit verify",
    ],
)
def test_no_configuration_named_is_wrong_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    """Every command says how to name a configuration when none is."""
    monkeypatch.delenv("SEALGATE_CONFIG", raising=False)
    done = run_here(capsys, *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sealgate: No configuration is named. Add -c FILE, or set SEALGATE_CONFIG.\n"
    )


@pytest.mark.parametrize("arguments", ["", "audit", "keys init --no-such", "totp enrol", "serv"])
def test_wrong_arguments_are_wrong_use(capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    """What the command line does not know ends with status 2 and the usage."""
    with pytest.raises(SystemExit) as ended:
        run_here(capsys, *arguments.split())
    assert ended.value.code == 2
    assert "usage: sealgate" in capsys.readouterr().err


def test_reader_that_goes_away_early_is_no_error(trail: ServedGateway) -> None:
    """``sealgate audit export | head -1`` prints one line and nothing on stderr."""
    line = f'"{SEALGATE}" audit export -c "{trail.config}" | head -1; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_long_output_that_nobody_reads_is_no_error() -> None:
    """Output longer than a buffer meets the closed pipe while it is written."""
    done = unread("check-config", "--schema")
    assert (done.returncode, done.stderr) == (0, "")


def test_short_output_that_nobody_reads_is_no_error(installation: ServedGateway) -> None:
    """Output shorter than a buffer meets the closed pipe when the command ends."""
    done = unread("keys", "status", "-c", installation.config)
    assert (done.returncode, done.stderr) == (0, "")


def test_commands_work_from_any_folder(sealgate: Sealgate, tmp_path: Path) -> None:
    """Paths in the configuration start from its folder, whatever the current one is."""
    done = run_sealgate("keys", "status", "-c", sealgate.gateway.config, folder=tmp_path)
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []
