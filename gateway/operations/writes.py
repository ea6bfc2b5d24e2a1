"""The files being written through this process, by session and path.

A session sees its own unfinished files under their paths; nobody else does. Takes no handle's
lock, so that it may be asked inside a transaction.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from gateway.handles import Target, WriteHandle
from gateway.paths import VirtualPath


@dataclass(slots=True)
class _Shown:
    handle: WriteHandle
    path: VirtualPath


@dataclass(slots=True)
class OpenWrites:
    """Thread-safe. Of several handles on one path the last one opened is shown."""

    _shown: dict[str, list[_Shown]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

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
                if each.path == path:
                    return each.handle
        return None

    def within(self, session_id: str, folder: VirtualPath) -> list[tuple[VirtualPath, WriteHandle]]:
        """Return what the session is writing at or below ``folder``, in the order of opening."""
        with self._lock:
            return [
                (each.path, each.handle)
                for each in self._shown.get(session_id, ())
                if each.path.is_within(folder)
            ]

    def move(self, session_id: str, source: VirtualPath, target: VirtualPath) -> None:
        """Show what lay at or below ``source`` where a rename to ``target`` takes it."""
        with self._lock:
            for each in self._shown.get(session_id, ()):
                if each.path.is_within(source):
                    each.path = each.path.rebased(source, target)
                    each.handle.info = replace(each.handle.info, path=each.path)

    def retarget(self, session_id: str, path: VirtualPath, target: Target) -> None:
        """Have what the session writes under ``path`` committed to ``target`` instead.

        What the client asked of the old name (that it be absent, say) held there and is over.
        """
        with self._lock:
            for each in self._shown.get(session_id, ()):
                if each.path == path:
                    each.handle.target = target
                    each.handle.terms = replace(each.handle.terms, replace=True, base=None)
