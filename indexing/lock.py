"""One writer at a time: a lock that the kernel gives back when its owner ends, however it ends."""

from __future__ import annotations

import os
import socket
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from towers.errors import ArtefactError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "LOCK"
_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """The right to write into a folder, held until `close` or the end of the process.

    The file stays when it is given back; what it says is for people, what counts is the kernel's lock on it.

    Args:
        folder: made where it is not there.

    Raises:
        ArtefactError: somebody else holds it, the folder cannot be written, or the system has no such locks.
    """

    def __init__(self, folder: Path) -> None:
        if fcntl is None:
            raise ArtefactError(f"cannot write {folder}: this system has no flock, which keeps a second writer out")
        path = folder / LOCK
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ArtefactError(f"cannot write {folder}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._handle, 200, 0).decode("utf-8", "replace").strip()
            os.close(self._handle)
            raise ArtefactError(
                f"{folder} has a writer already ({holder or 'it did not say who it is'}): wait until it is done"
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):  # such as a full disk: the lock is held all the same
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"process {os.getpid()} on {socket.gethostname()}, since {since}\n".encode(), 0)
        _held.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this process has it; what was forked from the one that took it has not."""
        return self._handle >= 0

    def close(self) -> None:
        """Give it back; nothing more happens at a second call."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _leave_to_parent() -> None:
    """A forked process has the parent's handles, and would keep the lock beyond its end, or write beside it."""
    for lock in list(_held):
        lock.close()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_to_parent)
