"""The table from errors to HTTP and SFTP answers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import auth
import backends
from auth.errors import DirectoryUnavailableError, LoginRefusedError
from backends.errors import ParentMissingError, QuotaExceededError
from gateway import status
from gateway.errors import (
    AuditUnavailableError,
    LockedError,
    LockHolderError,
    LockLimitError,
    SealgateError,
)


def error_classes(root: type[SealgateError] = SealgateError) -> Iterator[type[SealgateError]]:
    yield root
    for subclass in root.__subclasses__():
        yield from error_classes(subclass)


def load_all() -> None:
    for package in (auth, backends):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if ".migrations" not in module.name and ".alembic" not in module.name:
                importlib.import_module(module.name)


def test_every_error_of_the_project_has_an_entry_below_the_root() -> None:
    """No error that the door can raise falls through to the answer that nobody thought of."""
    load_all()
    strays = [
        one.__name__
        for one in error_classes()
        if one is not SealgateError
        and one.__module__ in {"auth.errors", "backends.errors", "gateway.errors"}
        and status.entry_class(one) is SealgateError
    ]
    assert strays == []


def test_an_entry_covers_later_subclasses() -> None:
    """A subclass without an entry is answered as its nearest ancestor."""

    class BurntDownError(QuotaExceededError):
        pass

    assert status.lookup(BurntDownError) == status.lookup(QuotaExceededError)


@pytest.mark.parametrize(
    ("error", "http", "sftp"),
    [
        (LoginRefusedError("password"), 401, 3),
        (DirectoryUnavailableError("down"), 503, 6),
        (AuditUnavailableError("full"), 503, 4),
        (LockedError("bob"), 423, 4),
        (LockHolderError(), 403, 3),
        (LockLimitError("many"), 507, 4),
        (ParentMissingError("gone"), 409, 2),
        (QuotaExceededError("full"), 507, 4),
    ],
)
def test_answers_that_clients_rely_on(error: SealgateError, http: int, sftp: int) -> None:
    """The statuses that change what a client does next are these."""
    assert (status.http_status(error), status.sftp_code(error)) == (http, sftp)
