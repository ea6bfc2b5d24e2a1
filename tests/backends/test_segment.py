"""Segments: what is sealed opens again, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import segment
from backends.errors import IntegrityError
from backends.segment import (
    CHUNK_SIZE_BYTES,
    HEADER_SIZE_BYTES,
    SEALED_CHUNK_SIZE_BYTES,
    TAG_SIZE_BYTES,
    SegmentCipher,
    SegmentHeader,
    SegmentShape,
    chunk_offset_sealed,
    seal_whole,
    sealed_size_bytes,
    unseal_whole,
)
from tests.backends.world import BLOCK, sample

KEY, SHARE, EPOCH, ID = b"k" * 32, b"s" * 16, 3, b"i" * 16
PLAIN = sample(2 * BLOCK + 5)
LIMIT_BYTES = segment.SEGMENT_CHUNK_LIMIT * BLOCK


def sealed_with(
    plain: bytes = PLAIN,
    *,
    key: bytes = KEY,
    segment_id: bytes = ID,
    epoch: int = EPOCH,
    salt: bytes = b"\1" * 32,
) -> bytes:
    return seal_whole(SegmentCipher.create(key, SHARE, epoch, segment_id, salt), plain)


SEALED = sealed_with()
CHUNKS = [SEALED[chunk_offset_sealed(i) : chunk_offset_sealed(i + 1)] for i in range(3)]
HEADER = SEALED[:HEADER_SIZE_BYTES]


def opened(sealed: bytes, *, key: bytes = KEY, segment_id: bytes = ID, epoch: int = EPOCH) -> bytes:
    header = sealed[:HEADER_SIZE_BYTES]
    return unseal_whole(SegmentCipher.open(key, SHARE, epoch, segment_id, header), sealed)


def refused(sealed: bytes) -> None:
    with pytest.raises(IntegrityError):
        opened(sealed)


@pytest.mark.parametrize(
    ("size", "sealed_size"),
    [(0, 144), (1, 145), (65535, 65679), (65536, 65680), (65537, 65697), (1 << 24, 16_781_440)],
)
def test_what_is_sealed_opens_and_has_the_specified_size(size: int, sealed_size: int) -> None:
    """Empty, one byte, around a chunk, and the largest segment."""
    plain = sample(size)
    sealed = sealed_with(plain)
    assert len(sealed) == sealed_size == sealed_size_bytes(size)
    assert opened(sealed) == plain


@pytest.mark.parametrize("offset", range(HEADER_SIZE_BYTES))
def test_no_bit_of_the_header_can_change(offset: int) -> None:
    """Each of the 1,024 header bits, flipped alone, is noticed before anything is decrypted."""
    for bit in range(8):
        header = bytearray(HEADER)
        header[offset] ^= 1 << bit
        with pytest.raises(IntegrityError):
            SegmentCipher.open(KEY, SHARE, EPOCH, ID, bytes(header))


@settings(max_examples=60, deadline=None)
@given(st.integers(HEADER_SIZE_BYTES, len(SEALED) - 1), st.integers(0, 7))
def test_no_bit_of_a_chunk_can_change(offset: int, bit: int) -> None:
    """Any bit of ciphertext or tag, flipped, is noticed."""
    data = bytearray(SEALED)
    data[offset] ^= 1 << bit
    refused(bytes(data))


@pytest.mark.parametrize("chunk", range(3))
@pytest.mark.parametrize("extra", [-1, 0, 1, TAG_SIZE_BYTES - 1, TAG_SIZE_BYTES])
def test_a_cut_segment_is_refused(chunk: int, extra: int) -> None:
    """At every chunk boundary, around it, and within a tag."""
    refused(SEALED[: chunk_offset_sealed(chunk) + extra])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(SEALED) - 1))
def test_a_segment_cut_anywhere_is_refused(size: int) -> None:
    """No proper beginning of a segment is a segment."""
    refused(SEALED[:size])


@pytest.mark.parametrize(
    "extension", [b"\0", bytes(TAG_SIZE_BYTES), CHUNKS[2], CHUNKS[0], HEADER], ids=len
)
def test_an_extended_segment_is_refused(extension: bytes) -> None:
    """One byte, an empty chunk, a chunk of its own, a whole chunk, a header."""
    refused(SEALED + extension)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 2), (1, 1, 2), (0, 2), (0, 0, 1, 2), (2,)])
def test_moved_repeated_or_missing_chunks_are_refused(order: tuple[int, ...]) -> None:
    """A chunk verifies only at its own place."""
    refused(HEADER + b"".join(CHUNKS[index] for index in order))


def test_a_full_final_chunk_followed_by_another_is_refused() -> None:
    """Two segments cannot be glued together."""
    whole = sealed_with(sample(BLOCK))
    refused(whole + CHUNKS[2])


def test_a_chunk_of_another_segment_of_the_same_key_is_refused() -> None:
    """The header's hash binds each chunk to its segment."""
    other = sealed_with(salt=b"\2" * 32)
    refused(HEADER + other[HEADER_SIZE_BYTES:])


def test_a_swapped_segment_is_refused() -> None:
    """A segment opens only as the one that it is, in its own share and epoch."""
    other = sealed_with(segment_id=b"j" * 16)
    with pytest.raises(IntegrityError, match="swapped"):
        opened(other)
    with pytest.raises(IntegrityError, match="swapped"):
        opened(SEALED, epoch=EPOCH + 1)
    with pytest.raises(IntegrityError, match="swapped"):
        SegmentCipher.open(KEY, b"t" * 16, EPOCH, ID, HEADER)


