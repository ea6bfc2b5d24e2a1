"""The WebDAV conformance suite litmus passes over TLS, with a one-time code as its password."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support.gateway import RunningGateway

# What litmus 0.13 runs over TLS; a suite that stops early runs fewer and must not pass unnoticed.
PASSES = {"basic": 16, "copymove": 13, "props": 30, "locks": 41, "http": 3}

# What it leaves out over TLS by itself; tests/webdav/test_server.py asks the same.
SKIPPED = ["expect100"]


def test_every_litmus_test_passes(gateway: RunningGateway, folder: str, tmp_path: Path) -> None:
    """All of litmus's tests run and pass without a warning, in one session of one secret."""
    done = subprocess.run(
        ["litmus", "-k", f"{gateway.url}{folder}/", "alice", gateway.webdav_secret("alice")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    summary = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed", done.stdout)
    passed = {suite: int(count) for suite, _, count in summary}
    assert passed == PASSES, done.stdout
    assert "warning" not in done.stdout.lower(), done.stdout
    assert re.findall(r"([a-z0-9_]+)\.* SKIPPED", done.stdout) == SKIPPED, done.stdout
    assert done.returncode == 0, done.stdout
