"""An upload that is cut off changes nothing that others see, and the audit says so.

Over SFTP what arrived waits for its uploader, whose client goes on with it.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from tests.support import openssh
from tests.support.gateway import RunningGateway
from tests.support.paramiko_sftp import sftp_over
from tests.support.users import until

ANNOUNCED_BYTES = 4 * 2**20
CONTENT = os.urandom(700_001)
ARRIVED_BYTES = 300_000


def put_and_cut(gateway: RunningGateway, path: str, sent_bytes: int) -> None:
    """Announce ANNOUNCED_BYTES in a PUT, send fewer, and drop the connection."""
    credentials = base64.b64encode(f"alice:{gateway.webdav_secret('alice')}".encode()).decode()
    head = (
        f"PUT {quote(path)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n"
        f"Content-Length: {ANNOUNCED_BYTES}\r\n\r\n"
    )
    with gateway.tls() as connection:
        connection.sendall(head.encode() + os.urandom(sent_bytes))


def wait_for_aborted(gateway: RunningGateway, path: str) -> None:
    record = gateway.wait_for_record(
        lambda record: record.path == path and record.outcome == "aborted", "the cut upload"
    )
    assert record.principal == "alice"


def seen_by_bob(gateway: RunningGateway, path: str) -> tuple[int, bytes]:
    reply = gateway.curl("bob", "GET", path)
    return reply.status, reply.body if reply.status == 200 else b""


@pytest.mark.parametrize("sent_bytes", [0, 1, 300_000, ANNOUNCED_BYTES - 1])
def test_cut_put_leaves_the_old_content(
    gateway: RunningGateway, folder: str, sent_bytes: int
) -> None:
    """A PUT dropped at any point leaves what was there, and one aborted record."""
    path = f"{folder}/kept"
    assert gateway.curl("alice", "PUT", path, body=b"old content").status == 201
    put_and_cut(gateway, path, sent_bytes)
    wait_for_aborted(gateway, path)
    assert gateway.curl("alice", "GET", path).body == b"old content"
    aborted = [
        one for one in gateway.audit_records() if one.path == path and one.outcome == "aborted"
    ]
    assert len(aborted) == 1


def test_cut_put_of_a_new_name_leaves_nothing(gateway: RunningGateway, folder: str) -> None:
    """No empty or partial file appears under a name whose first PUT was cut."""
    path = f"{folder}/never"
    put_and_cut(gateway, path, 300_000)
    wait_for_aborted(gateway, path)
    assert gateway.curl("alice", "GET", path).status == 404
    assert seen_by_bob(gateway, path)[0] == 404


@pytest.mark.parametrize("old", [b"old content", None])
def test_lost_sftp_connection_leaves_the_old_content(
    gateway: RunningGateway, folder: str, old: bytes | None
) -> None:
    """A dropped TCP connection before CLOSE shows others the old content or nothing."""
    path = f"{folder}/kept"
    if old is not None:
        assert gateway.curl("alice", "PUT", path, body=old).status == 201
    with gateway.ssh_transport("alice") as transport:
        file = sftp_over(transport).open(path, "wb")
        file.set_pipelined(True)
        file.write(os.urandom(300_000))
        file.flush()
        assert seen_by_bob(gateway, path) == ((200, old) if old else (404, b""))
        transport.sock.close()
    wait_for_aborted(gateway, path)
    assert seen_by_bob(gateway, path) == ((200, old) if old else (404, b""))


def test_killed_sftp_client_leaves_the_old_content(
    gateway: RunningGateway, folder: str, tmp_path: Path
) -> None:
    """OpenSSH's client killed in the middle of a put leaves the old content."""
    path = f"{folder}/kept"
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20 * 2**20))
    assert gateway.curl("alice", "PUT", path, body=b"old content").status == 201
    with gateway.sftp("alice", [f"put {source} {path}"], flags=["-l", "8000"]) as client:
        whole = psutil.Process(client.pid)

        def ssh_has_sent() -> list[psutil.Process]:
            children = whole.children(recursive=True)
            return [one for one in children if one.io_counters().write_chars > 500_000]

        ssh = until(ssh_has_sent, "half a megabyte is on its way")[0]
        ssh.kill()
        client.kill()
        client.communicate()
    wait_for_aborted(gateway, path)
    assert seen_by_bob(gateway, path) == (200, b"old content")


