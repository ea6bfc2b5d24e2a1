"""What machines push and fetch files with: each program as it is run by a script, by key alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from tests.e2e.machines import (
    LARGE,
    LARGE_COUNT,
    SCANNER,
    curl_options,
    environment,
    key_file,
    machine_room,
    putty_options,
    ssh_options,
)
from tests.e2e.programs import make_tree, read_tree, run
from tests.process.support import ServedGateway
from tests.support.paramiko_sftp import sftp_over

CONTENT = os.urandom(700_001)
HALF = 300_000
WHEN_S = 1_500_000_000


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """The gateway of this module."""
    with machine_room(tmp_path_factory.mktemp("machines")) as running:
        yield running


@pytest.fixture
def folder(room: ServedGateway) -> str:
    """The path of a new folder on ``scans``, where the scanner may do everything."""
    path = f"/scans/{uuid.uuid4().hex[:12]}"
    assert room.curl("admin", "MKCOL", path).status == 201
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of a certain age."""
    file = tmp_path / "source"
    file.write_bytes(CONTENT)
    os.utime(file, (WHEN_S, WHEN_S))
    return file


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree to be carried there and back."""
    make_tree(tmp_path / "tree")
    for path in sorted((tmp_path / "tree").rglob("*"), reverse=True):
        os.utime(path, (WHEN_S, WHEN_S))
    return tmp_path / "tree"


@contextlib.contextmanager
def connected(room: ServedGateway) -> Iterator[paramiko.Transport]:
    """Yield paramiko's connection as the scanner."""
    key = paramiko.Ed25519Key.from_private_key_file(key_file(room))
    with contextlib.closing(paramiko.Transport(("127.0.0.1", room.sftp_port))) as transport:
        transport.connect(username="scanner", pkey=key)
        yield transport


def stored(room: ServedGateway, path: str) -> bytes | None:
    """Return what others see at ``path``."""
    reply = room.curl("admin", "GET", path)
    return reply.body if reply.status == 200 else None


def records_of(room: ServedGateway, path: str) -> list[tuple[str, str]]:
    """Return what was done to ``path`` itself, and how it ended."""
    found = [one for one in room.audit_records() if one.path == path]
    return [(one.action, one.outcome) for one in found if one.principal == "scanner"]


# scp's own protocol


def test_scp_speaks_its_own_protocol(
    room: ServedGateway, folder: str, source: Path, tmp_path: Path
) -> None:
    """``scp -O`` in and out, with times, through the same door and into the same trail."""
    scp, env = ["scp", "-O", "-p", *ssh_options(room)], environment(tmp_path)
    path = f"{folder}/file"
    run([*scp, str(source), f"{SCANNER}:{path}"], env=env)
    assert stored(room, path) == CONTENT
    run([*scp, f"{SCANNER}:{path}", str(tmp_path / "back")], env=env)
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert (tmp_path / "back").stat().st_mtime == WHEN_S
    done = [one for one in records_of(room, path) if one[0] in {"create", "read", "read_end"}]
    assert done == [("create", "ok"), ("read", "ok"), ("read_end", "ok")]


def test_scp_carries_trees(room: ServedGateway, folder: str, tree: Path, tmp_path: Path) -> None:
    """``scp -O -r`` there, over what is there, and back."""
    scp, env = ["scp", "-O", "-r", "-p", *ssh_options(room)], environment(tmp_path)
    for _ in range(2):
        run([*scp, str(tree), f"{SCANNER}:{folder}"], env=env)
    run([*scp, f"{SCANNER}:{folder}/tree", str(tmp_path / "back")], env=env)
    assert read_tree(tmp_path / "back") == read_tree(tree)
    for path in (tmp_path / "back").rglob("*"):
        assert path.stat().st_mtime == WHEN_S, path


