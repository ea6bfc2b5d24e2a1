"""The frozen vectors of FORMAT.md section 12: today's code makes and refuses exactly these.

A vector that no longer fits means that old data no longer opens. The independent reader checks
the same bytes, so that code and vectors cannot be wrong together. Those of rows.json are tested in
``test_ledger``.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256, shake_256
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from backends import errors
from backends.catalog.versions import VersionRow
from backends.extents import Extent
from backends.history import manifest
from backends.keyfile import MasterKeys
from backends.keyring import Mac, MasterKey, NameCipher, RecordCipher, derive_key
from backends.segment import (
    HEADER_SIZE_BYTES,
    SegmentCipher,
    SegmentShape,
    seal_whole,
    unseal_whole,
)
from tests.support import sealed_reader
from tests.support.vectors import FOLDER, Case, each, loaded, raw

SEGMENTS = loaded("segments.json")
KEYS = loaded("keys.json")
NAMES = loaded("names.json")
RECORDS = loaded("records.json")
MANIFESTS = loaded("manifests.json")


@cache
def sealed_segment(name: str) -> tuple[bytes, bytes]:
    """Return plaintext and sealed bytes of a segment case, made by today's code."""
    case = next(each for each in SEGMENTS["cases"] if each["name"] == name)
    offset = case["plain"].get("offset", 0)
    shake = shake_256(case["plain"]["seed"].encode("ascii"))
    plain = shake.digest(offset + case["plain"]["length"])[offset:]
    cipher = SegmentCipher.create(
        raw(case, "epoch_key"),
        raw(case, "share_id"),
        case["epoch"],
        raw(case, "segment_id"),
        raw(case, "salt"),
    )
    return plain, seal_whole(cipher, plain)


@each(SEGMENTS["cases"])
def test_a_segment_is_sealed_as_frozen(case: Case) -> None:
    """Header, size and every byte are the vector's, and both readers open them."""
    plain, sealed = sealed_segment(case["name"])
    assert sha256(plain).hexdigest() == case["plain"]["sha256"]
    assert sealed[:HEADER_SIZE_BYTES].hex() == case["header"]
    assert len(sealed) == case["sealed"]["length"]
    assert sha256(sealed).hexdigest() == case["sealed"]["sha256"]
    assert case["sealed"].get("bytes", sealed.hex()) == sealed.hex()
    named = (
        raw(case, "epoch_key"),
        raw(case, "share_id"),
        case["epoch"],
        raw(case, "segment_id"),
    )
    cipher = SegmentCipher.open(*named, sealed[:HEADER_SIZE_BYTES])
    assert unseal_whole(cipher, sealed) == plain
    assert sealed_reader.open_segment(*named, sealed) == plain


def changed(sealed: bytes, change: Case) -> bytes:
    """Return the sealed bytes as a rejection's ``change`` makes them."""
    data = bytearray(sealed)
    if "flip" in change:
        place, bit = change["flip"]
        data[place] ^= 1 << bit
    if "copy" in change:
        start, size, target = change["copy"]
        data[target : target + size] = data[start : start + size]
    return bytes(data[: change.get("keep", len(data))]) + bytes.fromhex(change.get("append", ""))


@each(SEGMENTS["rejections"])
def test_a_changed_segment_is_refused_as_frozen(case: Case) -> None:
    """With the class and the reason that the vector names; the second reader refuses it too."""
    base = next(each for each in SEGMENTS["cases"] if each["name"] == case["of"])
    sealed = changed(sealed_segment(case["of"])[1], case["change"])
    asked = base | case["change"]
    named = (
        raw(asked, "epoch_key"),
        raw(asked, "share_id"),
        asked["epoch"],
        raw(asked, "segment_id"),
    )
    with pytest.raises(getattr(errors, case["error"]), match=case["message"]):
        unseal_whole(SegmentCipher.open(*named, sealed[:HEADER_SIZE_BYTES]), sealed)
    with pytest.raises((ValueError, InvalidTag)):
        sealed_reader.open_segment(*named, sealed)


