"""One table: what each error of the project is in HTTP and in SFTP.

Holds no message texts and no wording of answers; the front ends write those. Imports only the
three error modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from auth import errors as auth_errors
from backends import errors as storage_errors
from gateway import errors

# SFTP status codes of version 3 (draft-ietf-secsh-filexfer-02 section 7), as plain numbers:
# asyncssh, which names them too, stays behind its own fence.
SFTP_EOF: Final = 1
SFTP_NO_SUCH_FILE: Final = 2
SFTP_PERMISSION_DENIED: Final = 3
SFTP_FAILURE: Final = 4
SFTP_BAD_MESSAGE: Final = 5
SFTP_NO_CONNECTION: Final = 6
SFTP_CONNECTION_LOST: Final = 7
SFTP_OP_UNSUPPORTED: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """How one class of error reads on the wire: an HTTP status and an SFTP status code."""

    http: int
    sftp: int


_TABLE: Final[dict[type[BaseException], Answer]] = {
    errors.SealgateError: Answer(500, SFTP_FAILURE),
    errors.InvalidPathError: Answer(400, SFTP_NO_SUCH_FILE),
    errors.DeniedError: Answer(403, SFTP_PERMISSION_DENIED),
    errors.SessionEndedError: Answer(401, SFTP_CONNECTION_LOST),
    errors.LockedError: Answer(423, SFTP_FAILURE),
    errors.LockTokenError: Answer(409, SFTP_FAILURE),
    errors.LockLimitError: Answer(507, SFTP_FAILURE),
    errors.AuditUnavailableError: Answer(503, SFTP_FAILURE),
    auth_errors.AuthError: Answer(401, SFTP_PERMISSION_DENIED),
    auth_errors.LoginRefusedError: Answer(401, SFTP_PERMISSION_DENIED),
    # Not 401: another password would help no more than this one, and a drive would ask for it.
    auth_errors.SessionLimitError: Answer(503, SFTP_NO_CONNECTION),
    auth_errors.LoginBusyError: Answer(503, SFTP_NO_CONNECTION),
    auth_errors.DirectoryUnavailableError: Answer(503, SFTP_NO_CONNECTION),
    auth_errors.DirectoryConfigError: Answer(500, SFTP_FAILURE),
    storage_errors.StorageError: Answer(500, SFTP_FAILURE),
    storage_errors.NotFoundError: Answer(404, SFTP_NO_SUCH_FILE),
    storage_errors.ParentMissingError: Answer(409, SFTP_NO_SUCH_FILE),
    # Overwrite: F on COPY and MOVE; MKCOL, which has its own status for it, says 405 itself.
    storage_errors.AlreadyExistsError: Answer(412, SFTP_FAILURE),
    storage_errors.NotAFolderError: Answer(409, SFTP_FAILURE),
    storage_errors.IsAFolderError: Answer(405, SFTP_FAILURE),
    storage_errors.NotEmptyError: Answer(409, SFTP_FAILURE),
    # RFC 4918 section 9.9.4: the destination's namespace does not take the resource.
    storage_errors.CrossShareError: Answer(502, SFTP_FAILURE),
    storage_errors.IntoItselfError: Answer(403, SFTP_FAILURE),
    storage_errors.ConflictError: Answer(412, SFTP_FAILURE),
    storage_errors.ChangedMeanwhileError: Answer(409, SFTP_FAILURE),
    storage_errors.LengthMismatchError: Answer(400, SFTP_FAILURE),
    storage_errors.QuotaExceededError: Answer(507, SFTP_FAILURE),
    storage_errors.StorageFullError: Answer(507, SFTP_FAILURE),
    storage_errors.StorageUnavailableError: Answer(503, SFTP_FAILURE),
    # Finder shows "too big" for 413; any 5xx but 507 it takes for "not found".
    storage_errors.LimitError: Answer(413, SFTP_FAILURE),
    storage_errors.IntegrityError: Answer(500, SFTP_FAILURE),
    storage_errors.KeyUnavailableError: Answer(500, SFTP_FAILURE),
}


def answer_for(error: errors.SealgateError) -> Answer:
    """Return the table's entry for ``error``: its own class's, else its nearest ancestor's."""
    return lookup(type(error))


def lookup(error_class: type[errors.SealgateError]) -> Answer:
    """Return the entry of ``error_class``, else that of its nearest ancestor in the table."""
    return _TABLE[entry_class(error_class)]


def entry_class(error_class: type[errors.SealgateError]) -> type[BaseException]:
    """Return the class whose entry answers for ``error_class``: itself or its nearest ancestor."""
    return next(ancestor for ancestor in error_class.__mro__ if ancestor in _TABLE)


def http_status(error: errors.SealgateError) -> int:
    """Return the HTTP status for ``error``."""
    return answer_for(error).http


def sftp_code(error: errors.SealgateError) -> int:
    """Return the SFTP version 3 status code for ``error``."""
    return answer_for(error).sftp