def test_scp_is_told_what_it_may_not(
    room: ServedGateway, folder: str, source: Path, tmp_path: Path
) -> None:
    """The reason is printed, the exit status tells, and what was allowed is done."""
    scp, env = ["scp", "-O", *ssh_options(room)], environment(tmp_path)
    said = run([*scp, str(source), f"{SCANNER}:/radiology/x"], env=env, fails=True)
    assert "Policy does not allow" in said
    said = run([*scp, f"{SCANNER}:{folder}/none", str(tmp_path)], env=env, fails=True)
    assert "no such file" in said.lower()
    run([*scp, str(source), f"{SCANNER}:/inbox/{uuid.uuid4().hex}"], env=env)
    several = [str(source), str(source), f"{SCANNER}:{folder}/no-folder"]
    assert "Not a folder" in run([*scp, *several], env=env, fails=True)
    mark = room.audit_mark()
    for path in (f"{folder};id", f"$(id){folder}", f"`id`{folder}"):
        said = run([*scp, f"{SCANNER}:{path}", str(tmp_path)], env=env, fails=True)
        assert "uid=" not in said
    refused = [one for one in room.audit_since(mark) if one.action == "refused"]
    assert [one.rule for one in refused] == ["exec"] * 3


def test_an_scp_that_is_lost_stores_nothing(
    room: ServedGateway, folder: str, tmp_path: Path
) -> None:
    """Neither the file nor something to go on with; the attempt is recorded."""
    path = f"{folder}/file"
    with connected(room) as transport:
        channel = transport.open_session()
        channel.exec_command(f"scp -t {path}")
        channel.sendall(f"C0644 {len(CONTENT)} file\n".encode() + CONTENT[:HALF])
        assert channel.recv(1) + channel.recv(1) == b"\0\0"
        transport.sock.close()
    room.wait_for_record(lambda one: one.path == path, "the end of the upload")
    assert [one for one in records_of(room, path) if one[0] == "create"] == [("create", "aborted")]
    assert stored(room, path) is None
    sftp = ["sftp", *ssh_options(room), "-b", "-", SCANNER]
    said = run(sftp, env=environment(tmp_path), typed=f"ls {path}\n", fails=True)
    assert "not found" in said


@pytest.mark.parametrize("protocol", ["-scp", "-sftp"])
def test_pscp(room: ServedGateway, folder: str, tree: Path, tmp_path: Path, protocol: str) -> None:
    """PuTTY's copies trees and files either way, by either protocol."""
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    os.utime(source, (WHEN_S, WHEN_S))
    pscp = ["pscp", protocol, "-p", *putty_options(room, tmp_path)]
    env = environment(tmp_path)
    run([*pscp, "-r", str(tree), f"{SCANNER}:{folder}/"], env=env)
    run([*pscp, "-r", f"{SCANNER}:{folder}/tree", str(tmp_path / "back")], env=env)
    assert read_tree(tmp_path / "back") == read_tree(tree)
    run([*pscp, str(source), f"{SCANNER}:{folder}/file"], env=env)
    assert stored(room, f"{folder}/file") == CONTENT
    run([*pscp, f"{SCANNER}:{folder}/file", str(tmp_path / "file")], env=env)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert (tmp_path / "file").stat().st_mtime == WHEN_S


# SFTP


def test_rclone(room: ServedGateway, folder: str, tmp_path: Path) -> None:
    """Many files at a time, checked, synced, and back; a second copy finds nothing to do."""
    settings = tmp_path / "rclone.conf"
    settings.write_text(
        f"[gate]\ntype = sftp\nhost = 127.0.0.1\nport = {room.sftp_port}\nuser = scanner\n"
        f"key_file = {key_file(room)}\nknown_hosts_file = {room.info['known_hosts']}\n"
    )
    rclone = ["rclone", "--config", str(settings), "--retries", "1", "--transfers", "8"]
    env, tree, back = environment(tmp_path), tmp_path / "many", tmp_path / "back"
    tree.mkdir()
    for number in range(60):
        (tree / f"größe {number}").write_bytes(os.urandom(number * 1000))
        os.utime(tree / f"größe {number}", (WHEN_S + number, WHEN_S + number))
    there = f"gate:{folder}/many"
    run([*rclone, "copy", str(tree), there], env=env)
    run([*rclone, "check", "--download", str(tree), there], env=env)
    assert "There was nothing to transfer" in run(
        [*rclone, "-v", "copy", str(tree), there], env=env
    )
    (tree / "größe 7").unlink()
    (tree / "größe 8").rename(tree / "renamed")
    run([*rclone, "sync", str(tree), there], env=env)
    run([*rclone, "copy", there, str(back)], env=env)
    assert read_tree(back) == read_tree(tree)
    assert (back / "größe 9").stat().st_mtime == WHEN_S + 9
    run([*rclone, "purge", there], env=env)
    assert stored(room, f"{folder}/many/renamed") is None


