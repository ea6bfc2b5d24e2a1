"""GNOME's gvfs mounts a folder over WebDAV, without any desktop, and behaves as Files does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.programs import PROGRAM_TIMEOUT_S, home, run, short_folder
from tests.support.gateway import RunningGateway

CONTENT = os.urandom(300_001)
NAME = "größe [1]; ?.bin"


@dataclass(frozen=True, slots=True)
class Gio:
    """The program ``gio`` on a bus of its own; ``root`` is the mounted folder's address."""

    env: dict[str, str]
    root: str

    def __call__(self, action: str, *names: str, typed: str = "", fails: bool = False) -> str:
        """Run an action on ``names``, plain and relative to the root; return what it said.

        A name that begins with a slash or a dash is a local file or an option.
        """
        places = [name if name[:1] in {"/", "-"} else self.at(name) for name in names]
        return run(["gio", action, *places], env=self.env, typed=typed, fails=fails)

    def at(self, name: str) -> str:
        return f"{self.root}/{quote(name)}"

    def attribute(self, name: str, attribute: str) -> str:
        """Return one attribute of a file."""
        lines = self("info", f"--attributes={attribute}", name).splitlines()
        found = [line.partition(f"{attribute}: ")[2] for line in lines if f"{attribute}: " in line]
        return found[0]


@contextlib.contextmanager
def session_bus(env: dict[str, str]) -> Iterator[str]:
    """Run a D-Bus daemon, which starts gvfs when it is asked for; give its address."""
    process = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        # What it has started is in its process group, and ends without it anyway.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=PROGRAM_TIMEOUT_S)


@pytest.fixture
def gio(gateway: RunningGateway, folder: str) -> Iterator[Gio]:
    """``folder`` mounted by gvfs as alice."""
    root = gateway.url.replace("https://", "davs://") + folder
    with short_folder() as place:
        runtime = place / "run"
        runtime.mkdir(mode=0o700)
        env = {
            **home(place),
            "XDG_RUNTIME_DIR": str(runtime),
            "GIO_USE_VOLUME_MONITOR": "unix",
            "GVFS_DISABLE_FUSE": "1",
            "GSETTINGS_BACKEND": "memory",
        }
        with session_bus(env) as address:
            gio = Gio(env | {"DBUS_SESSION_BUS_ADDRESS": address}, root)
            # It asks whether to trust the certificate, for the name, and for the password.
            gio("mount", "", typed=f"1\nalice\n{gateway.webdav_secret('alice')}\n")
            try:
                yield gio
            finally:
                gio("mount", "--unmount", "")


def test_files_are_copied_in_and_out(
    gateway: RunningGateway, gio: Gio, folder: str, tmp_path: Path
) -> None:
    """Into a new folder, listed, out again byte for byte; curl sees the same."""
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(CONTENT)
    gio("mkdir", "sub größe")
    gio("copy", str(source), f"sub größe/{NAME}")
    assert gio("list", "sub größe").splitlines() == [NAME]
    gio("copy", f"sub größe/{NAME}", str(back))
    assert back.read_bytes() == CONTENT
    assert gateway.curl("alice", "GET", f"{folder}/sub größe/{NAME}").body == CONTENT


def test_a_file_is_saved_only_if_unchanged(gateway: RunningGateway, gio: Gio, folder: str) -> None:
    """An editor that knows an older state is told so, even within a second and at equal size."""
    gio("save", "note", typed="one\n")
    known = gio.attribute("note", "etag::value")
    gio("save", f"--etag={known}", "note", typed="two\n")
    assert "modified" in gio("save", f"--etag={known}", "note", typed="six\n", fails=True)
    assert "exists" in gio("save", "--create", "note", typed="ten\n", fails=True)
    assert gateway.curl("alice", "GET", f"{folder}/note").body == b"two\n"


def test_files_and_folders_are_renamed_copied_and_removed(
    gateway: RunningGateway, gio: Gio, folder: str
) -> None:
    """As one does with the mouse; a folder that is not empty stays."""
    gio("mkdir", "sub")
    gio("save", "note", typed="note\n")
    run(["gio", "rename", gio.at("note"), "größe"], env=gio.env)
    gio("move", "größe", "sub/moved")
    gio("copy", "sub/moved", "copied")
    gio("move", "sub", "sub2")
    run(["gio", "rename", gio.at("sub2"), "sub3"], env=gio.env)
    assert gateway.curl("alice", "GET", f"{folder}/sub3/moved").body == b"note\n"
    assert gateway.curl("alice", "GET", f"{folder}/copied").body == b"note\n"
    gio("remove", "sub3", fails=True)
    gio("remove", "sub3/moved", "sub3", "copied")
    assert gio("list", "") == ""


def test_space_is_told(gio: Gio) -> None:
    """What the properties of the mounted folder show."""
    told = gio("info", "--filesystem", "")
    figures = dict(line.strip().split(": ") for line in told.splitlines() if ": " in line)
    assert 0 < int(figures["filesystem::free"]) <= int(figures["filesystem::size"])