@pytest.mark.parametrize("case", SEGMENTS["sizes"], ids=lambda case: str(case["sealed"]))
def test_the_sealed_size_tells_the_chunks_as_frozen(case: Case) -> None:
    """How many there are, and how long the last one is."""
    shape = SegmentShape.of(case["sealed"])
    assert (shape.chunk_count, shape.last_chunk_sealed_bytes) == (case["chunks"], case["last"])
    assert sealed_reader.chunks_of(case["sealed"]) == (case["chunks"], case["last"])


@pytest.mark.parametrize("size", SEGMENTS["refused_sizes"])
def test_a_size_that_no_segment_has_is_refused(size: int) -> None:
    """Cut, too long, or ending in an empty chunk."""
    with pytest.raises(errors.IntegrityError):
        SegmentShape.of(size)
    with pytest.raises(ValueError, match="cut or extended"):
        sealed_reader.chunks_of(size)


@each(KEYS["derivations"])
def test_a_key_is_derived_as_frozen(case: Case) -> None:
    """Every label of FORMAT.md section 1."""
    key, context = raw(case, "key"), raw(case, "context")
    label, size, derived = case["label"], case["size"], raw(case, "derived")
    assert derive_key(key, label, context, size_bytes=size) == derived
    assert sealed_reader.derive(key, label.encode("ascii"), context, size) == derived


def test_the_master_key_file_is_as_frozen(tmp_path: Path) -> None:
    """Its text, and the id that the key has."""
    case = KEYS["master_file"]
    MasterKey(raw(case, "key")).write(tmp_path / "key")
    assert (tmp_path / "key").read_text("ascii") == case["text"]
    assert MasterKeys(tmp_path / "key").newest.key_id == case["key_id"]
    assert sealed_reader.read_master_keys(case["text"]) == {case["key_id"]: raw(case, "key")}


@each(KEYS["more_files"])
def test_a_key_file_of_several_lines_is_read_as_frozen(case: Case, tmp_path: Path) -> None:
    """One to four keys; the last is the newest."""
    (tmp_path / "key").write_text(case["text"], "ascii")
    (tmp_path / "key").chmod(0o600)
    assert list(MasterKeys(tmp_path / "key").key_ids) == case["key_ids"]
    assert list(sealed_reader.read_master_keys(case["text"])) == case["key_ids"]


@each(KEYS["refused_files"])
def test_another_key_file_is_refused(case: Case, tmp_path: Path) -> None:
    """Too short, too long, not hex, of another version, too many keys, or one twice."""
    (tmp_path / "key").write_text(case["text"], "ascii")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(errors.KeyUnavailableError):
        MasterKeys(tmp_path / "key")
    with pytest.raises(ValueError):
        sealed_reader.read_master_keys(case["text"])


@each(KEYS["wraps"])
def test_a_key_is_wrapped_as_frozen(case: Case) -> None:
    """For each purpose, with the place that it is bound to."""
    master, place = MasterKey(raw(case, "master")), (case["purpose"], raw(case, "context"))
    assert master.wrap(raw(case, "key"), *place).hex() == case["wrapped"]
    assert master.unwrap(raw(case, "wrapped"), *place).hex() == case["key"]
    purpose, context = case["purpose"].encode("ascii"), raw(case, "context")
    opened = sealed_reader.open_key(raw(case, "master"), purpose, context, raw(case, "wrapped"))
    assert opened.hex() == case["key"]


@each(KEYS["rejections"])
def test_another_wrapped_key_is_refused(case: Case) -> None:
    """Edited, cut, wrapped by another master or for another place."""
    master, context, wrapped = raw(case, "master"), raw(case, "context"), raw(case, "wrapped")
    with pytest.raises(getattr(errors, case["error"])):
        MasterKey(master).unwrap(wrapped, case["purpose"], context)
    with pytest.raises((InvalidUnwrap, ValueError)):
        sealed_reader.open_key(master, case["purpose"].encode("ascii"), context, wrapped)


@each(NAMES["cases"])
def test_a_name_is_sealed_as_frozen(case: Case) -> None:
    """Short, long and not ASCII."""
    key, parent = raw(NAMES, "name_key"), raw(NAMES, "parent_id")
    assert NameCipher(key).seal(parent, case["name"]).hex() == case["sealed"]
    assert NameCipher(key).unseal(parent, raw(case, "sealed")) == case["name"]
    assert sealed_reader.open_name(key, parent, raw(case, "sealed")) == case["name"]