def test_chunked_put_without_its_end_leaves_nothing(gateway: RunningGateway, folder: str) -> None:
    """A chunked body that stops before the last chunk is an abort too."""
    path = f"{folder}/never"
    credentials = base64.b64encode(f"alice:{gateway.webdav_secret('alice')}".encode()).decode()
    head = (
        f"PUT {quote(path)} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with gateway.tls() as connection:
        connection.sendall(head.encode() + b"5\r\nhello\r\n")
    wait_for_aborted(gateway, path)
    assert gateway.curl("alice", "GET", path).status == 404


# Going on over SFTP


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The whole file, of which ARRIVED_BYTES have arrived."""
    file = tmp_path / "source"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def path(gateway: RunningGateway, folder: str) -> str:
    """A name whose first upload was cut off."""
    path = f"{folder}/file"
    put_and_cut_by_sftp(gateway, path, CONTENT[:ARRIVED_BYTES])
    return path


def put_and_cut_by_sftp(gateway: RunningGateway, path: str, content: bytes) -> None:
    """Send ``content`` and drop the connection before the file is closed."""
    with gateway.ssh_transport("alice") as transport:
        file = sftp_over(transport).open(path, "wb")
        file.write(content)
        transport.sock.close()
    wait_for_aborted(gateway, path)


def require_whole(gateway: RunningGateway, path: str) -> None:
    """The file is whole for all, in one version, and only its rest was sent."""
    assert seen_by_bob(gateway, path) == (200, CONTENT)
    made = [one for one in gateway.audit_records() if one.path == path and one.action == "create"]
    assert [one.outcome for one in made] == ["aborted", "ok"]
    assert [one.fields["bytes"] for one in made] == [ARRIVED_BYTES, len(CONTENT) - ARRIVED_BYTES]


def test_openssh_goes_on(gateway: RunningGateway, path: str, source: Path) -> None:
    """The reput of OpenSSH's sftp asks how much there is, and sends the rest."""
    done = gateway.sftp_batch("alice", [f"ls -l {path}", f"reput {source} {path}"])
    assert done.returncode == 0, done.stdout
    assert re.search(rf" {ARRIVED_BYTES} ", done.stdout), done.stdout
    require_whole(gateway, path)


def test_lftp_goes_on(gateway: RunningGateway, path: str, source: Path, tmp_path: Path) -> None:
    """The same for lftp's put -c."""
    login = gateway.sftp_login("alice")
    ssh = " ".join(["ssh", "-a", "-x", *gateway.ssh_options("alice")])
    commands = [
        "set net:max-retries 1",
        "set net:timeout 20",
        f'set sftp:connect-program "{ssh}"',
        f"open -u alice,unused sftp://{gateway.info['sftp_host']}:{gateway.sftp_port}",
        f"put -c {source} -o {path}",
    ]
    run_client(
        ["lftp", "-c", "; ".join(commands)],
        openssh.environment(tmp_path, login.password, login.code) | {"HOME": str(tmp_path)},
    )
    require_whole(gateway, path)


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_paramiko_goes_on(gateway: RunningGateway, path: str, mode: str) -> None:
    """Programs of one's own look where the end is, and append or write from there."""
    with gateway.ssh_transport("alice") as transport:
        sftp = sftp_over(transport)
        size_bytes = sftp.stat(path).st_size
        assert size_bytes == ARRIVED_BYTES
        with sftp.open(path, mode) as file:
            file.seek(size_bytes)
            file.write(CONTENT[size_bytes:])
    require_whole(gateway, path)


def test_putting_anew_starts_over(gateway: RunningGateway, path: str, source: Path) -> None:
    """A put without resuming sends everything, and what had arrived is gone."""
    done = gateway.sftp_batch("alice", [f"put {source} {path}", f"ls -l {path}"])
    assert done.returncode == 0, done.stdout
    assert re.search(rf" {len(CONTENT)} ", done.stdout), done.stdout
    assert seen_by_bob(gateway, path) == (200, CONTENT)


def test_deleting_gives_a_cut_upload_up(gateway: RunningGateway, path: str) -> None:
    """Then its uploader sees nothing of it either."""
    done = gateway.sftp_batch("alice", [f"rm {path}"])
    assert done.returncode == 0, done.stdout
    with gateway.ssh_transport("alice") as transport, pytest.raises(FileNotFoundError):
        sftp_over(transport).stat(path)


def run_client(command: list[str], env: dict[str, str], typed: str = "") -> None:
    """Run a client that reads what is ``typed``; fail when it failed."""
    done = subprocess.run(
        command,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
        env=env,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout


def test_psftp_goes_on(gateway: RunningGateway, path: str, source: Path, tmp_path: Path) -> None:
    """The same for PuTTY's, and so FileZilla's, which opens what it takes to be there."""
    known_hosts = str(gateway.info["known_hosts"])
    listed = subprocess.run(["ssh-keygen", "-lf", known_hosts], capture_output=True, check=True)
    hostkeys = [
        part
        for one in re.findall(r"SHA256:\S+", listed.stdout.decode())
        for part in ("-hostkey", one)
    ]
    batch = tmp_path / "batch"
    batch.write_text(f"reput {source} {path}\n")
    login = gateway.sftp_login("alice")
    host = f"alice@{gateway.info['sftp_host']}"
    command = ["psftp", "-P", str(gateway.sftp_port), *hostkeys, "-b", str(batch), host]
    run_client(
        ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"],
        {"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        typed=f"{login.password}\n{login.code}\n",
    )
    require_whole(gateway, path)
