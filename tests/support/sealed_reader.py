"""A second reader of sealed data, written from backends/FORMAT.md alone: the specification's test.

Reads a share from nothing but the key file, the catalog file and the blobs. Imports
``cryptography`` and the standard library, never the project. Refuses with ValueError or
``InvalidTag``. Section numbers are FORMAT.md's.
"""

from __future__ import annotations

import hmac
import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

ReadBlob = Callable[[bytes], bytes]
Row = dict[str, Any]


def require(condition: object, what: str) -> None:
    if not condition:
        raise ValueError(what)


def derive(key: bytes, label: bytes, context: bytes, size: int) -> bytes:
    """Section 1: SP 800-108 in counter mode, written out."""
    fixed = label + b"\0" + context + struct.pack(">I", 8 * size)
    blocks = (hmac.digest(key, struct.pack(">I", i) + fixed, "sha256") for i in range(1, 9))
    return b"".join(blocks)[:size]


def read_master_keys(text: str) -> dict[str, bytes]:
    """Section 1: the key file, as keys by their ids."""
    keys: dict[str, bytes] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        word, digits = line.split(" ")
        require(word == "SEALGATE-MASTER-KEY-1" and len(digits) == 64, "not a master key")
        key = bytes.fromhex(digits)
        key_id = derive(key, b"sealgate master key id", b"", 8).hex()
        require(key_id not in keys, "a key twice")
        keys[key_id] = key
    require(1 <= len(keys) <= 4, "no key or too many")
    return keys


def open_key(master: bytes, purpose: bytes, context: bytes, wrapped: bytes) -> bytes:
    """Section 1: a wrapped key, which opens in its own place only."""
    return aes_key_unwrap(derive(master, b"sealgate wrap " + purpose, context, 32), wrapped)


