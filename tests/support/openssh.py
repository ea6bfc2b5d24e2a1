"""OpenSSH's client made independent of this machine: its options and its answers to prompts."""

from __future__ import annotations

import os
from pathlib import Path

# Answers OpenSSH's prompts from the environment, so that no secret stands in an argument list.
ASKPASS = """#!/bin/sh
case "$1" in
    *[Cc]ode*) printf '%s\\n' "$ANSWER_CODE" ;;
    *) printf '%s\\n' "$ANSWER_PASSWORD" ;;
esac
"""


def options(
    *, port: int, known_hosts: str, method: str, key: Path | None, address: str
) -> list[str]:
    """Return options that ignore this machine's settings and trust ``known_hosts`` alone."""
    chosen = {
        "BatchMode": "no",
        "BindAddress": address,
        "ConnectTimeout": "20",
        "ControlPath": "none",
        "GlobalKnownHostsFile": "none",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": str(key) if key else "none",
        "LogLevel": "ERROR",
        "NumberOfPasswordPrompts": "1",
        "Port": str(port),
        "PreferredAuthentications": method,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": known_hosts,
    }
    return ["-F", "none", *(f"-o{name}={value}" for name, value in chosen.items())]


def environment(folder: Path, password: str, code: str) -> dict[str, str]:
    """Return an environment in which prompts are answered by a script kept in ``folder``."""
    askpass = folder / "askpass.sh"
    if not askpass.exists():
        askpass.write_text(ASKPASS)
        askpass.chmod(0o700)
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "SSH_ASKPASS": str(askpass),
        "SSH_ASKPASS_REQUIRE": "force",
        "ANSWER_PASSWORD": password,
        "ANSWER_CODE": code,
    }
