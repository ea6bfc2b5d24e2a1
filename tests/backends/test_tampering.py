"""Someone writes to the blob store: every change to a segment is noticed before a wrong byte leaves.

The error names share, node and segment, and so does the audit record of a read through the door.
What is done to the catalog is in ``test_catalog_tampering``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backends.blobs.memory import MemoryBlobStore
from backends.errors import IntegrityError, KeyUnavailableError, StorageError
from backends.rotation import rotate_share
from gateway.model import SECOND_US
from tests.backends.world import BLOCK, World, running_world, sample
from tests.door.support import FILE, Gate, at, get, open_gate, prepare_catalog, put

HEADER, SEALED = 128, BLOCK + 16
PLAIN = sample(3 * BLOCK + 100)
COUNT = 4
SIZE = HEADER + 3 * SEALED + 116

Change = Callable[[bytes], bytes]


def flipped(place: int) -> Change:
    """Return the change that turns one bit of the byte at ``place``."""

    def change(data: bytes) -> bytes:
        return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]

    return change


def kept(size: int) -> Change:
    return lambda data: data[:size]


def chunk(data: bytes, index: int) -> bytes:
    start = HEADER + index * SEALED
    return data[start : start + SEALED]


def with_chunks(*order: int) -> Change:
    """Return the change after which these chunks follow the header."""
    return lambda data: data[:HEADER] + b"".join(chunk(data, index) for index in order)


def around(boundary: int) -> tuple[int, ...]:
    return boundary - 1, boundary, boundary + 1


CHANGES: dict[str, Change] = {
    **{f"header byte {place}": flipped(place) for place in range(HEADER)},
    **{
        f"chunk {index} byte {place}": flipped(HEADER + index * SEALED + place)
        for index, size in enumerate([SEALED] * 3 + [116])
        for place in (0, size // 2, size - 17, size - 16, size - 1)
    },
    **{
        f"cut to {size}": kept(size)
        for boundary in (0, 1, 2, 3)
        for size in around(HEADER + boundary * SEALED)
    },
    **{f"cut to {size}": kept(size) for size in (0, 1, 64, 143, 144, SIZE - 16, SIZE - 1)},
    "a byte more": lambda data: data + b"\0",
    "an empty chunk more": lambda data: data + bytes(16),
    "the last chunk again": with_chunks(0, 1, 2, 3, 3),
    "a full chunk more": with_chunks(0, 1, 2, 3, 0),
    "filled up to a full chunk": lambda data: data + bytes(BLOCK - 100),
    "a whole segment more": lambda data: data + data,
    "chunk 0 twice": with_chunks(0, 0, 2, 3),
    "chunk 2 twice": with_chunks(0, 1, 2, 2),
    "chunks 0 and 1 swapped": with_chunks(1, 0, 2, 3),
    "chunks 1 and 2 swapped": with_chunks(0, 2, 1, 3),
    "the last chunk first": with_chunks(3, 1, 2, 0),
    "chunk 1 dropped": with_chunks(0, 2, 3),
    "nothing but zeros": lambda data: bytes(len(data)),
}


@dataclass
class Stored:
    """A vault with the files that the tests change segments of; each test mends what it broke."""

    world: World
    ids: dict[str, bytes]
    nodes: dict[str, bytes]

    def data(self, name: str) -> bytes:
        return self.world.store.read(self.ids[name], 0, 1 << 30)

    @contextlib.contextmanager
    def replaced(self, name: str, data: bytes) -> Iterator[None]:
        """Put other bytes into the segment of a file for a while."""
        right = self.data(name)
        put_blob(self.world.store, self.ids[name], data)
        try:
            yield
        finally:
            put_blob(self.world.store, self.ids[name], right)


def put_blob(store: MemoryBlobStore, blob_id: bytes, data: bytes) -> None:
    store.delete(blob_id)
    store.keep(blob_id, data)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Two files in one share, one in another, one of two versions, and one of a later epoch."""
    with running_world(tmp_path_factory.mktemp("stored")) as world:
        ids: dict[str, bytes] = {}

        def write(name: str, path: str, content: bytes) -> None:
            before = {blob_id for blob_id, _ in world.store.listing()}
            world.write(path, content)
            (ids[name],) = {blob_id for blob_id, _ in world.store.listing()} - before

        write("file", "/docs/file", PLAIN)
        write("twin", "/docs/twin", PLAIN)
        write("other share", "/kept/file", PLAIN)
        write("older version", "/docs/changed", PLAIN)
        world.clock.now_us += SECOND_US
        write("changed", "/docs/changed", PLAIN[::-1])
        with world.catalog.begin() as tx:
            share = world.vault.share(tx, "docs")
            rotate_share(tx, world.master, share.row, world.clock(), world.random_bytes)
        write("other epoch", "/docs/later", PLAIN)
        with world.catalog.snapshot() as tx:
            nodes = {name: world.node(tx, f"/docs/{name}").id for name in ("file", "changed")}
        yield Stored(world, ids, nodes)


