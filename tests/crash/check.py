"""The judgement after a crash: is everything that was acknowledged there, and nothing half?

``settle`` runs in the process that goes on with the data folder, before it works; ``inspect`` at
the end of a folder's life, with the command line's own verification.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from gateway import cli
from gateway.app import Gateway
from gateway.audit import trail
from gateway.audit.trail import Line
from gateway.care.clearing import Clearing
from gateway.errors import SealgateError
from gateway.janitor import Janitor
from gateway.model import SECOND_US
from gateway.monitor import Door
from gateway.paths import VirtualPath
from tests.crash import rows
from tests.crash.channel import Verdict
from tests.crash.client import Seen, Tokens, digest_at, observe, tokens_of
from tests.crash.content import digest_of
from tests.crash.model import CHANGES, Entry, Expected, Story, Tree, applied, record_of
from tests.crash.site import MovableClock, Site, root_of

_DAY_US = 24 * 3600 * SECOND_US
_PIECE_BYTES = 1024 * 1024
_GC_ROUND_LIMIT = 20

COMMANDS = (("audit", "verify"), ("scrub", "--all"))
"""The gateway's own examinations; each must find nothing."""

DoorMaker = Callable[[Gateway], Door]


@dataclass(slots=True)
class Past:
    """What the check must know of the cycles before: all of it as clients saw it.

    ``digests`` (version id → SHA-256) names the versions that were already read and found right;
    they are immutable, so that each is read once until the inspection reads all again.
    """

    stories: dict[int, Story]
    since_us: int
    digests: dict[str, str] = field(default_factory=dict)


def settle(
    gateway: Gateway, site: Site, door: Door, past: Past
) -> tuple[Verdict, dict[int, Tokens]]:
    """Return which open operations happened and everything that no crash explains.

    Beside that, the lock tokens that each thread holds.
    """
    examination = _Examination(gateway, site, door, past)
    examination.run()
    verdict = Verdict(
        happened=examination.happened,
        digests=examination.digests,
        findings=tuple(examination.findings),
    )
    return verdict, examination.tokens


class _Examination:
    def __init__(self, gateway: Gateway, site: Site, door: Door, past: Past) -> None:
        self._gateway = gateway
        self._door = door
        self._past = past
        self.findings: list[str] = []
        self.happened: dict[int, int] = {}
        self.digests: dict[str, str] = {}
        self.tokens: dict[int, Tokens] = {}
        with rows.reading(site.catalog) as connection:
            self.findings += rows.contradictions(connection, site.blobs)
            self._histories = rows.histories(connection)
            self._journals = rows.journals_since(connection, past.since_us)

    def run(self) -> None:
        """Judge every thread's story."""
        records = self._records()
        for thread, story in self._past.stories.items():
            own = [line for line in records if line["session"] == story.session]
            self._judge(thread, story, own)

    def _records(self) -> list[Line]:
        """Return the records of the journals begun since the last check, their chains verified."""
        cipher = self._gateway.audit_cipher
        with self._gateway.catalog.snapshot() as tx:
            found = [
                line
                for line in trail.lines(tx, cipher, since_us=self._past.since_us)
                if line["journal"] in self._journals
            ]
        _, problems = trail.verify_lines(found)
        self.findings += [f"audit: {problem}" for problem in problems]
        return found

    def _judge(self, thread: int, story: Story, records: list[Line]) -> None:
        seen = observe(self._door, root_of(thread))
        self.tokens[thread] = tokens_of(seen)
        tree, expected, versions = self._acknowledged(story)
        judgements = []
        for count in range(len(story.open) + 1):
            if count:
                expected.append(record_of(story.open[count - 1], tree))
                tree = applied(tree, story.open[count - 1])
                versions.append("")
            found = [
                *self._differences(tree, seen, thread),
                *_unlike(expected, versions, records, story.session),
            ]
            if not found:
                self.happened[thread] = count
                return
            judgements.append(found)
        self.findings.append(f"thread {thread} of session {story.session}:")
        for count, found in enumerate(judgements):
            self.findings += [f"  if {count} open operations happened: {each}" for each in found]
        self.findings += [f"  acknowledged: {answer.operation}" for answer in story.done]
        self.findings += [f"  open: {operation}" for operation in story.open]

    def _acknowledged(self, story: Story) -> tuple[Tree, list[Expected], list[str]]:
        """Return the tree, the records and the version ids that the answers promised."""
        tree = story.before
        expected, versions = [], []
        for answer in story.done:
            expected.append(record_of(answer.operation, tree))
            versions.append(answer.version_id)
            tree = applied(tree, answer.operation)
        return tree, expected, versions

    def _differences(self, tree: Tree, seen: Mapping[str, Seen], thread: int) -> Iterator[str]:
        for path in sorted(tree.keys() | seen.keys()):
            if path not in seen:
                yield f"thread {thread}: {path} is missing"
            elif path not in tree:
                yield f"thread {thread}: {path} should not exist"
            else:
                for what in self._deviations(path, tree[path], seen[path]):
                    yield f"thread {thread}: {path}: {what}"

    def _deviations(self, path: str, entry: Entry, node: Seen) -> Iterator[str]:
        if entry.is_folder != node.is_folder:
            yield "is a folder" if node.is_folder else "is a file"
            return
        if entry.properties != node.properties:
            yield f"properties {sorted(node.properties)} instead of {sorted(entry.properties)}"
        if entry.locked != bool(node.token):
            yield "is locked" if node.token else "has lost its lock"
        if entry.is_folder:
            return
        kept = self._histories.get(node.node_id, [])
        wanted = [digest_of(content) for content in entry.history]
        found = [self._digest(path, node, *version) for version in kept[: len(wanted)]]
        if not kept or kept[0][0] != node.version_id:
            yield "its current version is not its newest"
        if found != wanted:
            yield f"versions {[each[:12] for each in found]}, not {[each[:12] for each in wanted]}"

    def _digest(self, path: str, node: Seen, version_id: str, size_bytes: int) -> str:
        known = self._past.digests.get(version_id) or self.digests.get(version_id)
        if known is not None:
            return known
        try:
            if version_id == node.version_id:
                digest = digest_at(self._door, path)
            else:
                digest = _digest_of_old(self._gateway, path, version_id, size_bytes)
        except SealgateError as error:
            # Not remembered: it must be found again by whoever looks next.
            return f"{type(error).__name__}: {error}"
        self.digests[version_id] = digest
        return digest


