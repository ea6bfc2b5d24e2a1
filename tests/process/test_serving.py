"""A running gateway replaces workers that die and takes over changes, unnoticed by its users."""

from __future__ import annotations

import re
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509

from gateway.demo_keys import write_tls
from tests.process.support import ServedGateway, one_sentence, run_here, served
from tests.support.paramiko_sftp import sftp_over
from tests.support.users import until

REPORT = "/radiology/report"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    """A gateway of its own, in which alice has put one file."""
    with served(tmp_path_factory.mktemp("serving")) as running:
        assert running.curl("alice", "PUT", REPORT, body=b"kept").status == 201
        yield running


@pytest.fixture
def config(serving: ServedGateway) -> Iterator[str]:
    """The text of the configuration, which is in force again after the test."""
    text = serving.config.read_text()
    yield text
    serving.write_text(text)
    assert "is in force" in serving.reload()


@pytest.fixture
def certificate(serving: ServedGateway) -> Iterator[Path]:
    """The file of the certificate; it and its key are the old ones again after the test."""
    keys = serving.folder / "keys"
    kept = {path: path.read_bytes() for path in (keys / "tls.crt", keys / "tls.key")}
    yield keys / "tls.crt"
    for path, data in kept.items():
        path.write_bytes(data)
    serving.reload()


def without_bob(config: dict[str, Any]) -> None:
    config["groups"]["billing"]["shares"] = {"inbox": {"allow": ["create"]}}


