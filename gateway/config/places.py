"""Addresses of databases and buckets, as the configuration writes them.

Pure: reads text and reaches no server. A text that may hold a password is never quoted. Imports
pydantic's error through ``gateway.config.scalars``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from gateway.config.problems import did_you_mean, shortened
from gateway.config.scalars import wrong

DATABASE_EXAMPLE = "postgresql://sealgate@db.example.org/sealgate"
BUCKET_EXAMPLE = "s3://bucket/sealgate"
ENDPOINT_EXAMPLE = "https://s3.example.org"

POSTGRES_PORT = 5432
CHECKING = ("verify-ca", "verify-full")
"""The ways of TLS that look at the server's certificate."""

_PLAIN = ("disable", "allow", "prefer")
_MODES = (*_PLAIN, "require", *CHECKING)
_DATABASE_REMEDY = f"Write 'sqlite', or an address like '{DATABASE_EXAMPLE}'."
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_PREFIX = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]*/)*")


@dataclass(frozen=True, slots=True)
class DatabasePlace:
    """A PostgreSQL database: ``host`` is a name, an address or the folder of a Unix socket."""

    host: str
    port: int
    user: str
    database: str
    sslmode: str

    @property
    def is_local(self) -> bool:
        """Whether no network lies between this machine and the server."""
        return _is_local(self.host)

    def __str__(self) -> str:
        return f"the database '{self.database}' on {self.host} (port {self.port})"


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A bucket, and the prefix of all keys in it: empty, or with a slash at its end."""

    bucket: str
    prefix: str


def parse_catalog(text: str) -> DatabasePlace | None:
    """Return the database that ``postgresql://USER@HOST/NAME`` names, None for ``sqlite``.

    ``sslmode`` and ``host`` (the folder of a Unix socket) may follow behind a ``?``.
    """
    if text == "sqlite":
        return None
    try:
        parts = urlsplit(text)
        port = POSTGRES_PORT if parts.port is None else parts.port
        extras = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise wrong("is not the address of a database.", _DATABASE_REMEDY) from None
    if parts.scheme not in {"postgresql", "postgres"} or not text.isprintable():
        raise wrong("is not the address of a PostgreSQL database.", _DATABASE_REMEDY)
    if parts.password is not None or any("pass" in name for name, _ in extras):
        remedy = "Take it out, change it, and say in 'catalog_password' where it is."
        raise wrong("holds a password, which everyone who sees this file could use.", remedy)
    options = _options(extras)
    host = _host(parts, options.get("host"))
    user, database = unquote(parts.username or ""), unquote(parts.path.removeprefix("/"))
    if not user or not database or "/" in database or parts.fragment or port == 0:
        raise wrong("must name a user and a database, and no more.", _DATABASE_REMEDY)
    local = _is_local(host)
    sslmode = options.get("sslmode") or ("prefer" if local else "verify-full")
    if sslmode not in _MODES:
        raise wrong(f"{shortened(sslmode)} is no sslmode.", did_you_mean(sslmode, _MODES))
    if sslmode in _PLAIN and not local:
        remedy = "Write 'sslmode=verify-full', or leave it out."
        raise wrong(f"'sslmode={sslmode}' would let the catalog cross the network openly.", remedy)
    return DatabasePlace(host, port, user, database, sslmode)


def parse_blobs(text: str) -> BucketPlace | None:
    """Return the bucket that ``s3://BUCKET/PREFIX`` names, None for ``local``."""
    if text == "local":
        return None
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    remedy = f"Write 'local', or a bucket like '{BUCKET_EXAMPLE}'."
    if scheme != "s3" or not _BUCKET.fullmatch(bucket):
        raise wrong(f"{shortened(text)} is not a bucket.", remedy)
    if prefix:
        prefix = prefix.removesuffix("/") + "/"
    if not _PREFIX.fullmatch(prefix):
        raise wrong(f"{shortened(prefix)} cannot begin the keys of a bucket.", remedy)
    return BucketPlace(bucket, prefix)


def parse_s3_endpoint(text: str) -> str:
    """Return the URL of an object store, without a path; plain http for loopback only."""
    remedy = f"Write one like '{ENDPOINT_EXAMPLE}' (a port may follow)."
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    more = parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in {"https", "http"} or not parts.hostname or port == 0 or more:
        # Not quoted: it may hold a password.
        raise wrong("is not the address of an object store.", remedy)
    if parts.scheme == "http" and not _is_local(parts.hostname):
        raise wrong("would send requests through the network in the clear.", remedy)
    return text.removesuffix("/")


def _options(extras: list[tuple[str, str]]) -> dict[str, str]:
    """Return the parameters behind the ``?``; each at most once, and no others than these."""
    options: dict[str, str] = {}
    for name, value in extras:
        if name not in {"sslmode", "host"}:
            remedy = did_you_mean(name, ("sslmode", "host"))
            raise wrong(f"{shortened(name)} cannot be set here.", remedy)
        if name in options or not value:
            raise wrong(f"'{name}' needs one value.", f"Write '{name}=...' once.")
        options[name] = value
    return options


def _host(parts: SplitResult, folder: str | None) -> str:
    host = parts.hostname or ""
    if folder is None and host and "," not in host and "%" not in host:
        return host
    if folder is None or host or not folder.startswith("/") or "," in folder:
        remedy = "For a Unix socket write 'postgresql://USER@/NAME?host=/run/postgresql'."
        raise wrong("must name one server.", remedy)
    return folder


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