def read_with_care(world: World, path: str, expected: bytes) -> StorageError | None:
    """Read a file block by block; return what stopped that.

    Whatever came before must be right: no byte that did not verify may ever be seen.
    """
    try:
        with world.catalog.snapshot() as tx:
            content = world.vault.open_content(tx, world.node(tx, path))
    except StorageError as error:
        return error
    found: StorageError | None = None
    for size in (BLOCK // 2, len(expected)):
        for start in range(0, len(expected), size):
            try:
                data = content.read_at(start, size)
            except StorageError as error:
                found = error
            else:
                assert data == expected[start : start + size], start
    return found


def share_id(world: World, name: str = "docs") -> str:
    with world.catalog.snapshot() as tx:
        return world.vault.share(tx, name).id.hex()


def require_named(stored: Stored, name: str, error: StorageError | None) -> None:
    """The error is one of integrity and says which share, which node and which segment."""
    assert isinstance(error, IntegrityError)
    for each in (share_id(stored.world), stored.nodes[name].hex(), stored.ids[name].hex()):
        assert each in str(error), str(error)


def test_untouched_segments_open(stored: Stored) -> None:
    """The other tests of this file fail for their own reason."""
    assert len(stored.data("file")) == SIZE
    assert read_with_care(stored.world, "/docs/file", PLAIN) is None
    assert read_with_care(stored.world, "/docs/changed", PLAIN[::-1]) is None


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_segment_is_refused(stored: Stored, change: str) -> None:
    """Every byte of the header, bits of every chunk, cuts, extensions, repeated and moved chunks."""
    right = stored.data("file")
    wrong = CHANGES[change](right)
    assert wrong != right
    with stored.replaced("file", wrong):
        error = read_with_care(stored.world, "/docs/file", PLAIN)
    require_named(stored, "file", error)
    assert read_with_care(stored.world, "/docs/file", PLAIN) is None


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("file", "twin"),
        ("file", "other share"),
        ("file", "other epoch"),
        ("changed", "older version"),
        ("changed", "file"),
    ],
)
def test_another_segment_in_its_place_is_refused(stored: Stored, name: str, source: str) -> None:
    """Of the same share, of another share or epoch, or of an older version of the file."""
    expected = PLAIN if name == "file" else PLAIN[::-1]
    with stored.replaced(name, stored.data(source)):
        error = read_with_care(stored.world, f"/docs/{name}", expected)
    require_named(stored, name, error)
    assert "swapped" in str(error)


@pytest.mark.parametrize("source", ["twin", "other share", "other epoch", "older version"])
@pytest.mark.parametrize("part", ["header", "chunks", "one chunk", "salt and commitment"])
def test_parts_of_another_segment_are_refused(stored: Stored, source: str, part: str) -> None:
    """Its header over these chunks, its chunks under this header, one of its chunks."""
    mine, other = stored.data("file"), stored.data(source)
    with stored.replaced(
        "file",
        {
            "header": other[:HEADER] + mine[HEADER:],
            "chunks": mine[:HEADER] + other[HEADER:],
            "one chunk": mine[:HEADER] + chunk(other, 0) + mine[HEADER + SEALED :],
            "salt and commitment": mine[:52] + other[52:],
        }[part],
    ):
        error = read_with_care(stored.world, "/docs/file", PLAIN)
    require_named(stored, "file", error)


def test_segments_that_were_exchanged_are_refused(stored: Stored) -> None:
    """Each blob under the other's id: neither file opens."""
    with (
        stored.replaced("file", stored.data("changed")),
        stored.replaced("changed", stored.data("twin")),
    ):
        for name, plain in (("file", PLAIN), ("changed", PLAIN[::-1])):
            require_named(stored, name, read_with_care(stored.world, f"/docs/{name}", plain))