def _unlike(
    expected: list[Expected], versions: list[str], records: list[Line], session: str
) -> Iterator[str]:
    """Yield where the records of the changes that were made differ from those that should be."""
    found = [line for line in records if line["outcome"] == "ok" and line["action"] in CHANGES]
    made = [Expected(line["action"], line["path"], line["target"]) for line in found]
    if made != expected:
        odd = [each for each in made if each not in expected]
        lost = [each for each in expected if each not in made]
        yield (
            f"session {session}: {len(made)} records of {len(expected)} operations; "
            f"without their operation: {odd}, operations without record: {lost}"
        )
        return
    for line, version_id in zip(found, versions, strict=True):
        if version_id and line["version_id"] != version_id:
            yield f"session {session}: a record names another version than the answer: {line}"


def _digest_of_old(gateway: Gateway, path: str, version_id: str, size_bytes: int) -> str:
    """Return the SHA-256 of a version that is no longer current, read to its end."""
    with gateway.catalog.snapshot() as tx:
        node = gateway.vault.find(tx, VirtualPath.parse(path))
        assert node is not None
        _, content = gateway.vault.past.open(tx, node.row, bytes.fromhex(version_id))
    hasher = hashlib.sha256()
    for offset in range(0, size_bytes, _PIECE_BYTES):
        hasher.update(content.read_at(offset, _PIECE_BYTES))
    return hasher.hexdigest()


def inspect(site: Site, clock: MovableClock, past: Past, door_of: DoorMaker) -> list[str]:
    """Return everything wrong with a folder at the end of its life; it is not used after that.

    Reads every version anew, verifies the whole trail by the command line, and has the janitor
    clear away on later and later days: then nothing but what versions need may lie there.
    """
    findings: list[str] = []
    gateway = site.open(clock)
    try:
        fresh = replace(past, digests={})
        findings += settle(gateway, site, door_of(gateway), fresh)[0].findings
        gateway.checkpoint()
        janitor = Janitor(gateway)
        for _ in range(_GC_ROUND_LIMIT):
            janitor.run_due()
            clock.offset_us += 10 * _DAY_US
            cleared = Clearing(gateway).run(strays=True)
            if not cleared.segments and clock.offset_us > 40 * _DAY_US:
                break
    finally:
        gateway.close()
    with rows.reading(site.catalog) as connection:
        findings += rows.damage(connection)
        findings += rows.contradictions(connection, site.blobs)
        needed, lying = rows.referenced(connection), rows.blobs_in(site.blobs)
    findings += [f"gc: {name} is needed and was deleted" for name in sorted(needed - lying)]
    findings += [f"gc: {name} is an orphan and stays" for name in sorted(lying - needed)]
    for command in COMMANDS:
        findings += _commanded(site, *command)
    return findings


def _commanded(site: Site, *arguments: str) -> list[str]:
    """Return what a command of the gateway finds wrong."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = cli.main([*arguments, "-c", str(site.config)])
    return [] if status == 0 else [f"sealgate {' '.join(arguments)}: {output.getvalue().strip()}"]
