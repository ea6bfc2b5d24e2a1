"""Starts real S3 servers: moto (honours conditional PUT) and JuiceFS's gateway (ignores it).

Each runs as a child on a free loopback port, keeps everything in the folder it is given, and is
ended by its process id. Nothing is fetched: both come with their packages.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import ssl
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from backends.blobs.s3_bucket import S3Settings
from tests.support.slapd import Certificate, free_port

BUCKET = "segments"
ACCESS_KEY_ID = "test-access-key"
SECRET_ACCESS_KEY = "made-up-secret-key"
START_LIMIT_S = 30.0
START_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server with the empty bucket BUCKET."""

    endpoint: str
    honours_conditional_put: bool

    def settings(self, **changes: Any) -> S3Settings:
        """Return settings for the bucket; keywords replace single ones."""
        usual: dict[str, Any] = {
            "bucket": BUCKET,
            "endpoint": self.endpoint,
            "access_key_id": ACCESS_KEY_ID,
            "secret_access_key": SECRET_ACCESS_KEY,
        }
        return S3Settings(**usual | changes)


@contextlib.contextmanager
def running_moto(folder: Path, certificate: Certificate | None = None) -> Iterator[S3Server]:
    """Run moto's server for the length of the block, by https if there is a certificate."""
    tls = ["-c", str(certificate.certificate), "-k", str(certificate.key)] if certificate else []

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), *tls]

    with _running(command, folder, {}, "https" if certificate else "http") as endpoint:
        assert _status(endpoint, "PUT", f"/{BUCKET}") == 200
        yield S3Server(endpoint, honours_conditional_put=True)


@contextlib.contextmanager
def running_juicefs(folder: Path) -> Iterator[S3Server]:
    """Run JuiceFS's gateway for the length of the block; its data lie in ``folder``."""
    program = str(Path(sysconfig.get_path("scripts")) / "juicefs")
    catalog = f"sqlite3://{folder}/juicefs.db"
    format_command = [
        *(program, "--no-agent", "format", "--storage", "file", "--bucket", f"{folder}/data/"),
        *("--trash-days", "0", catalog, BUCKET),
    ]
    subprocess.run(format_command, check=True, capture_output=True)

    def command(port: int) -> list[str]:
        return [
            *(program, "--no-agent", "gateway", "--no-usage-report", "--no-banner", "--no-bgjob"),
            *("--backup-meta", "0", "--cache-size", "0", "--cache-dir", f"{folder}/cache"),
            *("--metrics", "127.0.0.1:0", catalog, f"127.0.0.1:{port}"),
        ]

    account = {"MINIO_ROOT_USER": ACCESS_KEY_ID, "MINIO_ROOT_PASSWORD": SECRET_ACCESS_KEY}
    with _running(command, folder, account, "http") as endpoint:
        yield S3Server(endpoint, honours_conditional_put=False)


@contextlib.contextmanager
def _running(
    command: Callable[[int], list[str]], folder: Path, account: dict[str, str], scheme: str
) -> Iterator[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **account}
    process = None
    try:
        for attempt in range(START_ATTEMPTS):
            port = free_port()
            with (folder / f"server-{attempt}.log").open("wb") as log:
                process = subprocess.Popen(
                    command(port), stdout=log, stderr=log, env=environment, cwd=folder
                )
            endpoint = f"{scheme}://127.0.0.1:{port}"
            if _answers(process, endpoint):
                break
            # Someone else may have taken the port meanwhile.
            _stop(process)
        else:
            raise RuntimeError(f"{command(0)[0]} did not start")
        yield endpoint
    finally:
        if process is not None:
            _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(process: subprocess.Popen[bytes], endpoint: str) -> bool:
    # Neither server tells when it listens, so it is asked every 20 ms.
    tick = threading.Event()
    for _ in range(int(START_LIMIT_S / 0.02)):
        if process.poll() is not None:
            return False
        with contextlib.suppress(OSError, http.client.HTTPException):
            _status(endpoint, "GET", "/")
            return True
        tick.wait(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _status(endpoint: str, method: str, path: str) -> int:
    url = urlsplit(endpoint)
    assert url.hostname is not None
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=5)
    else:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path)
        return connection.getresponse().status