def test_a_segment_that_is_gone_is_refused(stored: Stored) -> None:
    """Missing is wrong too: the catalog says that it is there."""
    right = stored.data("file")
    stored.world.store.delete(stored.ids["file"])
    error = read_with_care(stored.world, "/docs/file", PLAIN)
    stored.world.store.keep(stored.ids["file"], right)
    require_named(stored, "file", error)


def test_damage_after_the_first_read_is_refused(stored: Stored) -> None:
    """Nothing of a segment is believed because its header was right a moment ago."""
    world, right = stored.world, stored.data("file")
    with world.catalog.snapshot() as tx:
        content = world.vault.open_content(tx, world.node(tx, "/docs/file"))
    assert content.read_at(0, 10) == PLAIN[:10]
    for change in (
        flipped(HEADER + SEALED + 5),
        kept(HEADER + SEALED + 5),
        with_chunks(0, 2, 1, 3),
    ):
        with stored.replaced("file", change(right)), pytest.raises(IntegrityError):
            content.read_at(BLOCK, 10)
    assert content.read_at(BLOCK, 10) == PLAIN[BLOCK : BLOCK + 10]


# The audit trail


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gateway with one file in a segment."""
    folder = tmp_path / "data"
    folder.mkdir()
    prepare_catalog(folder)
    with open_gate(folder) as opened:
        put(opened.door("alice"), FILE, PLAIN)
        opened.new_records()
        yield opened


@pytest.mark.parametrize("place", [0, 60, HEADER, SIZE - 1])
def test_damage_is_in_the_audit_trail(gate: Gate, place: int) -> None:
    """The read that met it is recorded as failed, with the node; the note names the segment."""
    ((segment_id, _),) = gate.blobs.listing()
    right = gate.blobs.read(segment_id, 0, 1 << 30)
    put_blob(gate.blobs, segment_id, flipped(place)(right))
    node_id = gate.sql("SELECT hex(id) FROM nodes WHERE is_folder = 0")[0][0].lower()
    with pytest.raises(IntegrityError):
        get(gate.door("alice"), FILE)
    handle = gate.door("alice").open_read(at(FILE))
    with pytest.raises(IntegrityError):
        handle.read_at(0, handle.size_bytes)
    handle.close()
    found = [record for record in gate.new_records() if record["outcome"] == "failed"]
    assert found
    for record in found:
        assert (record["error"], record["node_id"]) == ("IntegrityError", node_id)
        assert record["bytes"] == 0
        assert segment_id.hex() in record["note"]


CATALOG_DAMAGE = {
    "a size": ("UPDATE versions SET size_bytes = size_bytes + 1", IntegrityError),
    "a node's size": ("UPDATE nodes SET size_bytes = 7 WHERE is_folder = 0", IntegrityError),
    "an extent": ("UPDATE extents SET chunk_start = 1", IntegrityError),
    "a segment dropped": ("DELETE FROM segments", IntegrityError),
    "the key destroyed": ("UPDATE epochs SET key_wrapped = NULL", KeyUnavailableError),
}


@pytest.mark.parametrize("damage", CATALOG_DAMAGE)
def test_damage_to_the_catalog_is_in_the_audit_trail(gate: Gate, damage: str) -> None:
    """The refused opening is recorded; its note says what does not verify."""
    statement, expected = CATALOG_DAMAGE[damage]
    share = gate.sql("SELECT hex(id) FROM shares WHERE name = 'radiology'")[0][0].lower()
    gate.sql(statement)
    with pytest.raises(expected) as refused:
        gate.door("alice").open_read(at(FILE))
    (record,) = gate.new_records()
    assert (record["outcome"], record["error"]) == ("failed", expected.__name__)
    assert share in record["note"]
    assert record["note"] == str(refused.value)
    assert record["path"] == FILE


def test_the_hash_of_a_content_is_not_readable(world: World) -> None:
    """It would confirm a known file and give away a short one."""
    world.write("/docs/inline", b"one")
    digest = hashlib.sha256(b"one").digest()
    stored = b"".join(file.read_bytes() for file in world.catalog_file.parent.glob("catalog*"))
    assert digest not in stored