def number_of_certificate(gateway: ServedGateway) -> int:
    """Return the serial number of the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", gateway.webdav_port), 20) as plain,
        context.wrap_socket(plain) as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def ask(connection: ssl.SSLSocket) -> bytes:
    """Send a request without credentials and return the status line of the answer."""
    connection.sendall(b"OPTIONS /radiology/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", answer)
    left = int(length.group(1)) if length else 0
    while left:
        left -= len(connection.recv(left))
    return answer.partition(b"\r\n")[0]


def killed(gateway: ServedGateway, wire: str) -> psutil.Process:
    """Kill the only worker of a protocol and return it once it is dead."""
    (worker,) = gateway.workers(wire)
    worker.send_signal(signal.SIGKILL)
    until(lambda: not worker.is_running() or worker.status() == "zombie", "the worker is dead")
    return worker


def test_killed_webdav_worker_is_replaced_without_refusing_anyone(serving: ServedGateway) -> None:
    """While no worker lives clients wait instead of failing, and sessions outlive the worker."""
    mark = len(serving.log())
    dead = killed(serving, "webdav")
    reply = serving.curl("alice", "GET", REPORT)
    assert (reply.status, reply.body) == (200, b"kept")
    (fresh,) = serving.workers("webdav")
    assert fresh.pid != dead.pid
    assert f"worker {dead.pid} died with status -9; starting another." in serving.log()[mark:]


def test_killed_sftp_worker_is_replaced_without_refusing_anyone(serving: ServedGateway) -> None:
    """The same over SFTP, for a machine that comes back with its key."""
    dead = killed(serving, "sftp")
    done = serving.sftp_batch("scanner", ["pwd"], method="publickey")
    assert done.returncode == 0, done.stdout
    (fresh,) = serving.workers("sftp")
    assert fresh.pid != dead.pid


def test_worker_asked_to_end_is_replaced(serving: ServedGateway) -> None:
    """A worker that an administrator ends by SIGTERM leaves in order and comes again."""
    (worker,) = serving.workers("webdav")
    mark = len(serving.log())
    worker.terminate()
    until(lambda: "died with status 0" in serving.log()[mark:], "the worker left in order")
    assert serving.curl("alice", "GET", REPORT).status == 200


def test_changed_policy_takes_effect_on_living_sessions(
    serving: ServedGateway, config: str
) -> None:
    """After SIGHUP what was taken from a user is gone for the sessions that are open."""
    secret = serving.webdav_secret("bob")
    assert serving.curl("bob", "GET", REPORT, secret=secret).status == 200
    with serving.ssh_transport("bob") as transport:
        client = sftp_over(transport)
        assert client.listdir("/radiology") == ["report"]
        serving.write_config(without_bob)
        assert "the new configuration is in force" in serving.reload()
        assert serving.curl("bob", "GET", REPORT, secret=secret).status in {403, 404}
        with pytest.raises(PermissionError):
            client.listdir("/radiology")
        assert transport.is_active()
    assert serving.curl("alice", "GET", REPORT).status == 200
    serving.wait_for_record(
        lambda record: (record.action, record.outcome) == ("reload", "ok"), "the reload"
    )


@pytest.mark.parametrize(
    ("old", "broken", "said"),
    [
        ("idle_timeout: 15m", "idle_timout: 15m", "Did you mean 'idle_timeout'?"),
        ("session_timeout: 12h", "session_timeout: [12h", "Check the indentation"),
        ("keys/tls.crt", "keys/no-such.crt", "Create it, or correct the path."),
    ],
)
def test_broken_file_changes_nothing(
    serving: ServedGateway, config: str, old: str, broken: str, said: str
) -> None:
    """A reload of a wrong file says where and what, and the old configuration stays in force."""
    secret = serving.webdav_secret("bob")
    text = config.replace(old, broken, 1)
    assert text != config
    line = text[: text.index(broken)].count("\n") + 1
    serving.write_text(text)
    heard = serving.reload()
    assert "the running configuration stays in force" in heard
    assert said in heard
    # YAML notices an open bracket only on the line after it.
    assert re.search(rf"{re.escape(str(serving.config))}:({line}|{line + 1}):", heard), heard
    assert serving.curl("bob", "GET", REPORT, secret=secret).status == 200
    assert len(serving.workers()) == 2


def test_change_that_only_a_start_can_make_is_refused(serving: ServedGateway, config: str) -> None:
    """What a reload would not put in force is never silently passed over."""

    def change(fresh: dict[str, Any]) -> None:
        fresh["server"]["join_window"] = "0s"
        fresh["server"]["sftp"]["banner"] = "Hello"
        fresh["storage"]["data_dir"] = "elsewhere"
        fresh["audit"] = {"anchor": "keys/anchor"}

    serving.write_config(change)
    changed = "server.sftp, server.join_window, storage.data_dir, audit.anchor"
    assert f"A change of {changed} needs a restart." in serving.reload()


def test_refused_reload_is_recorded(serving: ServedGateway, config: str) -> None:
    """Each reload that was refused leaves one record of its failure."""
    serving.write_text("server: [")
    serving.reload()
    serving.write_text(config)
    assert serving.failed_reloads() == serving.log().count("stays in force")


def test_new_certificate_is_used_and_open_connections_stay(
    serving: ServedGateway, certificate: Path
) -> None:
    """After SIGHUP new connections see the new certificate; kept-alive ones go on."""
    old = number_of_certificate(serving)
    with serving.tls() as connection:
        assert b" 401 " in ask(connection)
        private_key = certificate.with_suffix(".key")
        write_tls("127.0.0.1", certificate, private_key, serving.folder / "other-ca.pem")
        serving.reload()
        assert number_of_certificate(serving) != old
        assert b" 401 " in ask(connection)


def test_unusable_certificate_is_refused_and_the_old_one_stays(
    serving: ServedGateway, certificate: Path
) -> None:
    """A certificate that does not fit its key is reported, and TLS goes on as before."""
    old = number_of_certificate(serving)
    certificate.write_bytes((serving.folder / "ca.pem").read_bytes())
    heard = serving.reload()
    assert str(certificate) in heard
    assert "stays in force" in heard
    assert number_of_certificate(serving) == old


def test_second_gateway_on_the_same_ports_is_refused(
    serving: ServedGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another start with the same configuration ends at once; the first serves on."""
    sentence = one_sentence(run_here(capsys, "serve", "-c", serving.config))
    assert f"Port {serving.webdav_port} on 127.0.0.1 is taken" in sentence
    assert serving.curl("alice", "GET", REPORT).status == 200
