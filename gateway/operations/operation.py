"""One operation on its way through the door: whom it is for, what it asked, what to record.

Holds no transaction logic (that is the monitor's) and touches no storage of its own accord.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from auth.policy import Decision, Policy, Situation, decide, decide_stat, rules_below
from backends.catalog import locks
from backends.catalog.locks import LockRow
from backends.catalog.nodes import NO_VERSION
from backends.errors import NotAFolderError, NotFoundError, ParentMissingError
from backends.unfinished import UnfinishedUpload
from backends.vault import Node, Vault
from gateway import locking
from gateway.audit.record import Record, session_record
from gateway.errors import DeniedError
from gateway.handles import WriteHandle
from gateway.model import Action, Condition, Outcome, Seen, Session, Transaction, Wire
from gateway.operations.writes import OpenWrites
from gateway.paths import VirtualPath


def present_id(node: Node | None) -> bytes | None:
    """Return the version that a name holds: empty when it is free, None when it is a folder's."""
    if node is None:
        return NO_VERSION
    return None if node.is_folder else node.row.version_id


@dataclass(slots=True)
class Operation:
    """What a body works with.

    ``decided`` stays false until policy was asked about something, ``committing`` until all that
    is left to do is the commit itself, whose outcome may stay unknown if the disk fails in it.
    ``closing`` is the record of a read's end where the body has read everything already. ``reads``:
    see ``read_on``.
    """

    tx: Transaction
    session: Session
    vault: Vault
    policy: Policy
    situation: Situation
    tokens: frozenset[str]
    condition: Condition | None
    writes: OpenWrites
    action: str
    path: VirtualPath
    target: VirtualPath | None = None
    node_id: str = ""
    version_id: str = ""
    bytes: int | None = None
    decided: bool = False
    committing: bool = False
    closing: Record | None = None
    reads: bool = False
    rules: list[str] = field(default_factory=list)
    afterwards: list[Callable[[], None]] = field(default_factory=list)

    @property
    def principal_id(self) -> str:
        """Who asks."""
        return self.session.principal.id

    @property
    def now_us(self) -> int:
        """The moment that policy and locks are judged at."""
        return self.situation.now_us

    # Policy

    def allow(self, action: Action, path: VirtualPath) -> None:
        """Go on only if policy allows ``action`` on ``path``; DeniedError otherwise."""
        self._judge(decide(self.policy, self.session.principal, action, path, self.situation))

    def allow_stat(self, path: VirtualPath, *, own: bool) -> None:
        """Go on only if the principal may know of ``path``; ``own``: it made the node itself."""
        self._judge(decide_stat(self.policy, self.session.principal, path, self.situation, own=own))

    def allow_change(self, path: VirtualPath, *, own: bool) -> None:
        """Go on only if the node's times may be set: with write, or with create on an own node."""
        action = Action.CREATE if own and not self.permits(Action.WRITE, path) else Action.WRITE
        self.allow(action, path)

    def allow_below(
        self, action: Action, folder: Node, *, rebased: VirtualPath | None = None
    ) -> None:
        """Go on only if ``action`` is allowed on everything below ``folder``.

        With ``rebased``, on where all that would lie if the folder became that path. The tree is
        walked only if some path rule could decide there differently than on the folder itself.
        """
        top = folder.path if rebased is None else rebased
        if not folder.is_folder or not rules_below(self.policy, self.session.principal, top):
            return
        for node in self.vault.descendants(self.tx, folder):
            self.allow(action, node.path.rebased(folder.path, top))

    def allow_carried(self, node: Node, target: VirtualPath) -> None:
        """Go on only if ``node``, once it lies at ``target``, shows nothing that it hides now.

        Otherwise a right to move would undo a deny: what may not be read here could be moved to
        where it may.
        """
        principal = self.session.principal
        nodes = [node]
        if node.is_folder and (
            rules_below(self.policy, principal, node.path)
            or rules_below(self.policy, principal, target)
        ):
            nodes.extend(self.vault.descendants(self.tx, node))
        for each in nodes:
            for action in (Action.READ, Action.LIST, Action.RESTORE):
                there = each.path.rebased(node.path, target)
                if self.permits(action, there):
                    self.allow(action, each.path)

    def permits(self, action: Action, path: VirtualPath) -> bool:
        """Return whether policy would allow ``action``, without deciding anything."""
        return decide(self.policy, self.session.principal, action, path, self.situation).allowed

    def shows(self, node: Node) -> bool:
        """Return whether a listing may show ``node``."""
        return self.shows_path(node.path, own=node.row.created_by == self.principal_id)

    def shows_path(self, path: VirtualPath, *, own: bool) -> bool:
        """Return whether a listing may show what lies at ``path``; ``own``: the asker made it."""
        principal = self.session.principal
        return decide_stat(self.policy, principal, path, self.situation, own=own).allowed

    def _judge(self, decision: Decision) -> None:
        self.decided = True
        if not decision.allowed:
            self.rules = [decision.rule]
            raise DeniedError(decision.rule)
        if decision.rule not in self.rules:
            self.rules.append(decision.rule)

    def read_on(self, action: Action) -> None:
        """Go on from a look-up to what it leads to, whose record is durable before its answer."""
        self.action, self.reads = action.value, True

    # The client's own condition

    def require_condition(self) -> None:
        """Go on only if the client's own condition holds now; ConflictError.

        To be asked when all else permits the change, but before locks are (RFC 9110 section
        13.2.1, RFC 4918 section 10.4.1).
        """
        if self.condition is not None:
            self.condition(self._look)

    def _look(self, path: VirtualPath) -> Seen:
        lineage = self.lineage(path)
        node = self.at_end(lineage, path)
        if node is None or not self.shows(node):
            return Seen(None)
        rows: list[LockRow] = []
        if locks.any_live(self.tx, self.now_us):
            rows = locking.covering(self.tx, lineage, self.now_us)
        own = frozenset(row.token for row in rows if row.principal_id == self.principal_id)
        return Seen(node.info(), own)

    # Nodes

    def lineage(self, path: VirtualPath) -> list[Node]:
        """Return the nodes from the share's root towards ``path``; empty for an unknown share.

        A file in the way ends the lineage, as if nothing lay below it.
        """
        if path.is_root:
            return []
        try:
            return self.vault.lineage(self.tx, path)
        except NotAFolderError:
            return self.lineage(path.parent)
        except NotFoundError:
            return []

    @staticmethod
    def at_end(lineage: Sequence[Node], path: VirtualPath) -> Node | None:
        """Return the node at ``path`` when ``lineage`` reaches it; the root ``/`` has none."""
        return lineage[-1] if lineage and len(lineage) == len(path.parts) else None

    def find(self, path: VirtualPath) -> Node | None:
        """Return the node at ``path``, if there is one."""
        return self.at_end(self.lineage(path), path)

    def require(self, path: VirtualPath) -> Node:
        """Return the node at ``path``, noted for the record; NotFoundError if there is none."""
        node = self.find(path)
        if node is None:
            raise NotFoundError("There is no such file or folder.")
        self.concerns(node)
        return node

    def folder_for(self, path: VirtualPath, lineage: Sequence[Node]) -> Node:
        """Return the folder that ``path`` lies in; ParentMissingError, NotAFolderError."""
        if len(lineage) < len(path.parts) - 1 or path.is_share or path.is_root:
            raise ParentMissingError("The folder for the new file does not exist; create it first.")
        folder = lineage[len(path.parts) - 2]
        if not folder.is_folder:
            raise NotAFolderError("What should be the folder is a file.")
        return folder

    def own_write(self, path: VirtualPath) -> WriteHandle | None:
        """Return the file that this session is writing under ``path``, if any.

        Only SFTP's clients look at files that they have open; to those of WebDAV a file is what
        its ETag names until the PUT is over.
        """
        if self.session.wire is not Wire.SFTP:
            return None
        return self.writes.find(self.session.id, path)

    def own_writes(self, folder: VirtualPath) -> list[tuple[VirtualPath, WriteHandle]]:
        """Return the files that this session is writing at or below ``folder``."""
        if self.session.wire is not Wire.SFTP:
            return []
        return self.writes.within(self.session.id, folder)

    def unfinished(self, path: VirtualPath, lineage: Sequence[Node]) -> UnfinishedUpload | None:
        """Return what arrived of the principal's own cut-off upload to ``path``, if any.

        For SFTP alone, whose clients can continue one.
        """
        depth = len(path.parts) - 1
        if self.session.wire is not Wire.SFTP or depth < 1 or len(lineage) < depth:
            return None
        folder = lineage[depth - 1]
        upload = self.vault.unfinished.find(
            self.tx, folder.share, folder.id, path.name, principal_id=self.principal_id
        )
        present = present_id(self.at_end(lineage, path))
        if upload is None or not self.vault.unfinished.is_current(upload, present):
            return None
        return upload

    def unfinished_in(self, folder: Node) -> list[UnfinishedUpload]:
        """Return the principal's own cut-off uploads in ``folder``; for SFTP alone."""
        if self.session.wire is not Wire.SFTP:
            return []
        return self.vault.unfinished.in_folder(
            self.tx, folder.share, folder.id, principal_id=self.principal_id
        )

    def concerns(self, node: Node) -> None:
        """Note which node and version the operation is about."""
        self.node_id = node.id.hex()
        self.version_id = node.row.version_id.hex()

    # Locks

    def require_unlocked(self, lineage: Sequence[Node], *, membership: bool) -> None:
        """Raise LockedError if a lock forbids to change the last node of ``lineage``.

        For a node that is yet to be made ``lineage`` ends with the folder, which is what changes.
        With ``membership`` the folder above changes too: it loses a member, or its name.
        """
        if locks.any_live(self.tx, self.now_us):
            self._require_tokens(lineage)
            if membership:
                self._require_tokens(lineage[:-1])

    def require_unlocked_below(self, node: Node) -> list[str]:
        """As ``require_unlocked`` for all below ``node``; return the locks there, by token."""
        if not locks.any_live(self.tx, self.now_us):
            return []
        rows = locks.at_or_below(self.tx, node.id, self.now_us)
        for node_id in dict.fromkeys(row.node_id for row in rows):
            place = self.vault.locate(self.tx, node.share.name, node_id)
            if place is not None:
                self._require_tokens(self.lineage(place.path), top=node)
        return [row.token for row in rows]

    def _require_tokens(self, lineage: Sequence[Node], *, top: Node | None = None) -> None:
        """Refuse to change the last node of ``lineage`` without the tokens that this takes.

        With ``top``, to change it and whatever lies in it, as part of a change to ``top``: what
        no lock lies on there is covered by the deep ones alone. Where a lock lies is told only if
        a listing would show it.
        """
        rows = locking.covering(self.tx, lineage, self.now_us)
        row = locking.missing(rows, self.principal_id, self.tokens)
        if row is None and top is not None and lineage[-1].is_folder:
            deep = [each for each in rows if each.depth_infinity]
            row = locking.missing(deep, self.principal_id, self.tokens)
        if row is not None:
            root = next(each for each in lineage if each.id == row.node_id)
            raise locking.refusal(row, root if self.shows(root) else None)

    def record(self, outcome: Outcome, error: str = "") -> Record:
        """Return the operation's audit record."""
        return replace(
            session_record(
                self.action, outcome, self.session, rule=", ".join(self.rules), error=error
            ),
            share=self.path.share,
            node_id=self.node_id,
            version_id=self.version_id,
            bytes=self.bytes,
            path=str(self.path),
            target="" if self.target is None else str(self.target),
        )
