"""TLS of the listener: versions and suites, silent clients, content both ways."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest

from gateway.webdav.server import make_tls_context
from gateway.webdav.settings import BLOCK_BYTES, TlsFiles, WebdavSettings
from tests.webdav.support import LIMIT_S, Live, at_end, live, read_reply, request

QUICK = WebdavSettings(threads=8, handshake_timeout_s=2.0)


@pytest.fixture(scope="module")
def secure(tls_files: TlsFiles) -> Iterator[Live]:
    """A listener with TLS, with short times."""
    with live(QUICK, tls_files) as running:
        yield running


def test_content_survives_tls_both_ways(secure: Live) -> None:
    """Several blocks in, the same out, on one connection."""
    data = bytes(range(256)) * (BLOCK_BYTES * 3 // 256) + b"tail"
    with secure.connect() as sock:
        sock.sendall(request("PUT", "/share/big", f"Content-Length: {len(data)}", body=data))
        assert read_reply(sock).status == 201
        sock.sendall(request("GET", "/share/big"))
        assert read_reply(sock).body == data


def test_a_silent_client_does_not_keep_others_from_their_handshake(secure: Live) -> None:
    """Stock cheroot shakes hands on the accepting thread: one such client stopped everyone for 10 s."""
    silent = [secure.connect(handshake=False) for _ in range(QUICK.threads * 2)]
    for sock in silent[::2]:
        sock.sendall(b"\x16\x03\x01")
    began = time.monotonic()
    assert secure.exchange(request("OPTIONS", "/share/")).status == 200
    assert time.monotonic() - began < QUICK.handshake_timeout_s / 2
    assert all(at_end(sock) for sock in silent)
    assert time.monotonic() - began < 3 * QUICK.handshake_timeout_s
    for sock in silent:
        sock.close()


def test_old_tls_is_refused(secure: Live, tls_files: TlsFiles) -> None:
    """TLS 1.2 with an AEAD suite is the floor."""
    for ciphers in (
        "ECDHE+AES:!AESGCM:!AESCCM",
        "ECDHE+CHACHA20",
        "ECDHE+AESCCM",
        "AESGCM:!kECDHE",
    ):
        context = ssl.create_default_context(cafile=tls_files.certificate)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with (
            socket.create_connection(("127.0.0.1", secure.port), LIMIT_S) as sock,
            pytest.raises((ssl.SSLError, ConnectionError)),
        ):
            context.wrap_socket(sock, server_hostname="localhost")
    assert make_tls_context(tls_files).minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("newest", "version"),
    [
        (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
def test_the_best_tls_and_aes_gcm_are_chosen(
    secure: Live, tls_files: TlsFiles, newest: ssl.TLSVersion, version: str
) -> None:
    """Also by a client that would rather have ChaCha20; TLS 1.3 wherever the client knows it."""
    context = ssl.create_default_context(cafile=tls_files.certificate)
    context.maximum_version = newest
    context.set_ciphers("ECDHE+CHACHA20:ECDHE+AESGCM")
    with (
        socket.create_connection(("127.0.0.1", secure.port), LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        assert sock.version() == version
        cipher = sock.cipher()
        assert cipher is not None
        assert "GCM" in cipher[0]


@pytest.mark.parametrize(
    ("suite", "served"),
    [("TLS_AES_128_GCM_SHA256", True), ("TLS_CHACHA20_POLY1305_SHA256", False)],
)
def test_tls_13_without_aes_gcm_is_refused(secure: Live, suite: str, served: bool) -> None:
    """Python cannot take the others from OpenSSL's list: a client that knows only them is cut off."""
    line = ["openssl", "s_client", "-quiet", "-tls1_3", "-ciphersuites", suite]
    done = subprocess.run(
        [*line, "-connect", f"127.0.0.1:{secure.port}"],
        input=request("OPTIONS", "/share", "Connection: close"),
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout.startswith(b"HTTP/1.1 200 ") is served
