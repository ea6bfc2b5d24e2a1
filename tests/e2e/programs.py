"""How tests run clients that are programs of their own: to their end, on a terminal, or mounted.

Knows no protocol. May import the support for tests.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.users import until

PROGRAM_TIMEOUT_S = 60
MOUNT_TIMEOUT_S = 20


def run(
    command: list[str],
    *,
    env: Mapping[str, str] | None = None,
    typed: str = "",
    cwd: Path | None = None,
    fails: bool = False,
) -> str:
    """Run a client without a terminal; return what it said.

    Fails when it failed, or with ``fails`` when it did not.
    """
    done = subprocess.run(
        command,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PROGRAM_TIMEOUT_S,
        check=False,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    assert (done.returncode != 0) is fails, done.stdout
    return done.stdout


def on_terminal(command: list[str]) -> list[str]:
    """Return ``command`` on a terminal of its own, for programs that ask nowhere else."""
    return ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"]


def home(folder: Path) -> dict[str, str]:
    """Return the environment of a program that has nothing but ``folder``."""
    return {"HOME": str(folder), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Give a folder that every user may look into, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextlib.contextmanager
def mounting(command: list[str], point: Path, env: Mapping[str, str]) -> Iterator[Path]:
    """Run a program that mounts on ``point`` and stays in the foreground; unmount at the end."""
    point.mkdir()
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        until(
            lambda: os.path.ismount(point) or process.poll() is not None,
            f"{command[0]} has mounted",
            MOUNT_TIMEOUT_S,
        )
        assert process.poll() is None, process.communicate()[0].decode(errors="replace")
        yield point
    finally:
        # Lazily: whoever removes the folder must not reach through it what lies on the gateway.
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["fusermount3", "-uz", str(point)], check=True, capture_output=True)
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program that was started here, by force if it does not listen."""
    process.terminate()
    try:
        process.communicate(timeout=MOUNT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def make_tree(root: Path) -> dict[str, bytes]:
    """Make a small tree below ``root``; return relative path -> content."""
    files = {
        "empty": b"",
        "notes.txt": b"notes\n",
        "series/1.dcm": os.urandom(70_000),
        "series/2.dcm": os.urandom(1_000_003),
        "series/deep/er/größe [1]; ?.txt": b"deep",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return files


def read_tree(root: Path) -> dict[str, bytes]:
    """Return relative path -> content of all files below ``root``."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def readable_copy(source: Path, target: Path) -> Path:
    """Copy a file to where programs that give up being root may read it."""
    shutil.copyfile(source, target)
    target.chmod(0o644)
    return target
