"""A second reader of sealed data, written from backends/FORMAT.md alone: the specification's test.

Reads a share's file from nothing but the key file, the catalog file and the blob folder. Imports
``cryptography`` and the standard library, never the project. Refuses with ValueError or
``InvalidTag``. Section numbers are FORMAT.md's.
"""

from __future__ import annotations

import hmac
import sqlite3
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

ReadBlob = Callable[[bytes], bytes]


def require(condition: object, what: str) -> None:
    if not condition:
        raise ValueError(what)


def derive(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Section 1: SP 800-108 in counter mode, written out."""
    fixed = label + b"\0" + context + struct.pack(">I", 8 * size)
    blocks = (hmac.digest(key, struct.pack(">I", i) + fixed, "sha256") for i in range(1, 9))
    return b"".join(blocks)[:size]


def read_master_key(text: str) -> bytes:
    """Section 1: the key file."""
    word, digits = text.split()
    require(word == "SEALGATE-MASTER-KEY-1" and len(digits) == 64, "not a master key")
    return bytes.fromhex(digits)


def open_key(master: bytes, purpose: bytes, context: bytes, wrapped: bytes) -> bytes:
    """Section 1: a wrapped key, which opens in its own place only."""
    return aes_key_unwrap(derive(master, b"sealgate wrap " + purpose, context, 32), wrapped)


def open_segment(key: bytes, share: bytes, epoch: int, segment: bytes, sealed: bytes) -> bytes:
    """Sections 2 and 3: all plaintext of one segment."""
    header, body = sealed[:128], sealed[128:]
    start = b"SEALGATE" + struct.pack(">BBHI", 1, 1, 0, 65536) + share + struct.pack(">I", epoch)
    require(header[:52] == start + segment and header[116:] == bytes(12), "another segment")
    derived = derive(key, b"sealgate segment v1", header[52:84] + segment, 64)
    require(hmac.compare_digest(derived[32:], header[84:116]), "another epoch key")
    count = -(-len(body) // 65552)
    last = len(body) - (count - 1) * 65552
    require(1 <= count <= 256 and last >= 16 and (last > 16 or count == 1), "cut or extended")
    aead, plain = AESGCM(derived[:32]), []
    for index in range(count):
        place = struct.pack(">IB", index, index == count - 1)
        chunk = body[index * 65552 : (index + 1) * 65552]
        plain.append(aead.decrypt(bytes(7) + place, chunk, sha256(header).digest() + place))
    return b"".join(plain)


def open_record(key: bytes, purpose: str, context: bytes, sealed: bytes) -> bytes:
    """Section 5: a sealed record."""
    record_key = derive(key, f"sealgate record {purpose}".encode(), b"", 32)
    return AESGCM(record_key).decrypt(sealed[:12], sealed[12:], context)


def open_name(name_key: bytes, parent: bytes, sealed: bytes) -> str:
    """Section 5: a sealed name."""
    return AESSIV(name_key).decrypt(sealed, [parent]).decode()


def epoch_key(catalog: sqlite3.Connection, master: bytes, share: bytes, epoch: int) -> bytes:
    """Section 1: the key of a share's epoch."""
    statement = "SELECT key_wrapped FROM epochs WHERE share_id = ? AND epoch = ?"
    wrapped = catalog.execute(statement, [share, epoch]).fetchone()[0]
    return open_key(master, b"epoch", share + struct.pack(">I", epoch), wrapped)


def read_version(
    catalog: sqlite3.Connection, master: bytes, version: bytes, node: bytes, blob: ReadBlob
) -> bytes:
    """Sections 4 and 7: the content of one version, its manifest verified first."""
    share, epoch, size, hash_sealed, created_us, author, inline, mac = catalog.execute(
        "SELECT share_id, epoch, size_bytes, sha256_sealed, created_us, author, inline_sealed,"
        " mac FROM versions WHERE id = ?",
        [version],
    ).fetchone()
    extents = catalog.execute(
        "SELECT block_start, block_count, segment_id, chunk_start FROM extents"
        " WHERE version_id = ? ORDER BY block_start",
        [version],
    ).fetchall()
    key = epoch_key(catalog, master, share, epoch)
    manifest = version + node + share + struct.pack(">IQQQ", epoch, size, created_us, len(extents))
    manifest += struct.pack(">H", len(author.encode())) + author.encode()
    if hash_sealed is None:
        manifest += bytes(33)
    else:
        manifest += b"\1" + open_record(key, "version", b"sha256" + version, hash_sealed)
    manifest += struct.pack(">B", inline is not None)
    manifest += b"".join(struct.pack(">QQ16sI", *extent) for extent in extents)
    mac_key = derive(key, b"sealgate mac manifest", b"", 32)
    require(hmac.compare_digest(hmac.digest(mac_key, manifest, "sha256"), mac), "edited row")
    if inline is not None:
        return open_segment(key, share, epoch, version, inline)
    content = bytearray(size)
    for block_start, block_count, segment, chunk_start in extents:
        segment_epoch = catalog.execute("SELECT epoch FROM segments WHERE id = ?", [segment])
        number = segment_epoch.fetchone()[0]
        key = epoch_key(catalog, master, share, number)
        plain = open_segment(key, share, number, segment, blob(segment))
        first, end = block_start * 65536, min(size, (block_start + block_count) * 65536)
        part = plain[chunk_start * 65536 :][: end - first]
        content[first : first + len(part)] = part
    return bytes(content)


def read_file(key_file: Path, catalog_file: Path, blob: ReadBlob, path: str) -> bytes:
    """Return the content of the file at ``/share/folder/…/name``."""
    master = read_master_key(key_file.read_text("ascii"))
    catalog = sqlite3.connect(f"file:{catalog_file}?mode=ro", uri=True)
    try:
        share, *names = path.strip("/").split("/")
        share_id, node, wrapped = catalog.execute(
            "SELECT id, root_id, name_key_wrapped FROM shares WHERE name = ?", [share]
        ).fetchone()
        name_key, version = open_key(master, b"names", share_id, wrapped), b""
        for name in names:
            rows = catalog.execute(
                "SELECT id, version_id, name_sealed FROM nodes"
                " WHERE parent_id = ? AND deleted_us IS NULL",
                [node],
            ).fetchall()
            node, version = next(
                (row[0], row[1]) for row in rows if open_name(name_key, node, row[2]) == name
            )
        return read_version(catalog, master, version, node, blob)
    finally:
        catalog.close()
