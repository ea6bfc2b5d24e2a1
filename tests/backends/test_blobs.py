"""The contract of blob stores, run for every driver, and what a real disk adds to it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends.blobs import BlobStore
from backends.blobs.local import LocalBlobStore
from backends.blobs.memory import MemoryBlobStore
from backends.blobs.s3 import S3BlobStore
from backends.draft import Draft
from backends.errors import IntegrityError, StorageFullError, StorageUnavailableError
from tests.backends.world import BLOCK, Bench, SetClock, sample
from tests.support.s3 import S3Server, running_juicefs, running_moto

ID, OTHER = b"\1" * 16, b"\2" * 16


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that honours conditional PUT."""
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="module")
def juicefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that ignores it."""
    with running_juicefs(tmp_path_factory.mktemp("juicefs")) as server:
        yield server


@pytest.fixture(params=["memory", "local", "moto", "juicefs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Each driver in turn, empty; the S3 driver on two servers, under a prefix of its own."""
    if request.param == "memory":
        return MemoryBlobStore()
    if request.param == "local":
        return LocalBlobStore.prepare(tmp_path / "blobs")
    server: S3Server = request.getfixturevalue(request.param)
    return S3BlobStore.prepare(server.settings(prefix=f"{uuid.uuid4().hex}/"))


def put(store: BlobStore, blob_id: bytes, *parts: bytes) -> None:
    writer = store.create(blob_id)
    for part in parts:
        writer.write(part)
    writer.finish()


def ids(store: BlobStore) -> list[bytes]:
    return sorted(blob_id for blob_id, _ in store.listing())


def test_a_finished_blob_reads_back(store: BlobStore) -> None:
    """All of it, in the order in which it was written."""
    put(store, ID, b"one ", b"", b"two ", sample(100_000))
    assert store.size(ID) == 100_008
    assert store.read(ID, 0, 1 << 20) == b"one two " + sample(100_000)
    assert ids(store) == [ID]


def test_a_read_is_short_only_at_the_end(store: BlobStore) -> None:
    """Ranges inside are exact; those over the end are cut, those beyond are empty."""
    put(store, ID, b"0123456789")
    assert store.read(ID, 3, 4) == b"3456"
    assert store.read(ID, 8, 4) == b"89"
    assert store.read(ID, 10, 4) == b""
    assert store.read(ID, 1000, 4) == b""
    assert store.read(ID, 0, 0) == b""


def test_reading_into_a_buffer_is_reading(store: BlobStore) -> None:
    """The same bytes, the same cut at the end, the rest of the buffer untouched."""
    put(store, ID, b"0123456789")
    buffer = bytearray(b"------")
    for _ in range(2):
        assert store.read_into(ID, 6, memoryview(buffer)) == 4
        assert buffer == b"6789--"
    assert store.read_into(ID, 1, memoryview(buffer)[2:4]) == 2
    assert buffer == b"6712--"
    assert store.read_into(ID, 10, memoryview(buffer)) == 0
    assert store.read_into(ID, 0, memoryview(buffer)[:0]) == 0
    store.delete(ID)
    with pytest.raises(IntegrityError, match=ID.hex()):
        store.read_into(ID, 0, memoryview(buffer))


def test_a_writer_keeps_nothing_of_the_callers_memory(store: BlobStore) -> None:
    """The buffer that was written may be filled with something else at once."""
    buffer = bytearray(b"first")
    writer = store.create(ID)
    writer.write(memoryview(buffer))
    buffer[:] = b"other"
    writer.finish()
    assert store.read(ID, 0, 100) == b"first"


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    """Nothing written is still something finished."""
    put(store, ID)
    assert (store.size(ID), store.read(ID, 0, 10)) == (0, b"")


def test_a_missing_blob_is_an_integrity_error(store: BlobStore) -> None:
    """The catalog said that it exists."""
    with pytest.raises(IntegrityError, match=ID.hex()):
        store.read(ID, 0, 1)
    with pytest.raises(IntegrityError, match=ID.hex()):
        store.size(ID)


def test_what_was_written_can_be_read_back_before_it_is_finished(store: BlobStore) -> None:
    """A draft reads its own segment while it fills."""
    writer = store.create(ID)
    writer.write(b"0123")
    writer.write(b"4567")
    assert writer.read_back(2, 4) == b"2345"
    assert writer.read_back(6, 4) == b"67"
    writer.finish()


def test_a_discarded_blob_leaves_nothing(store: BlobStore) -> None:
    """Discarding is idempotent, and the id may be used again."""
    writer = store.create(ID)
    writer.write(b"gone")
    writer.discard()
    writer.discard()
    assert ids(store) == []
    with pytest.raises(IntegrityError):
        store.read(ID, 0, 1)
    put(store, ID, b"new")
    assert store.read(ID, 0, 9) == b"new"


def test_discarding_after_finish_does_nothing(store: BlobStore) -> None:
    """What is durable stays."""
    writer = store.create(ID)
    writer.write(b"kept")
    writer.finish()
    writer.discard()
    assert store.read(ID, 0, 9) == b"kept"


def test_deleting_removes_one_blob_and_may_be_repeated(store: BlobStore) -> None:
    """A blob that is not there is no error."""
    put(store, ID, b"a")
    put(store, OTHER, b"b")
    store.delete(ID)
    store.delete(ID)
    assert ids(store) == [OTHER]


def test_blobs_can_be_written_and_read_at_once(store: BlobStore) -> None:
    """Threads with blobs of their own do not disturb each other; listing meanwhile works."""

    def work(number: int) -> bool:
        blob_id = bytes([number]) * 16
        data = sample(50_000, str(number))
        put(store, blob_id, data[:20_000], data[20_000:])
        assert store.available_bytes() > 0
        assert blob_id in ids(store)
        return store.read(blob_id, 0, 1 << 20) == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
    assert len(ids(store)) == 40