def test_curl(room: ServedGateway, folder: str, source: Path, tmp_path: Path) -> None:
    """Libssh2 in the version of Debian 12 knows no AES-GCM: it comes in by a named exception."""
    curl, env = curl_options(room), environment(tmp_path)
    url = f"//127.0.0.1:{room.sftp_port}{folder}"
    back = tmp_path / "back"
    run([*curl, "--ftp-create-dirs", "-T", str(source), f"sftp:{url}/sub/file"], env=env)
    assert stored(room, f"{folder}/sub/file") == CONTENT
    run([*curl, "-o", str(back), f"sftp:{url}/sub/file"], env=env)
    assert back.read_bytes() == CONTENT
    assert "file" in run([*curl, f"sftp:{url}/sub/"], env=env)
    run([*curl, "-r", "100-199", "-o", str(back), f"sftp:{url}/sub/file"], env=env)
    assert back.read_bytes() == CONTENT[100:200]
    run([*curl, "-Q", f"-rename {folder}/sub/file {folder}/moved", f"sftp:{url}/sub/"], env=env)
    assert stored(room, f"{folder}/moved") == CONTENT
    run([*curl, "-T", str(source), f"scp:{url}/by-scp"], env=env)
    assert stored(room, f"{folder}/by-scp") == CONTENT
    run([*curl, "-o", str(back), f"scp:{url}/by-scp"], env=env)
    assert back.read_bytes() == CONTENT


def test_paramiko(room: ServedGateway, folder: str, source: Path, tmp_path: Path) -> None:
    """Its put asks for the size right after the close, and its get reads far ahead."""
    path, back = f"{folder}/file", tmp_path / "back"
    with connected(room) as transport:
        sftp = sftp_over(transport)
        assert sftp.put(str(source), path, confirm=True).st_size == len(CONTENT)
        for size_bytes in (0, 1, 40_000):
            with sftp.open(path, "w") as file:
                file.write(CONTENT[:size_bytes])
            assert sftp.stat(path).st_size == size_bytes
        sftp.put(str(source), path)
        sftp.get(path, str(back))
        assert back.read_bytes() == CONTENT
        with sftp.open(path) as file:
            file.prefetch(len(CONTENT))
            parts = [file.read(32_768) for _ in range(0, len(CONTENT), 32_768)]
            assert b"".join(parts) == CONTENT
        with sftp.open(path) as file:
            assert list(file.readv([(5, 10), (600_000, 7)])) == [
                CONTENT[5:15],
                CONTENT[600_000:600_007],
            ]
            assert file.check("sha256") == hashlib.sha256(CONTENT).digest()
        sftp.posix_rename(path, f"{folder}/moved")
        assert sftp.listdir(folder) == ["moved"]


