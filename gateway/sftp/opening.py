"""What an SFTP open means at the door: a pure reading of its flags.

No I/O. Imports only asyncssh's names of the flags.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncssh

from asyncssh.constants import (  # isort: skip
    ACE4_APPEND_DATA,
    ACE4_READ_DATA,
    ACE4_WRITE_DATA,
    FXF_ACCESS_DISPOSITION,
    FXF_APPEND_DATA,
    FXF_CREATE_NEW,
    FXF_CREATE_TRUNCATE,
    FXF_OPEN_OR_CREATE,
    FXF_TRUNCATE_EXISTING,
)


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """What the client asked for, in the door's words.

    ``create``, ``replace`` and ``keep`` are the arguments of ``Door.open_write``. ``append``
    makes every write go to the end, whatever offset the client names.
    """

    read: bool
    write: bool
    create: bool
    replace: bool
    keep: bool
    append: bool

    @property
    def needs_writer(self) -> bool:
        """Whether opening alone may change the tree, so that a write handle is due."""
        return self.write or self.create or not self.keep


def plan_open(pflags: int) -> OpenPlan:
    """Return the plan for the flags of SSH_FXP_OPEN (draft-ietf-secsh-filexfer-02 section 6.3).

    Without READ or WRITE the file is opened for reading. EXCL says nothing without CREAT, and
    APPEND nothing without WRITE.
    """
    write = bool(pflags & asyncssh.FXF_WRITE)
    create = bool(pflags & asyncssh.FXF_CREAT)
    return OpenPlan(
        read=bool(pflags & asyncssh.FXF_READ) or not write,
        write=write,
        create=create,
        replace=not (create and pflags & asyncssh.FXF_EXCL),
        keep=not pflags & asyncssh.FXF_TRUNC,
        append=write and bool(pflags & asyncssh.FXF_APPEND),
    )


def plan_open56(desired_access: int, flags: int) -> OpenPlan:
    """Return the plan for an open of protocol 5 or 6 (draft-ietf-secsh-filexfer-13 8.1.1)."""
    disposition = flags & FXF_ACCESS_DISPOSITION
    append = bool(desired_access & ACE4_APPEND_DATA or flags & FXF_APPEND_DATA)
    write = append or bool(desired_access & ACE4_WRITE_DATA)
    return OpenPlan(
        read=bool(desired_access & ACE4_READ_DATA) or not write,
        write=write,
        create=disposition in {FXF_CREATE_NEW, FXF_CREATE_TRUNCATE, FXF_OPEN_OR_CREATE},
        replace=disposition != FXF_CREATE_NEW,
        keep=disposition not in {FXF_CREATE_TRUNCATE, FXF_TRUNCATE_EXISTING},
        append=append,
    )