def chunks_of(sealed_size: int) -> tuple[int, int]:
    """Section 3: how many chunks a segment has, and the sealed size of the last."""
    body = sealed_size - 128
    count = -(-body // 65552)
    last = body - (count - 1) * 65552
    require(1 <= count <= 256 and last >= 16 and (last > 16 or count == 1), "cut or extended")
    return count, last


def open_segment(key: bytes, share: bytes, epoch: int, segment: bytes, sealed: bytes) -> bytes:
    """Sections 2 and 3: all plaintext of one segment."""
    header, body = sealed[:128], sealed[128:]
    start = b"SEALGATE" + struct.pack(">BBHI", 1, 1, 0, 65536) + share + struct.pack(">I", epoch)
    require(header[:52] == start + segment and header[116:] == bytes(12), "another segment")
    derived = derive(key, b"sealgate segment v1", header[52:84] + segment, 64)
    require(hmac.compare_digest(derived[32:], header[84:116]), "another epoch key")
    count, _ = chunks_of(len(sealed))
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


def mac(key: bytes, purpose: str, data: bytes) -> bytes:
    """Sections 7 and 8: a MAC."""
    return hmac.digest(derive(key, f"sealgate mac {purpose}".encode(), b"", 32), data, "sha256")


def require_mac(key: bytes, purpose: str, data: bytes, tag: bytes) -> None:
    require(hmac.compare_digest(mac(key, purpose, data), tag), "edited row")


def manifest(row: Row, digest: bytes | None, extents: list[tuple[int, int, bytes, int]]) -> bytes:
    """Section 7: what the MAC of a version covers."""
    author, ids = row["author"].encode(), (row["id"], row["node_id"], row["share_id"])
    require(all(len(each) == 16 for each in ids), "an id of another length")
    return b"".join(
        (
            *ids,
            struct.pack(">IQQQ", row["epoch"], row["size_bytes"], row["created_us"], len(extents)),
            struct.pack(">H", len(author)) + author,
            bytes(33) if digest is None else b"\1" + digest,
            struct.pack(">B", row["inline_sealed"] is not None),
            *(struct.pack(">QQ16sI", *extent) for extent in extents),
        )
    )


def node_text(row: Row) -> bytes:
    """Section 8: what the MAC of a node covers."""
    created_by, deleted_by = row["created_by"].encode(), (row["deleted_by"] or "").encode()
    times = row["created_us"], row["modified_us"]
    deleted_us = -1 if row["deleted_us"] is None else row["deleted_us"]
    lengths = len(row["name_sealed"]), len(created_by), len(deleted_by)
    ids = (row["id"], row["share_id"], row["parent_id"], row["version_id"] or bytes(16))
    require(all(len(each) == 16 for each in ids), "an id of another length")
    head = b"".join(ids[:3]) + struct.pack(">B", row["is_folder"]) + ids[3]
    head += struct.pack(">QqqqHHH", row["size_bytes"], *times, deleted_us, *lengths)
    return b"".join((head, row["name_sealed"], created_by, deleted_by))


def framed(purpose: bytes, *fields: bytes) -> bytes:
    """Section 8: fields with their lengths before them."""
    return b"".join(struct.pack(">Q", len(field)) + field for field in (purpose, *fields))


def tagged_text(table: str, row: Row) -> bytes:
    """Section 8: what the MAC of an unfinished upload or a vacated name covers."""
    fields: list[bytes] = []
    for value in (value for name, value in row.items() if name != "mac"):
        number = struct.pack(">q", value) if isinstance(value, int) else b""
        fields.append(value.encode() if isinstance(value, str) else number or value)
    return framed(table.encode(), *fields)


def element(name_key: bytes, data: bytes) -> int:
    """Section 8: what a row adds to the digest of its share."""
    return int.from_bytes(mac(name_key, "element", data), "big")


def open_state(name_key: bytes, row: Row) -> tuple[int, int, int, int]:
    """Section 8: digest, bytes used, nodes and epoch of a share; the row must agree."""
    place = framed(b"share", row["id"], row["root_id"], row["name"].encode())
    key = derive(name_key, b"sealgate state share", b"", 64)
    plain = AESSIV(key).decrypt(row["state_sealed"], [place])
    digest, *counters = struct.unpack(">32sQQI", plain)
    require(counters == [row["used_bytes"], row["node_count"], row["epoch"]], "edited row")
    return int.from_bytes(digest, "big"), counters[0], counters[1], counters[2]


@dataclass(frozen=True, slots=True)
class Share:
    """One share of an open catalog."""

    catalog: sqlite3.Connection
    master: bytes
    row: Row
    name_key: bytes
    blob: ReadBlob

    def rows(self, statement: str, *values: object) -> list[Row]:
        return [dict(row) for row in self.catalog.execute(statement, values)]

    def epoch_key(self, epoch: int) -> bytes:
        """Section 1: the key of one epoch."""
        found = self.rows(
            "SELECT * FROM epochs WHERE share_id = ? AND epoch = ?", self.row["id"], epoch
        )
        context = self.row["id"] + struct.pack(">I", epoch)
        return open_key(self.master, b"epoch", context, found[0]["key_wrapped"])

    def tree(self) -> Iterator[tuple[str, Row]]:
        """Yield path and row of every live node, each MAC and name verified."""
        (root,) = self.rows("SELECT * FROM nodes WHERE id = ?", self.row["root_id"])
        require(root["parent_id"] == self.row["id"], "another root")
        waiting = [("/" + self.row["name"], root)]
        while waiting:
            path, row = waiting.pop()
            require_mac(self.name_key, "node", node_text(row), row["mac"])
            yield path, row
            inside = "SELECT * FROM nodes WHERE parent_id = ? AND deleted_us IS NULL"
            for child in self.rows(inside, row["id"]):
                name = open_name(self.name_key, row["id"], child["name_sealed"])
                waiting.append((f"{path}/{name}", child))

    def verified(self, version: Row) -> list[tuple[int, int, bytes, int]]:
        """Section 7: the extents of a version, its manifest verified."""
        chosen = "SELECT block_start, block_count, segment_id, chunk_start FROM extents"
        chosen += " WHERE version_id = ? ORDER BY block_start"
        extents = [tuple(row) for row in self.catalog.execute(chosen, [version["id"]])]
        key, sealed, digest = self.epoch_key(version["epoch"]), version["sha256_sealed"], None
        if sealed is not None:
            digest = open_record(key, "version", b"sha256" + version["id"], sealed)
        require_mac(key, "manifest", manifest(version, digest, extents), version["mac"])
        return extents

    def read(self, version: Row) -> bytes:
        """Section 4: the content of a version."""
        extents, share, epoch = self.verified(version), version["share_id"], version["epoch"]
        if version["inline_sealed"] is not None:
            key = self.epoch_key(epoch)
            return open_segment(key, share, epoch, version["id"], version["inline_sealed"])
        content = bytearray(version["size_bytes"])
        for block_start, block_count, segment, chunk_start in extents:
            (found,) = self.rows("SELECT * FROM segments WHERE id = ?", segment)
            key, number = self.epoch_key(found["epoch"]), found["epoch"]
            plain = open_segment(key, share, number, segment, self.blob(segment))
            first, end = block_start * 65536, (block_start + block_count) * 65536
            part = plain[chunk_start * 65536 :][: min(end, len(content)) - first]
            content[first : first + len(part)] = part
        return bytes(content)

    def versions(self, node_id: bytes) -> list[Row]:
        """Return the versions of a node, newest first."""
        chosen = "SELECT * FROM versions WHERE node_id = ? ORDER BY created_us DESC, id DESC"
        return self.rows(chosen, node_id)

    def current(self, node: Row) -> bytes:
        """Return the content that a node has now."""
        found = [row for row in self.versions(node["id"]) if row["id"] == node["version_id"]]
        require(found and found[0]["size_bytes"] == node["size_bytes"], "edited row")
        return self.read(found[0])

    def verify_rows(self) -> None:
        """Section 8: every row that something vouches for, and the digest over them."""
        digest, used_bytes, node_count, _ = open_state(self.name_key, self.row)
        nodes = self.rows("SELECT * FROM nodes WHERE share_id = ?", self.row["id"])
        versions = self.rows("SELECT * FROM versions WHERE share_id = ?", self.row["id"])
        for row in nodes:
            require_mac(self.name_key, "node", node_text(row), row["mac"])
        for row in versions:
            self.verified(row)
        total = sum(element(self.name_key, row["mac"]) for row in (*nodes, *versions))
        for row in self.rows("SELECT * FROM properties"):
            if row["node_id"] in {node["id"] for node in nodes}:
                data = framed(b"properties", row["node_id"], row["properties_sealed"])
                total += element(self.name_key, data)
        require(total % 2**256 == digest, "a row was dropped, added or put back")
        require(sum(row["size_bytes"] for row in versions) == used_bytes, "another size")
        require(len(nodes) - 1 == node_count, "another number of nodes")
        for row in self.rows("SELECT * FROM unfinished WHERE share_id = ?", self.row["id"]):
            require_mac(self.name_key, "row", tagged_text("unfinished", row), row["mac"])


def open_share(key_file: Path, catalog_file: Path, blob: ReadBlob, name: str) -> Share:
    """Return the share of that name; close its catalog after use."""
    keys = read_master_keys(key_file.read_text("ascii"))
    catalog = sqlite3.connect(f"file:{catalog_file}?mode=ro", uri=True)
    catalog.row_factory = sqlite3.Row
    try:
        (key_id,) = catalog.execute("SELECT value FROM meta WHERE key = 'master_key_id'").fetchone()
        require(key_id.decode() in keys, "another master key")
        row = dict(catalog.execute("SELECT * FROM shares WHERE name = ?", [name]).fetchone())
        master = keys[key_id.decode()]
        share = Share(
            catalog,
            master,
            row,
            open_key(master, b"names", row["id"], row["name_key_wrapped"]),
            blob,
        )
        open_state(share.name_key, row)
    except BaseException:
        catalog.close()
        raise
    return share


def read_file(key_file: Path, catalog_file: Path, blob: ReadBlob, path: str) -> bytes:
    """Return the content of the file at ``/share/folder/…/name``."""
    share = open_share(key_file, catalog_file, blob, path.split("/")[1])
    try:
        return next(share.current(row) for found, row in share.tree() if found == path)
    finally:
        share.catalog.close()
