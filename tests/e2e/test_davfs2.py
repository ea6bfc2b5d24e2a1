"""A folder mounted by davfs2 behaves like a folder, and locks what it has open."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.programs import (
    PROGRAM_TIMEOUT_S,
    make_tree,
    read_tree,
    readable_copy,
    run,
    short_folder,
)
from tests.support.gateway import RunningGateway
from tests.support.users import until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount with davfs2")

Mount = Callable[[], contextlib.AbstractContextManager[Path]]


@pytest.fixture
def mount(gateway: RunningGateway, folder: str) -> Iterator[Mount]:
    """How to mount ``folder`` as alice: each time with an empty cache, uploaded at the end."""
    with short_folder() as place:
        secrets, settings = place / "secrets", place / "davfs2.conf"
        authority = readable_copy(Path(gateway.info["ca_file"]), place / "ca.pem")
        secret = gateway.webdav_secret("alice")

        @contextlib.contextmanager
        def mounted() -> Iterator[Path]:
            point = place / str(len(list(place.iterdir())))
            point.mkdir()
            cache = place / f"{point.name}-cache"
            cache.mkdir()
            shutil.chown(cache, group="davfs2")
            cache.chmod(0o775)
            secrets.write_text(f'{point} alice "{secret}"\n')
            secrets.chmod(0o600)
            settings.write_text(
                f"secrets {secrets}\nask_auth 0\ntrust_ca_cert {authority}\ncache_dir {cache}\n"
                # Its own 16 KiB hold no listing as Linux 6.16 and later ask for it.
                "use_locks 1\ndelay_upload 0\nbuf_size 64\n"
            )
            run(["mount.davfs", f"{gateway.url}{folder}", str(point), "-o", f"conf={settings}"])
            serving = Path("/run/mount.davfs", "-".join(point.parts[1:]) + ".pid")
            try:
                until(serving.exists, "davfs2 has written its number")
                yield point
            finally:
                # Its own umount only looks every three seconds whether everything is uploaded.
                # Lazily: removing the folder must not reach through it.
                run(["umount", "-i", "-l", str(point)])
                until(lambda: not serving.exists(), "davfs2 has ended", PROGRAM_TIMEOUT_S)

        yield mounted


def test_a_tree_is_copied_in_and_out(
    gateway: RunningGateway, mount: Mount, folder: str, tmp_path: Path
) -> None:
    """What one mount copied in another copies out, byte for byte, and curl sees the same."""
    files = make_tree(tmp_path / "tree")
    with mount() as point:
        shutil.copytree(tmp_path / "tree", point / "tree", copy_function=shutil.copyfile)
    with mount() as point:
        shutil.copytree(point / "tree", tmp_path / "back", copy_function=shutil.copyfile)
    assert read_tree(tmp_path / "back") == files
    for name, content in files.items():
        assert gateway.curl("alice", "GET", f"{folder}/tree/{name}").body == content, name


def test_a_file_is_edited_in_place(gateway: RunningGateway, mount: Mount, folder: str) -> None:
    """Writes in the middle, appends and truncation give what they give on a disk."""
    expected = bytearray(os.urandom(300_000))
    assert gateway.curl("alice", "PUT", f"{folder}/file", body=bytes(expected)).status == 201
    with mount() as point:
        file = point / "file"
        assert file.read_bytes() == expected
        with file.open("r+b") as stream:
            for offset, data in ((0, b"start"), (65_530, b"over a chunk's edge"), (299_990, b"!")):
                stream.seek(offset)
                stream.write(data)
                expected[offset : offset + len(data)] = data
        with file.open("ab") as stream:
            stream.write(b"appended")
            expected += b"appended"
        os.truncate(file, 100_001)
    assert gateway.curl("alice", "GET", f"{folder}/file").body == expected[:100_001]


def test_files_and_folders_are_renamed_and_removed(
    gateway: RunningGateway, mount: Mount, folder: str
) -> None:
    """Renaming carries the content along, also over another file; removing removes."""
    with mount() as point:
        (point / "sub").mkdir()
        (point / "sub" / "new").write_bytes(b"new")
        (point / "old").write_bytes(b"old")
    with mount() as point:
        (point / "sub" / "new").replace(point / "old")
        (point / "sub").rename(point / "sub2")
        (point / "sub2").rmdir()
        assert sorted(path.name for path in point.iterdir()) == ["lost+found", "old"]
    assert gateway.curl("alice", "GET", f"{folder}/old").body == b"new"
    assert gateway.curl("alice", "HEAD", f"{folder}/sub2").status == 404


def test_space_is_told(mount: Mount) -> None:
    """There is a size, and free space that is no larger."""
    with mount() as point:
        told = run(["df", "--output=size,avail,used", "--block-size=1", str(point)])
        size_bytes, free_bytes, used_bytes = (int(one) for one in told.splitlines()[-1].split())
    assert 0 < free_bytes <= size_bytes
    assert used_bytes >= 0


def test_what_is_open_for_writing_is_locked(
    gateway: RunningGateway, mount: Mount, folder: str
) -> None:
    """Others read what was there; to write they must wait until it is closed and uploaded."""
    assert gateway.curl("alice", "PUT", f"{folder}/file", body=b"before").status == 201
    with mount() as point, (point / "file").open("r+b") as stream:
        stream.write(b"during")
        assert gateway.curl("alice", "PUT", f"{folder}/file", body=b"lost").status == 423
        assert gateway.curl("alice", "DELETE", f"{folder}/file").status == 423
        assert gateway.curl("alice", "GET", f"{folder}/file").body == b"before"
    assert gateway.curl("alice", "PUT", f"{folder}/file", body=b"after").status == 204
    assert gateway.curl("alice", "GET", f"{folder}/file").body == b"after"
