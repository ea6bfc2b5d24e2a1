"""What storage can refuse or fail at. Imports only the root of the error tree."""

from __future__ import annotations

from gateway.errors import SealgateError


class StorageError(SealgateError):
    """The root of all storage errors."""


class NotFoundError(StorageError):
    """No such node, or no such version."""


class ParentMissingError(NotFoundError):
    """The folder that should hold the new node does not exist."""


class AlreadyExistsError(StorageError):
    """A node of that name exists and the caller asked not to replace it."""


class NotAFolderError(StorageError):
    """The operation needs a folder and the node is a file."""


class IsAFolderError(StorageError):
    """The operation needs a file and the node is a folder."""


class NotEmptyError(StorageError):
    """The folder still has children and the caller asked for an empty one."""


class CrossShareError(StorageError):
    """The operation cannot span two shares."""


class IntoItselfError(StorageError):
    """A folder cannot be moved or copied into itself."""


class ConflictError(StorageError):
    """The node changed since the caller looked (``base`` no longer is the current version)."""


class ChangedMeanwhileError(ConflictError):
    """What a long operation works on was changed under it; it can be tried again."""


class LengthMismatchError(StorageError):
    """Fewer or more bytes arrived than were announced; nothing was committed."""


class QuotaExceededError(StorageError):
    """The share's quota does not hold that much more."""


class StorageFullError(StorageError):
    """The disk or object store under the gateway is full."""


class StorageUnavailableError(StorageError):
    """The catalog or the blob store does not answer, or answered with an I/O error."""


class LimitError(StorageError):
    """A stated limit (size, count, depth) would be exceeded."""


class IntegrityError(StorageError):
    """Sealed data does not verify: edited, cut, swapped, or sealed under another key."""


class KeyUnavailableError(StorageError):
    """A key that is needed is missing, destroyed, or wrapped under another master key."""
