"""The campaign's own judgement: a judge that overlooks things proves nothing."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from backends.errors import IntegrityError
from tests.crash.check import Past, settle
from tests.crash.client import perform
from tests.crash.content import ZEROS, Piece, Recipe
from tests.crash.model import (
    Acknowledged,
    Delete,
    MakeFolder,
    Operation,
    Put,
    SetProperty,
    Story,
    applied,
)
from tests.crash.plan import Planner
from tests.crash.rows import reading
from tests.crash.site import MovableClock, Site, door_for, root_of

ROOT = root_of(0)
SESSION = "session"


def played(site: Site, done: list[Operation]) -> Story:
    """Do operations at the door and return the story that their client would tell."""
    gateway = site.open(MovableClock())
    try:
        door = door_for(gateway, SESSION)
        story = Story(SESSION, {})
        for operation in done:
            story.done.append(Acknowledged(operation, perform(door, operation, {})))
    finally:
        gateway.close()
    return story


def judged(site: Site, story: Story) -> list[str]:
    """Return what the check finds when it is told ``story``."""
    gateway = site.open(MovableClock())
    try:
        door = door_for(gateway, uuid.uuid4().hex)
        return list(settle(gateway, site, door, Past({0: story}, 0))[0].findings)
    except IntegrityError as error:
        return [str(error)]
    finally:
        gateway.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "disk").mkdir()
    made = Site.create(tmp_path, tmp_path / "disk")
    gateway = made.open(MovableClock())
    perform(door_for(gateway, "setup"), MakeFolder(ROOT), {})
    gateway.close()
    return made


DONE: list[Operation] = [
    MakeFolder(f"{ROOT}/folder"),
    Put(f"{ROOT}/small", Piece(1, 0, 100)),
    Put(f"{ROOT}/small", Piece(2, 0, 100)),
    Put(f"{ROOT}/folder/large", Piece(3, 0, 200_000)),
]


def test_a_true_story_is_believed(site: Site) -> None:
    """Nothing is found where all that was acknowledged is there."""
    assert judged(site, played(site, DONE)) == []


@pytest.mark.parametrize(
    "lie",
    [
        Put(f"{ROOT}/never", Piece(4, 0, 10)),
        Put(f"{ROOT}/small", Piece(4, 0, 100)),
        Delete(f"{ROOT}/small"),
        SetProperty(f"{ROOT}/folder", "a", "value"),
    ],
)
def test_an_acknowledged_operation_that_is_lost_is_found(site: Site, lie: Operation) -> None:
    """A story with one more operation than the gateway did is contradicted."""
    story = played(site, DONE)
    story.done.append(Acknowledged(lie))
    assert judged(site, story)


def test_an_operation_without_acknowledgement_may_be_done_or_not(site: Site) -> None:
    """An open operation is believed to have happened only where it did."""
    story = played(site, DONE)
    last = story.done.pop()
    story.open = [last.operation]
    assert judged(site, story) == []
    story.done.append(last)
    story.open = [Delete(f"{ROOT}/small")]
    assert judged(site, story) == []


def test_half_an_operation_is_found(site: Site) -> None:
    """An open operation whose effect is there in part is contradicted."""
    story = played(site, [*DONE, Put(f"{ROOT}/folder/large", Piece(4, 0, 1000))])
    story.done.pop()
    story.open = [Put(f"{ROOT}/folder/large", Piece(4, 0, 2000))]
    assert judged(site, story)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
        "UPDATE audit SET body = replace(body, 'create', 'remove')",
        "UPDATE shares SET used_bytes = used_bytes + 1",
        "DELETE FROM extents",
        "DELETE FROM versions WHERE id NOT IN (SELECT version_id FROM nodes)",
    ],
)
def test_a_catalog_that_contradicts_itself_is_found(site: Site, statement: str) -> None:
    """Lost rows and wrong counters are noticed, not only lost files."""
    story = played(site, DONE)
    with reading(site.catalog) as connection:
        connection.execute(statement)
        connection.execute("COMMIT")
    assert judged(site, story)


def test_a_lost_and_a_cut_blob_are_found(site: Site) -> None:
    """Segments are looked for by name and size."""
    story = played(site, DONE)
    (blob,) = [path for path in site.blobs.glob("??/*") if path.stat().st_size > 1]
    with blob.open("r+b") as file:
        file.truncate(1000)
    assert any("blob: segment" in finding for finding in judged(site, story))
    blob.unlink()
    assert any("blob: segment" in finding for finding in judged(site, story))


def test_recipes_describe_contents_exactly() -> None:
    """Writes and cuts of a recipe give what the same writes and cuts of bytes give."""
    rng = random.Random(1)
    recipe, plain = Recipe(), bytearray()
    for _ in range(300):
        if rng.random() < 0.3:
            size = rng.randrange(400)
            recipe = recipe.truncated(size)
            plain = plain[:size].ljust(size, b"\0")
        else:
            offset, seed = rng.randrange(300), rng.choice((ZEROS, rng.getrandbits(20)))
            piece = Piece(seed, 0, rng.randrange(1, 90))
            recipe = recipe.changed(offset, piece)
            plain = plain.ljust(offset, b"\0")
            plain[offset : offset + piece.size_bytes] = piece.data()
        assert recipe.data() == plain


def test_plans_fit_their_trees_and_repeat_with_their_seed() -> None:
    """The same seed gives the same operations, each of which changes the tree it was drawn for."""

    def planned() -> list[Operation]:
        planner = Planner(random.Random("seed"), ROOT, "x")
        tree, found = applied({}, Put(f"{ROOT}/first", Piece(1, 0, 1))), []
        for _ in range(300):
            operation = planner.next(tree)
            found.append(operation)
            tree = applied(tree, operation)
        return found

    assert planned() == planned()
    assert len({type(operation) for operation in planned()}) == len(Operation.__args__)
