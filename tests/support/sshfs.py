"""A folder of a running gateway mounted through sshfs, for the length of a ``with`` block."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support import openssh
from tests.support.gateway import RunningGateway
from tests.support.users import until

UNMOUNT_TIMEOUT_S = 15


@contextlib.contextmanager
def mounted_by_key(
    gateway: RunningGateway, user: str, folder: str, point: Path, options: Sequence[str] = ()
) -> Iterator[Path]:
    """Mount ``folder`` as a user who logs in with an SSH key alone; ``options`` are sshfs's."""
    point.mkdir()
    # sshfs splits its options at commas and the command at spaces.
    ssh = " ".join(["ssh", *gateway.ssh_options(user, method="publickey")]).replace(",", "\\,")
    process = subprocess.Popen(
        [
            "sshfs",
            "-f",
            f"{user}@{gateway.info['sftp_host']}:{folder}",
            str(point),
            *(part for option in (f"ssh_command={ssh}", *options) for part in ("-o", option)),
        ],
        env=openssh.environment(point.parent, "", ""),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        until(lambda: os.path.ismount(point) or process.poll() is not None, "sshfs has mounted")
        if process.poll() is not None:
            said, _ = process.communicate()
            message = f"sshfs ended: {said.decode(errors='replace')}"
            raise AssertionError(message)
        yield point
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            # Lazily, or a process that the test left behind would keep it mounted for ever.
            subprocess.run(["fusermount3", "-uz", str(point)], check=True, capture_output=True)
        process.terminate()
        process.communicate(timeout=UNMOUNT_TIMEOUT_S)
