"""The keyring: the key file, wrapped keys, and records that open in one place only."""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import IntegrityError, KeyUnavailableError
from backends.keyfile import MASTER_KEY_LIMIT, MasterKeys
from backends.keyring import (
    Mac,
    MasterKey,
    NameCipher,
    RecordCipher,
    derive_key,
    new_epoch_key,
    new_name_key,
)
from backends.share import epoch_context

PARENT, OTHER = b"p" * 16, b"q" * 16
MASTER = MasterKey(bytes(range(32)))
NEWER, NEWEST = MasterKey(b"n" * 32), MasterKey(b"o" * 32)


def key_file(folder: Path, *keys: MasterKey) -> Path:
    return written(folder, "".join(key.line() for key in keys).encode())


def written(folder: Path, text: bytes, mode: int = 0o600) -> Path:
    path = folder / "master.key"
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_master_key_survives_its_file(tmp_path: Path) -> None:
    """What was written is read, with the same id, and by its owner alone."""
    path = tmp_path / "master.key"
    made = MasterKey.generate()
    made.write(path)
    read = MasterKeys(path).named(made.key_id)
    assert read.unwrap(made.wrap(b"k" * 32, "system"), "system") == b"k" * 32
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_master_key_file_is_never_overwritten(tmp_path: Path) -> None:
    """Losing the key loses everything, so an existing file stays as it is."""
    path = tmp_path / "master.key"
    MASTER.write(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        MasterKey.generate().write(path)
    assert path.read_bytes() == before


def test_a_master_key_file_and_its_name_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the file and its folder are fsynced."""
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    MASTER.write(tmp_path / "master.key")
    assert synced == [str(tmp_path / "master.key"), str(tmp_path)]


def test_a_missing_master_key_says_what_to_do(tmp_path: Path) -> None:
    """The message names the file and the command that makes a first one."""
    with pytest.raises(KeyUnavailableError, match=r"keys init"):
        MasterKeys(tmp_path / "absent")


def test_a_folder_is_no_master_key(tmp_path: Path) -> None:
    """What cannot be read as a file is refused as such."""
    with pytest.raises(KeyUnavailableError, match="cannot be read"):
        MasterKeys(tmp_path)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o610, 0o666, 0o777])
def test_a_master_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right for others, or more than reading for the group."""
    MASTER.write(tmp_path / "good")
    path = written(tmp_path, (tmp_path / "good").read_bytes(), mode)
    with pytest.raises(KeyUnavailableError, match="chmod 600"):
        MasterKeys(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_master_key_for_owner_and_group_is_read(tmp_path: Path, mode: int) -> None:
    """Systemd credentials and key groups are fine."""
    MASTER.write(tmp_path / "good")
    path = written(tmp_path, (tmp_path / "good").read_bytes(), mode)
    assert MasterKeys(path).key_ids == (MASTER.key_id,)


@pytest.mark.parametrize(
    "text", [b"", b"\n \n", b"\0" * 200, b"\xff\xfe", b"-----BEGIN KEY-----\n"]
)
def test_another_file_is_no_master_key(tmp_path: Path, text: bytes) -> None:
    """The message names the configuration key, and never what the file holds."""
    with pytest.raises(KeyUnavailableError, match=r"keys\.master_key") as caught:
        MasterKeys(written(tmp_path, text))
    assert "BEGIN" not in str(caught.value)


def test_a_wrong_key_file_does_not_appear_in_the_message(tmp_path: Path) -> None:
    """A file that is nearly a key is not quoted."""
    MASTER.write(tmp_path / "good")
    text = (tmp_path / "good").read_bytes()
    with pytest.raises(KeyUnavailableError) as caught:
        MasterKeys(written(tmp_path, text[:-3]))
    assert "0a0b0c" not in str(caught.value)


def test_a_key_file_holds_several_keys(tmp_path: Path) -> None:
    """One a line, the newest last; white space around them does not matter."""
    text = f"\n{MASTER.line()}  \r\n {NEWER.line()}\n"
    masters = MasterKeys(written(tmp_path, text.encode()))
    assert masters.key_ids == (MASTER.key_id, NEWER.key_id)
    assert masters.newest.key_id == NEWER.key_id
    assert masters.named(MASTER.key_id).key_id == MASTER.key_id


def test_a_bad_line_is_named_by_its_number_alone(tmp_path: Path) -> None:
    """Nothing of the line, which may be a key with one letter wrong, is repeated."""
    text = MASTER.line() + "\n" + NEWER.line().replace("6e", "6x", 1)
    with pytest.raises(KeyUnavailableError, match="line 3") as caught:
        MasterKeys(written(tmp_path, text.encode()))
    assert "6e6e" not in str(caught.value)


def test_an_empty_key_file_is_refused_as_such(tmp_path: Path) -> None:
    """An interrupted copy is told apart from another file."""
    with pytest.raises(KeyUnavailableError, match="is empty"):
        MasterKeys(written(tmp_path, b""))


def test_a_key_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    """Nobody writes that on purpose; the second line is named."""
    with pytest.raises(KeyUnavailableError, match="line 2"):
        MasterKeys(key_file(tmp_path, MASTER, MASTER))


def test_more_keys_than_the_limit_are_refused(tmp_path: Path) -> None:
    """Neither read nor added."""
    keys = [MasterKey(bytes([number]) * 32) for number in range(MASTER_KEY_LIMIT + 1)]
    with pytest.raises(KeyUnavailableError, match="holds 5 keys"):
        MasterKeys(key_file(tmp_path, *keys))
    masters = MasterKeys(key_file(tmp_path, *keys[:-1]))
    before = masters.path.read_bytes()
    with pytest.raises(KeyUnavailableError, match="remove-unused"), masters.changing():
        masters.add(keys[-1])
    assert masters.path.read_bytes() == before


def test_a_key_that_came_later_is_found_in_the_file(tmp_path: Path) -> None:
    """Asked for a key it does not know, a running process reads its file again."""
    masters = MasterKeys(key_file(tmp_path, MASTER))
    key_file(tmp_path, NEWER)
    assert masters.named(NEWER.key_id).key_id == NEWER.key_id
    assert masters.key_ids == (NEWER.key_id,)


def test_a_key_that_went_still_serves_who_knows_it(tmp_path: Path) -> None:
    """A transaction that began before a rotation reads to its end."""
    masters = MasterKeys(key_file(tmp_path, MASTER))
    key_file(tmp_path, NEWER)
    assert masters.named(NEWER.key_id).key_id == NEWER.key_id
    assert masters.named(MASTER.key_id).key_id == MASTER.key_id


def test_a_key_in_no_line_is_refused_by_its_id(tmp_path: Path) -> None:
    """The message says which key is needed and which are there."""
    masters = MasterKeys(key_file(tmp_path, MASTER, NEWER))
    with pytest.raises(KeyUnavailableError) as caught:
        masters.named(NEWEST.key_id)
    for key in (MASTER, NEWER, NEWEST):
        assert key.key_id in str(caught.value)


def test_a_file_that_became_open_to_others_is_refused_again(tmp_path: Path) -> None:
    """Reading it again is as strict as the first time."""
    masters = MasterKeys(key_file(tmp_path, MASTER))
    key_file(tmp_path, NEWER).chmod(0o644)
    with pytest.raises(KeyUnavailableError, match="chmod 600"):
        masters.named(NEWER.key_id)


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_keys_are_added_and_removed_in_place(tmp_path: Path, mode: int) -> None:
    """Order, mode and what else is in the folder stay; a draft that a crash left is replaced."""
    path = key_file(tmp_path, MASTER)
    path.chmod(mode)
    (tmp_path / "master.key.new").write_text("half a")
    masters = MasterKeys(path)
    with masters.changing():
        masters.add(NEWER)
        assert MasterKeys(path).key_ids == (MASTER.key_id, NEWER.key_id)
        masters.add(NEWEST)
        masters.remove([MASTER.key_id, NEWER.key_id])
    assert path.read_text() == NEWEST.line()
    assert path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_file_behind_a_link_is_changed_where_it_lies(tmp_path: Path) -> None:
    """The link stays a link."""
    (tmp_path / "real").mkdir()
    path = key_file(tmp_path / "real", MASTER)
    link = tmp_path / "link"
    link.symlink_to(path)
    masters = MasterKeys(link)
    with masters.changing():
        masters.add(NEWER)
    assert link.is_symlink()
    assert path.read_text() == MASTER.line() + NEWER.line()


def test_a_changed_key_file_is_durable_before_and_after_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draft is fsynced while the old file still has the name, the folder afterwards."""
    masters = MasterKeys(key_file(tmp_path, MASTER))
    seen = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((target.name, masters.path.read_text().count("\n")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with masters.changing():
        masters.add(NEWER)
    assert seen == [("master.key.new", 1), (tmp_path.name, 2)]


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """The sentence says why; the old keys are all there."""
    masters = MasterKeys(key_file(tmp_path, MASTER))
    (tmp_path / "master.key.new").mkdir()
    with pytest.raises(KeyUnavailableError, match="cannot be changed"), masters.changing():
        masters.add(NEWER)
    assert masters.path.read_text() == MASTER.line()


def test_two_processes_never_change_a_key_file_at_once(tmp_path: Path) -> None:
    """The second is refused at once; what the first did is seen by the next."""
    one, two = (MasterKeys(key_file(tmp_path, MASTER)) for _ in range(2))
    with one.changing():
        one.add(NEWER)
        with pytest.raises(KeyUnavailableError, match="another command"), two.changing():
            pass
    with two.changing():
        assert two.newest.key_id == NEWER.key_id


def test_one_key_is_a_source_of_itself_alone() -> None:
    """By its own id it is found, by another it is refused, with both named."""
    assert MASTER.named(MASTER.key_id) is MASTER
    with pytest.raises(KeyUnavailableError, match=f"{NEWER.key_id}, but {MASTER.key_id}"):
        MASTER.named(NEWER.key_id)


@pytest.mark.parametrize("size", [32, 64])
def test_a_wrapped_key_opens_under_its_master_only(size: int) -> None:
    """AES-KW adds eight bytes and verifies."""
    key = os.urandom(size)
    wrapped = MASTER.wrap(key, "names", PARENT)
    assert len(wrapped) == size + 8
    assert MASTER.unwrap(wrapped, "names", PARENT) == key
    with pytest.raises(KeyUnavailableError, match="does not open"):
        MasterKey(b"x" * 32).unwrap(wrapped, "names", PARENT)


@pytest.mark.parametrize(
    ("purpose", "context"), [("names", PARENT), ("epoch", OTHER), ("epoch", b""), ("system", b"")]
)
def test_a_wrapped_key_opens_in_its_own_place_only(purpose: str, context: bytes) -> None:
    """For another purpose, share or epoch the same master key does not open it."""
    wrapped = MASTER.wrap(b"k" * 32, "epoch", PARENT)
    with pytest.raises(KeyUnavailableError, match="catalog was edited"):
        MASTER.unwrap(wrapped, purpose, context)


def test_the_epoch_is_part_of_the_place_of_its_key() -> None:
    """Neighbouring epochs and shares have places of their own."""
    places = {epoch_context(share, epoch) for share in (PARENT, OTHER) for epoch in (1, 2, 256)}
    assert len(places) == 6
    assert epoch_context(PARENT, 258) == PARENT + bytes((0, 0, 1, 2))


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 16, b"x" * 24, b"x" * 40, b"x" * 41])
def test_what_is_no_wrapped_key_is_refused(data: bytes) -> None:
    """Whatever the size, the error is the same."""
    with pytest.raises(KeyUnavailableError):
        MASTER.unwrap(data, "system")


def test_new_keys_have_their_sizes_and_come_from_the_given_randomness() -> None:
    """256 bits for an epoch, 512 for names."""
    assert new_epoch_key(lambda size: b"r" * size) == b"r" * 32
    assert new_name_key(lambda size: b"r" * size) == b"r" * 64


@given(st.binary(min_size=1, max_size=64), st.text("abc xyz", max_size=30), st.binary(max_size=60))
def test_keys_are_derived_as_specified(key: bytes, label: str, context: bytes) -> None:
    """SP 800-108 in counter mode, written out with HMAC alone."""
    for size in (8, 32, 64):
        fixed = label.encode() + b"\0" + context + (8 * size).to_bytes(4, "big")
        blocks = b"".join(
            hmac.digest(key, number.to_bytes(4, "big") + fixed, sha256) for number in (1, 2)
        )
        assert derive_key(key, label, context, size_bytes=size) == blocks[:size]


def test_equal_names_in_one_folder_are_sealed_equally() -> None:
    """That is how a name is found; another folder, share or name differs."""
    names = NameCipher(b"n" * 64)
    sealed = names.seal(PARENT, "report.pdf")
    assert names.seal(PARENT, "report.pdf") == sealed
    assert names.seal(OTHER, "report.pdf") != sealed
    assert names.seal(PARENT, "report.pdg") != sealed
    assert NameCipher(b"m" * 64).seal(PARENT, "report.pdf") != sealed


@given(st.text(min_size=1, max_size=255), st.integers(0, 10_000), st.integers(0, 7))
def test_a_name_opens_and_no_bit_of_it_can_change(name: str, place: int, bit: int) -> None:
    """Any name comes back; with a bit flipped anywhere it does not."""
    names = NameCipher(b"n" * 64)
    try:
        sealed = names.seal(PARENT, name)
    except UnicodeEncodeError:
        return
    assert names.unseal(PARENT, sealed) == name
    edited = bytearray(sealed)
    edited[place % len(edited)] ^= 1 << bit
    with pytest.raises(IntegrityError):
        names.unseal(PARENT, bytes(edited))


def test_a_name_carried_to_another_folder_is_refused() -> None:
    """The parent's id is part of the seal."""
    names = NameCipher(b"n" * 64)
    with pytest.raises(IntegrityError, match="catalog was edited"):
        names.unseal(OTHER, names.seal(PARENT, "x"))


@pytest.mark.parametrize("sealed", [b"", b"root", b"x" * 15, b"x" * 16, b"x" * 40])
def test_what_is_no_sealed_name_is_refused(sealed: bytes) -> None:
    """Short and unsealed bytes too."""
    with pytest.raises(IntegrityError):
        NameCipher(b"n" * 64).unseal(PARENT, sealed)


def test_a_record_opens_in_its_own_context_and_purpose_only() -> None:
    """Carried to another context, purpose or key it is refused."""
    cipher = RecordCipher(b"k" * 32, "node")
    sealed = cipher.seal(b"text", b"here")
    assert cipher.unseal(sealed, b"here") == b"text"
    assert len(sealed) == 4 + 28
    for other, context in (
        (cipher, b"there"),
        (cipher, b""),
        (RecordCipher(b"k" * 32, "audit"), b"here"),
        (RecordCipher(b"j" * 32, "node"), b"here"),
    ):
        with pytest.raises(IntegrityError):
            other.unseal(sealed, context)


def test_no_byte_of_a_record_can_change_or_be_missing() -> None:
    """Nonce, text and tag, and every length."""
    cipher = RecordCipher(b"k" * 32, "node")
    sealed = cipher.seal(b"text", b"here")
    for place in range(len(sealed)):
        with pytest.raises(IntegrityError):
            cipher.unseal(sealed[:place], b"here")
        edited = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(IntegrityError):
            cipher.unseal(edited, b"here")


def test_the_same_record_is_never_sealed_alike() -> None:
    """Nonces are random."""
    cipher = RecordCipher(b"k" * 32, "node")
    assert len({cipher.seal(b"text", b"here") for _ in range(100)}) == 100


def test_a_mac_verifies_its_own_data_and_purpose_only() -> None:
    """Other data, tag, purpose or key do not."""
    mac = Mac(b"k" * 32, "manifest")
    tag = mac.tag(b"data")
    assert mac.verify(b"data", tag)
    assert not mac.verify(b"date", tag)
    assert not mac.verify(b"data", tag[:-1])
    assert not mac.verify(b"data", b"")
    assert not Mac(b"k" * 32, "other").verify(b"data", tag)
    assert not Mac(b"j" * 32, "manifest").verify(b"data", tag)


@pytest.mark.parametrize("secret", [MASTER, NameCipher(b"n" * 64), RecordCipher(b"k" * 32, "node")])
def test_keys_do_not_show_in_a_representation(secret: object) -> None:
    """A traceback or a log line that prints an object shows no key."""
    assert "object at" in repr(secret)
