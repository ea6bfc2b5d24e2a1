"""Sealgate: a protocol gateway that puts encrypted-at-rest storage behind WebDAV and SFTP."""
