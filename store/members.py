"""Liveness: each open connection holds a byte of a side file locked while it lives.

The system releases the lock when the process ends, however it ends, and keeps it while
the process is merely stopped. POSIX record locks are used on purpose: a forked child
does not inherit them, so a child can never keep its dead parent looking alive. Such
locks belong to the process, hence one descriptor per file and process, never closed
while a member of this process uses it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from typing import Final

__all__ = ["MemberLocks", "locks_for"]

_registry_lock: Final = threading.Lock()
_registry: dict[str, MemberLocks] = {}
_registry_pid: list[int] = [0]


class MemberLocks:
    """The member locks this process holds on one side file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: int | None = None
        self._held: set[int] = set()
        self._lock = threading.Lock()

    def hold(self, member: int) -> None:
        """Lock a member's byte for as long as this process lives.

        Raises:
            OSError: The side file cannot be created or locked.
        """
        with self._lock:
            fd = self._open()
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, member)
            self._held.add(member)

    def renew(self) -> None:
        """Lock again what is held, should someone have closed the side file in this process."""
        with self._lock:
            for member in self._held:
                if self._fd is not None:
                    fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, member)

    def drop(self, member: int) -> None:
        """Give a member's byte up; the last one closes the side file."""
        with self._lock:
            if member not in self._held or self._fd is None:
                return
            self._held.discard(member)
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, member)
            if not self._held:
                os.close(self._fd)
                self._fd = None

    def is_alive(self, member: int) -> bool:
        """Whether a process, this or another, holds the member's byte."""
        with self._lock:
            if member in self._held:
                return True
            if self._fd is None:
                return True  # nothing is known without a descriptor
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, member)
            except OSError:
                return True
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, member)
            return False

    def _open(self) -> int:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd


def locks_for(path: str) -> MemberLocks:
    """The one object of this process for a side file.

    A forked child starts with none: the parent's locks are not the child's.
    """
    with _registry_lock:
        if _registry_pid[0] != os.getpid():
            _registry.clear()
            _registry_pid[0] = os.getpid()
        found = _registry.get(path)
        if found is None:
            found = _registry[path] = MemberLocks(path)
        return found