def test_another_epoch_key_is_noticed_by_the_commitment() -> None:
    """The header alone refuses a wrong key, so nothing was decrypted before."""
    with pytest.raises(IntegrityError, match="not sealed under this share's key"):
        SegmentCipher.open(b"x" * 32, SHARE, EPOCH, ID, HEADER)


@pytest.mark.parametrize(
    ("offset", "value", "sentence"),
    [
        (0, b"sealgate", "no segment"),
        (8, b"\2", "format 2 is unknown"),
        (9, b"\0", "suite 0 is unknown"),
        (10, b"\0\1", "flags"),
        (12, b"\0\2\0\0", "chunks of 131072 bytes"),
        (116, b"\1", "flags"),
        (127, b"\1", "flags"),
    ],
)
def test_what_this_version_does_not_know_is_refused_by_name(
    offset: int, value: bytes, sentence: str
) -> None:
    """An unknown magic, version, suite, flag, chunk size or reserved byte is named."""
    header = HEADER[:offset] + value + HEADER[offset + len(value) :]
    with pytest.raises(IntegrityError, match=sentence):
        SegmentHeader.parse(header)


@pytest.mark.parametrize("size", [0, 127, 129])
def test_a_header_of_another_size_is_refused(size: int) -> None:
    """A header has 128 bytes."""
    with pytest.raises(IntegrityError, match=f"{size} bytes"):
        SegmentHeader.parse((HEADER + b"x")[:size])


@given(
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_a_header_reads_back_as_written(
    share_id: bytes, epoch: int, segment_id: bytes, salt: bytes, commitment: bytes
) -> None:
    """Packing and parsing are inverse."""
    header = SegmentHeader(share_id, epoch, segment_id, salt, commitment)
    assert SegmentHeader.parse(header.pack()) == header


@given(st.binary(max_size=200))
def test_random_bytes_are_no_header(data: bytes) -> None:
    """Anything at all either fails as IntegrityError or does not fail."""
    with pytest.raises(IntegrityError):
        SegmentHeader.parse(data)


@given(st.integers(0, LIMIT_BYTES))
def test_the_sealed_size_tells_the_shape(size: int) -> None:
    """Every plaintext size up to 16 MiB is recovered from the sealed size."""
    shape = SegmentShape.of(sealed_size_bytes(size))
    plain = [shape.sealed_bytes(i) - TAG_SIZE_BYTES for i in range(shape.chunk_count)]
    assert sum(plain) == size
    assert all(count == CHUNK_SIZE_BYTES for count in plain[:-1])
    assert [shape.is_final(i) for i in range(shape.chunk_count)][-2:] in ([True], [False, True])


@pytest.mark.parametrize(
    "size",
    [
        -1,
        0,
        HEADER_SIZE_BYTES,
        HEADER_SIZE_BYTES + TAG_SIZE_BYTES - 1,
        HEADER_SIZE_BYTES + SEALED_CHUNK_SIZE_BYTES + 1,
        HEADER_SIZE_BYTES + SEALED_CHUNK_SIZE_BYTES + TAG_SIZE_BYTES,
        sealed_size_bytes(LIMIT_BYTES) + 1,
        sealed_size_bytes(LIMIT_BYTES) + TAG_SIZE_BYTES + 1,
        1 << 62,
    ],
)
def test_an_impossible_sealed_size_is_refused(size: int) -> None:
    """Too short, ending within a tag or in an empty chunk, or longer than 256 chunks."""
    with pytest.raises(IntegrityError):
        SegmentShape.of(size)


def test_the_same_plaintext_is_sealed_differently_under_each_salt() -> None:
    """Equal contents cannot be told from different ones."""
    first, second = (sealed_with(salt=bytes([salt]) * 32) for salt in (1, 2))
    assert first[HEADER_SIZE_BYTES:][:64] != second[HEADER_SIZE_BYTES:][:64]


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 9])
@pytest.mark.parametrize("run_chunks", [1, 2, 16])
def test_runs_are_sealed_and_opened_like_single_chunks(size: int, run_chunks: int) -> None:
    """The same bytes as chunk by chunk, however many chunks are taken at once."""
    plain = sample(size)
    whole = sealed_with(plain)
    cipher = SegmentCipher.open(KEY, SHARE, EPOCH, ID, whole[:HEADER_SIZE_BYTES])
    sealed, again = bytearray(len(whole)), bytearray(size)
    count = segment.chunk_count(size)
    for first in range(0, count, run_chunks):
        start, end = first * BLOCK, min(size, (first + run_chunks) * BLOCK)
        put = chunk_offset_sealed(first)
        last = first + run_chunks >= count
        run = cipher.seal_run(
            first, memoryview(plain)[start:end], memoryview(sealed)[put:], ends_segment=last
        )
        found = memoryview(whole)[put : put + run]
        into = memoryview(again)[start:]
        assert cipher.unseal_run(first, found, into, ends_segment=last) == end - start
    assert sealed[HEADER_SIZE_BYTES:] == whole[HEADER_SIZE_BYTES:]
    assert again == plain


def test_a_run_that_is_not_the_end_does_not_open_as_one() -> None:
    """The final flag binds a run as it binds a chunk, both ways."""
    cipher = SegmentCipher.open(KEY, SHARE, EPOCH, ID, HEADER)
    into = memoryview(bytearray(3 * BLOCK))
    with pytest.raises(IntegrityError, match="Chunk 1 "):
        cipher.unseal_run(0, memoryview(b"".join(CHUNKS[:2])), into, ends_segment=True)
    with pytest.raises(IntegrityError, match="Chunk 2 "):
        cipher.unseal_run(0, memoryview(b"".join(CHUNKS)), into, ends_segment=False)
    assert bytes(into) == bytes(3 * BLOCK)
