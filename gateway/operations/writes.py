"""The files being written through this process, by session and path.

A session sees its own unfinished files under their paths; nobody else does. Takes no file's lock
where it may be asked inside a transaction.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gateway.handles import WriteHandle
from gateway.open_file import Target
from gateway.paths import VirtualPath


@dataclass(slots=True)
class _Shown:
    handle: WriteHandle
    path: VirtualPath


@dataclass(slots=True)
class OpenWrites:
    """Thread-safe. Of several files on one path the last one opened is shown."""

    _shown: dict[str, list[_Shown]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _being_opened: set[tuple[str, VirtualPath]] = field(default_factory=set)
    _turn: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def opening(self, session_id: str, path: VirtualPath) -> Iterator[None]:
        """Let the session open ``path`` once at a time, so that two opens cannot miss each other.

        Not for the inside of a transaction.
        """
        key = (session_id, path)
        with self._turn:
            self._turn.wait_for(lambda: key not in self._being_opened)
            self._being_opened.add(key)
        try:
            yield
        finally:
            with self._turn:
                self._being_opened.remove(key)
                self._turn.notify_all()

    def add(self, session_id: str, path: VirtualPath, handle: WriteHandle) -> None:
        """Show ``handle`` under ``path``."""
        with self._lock:
            self._shown.setdefault(session_id, []).append(_Shown(handle, path))

    def remove(self, session_id: str, handle: WriteHandle) -> None:
        """Forget ``handle``, wherever it is shown."""
        with self._lock:
            left = [each for each in self._shown.get(session_id, ()) if each.handle is not handle]
            if left:
                self._shown[session_id] = left
            else:
                self._shown.pop(session_id, None)

    def find(self, session_id: str, path: VirtualPath) -> WriteHandle | None:
        """Return what the session is writing under ``path``."""
        with self._lock:
            for each in reversed(self._shown.get(session_id, ())):
                if each.path == path and each.handle.file.hopeful:
                    return each.handle
        return None

    def within(self, session_id: str, folder: VirtualPath) -> list[tuple[VirtualPath, WriteHandle]]:
        """Return what the session is writing at or below ``folder``, in the order of opening."""
        with self._lock:
            return [
                (each.path, each.handle)
                for each in self._shown.get(session_id, ())
                if each.path.is_within(folder) and each.handle.file.hopeful
            ]

    def move(self, session_id: str, source: VirtualPath, target: VirtualPath) -> None:
        """Show what lay at or below ``source`` where a rename to ``target`` takes it.

        What the session was writing there itself was replaced with the rest: it is dropped, or its
        close would bring it back over what took its place. Not for the inside of a transaction.
        """
        replaced = []
        with self._lock:
            for each in self._shown.get(session_id, ()):
                if each.path.is_within(source):
                    each.path = each.path.rebased(source, target)
                    each.handle.file.path = each.path
                elif each.path.is_within(target) and each.handle.file.shared:
                    replaced.append(each.handle)
        for handle in replaced:
            self.remove(session_id, handle)
            handle.forget()

    def retarget(self, session_id: str, path: VirtualPath, target: Target) -> None:
        """Have what the session writes under ``path`` committed to ``target`` instead.

        What the client asked of the old name (that it be absent, say) held there and is over.
        """
        with self._lock:
            for each in self._shown.get(session_id, ()):
                if each.path == path:
                    file = each.handle.file
                    file.target = target
                    file.terms = replace(file.terms, replace=True)
