"""Requests to one S3 bucket by key: how they are made, repeated and explained when they fail.

Knows objects, not blobs: what an answer that was lost means for a blob is decided in
``backends.blobs.s3``. Imports obstore, the storage errors, the
clock's type, and cryptography to read certificates.
"""

from __future__ import annotations

import ipaddress
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from cryptography import x509
from obstore.exceptions import BaseError
from obstore.store import S3Store

from backends.errors import StorageError, StorageFullError, StorageUnavailableError
from gateway.model import SECOND_US, Clock

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, S3Credential

ATTEMPT_LIMIT = 50
"""The most attempts at one request, however short the pauses between them come out."""

FIRST_PAUSE_S, PAUSE_LIMIT_S = 0.1, 10.0
"""Upper ends of the first pause between two attempts and of the longest."""

LISTING_BATCH = 1000
"""How many objects are asked for at once."""

_T = TypeVar("_T")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)*")
# obstore's errors have their text only; tests pin what is read in it.
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_FULL_CODES = frozenset(
    {
        "InsufficientCapacity",
        "QuotaExceeded",
        "StorageQuotaExceeded",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
    }
)
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown"})
_PASSING_STATUS = frozenset({408, 409, 412, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Which bucket, as whom, and for how long to try.

    ``endpoint`` is ``https://HOST[:PORT]``; plain http is for a loopback address only. Objects lie
    under ``prefix``, which is empty or ends in a slash. ``ca_file`` (PEM) is trusted besides the
    system's authorities. No attempt at a request begins later than ``retry_for_s`` after the
    first, and none lasts longer than ``timeout_s``. Raises ValueError for what cannot be right.
    """

    bucket: str
    endpoint: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = "us-east-1"
    prefix: str = ""
    ca_file: Path | None = None
    connect_timeout_s: float = 5.0
    timeout_s: float = 60.0
    retry_for_s: float = 120.0
    upload_limit: int = 8

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ValueError("bucket: not a name that a bucket can have.")
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError("prefix: must be empty or like `backup/sealgate/`.")
        url = urlsplit(self.endpoint)
        if not url.hostname or url.username or url.path.strip("/") or url.query or url.fragment:
            raise ValueError("endpoint: must be like `https://s3.example.org`, without a path.")
        if url.scheme != "https" and not (url.scheme == "http" and _loopback(url.hostname)):
            raise ValueError("endpoint: must begin with `https://` (`http://` on loopback only).")
        if min(self.connect_timeout_s, self.timeout_s) <= 0 or self.upload_limit < 1:
            raise ValueError("Time-outs and the upload limit must be positive.")


@dataclass(frozen=True, slots=True)
class Pacing:
    """Time and chance as the retries see them; tests put their own here."""

    now_us: Clock = lambda: time.monotonic_ns() // 1000
    fraction: Callable[[], float] = random.SystemRandom().random
    pause_s: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a request that failed; ``status`` None: nothing, or not all of it."""

    status: int | None
    code: str
    untrusted: bool

    @classmethod
    def of(cls, error: Exception) -> Answer:
        text = str(error)
        status, code = _STATUS.search(text), _CODE.search(text)
        number = int(status[1]) if status else None
        untrusted = number is None and "InvalidCertificate(" in text
        return cls(number, code[1] if code else "", untrusted)

    @property
    def full(self) -> bool:
        return self.status == 507 or self.code in _FULL_CODES

    @property
    def passing(self) -> bool:
        """Whether the same request may well succeed later."""
        if self.full or self.untrusted or self.status == 501:
            return False
        return (
            self.status is None
            or self.status >= 500
            or self.status in _PASSING_STATUS
            or self.code in _PASSING_CODES
        )

    @property
    def object_missing(self) -> bool:
        return self.status == 404 and self.code != "NoSuchBucket"


class _CutShortError(Exception):
    """Fewer bytes came than the answer itself announced."""


_FAILURES = (BaseError, FileNotFoundError, _CutShortError)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _client(settings: S3Settings) -> S3Store:
    trust: ClientConfig = {}
    if settings.ca_file is not None:
        trust["root_certificate"] = _pem(settings.ca_file)

    def credentials() -> S3Credential:
        return {
            "access_key_id": settings.access_key_id,
            "secret_access_key": settings.secret_access_key,
            "token": None,
            "expires_at": None,
        }

    # obstore takes whatever is not given from AWS_... variables of the environment. Where requests
    # go, as whom, signed and verified how, is said here, so that a stray variable changes nothing.
    return S3Store(
        settings.bucket,
        config={
            "endpoint": settings.endpoint,
            "aws_endpoint_url_s3": settings.endpoint,
            "region": settings.region,
            "virtual_hosted_style_request": False,
            "skip_signature": False,
            "unsigned_payload": False,
            "s3_express": False,
            "conditional_put": "etag",
            # obstore sends even a single key as a bulk delete, and JuiceFS answers that without
            # the keys (test_s3_deletes_one_object_a_request).
            "disable_bulk_delete": True,
        },
        client_options={
            "allow_http": urlsplit(settings.endpoint).scheme == "http",
            "allow_invalid_certificates": False,
            "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
            "timeout": timedelta(seconds=settings.timeout_s),
            **trust,
        },
        # obstore does not repeat a PUT whose answer was lost; see Bucket.persist.
        retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
        credential_provider=credentials,
    )


def _pem(ca_file: Path) -> bytes:
    """Return the certificates in the file; obstore would not say which setting is wrong."""
    try:
        pem = ca_file.read_bytes()
        x509.load_pem_x509_certificates(pem)
    except OSError as error:
        raise StorageUnavailableError(
            f"The object store's `ca_file` cannot be read: {error.strerror}."
        ) from error
    except ValueError as error:
        raise StorageUnavailableError(
            "The object store's `ca_file` holds no PEM certificates."
        ) from error
    return pem


class Bucket:
    """Requests by key: one attempt each, and ``persist`` to repeat them."""

    def __init__(self, settings: S3Settings, pacing: Pacing) -> None:
        self.name = f"Bucket {settings.bucket!r} at {settings.endpoint}"
        self._pacing = pacing
        self._retry_for_s = settings.retry_for_s
        self._client = _client(settings)

    def persist(self, request: Callable[[], _T]) -> _T:
        """Return the result of ``request``, repeating it while that may help.

        The pauses grow exponentially and are drawn from their whole length, so that gateways that
        failed together do not come back together. Raises what the last attempt raised.
        """
        deadline_us = self._pacing.now_us() + round(self._retry_for_s * SECOND_US)
        for attempt in range(ATTEMPT_LIMIT - 1):
            try:
                return request()
            except _FAILURES as error:
                pause_s = min(PAUSE_LIMIT_S, FIRST_PAUSE_S * 2**attempt) * self._pacing.fraction()
                resumed_us = self._pacing.now_us() + round(pause_s * SECOND_US)
                if not Answer.of(error).passing or resumed_us > deadline_us:
                    raise
            self._pacing.pause_s(pause_s)
        return request()

    def put(self, key: str, data: bytes | bytearray, *, conditional: bool) -> None:
        """Write an object; AlreadyExistsError if ``conditional``, honoured, and there is one."""
        obstore.put(
            self._client,
            key,
            data,
            mode="create" if conditional else "overwrite",
            use_multipart=False,
        )

    def get(self, key: str, offset: int, size_bytes: int) -> tuple[int, bytes]:
        """Return the object's size (0: unknown, not beyond ``offset``) and a range of it."""
        try:
            result = obstore.get(
                self._client, key, options={"range": (offset, offset + size_bytes)}
            )
            total_bytes, data = result.meta["size"], result.bytes().to_bytes()
        except BaseError as error:
            if Answer.of(error).status == 416:
                return 0, b""
            raise
        if len(data) != min(size_bytes, total_bytes - offset):
            raise _CutShortError
        return total_bytes, data

    def find(self, key: str, limit_bytes: int) -> bytes | None:
        """Return the object, cut after ``limit_bytes``; None when there is none."""
        try:
            return self.get(key, 0, limit_bytes)[1]
        except FileNotFoundError as error:
            if Answer.of(error).object_missing:
                return None
            raise

    def delete(self, key: str) -> None:
        """Remove an object, if there."""
        try:
            obstore.delete(self._client, key)
        except FileNotFoundError as error:
            if not Answer.of(error).object_missing:
                raise

    def objects(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield key and time of every object under ``prefix``; repeats what fails midway.

        A listing that broke off is taken up after its last key: S3 lists in the order of keys.
        """
        last: str | None = None
        stream: Iterator[Sequence[ObjectMeta]] | None = None

        def batch() -> list[tuple[str, datetime]]:
            nonlocal stream
            try:
                if stream is None:
                    stream = obstore.list(
                        self._client, prefix or None, offset=last, chunk_size=LISTING_BATCH
                    )
                found = next(stream, ())
            except _FAILURES:
                stream = None
                raise
            return [(entry["path"], entry["last_modified"]) for entry in found]

        while entries := self.persist(batch):
            yield from entries
            last = entries[-1][0]

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Turn what a request raises into the storage error that tells an administrator why."""
        try:
            yield
        except _FAILURES as error:
            raise self._storage_error(Answer.of(error)) from error

    def _storage_error(self, answer: Answer) -> StorageError:
        if answer.full:
            return StorageFullError(f"{self.name} is full; free some space or raise its quota.")
        reason = f"status {answer.status}" + (f", {answer.code}" if answer.code else "")
        if answer.untrusted:
            problem = "shows a TLS certificate that is not trusted; see `ca_file`."
        elif answer.status is None:
            problem = "does not answer; check `endpoint`, the network and the object store."
        elif answer.code == "NoSuchBucket":
            problem = "does not exist; make it, or correct `bucket`."
        elif answer.status in {401, 403}:
            problem = (
                f"refuses access ({reason}); check the access key, this machine's clock, and that"
                " the key may list the bucket and get, put and delete its objects."
            )
        else:
            problem = f"failed ({reason}); check `endpoint`, `region` and the object store."
        return StorageUnavailableError(f"{self.name} {problem}")
