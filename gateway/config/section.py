"""What every section of the configuration shares, and the section that names a secret's place.

Imports pydantic and the field types.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from gateway.config.fields import CredentialName, FilePath
from gateway.config.scalars import wrong


class Section(BaseModel):
    """What all sections share: frozen, closed to unknown keys, documented in place."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def exactly_one(**given: object) -> None:
    """Raise unless exactly one of the named values is there."""
    there = [name for name, value in given.items() if value is not None]
    names = " or ".join(f"'{name}'" for name in given)
    if len(there) > 1:
        raise wrong(f"has {' and '.join(repr(name) for name in there)}.", f"Keep one: {names}.")
    if not there:
        raise wrong("says neither of its keys.", f"Add {names}.")


class SecretSource(Section):
    """Where a secret comes from: a file, or a credential that systemd hands over."""

    file: FilePath | None = None
    """A file that holds the secret, readable by the gateway alone."""
    credential: CredentialName | None = None
    """The name of a systemd credential (LoadCredential= or LoadCredentialEncrypted=)."""

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        exactly_one(file=self.file, credential=self.credential)
        return self

    def path(self, credentials_dir: Path | None) -> Path | None:
        """Return the file to read; None when it is a credential and systemd handed none over.

        ``credentials_dir`` is what $CREDENTIALS_DIRECTORY names.
        """
        if self.file is not None:
            return self.file
        assert self.credential is not None
        return None if credentials_dir is None else credentials_dir / self.credential
