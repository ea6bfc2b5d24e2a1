"""A session that only keeps itself alive is logged off when its idle time is over."""

from __future__ import annotations

import time
from collections.abc import Iterator

import paramiko
import pytest
import yaml

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.paramiko_sftp import sftp_over
from tests.support.users import until

IDLE_TIMEOUT_S = 2


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose groups all idle out after two seconds."""
    with running_gateway(tmp_path_factory.mktemp("impatient")) as gateway:
        gateway.stop()
        config = yaml.safe_load(gateway.config.read_text())
        for group in config["groups"].values():
            group["idle_timeout"] = f"{IDLE_TIMEOUT_S}s"
        gateway.config.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        assert gateway.command("check-config").returncode == 0
        yield gateway.start_serve()


def expired(gateway: RunningGateway, protocol: str) -> None:
    gateway.wait_for_record(
        lambda record: record.outcome == "expired" and record.fields["protocol"] == protocol,
        "the session that idled out",
    )


def test_webdav_session_ends_although_options_keep_coming(impatient: RunningGateway) -> None:
    """OPTIONS is no activity: the replayed header is refused once the idle time is over."""
    reply = impatient.curl("alice", "PUT", "/radiology/idle", body=b"x")
    assert reply.status in {201, 204}
    until(
        lambda: impatient.curl("alice", "OPTIONS", "/").status == 401, "the old header is refused"
    )
    assert impatient.curl("alice", "GET", "/radiology/idle").status == 401
    expired(impatient, "webdav")
    fresh = impatient.webdav_secret("alice", fresh=True)
    assert impatient.curl("alice", "GET", "/radiology/idle", secret=fresh).body == b"x"


def test_sftp_connection_is_closed_although_keepalives_keep_coming(
    impatient: RunningGateway,
) -> None:
    """REALPATH, which clients send to stay connected, does not defer the logoff."""
    with impatient.ssh_transport("alice") as transport:
        client = sftp_over(transport)
        assert "radiology" in client.listdir("/")

        def gone() -> bool:
            try:
                client.normalize(".")
            except (OSError, EOFError, paramiko.SSHException):
                return True
            return not transport.is_active()

        until(gone, "the connection is closed")
    expired(impatient, "sftp")


def test_openssh_prints_why_it_was_signed_off(impatient: RunningGateway) -> None:
    """A person who comes back to a terminal reads the reason there."""
    flags = ["-oLogLevel=INFO"]
    login = impatient.sftp_login("alice", fresh=True)
    with impatient.sftp("alice", ["ls /"], login=login, flags=flags) as process:
        # Its input stays open: it would take an end of input for "bye".
        assert process.stdout is not None
        told = next((line for line in process.stdout if "Signed off" in line), "")
        process.communicate(timeout=30)
    assert f"Signed off after {IDLE_TIMEOUT_S} seconds without activity" in told


def test_activity_keeps_a_session_alive(impatient: RunningGateway) -> None:
    """Reads further apart than nothing but closer than the idle time keep the session."""
    secret = impatient.webdav_secret("alice", fresh=True)
    path = "/radiology/busy"
    assert impatient.curl("alice", "PUT", path, body=b"x", secret=secret).status in {201, 204}
    seen = []

    enough_s = time.monotonic() + 3 * IDLE_TIMEOUT_S

    def long_enough() -> bool:
        seen.append(impatient.curl("alice", "GET", path, secret=secret).status)
        return time.monotonic() > enough_s

    until(long_enough, "three idle times have gone by")
    assert set(seen) == {200}
