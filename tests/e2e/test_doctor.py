"""``sealgate doctor`` beside a running gateway."""

from __future__ import annotations

import json

from tests.support.gateway import RunningGateway


def test_doctor_asks_the_listeners_that_run(gateway: RunningGateway) -> None:
    """What it tells was heard from them, and all of it is well."""
    done = gateway.command("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
    sftp = findings[f"sftp 127.0.0.1:{gateway.sftp_port}"]
    webdav = findings[f"webdav 127.0.0.1:{gateway.webdav_port}"]
    assert [sftp["verdict"], webdav["verdict"]] == ["ok", "ok"]
    offered = {each["name"]: each["text"] for each in sftp["details"] + webdav["details"]}
    assert offered["key exchange"].startswith("mlkem768x25519-sha256 curve25519-sha256")
    assert offered["ciphers"] == "aes256-gcm@openssh.com aes128-gcm@openssh.com"
    assert "AES_256_GCM" in offered["TLS 1.3"]
    assert "AES256-GCM" in offered["TLS 1.2"]