def test_downloads_are_taken_up(
    room: ServedGateway, folder: str, source: Path, tmp_path: Path
) -> None:
    """OpenSSH's reget, lftp's get -c and curl -C go on where the local file ends."""
    env, path = environment(tmp_path), f"{folder}/file"
    run(["scp", *ssh_options(room), str(source), f"{SCANNER}:{path}"], env=env)
    ssh = " ".join(["ssh", "-a", "-x", *ssh_options(room)])
    lftp = [
        f'set net:max-retries 1; set net:timeout 20; set sftp:connect-program "{ssh}"',
        f"open -u scanner,unused sftp://127.0.0.1:{room.sftp_port}",
        f"get -c {path} -o {tmp_path}/back",
    ]
    for command, typed in (
        (["sftp", *ssh_options(room), "-b", "-", SCANNER], f"reget {path} {tmp_path}/back\n"),
        (["lftp", "-c", "; ".join(lftp)], ""),
        ([*curl_options(room), "-C", "-", "-o", str(tmp_path / "back"),
          f"sftp://127.0.0.1:{room.sftp_port}{path}"], ""),
    ):  # fmt: skip
        (tmp_path / "back").write_bytes(CONTENT[:HALF])
        run(command, env=env, typed=typed)
        assert (tmp_path / "back").read_bytes() == CONTENT, command[0]
    read = [one for one in room.audit_records() if (one.action, one.path) == ("read_end", path)]
    assert sum(one.fields["bytes"] for one in read) == 3 * (len(CONTENT) - HALF)


def test_curl_goes_on_with_an_upload(
    room: ServedGateway, folder: str, source: Path, tmp_path: Path
) -> None:
    """``curl -C -`` looks how much there is of it, and sends the rest."""
    path = f"{folder}/file"
    with connected(room) as transport:
        file = sftp_over(transport).open(path, "wb")
        file.write(CONTENT[:HALF])
        transport.sock.close()
    room.wait_for_record(lambda one: (one.path, one.outcome) == (path, "aborted"), "the cut")
    url = f"sftp://127.0.0.1:{room.sftp_port}{path}"
    run([*curl_options(room), "-C", "-", "-T", str(source), url], env=environment(tmp_path))
    assert stored(room, path) == CONTENT


def test_openssh_copies_on_the_server(
    room: ServedGateway, folder: str, source: Path, tmp_path: Path
) -> None:
    """The ``cp`` of its sftp: no byte comes back, and the trail says from where to where."""
    first, second = f"{folder}/first", f"{folder}/second"
    commands = f"put {source} {first}\ncp {first} {second}\nls -l {folder}\n"
    said = run(
        ["sftp", *ssh_options(room), "-b", "-", SCANNER], env=environment(tmp_path), typed=commands
    )
    assert said.count(f" {len(CONTENT)} ") == 2
    assert stored(room, second) == CONTENT
    records = room.audit_records()
    (copied,) = [one for one in records if one.action == "copy" and one.path == first]
    assert (copied.outcome, copied.fields["target"]) == ("ok", second)
    assert copied.fields["bytes"] == len(CONTENT)
    read = [one for one in records if (one.action, one.path) == ("read_end", first)]
    assert [one.fields["bytes"] for one in read] == [0]


def test_a_large_folder_is_listed_with_flat_memory(room: ServedGateway, tmp_path: Path) -> None:
    """OpenSSH's ``ls -l``: every entry once, with its size, its time and its name in letters."""
    (worker,) = room.workers("sftp")
    command = ["sftp", *ssh_options(room), "-b", "-", SCANNER]
    run(command, env=environment(tmp_path), typed=f"ls -l {LARGE}/größe-00000*\n")
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")
    before_bytes = worker.memory_info().rss
    # Its errors go elsewhere: where ssh shares its output it makes it lose lines.
    done = subprocess.run(
        command,
        input=f"ls -l {LARGE}\n".encode(),
        capture_output=True,
        check=True,
        env=environment(tmp_path),
        timeout=60,
    )
    said = done.stdout.decode().splitlines()
    lines = [line for line in said if line.startswith("-rw-------")]
    assert len(lines) == LARGE_COUNT
    number = LARGE_COUNT // 2
    (line,) = [line for line in lines if line.endswith(f"größe-{number:06}")]
    assert f" {number} " in line
    status = Path(f"/proc/{worker.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) * 1024 - before_bytes < 10 * 2**20
