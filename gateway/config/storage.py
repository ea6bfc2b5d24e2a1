"""The configuration's ``storage`` section: which drivers keep the catalog and the segments.

Shapes and rules only; the drivers are chosen in ``gateway.app``. Imports pydantic and the field
types.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from gateway.config.fields import FilePath, FromText, Line
from gateway.config.places import (
    BUCKET_EXAMPLE,
    CHECKING,
    DATABASE_EXAMPLE,
    ENDPOINT_EXAMPLE,
    BucketPlace,
    DatabasePlace,
    parse_blobs,
    parse_catalog,
    parse_s3_endpoint,
)
from gateway.config.scalars import wrong
from gateway.config.section import SecretSource, Section


class S3Config(Section):
    """How the object store of ``blobs`` is reached."""

    endpoint: Annotated[str, FromText(parse_s3_endpoint, ENDPOINT_EXAMPLE)]
    """The address of the object store, without the bucket: "https://s3.example.org"."""
    region: Line = "us-east-1"
    """The region that requests are signed for; most stores other than Amazon's ignore it."""
    access_key: SecretSource
    """Where the id of the access key is."""
    secret_key: SecretSource
    """Where the secret of the access key is."""
    ca_file: FilePath | None = None
    """A certificate authority that is trusted besides the system's, in PEM form."""


class StorageConfig(Section):
    """Where everything is kept."""

    data_dir: FilePath
    """The folder of the catalog and of the sealed content, as far as they are not elsewhere."""
    catalog: Annotated[DatabasePlace, FromText(parse_catalog, DATABASE_EXAMPLE)] | None = None
    """The database of the catalog: "sqlite" (in data_dir; the default) or an address like
    "postgresql://sealgate@db.example.org/sealgate"."""
    catalog_password: SecretSource | None = None
    """Where the password of the database's user is; none is sent when left out."""
    catalog_ca_file: FilePath | None = None
    """The certificate authority of the database's server, in PEM form."""
    blobs: Annotated[BucketPlace, FromText(parse_blobs, BUCKET_EXAMPLE)] | None = None
    """Where sealed segments lie: "local" (in data_dir; the default) or a bucket and a prefix in an
    object store, like "s3://bucket/sealgate"."""
    s3: S3Config | None = None
    """How the object store is reached."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.catalog is None:
            for key in ("catalog_password", "catalog_ca_file"):
                if getattr(self, key) is not None:
                    remedy = f"Name the database in 'catalog', or remove '{key}'."
                    raise wrong(f"has '{key}' without a PostgreSQL 'catalog'.", remedy)
        elif self.catalog.sslmode in CHECKING and self.catalog_ca_file is None:
            remedy = (
                "Add 'catalog_ca_file': the authority that issued the server's certificate, or"
                " /etc/ssl/certs/ca-certificates.crt for the system's own."
            )
            raise wrong(f"'sslmode={self.catalog.sslmode}' needs 'catalog_ca_file'.", remedy)
        if self.blobs is None and self.s3 is not None:
            remedy = "Name the bucket in 'blobs', or remove 's3'."
            raise wrong("has 's3' without a bucket in 'blobs'.", remedy)
        if self.blobs is not None and self.s3 is None:
            raise wrong("has a bucket in 'blobs' without 's3'.", "Add 's3' with its endpoint.")
        return self
