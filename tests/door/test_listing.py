"""Listing a folder page by page: complete, judged again for each page, flat in memory."""

from __future__ import annotations

import pytest

from auth.policy import PathRule
from backends.errors import NotFoundError
from gateway.errors import DeniedError, SessionEndedError
from gateway.model import Action, Entry, PropertyName, Wire
from gateway.monitor import Door
from gateway.operations import listing
from tests.door.support import FILE, IDLE_TIMEOUT_S, Gate, at, get, names, opened, put, staff

FOLDER = at("/radiology")
COLOUR = PropertyName("urn:x", "colour")
PAGE = 4
HIDDEN = PathRule("/file-0*", deny=frozenset(Action))


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ENTRIES_LIMIT", PAGE)


def fill(door: Door, count: int = 10) -> list[str]:
    made = [f"file-{number:02}" for number in range(count)]
    for name in made:
        put(door, f"/radiology/{name}")
    return made


def pages(door: Door, *, properties: bool = False) -> list[list[Entry]]:
    return [list(page) for page in door.scandir(FOLDER, properties=properties).pages]


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 10])
def test_every_entry_comes_once(gate: Gate, count: int) -> None:
    """However many pages there are; no page is longer than the limit."""
    alice = gate.door("alice")
    made = fill(alice, count)
    found = pages(alice)
    assert sorted(entry.name for page in found for entry in page) == made
    assert max(map(len, found)) <= PAGE


def test_a_listing_of_many_pages_is_one_record(gate: Gate) -> None:
    """The folder was listed once, whatever it took."""
    alice = gate.door("alice")
    fill(alice)
    gate.new_records()
    pages(alice)
    assert [line["action"] for line in gate.new_records()] == ["list"]


def test_properties_come_with_every_page(gate: Gate) -> None:
    """Only when asked for."""
    alice = gate.door("alice")
    for name in fill(alice):
        alice.set_properties(at(f"/radiology/{name}"), put={COLOUR: name}, remove=frozenset())
    for page in pages(alice, properties=True):
        assert all(entry.properties == {COLOUR: entry.name} for entry in page)
    assert not any(entry.properties for page in pages(alice) for entry in page)


def test_what_a_path_rule_hides_is_on_no_page(gate: Gate) -> None:
    """And what it hides takes no more than its place."""
    alice = gate.door("alice")
    made = fill(alice, 14)
    gate.policy.replace(staff(HIDDEN))
    assert names(gate.door("bob"), "/radiology") == made[10:]


def test_an_edited_owner_does_not_show_what_is_hidden(gate: Gate) -> None:
    """Who made a node decides what a drop box shows, so the row is verified there."""
    alice, bob = gate.door("alice"), gate.door("bob")
    fill(alice, 1)
    gate.policy.replace(staff(HIDDEN))
    gate.sql("UPDATE nodes SET created_by = 'id-bob' WHERE length(version_id) > 0")
    with pytest.raises(Exception, match="does not verify"):
        names(bob, "/radiology")


def test_own_uploads_and_open_files_are_merged_into_their_pages(gate: Gate) -> None:
    """Over SFTP a session sees what it writes: once, with its size, under every kind of name."""
    alice = gate.door("alice", wire=Wire.SFTP)
    made = fill(alice)
    over = opened(alice, f"/radiology/{made[3]}", b"longer than before")
    new = opened(alice, "/radiology/new", b"12345")
    cut = opened(alice, "/radiology/cut", b"123")
    cut.suspend("disconnected")
    found = {one.name: one.size_bytes for one in alice.scandir(FOLDER).children}
    assert sorted(found) == sorted([*made, "new", "cut"])
    assert (found[made[3]], found["new"], found["cut"]) == (18, 5, 3)
    assert names(gate.door("bob", wire=Wire.SFTP), "/radiology") == made
    over.abort()
    new.abort()


def test_a_right_that_is_taken_away_ends_the_listing(gate: Gate) -> None:
    """Policy is asked for each page; the refusal is recorded."""
    alice = gate.door("alice")
    fill(alice)
    begun = alice.scandir(FOLDER).pages
    next(begun)
    gate.policy.replace(staff(without=frozenset({Action.LIST})))
    with pytest.raises(DeniedError):
        next(begun)
    assert gate.records()[-1]["outcome"] == "denied"


def test_a_session_that_ends_ends_the_listing(gate: Gate) -> None:
    """No page comes after the idle timeout."""
    alice = gate.door("alice")
    fill(alice)
    begun = alice.scandir(FOLDER).pages
    next(begun)
    gate.clock.forward(IDLE_TIMEOUT_S + 1)
    with pytest.raises(SessionEndedError):
        next(begun)


def test_another_folder_of_the_same_name_is_not_listed_on(gate: Gate) -> None:
    """A listing belongs to a folder, not to its name."""
    alice = gate.door("alice")
    alice.mkdir(at("/radiology/a"))
    for number in range(PAGE + 1):
        put(alice, f"/radiology/a/{number}")
    begun = alice.scandir(at("/radiology/a")).pages
    next(begun)
    alice.move(at("/radiology/a"), at("/radiology/b"))
    alice.mkdir(at("/radiology/a"))
    with pytest.raises(NotFoundError):
        next(begun)


def test_what_changes_meanwhile_leaves_the_rest_alone(gate: Gate) -> None:
    """Entries that nobody touches come exactly once."""
    alice = gate.door("alice")
    made = fill(alice, 12)
    begun = alice.scandir(FOLDER).pages
    found = [entry.name for entry in next(begun)]
    gone, added = next(name for name in made if name not in found), "added"
    alice.delete(at(f"/radiology/{gone}"))
    put(alice, f"/radiology/{added}")
    found += [entry.name for page in begun for entry in page]
    assert [name for name in sorted(found) if name != added] == sorted(set(made) - {gone})


def test_a_small_file_is_read_with_one_wait_for_the_disk(gate: Gate) -> None:
    """Its two records are committed together, and the handle needs no more."""
    alice = gate.door("alice")
    put(alice, FILE, b"content")
    gate.new_records()
    handle = alice.open_read(at(FILE), whole_limit_bytes=7)
    lines = gate.new_records()
    assert [(line["action"], line["bytes"]) for line in lines] == [("read", None), ("read_end", 7)]
    gate.refuse_records()
    assert handle.read_at(0, 100) == b"content"
    handle.close(complete=True)
    gate.accept_records()
    assert gate.new_records() == []


def test_a_larger_file_is_read_and_closed_in_two_steps(gate: Gate) -> None:
    """One byte over the limit."""
    alice = gate.door("alice")
    put(alice, FILE, b"content")
    gate.new_records()
    handle = alice.open_read(at(FILE), whole_limit_bytes=6)
    assert [line["action"] for line in gate.new_records()] == ["read"]
    assert handle.read_at(0, 100) == b"content"
    handle.close(complete=True)
    assert [(line["action"], line["bytes"]) for line in gate.new_records()] == [("read_end", 7)]
    assert get(alice, FILE) == b"content"