def test_the_listing_says_when_a_blob_was_written(tmp_path: Path) -> None:
    """The time is that of writing, not that of asking."""
    clock = SetClock(5)
    memory = MemoryBlobStore(clock=clock)
    put(memory, ID, b"x")
    clock.now_us = 99
    assert list(memory.listing()) == [(ID, 5)]
    local = LocalBlobStore.prepare(tmp_path)
    put(local, ID, b"x")
    os.utime(tmp_path / "01" / ID.hex(), ns=(7_000_000, 7_000_000))
    assert list(local.listing()) == [(ID, 7_000)]


def test_a_full_memory_store_refuses_and_keeps_what_it_has() -> None:
    """The capacity is a limit like that of a disk."""
    store = MemoryBlobStore(capacity_bytes=10)
    put(store, ID, b"12345678")
    assert store.available_bytes() == 2
    with pytest.raises(StorageFullError):
        put(store, OTHER, b"123")
    assert ids(store) == [ID]


def test_local_blobs_lie_where_the_format_says(tmp_path: Path) -> None:
    """Two hex digits of folder, readable by the gateway alone; prepare may be repeated."""
    store = LocalBlobStore.prepare(tmp_path / "blobs")
    put(store, ID, b"x")
    put(LocalBlobStore.prepare(tmp_path / "blobs"), OTHER, b"y")
    file = tmp_path / "blobs" / "01" / ("01" * 16)
    assert file.read_bytes() == b"x"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert LocalBlobStore(tmp_path / "blobs").read(OTHER, 0, 1) == b"y"


def test_a_local_blob_is_never_overwritten(tmp_path: Path) -> None:
    """Creating an id again fails instead of emptying what is there."""
    store = LocalBlobStore.prepare(tmp_path)
    put(store, ID, b"x")
    with pytest.raises(StorageUnavailableError):
        store.create(ID)
    assert store.read(ID, 0, 1) == b"x"


def test_what_else_lies_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    """A mount point has a lost+found."""
    store = LocalBlobStore.prepare(tmp_path)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "#123").touch()
    (tmp_path / "README").touch()
    (tmp_path / "01" / ".nfs0000").touch()
    put(store, ID, b"x")
    assert ids(store) == [ID]


def test_a_missing_folder_is_an_error_without_its_path(tmp_path: Path) -> None:
    """Messages reach application logs, which hold no paths."""
    store = LocalBlobStore(tmp_path / "absent")
    with pytest.raises(StorageUnavailableError) as caught:
        store.create(ID)
    assert "absent" not in str(caught.value)
    with pytest.raises(StorageUnavailableError):
        store.available_bytes()
    with pytest.raises(StorageUnavailableError):
        list(store.listing())


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_failed_fsync_is_never_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    """The blob's fsync, or its folder's, fails once: the blob is not acknowledged, ever."""
    store = LocalBlobStore.prepare(tmp_path)
    calls = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing_call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    writer = store.create(ID)
    writer.write(b"x")
    with pytest.raises(StorageUnavailableError):
        writer.finish()
    assert len(calls) == failing_call
    writer.discard()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_blob_with_a_failed_write_is_never_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Even if later writes and the fsync would succeed; and nothing of it is left."""
    store = LocalBlobStore.prepare(tmp_path)
    writer = store.create(ID)
    writer.write(b"one")
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", write)
    expected = StorageUnavailableError if code == errno.EIO else StorageFullError
    with pytest.raises(expected):
        writer.write(b"two")
    monkeypatch.setattr(os, "write", real)
    writer.write(b"two")
    with pytest.raises(StorageUnavailableError):
        writer.finish()
    assert ids(store) == []


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size_bytes``: a full disk that needs no root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 100, 70_000, 16_781_439])
def test_a_draft_that_did_not_fit_is_never_sealed(tmp_path: Path, bench: Bench, limit: int) -> None:
    """Whether the header, a chunk or the last byte fails, space that comes back is no excuse."""
    store = LocalBlobStore.prepare(tmp_path)
    before = open_descriptors()
    draft = Draft(store, bench.key, None, executor=bench.executor, random_bytes=bench.random_bytes)

    def write_and_seal(block_count: int) -> None:
        for block in range(block_count):
            draft.write_at(block * BLOCK, sample(BLOCK))
        draft.seal()

    with file_size_limit(limit), pytest.raises(StorageFullError):
        write_and_seal(257)
    with pytest.raises((StorageFullError, StorageUnavailableError)):
        write_and_seal(1)
    draft.discard()
    assert ids(store) == []
    assert open_descriptors() == before


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    # Lazily: a test that failed may have left a file open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def test_a_full_disk_refuses_and_frees_what_it_could_not_keep(
    tiny_disk: Path, bench: Bench
) -> None:
    """ENOSPC is StorageFullError, earlier blobs stay whole, and the space comes back."""

    def write_and_seal(draft: Draft) -> None:
        draft.write_at(0, sample(20 * BLOCK))
        draft.seal()

    store = LocalBlobStore.prepare(tiny_disk)
    put(store, ID, sample(100_000))
    before = open_descriptors()
    free = store.available_bytes()
    for _ in range(3):
        draft = Draft(
            store, bench.key, None, executor=bench.executor, random_bytes=bench.random_bytes
        )
        with pytest.raises(StorageFullError):
            write_and_seal(draft)
        draft.discard()
        assert store.available_bytes() == free
        assert open_descriptors() == before
    assert store.read(ID, 0, 1 << 20) == sample(100_000)
    assert ids(store) == [ID]