@each(NAMES["rejections"])
def test_another_sealed_name_is_refused(case: Case) -> None:
    """Edited, cut, unsealed, or of another folder."""
    key, parent, sealed = raw(NAMES, "name_key"), raw(case, "parent_id"), raw(case, "sealed")
    with pytest.raises(getattr(errors, case["error"])):
        NameCipher(key).unseal(parent, sealed)
    with pytest.raises(InvalidTag):
        sealed_reader.open_name(key, parent, sealed)


@each(RECORDS["cases"])
def test_a_record_is_sealed_as_frozen(case: Case) -> None:
    """Each purpose, under a given nonce."""
    key, context, nonce = raw(case, "key"), raw(case, "context"), raw(case, "nonce")
    cipher = RecordCipher(key, case["purpose"], lambda size: nonce[:size])
    assert cipher.seal(raw(case, "plain"), context).hex() == case["sealed"]
    assert cipher.unseal(raw(case, "sealed"), context).hex() == case["plain"]
    opened = sealed_reader.open_record(key, case["purpose"], context, raw(case, "sealed"))
    assert opened.hex() == case["plain"]


@each(RECORDS["rejections"])
def test_another_sealed_record_is_refused(case: Case) -> None:
    """Edited, cut, or carried elsewhere."""
    key, context, sealed = raw(case, "key"), raw(case, "context"), raw(case, "sealed")
    with pytest.raises(getattr(errors, case["error"])):
        RecordCipher(key, case["purpose"]).unseal(sealed, context)
    with pytest.raises((InvalidTag, ValueError)):
        sealed_reader.open_record(key, case["purpose"], context, sealed)


def manifests_of(fields: Case, listed: list[list[Any]]) -> tuple[bytes, bytes]:
    """Return the manifest as today's code makes it, and as the second reader does."""
    row = VersionRow(
        id=raw(fields, "id"),
        node_id=raw(fields, "node_id"),
        share_id=raw(fields, "share_id"),
        epoch=fields["epoch"],
        size_bytes=fields["size_bytes"],
        sha256_sealed=None,
        modified_us=0,
        created_us=fields["created_us"],
        author=fields["author"],
        inline_sealed=b"" if fields["inline"] else None,
        mac=b"",
    )
    extents = tuple(
        Extent(block_start, block_count, bytes.fromhex(segment_id), chunk_start)
        for block_start, block_count, segment_id, chunk_start in listed
    )
    digest = None if fields["sha256"] is None else raw(fields, "sha256")
    places = [(it.block_start, it.block_count, it.segment_id, it.chunk_start) for it in extents]
    return manifest(row, digest, extents), sealed_reader.manifest(row._asdict(), digest, places)


@each(MANIFESTS["cases"])
def test_a_manifest_and_its_mac_are_as_frozen(case: Case) -> None:
    """Byte for byte."""
    data, other = manifests_of(case["version"], case["extents"])
    assert data.hex() == other.hex() == case["manifest"]
    key = raw(MANIFESTS, "epoch_key")
    mac = Mac(key, "manifest")
    assert mac.tag(data).hex() == sealed_reader.mac(key, "manifest", data).hex() == case["mac"]
    for place in range(len(data)):
        assert not mac.verify(data[:place] + data[place + 1 :], raw(case, "mac"))


@each(MANIFESTS["rejections"])
def test_the_mac_of_a_changed_manifest_is_another(case: Case) -> None:
    """Each field of the version, and each way to change its extents."""
    base = next(each for each in MANIFESTS["cases"] if each["name"] == case["of"])
    fields, extents = base["version"] | case.get("change", {}), case.get("extents", base["extents"])
    data, other = manifests_of(fields, extents)
    key, tag = raw(MANIFESTS, "epoch_key"), raw(base, "mac")
    assert not Mac(key, "manifest").verify(data, tag)
    with pytest.raises(ValueError, match="edited row"):
        sealed_reader.require_mac(key, "manifest", other, tag)


def test_each_vector_file_is_small_and_says_what_it_is() -> None:
    """Vectors are read by people too."""
    files = sorted(FOLDER.glob("*.json"))
    assert len(files) == 6
    for file in files:
        assert file.stat().st_size < 20_000
        assert loaded(file.name)["about"]
