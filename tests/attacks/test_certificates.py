"""A certificate changed while clients work, against the running gateway: nobody is dropped."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo_keys import write_tls
from tests.attacks.support import Target, harmless
from tests.webdav.support import read_reply

MIB = 1 << 20
SIZE = 24 * MIB


@pytest.fixture
def certificate(target: Target) -> Iterator[Path]:
    """The file of the certificate; it and its key are the old ones again after the test."""
    keys = target.gateway.folder / "keys"
    kept = {path: path.read_bytes() for path in (keys / "tls.crt", keys / "tls.key")}
    yield keys / "tls.crt"
    for path, data in kept.items():
        path.write_bytes(data)
    target.gateway.reload()


def shown(target: Target) -> bytes:
    """Return the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with target.connect_plain() as plain, context.wrap_socket(plain) as sock:
        return sock.getpeercert(binary_form=True) or b""


def test_a_new_certificate_drops_nobody(target: Target, folder: str, certificate: Path) -> None:
    """SIGHUP: an idle connection, a download and an upload go on; who comes next sees the new one."""
    data = bytes(range(256)) * (SIZE // 256)
    assert target.ask("PUT", f"{folder}/down", body=data).status == 201
    old = shown(target)
    with contextlib.ExitStack() as stack:
        idle, down, up = (stack.enter_context(target.connect()) for _ in range(3))
        idle.sendall(target.request("OPTIONS", "/"))
        assert harmless(read_reply(idle)).status == 200
        down.sendall(target.request("GET", f"{folder}/down"))
        got = bytearray(down.recv(MIB))
        raw = target.request("PUT", f"{folder}/up", f"Content-Length: {SIZE}", body=data)
        up.sendall(raw[: SIZE // 2])

        write_tls(
            "127.0.0.1", certificate, certificate.with_suffix(".key"), certificate.with_name("ca2")
        )
        assert "is in force" in target.gateway.reload()
        assert shown(target) != old

        up.sendall(raw[SIZE // 2 :])
        assert harmless(read_reply(up)).status == 201
        whole = got.index(b"\r\n\r\n") + 4 + SIZE
        while len(got) < whole:
            got += down.recv(MIB)
        assert got.endswith(data)
        for sock in (idle, down, up):
            sock.sendall(target.request("HEAD", f"{folder}/up"))
            head = harmless(read_reply(sock, to_head=True)).head.lower()
            assert f"content-length: {SIZE}" in head
    assert target.worker.is_running()
