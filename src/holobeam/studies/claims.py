"""Who works on what: locks that end with the process that holds them."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from holobeam.studies.files import write_error

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}
"""What a file system without locks answers."""


@dataclass
class _LockFile:
    descriptor: int
    users: int = 0
    held: set[str] = field(default_factory=set)


_OPEN: dict[tuple[int, int], _LockFile] = {}
"""Lock files of this process by device and inode.

A POSIX lock belongs to the process: it does not keep a second claimant in the same process out,
and closing *any* descriptor of the file drops them all. So each file is open once in a process.
"""
_GUARD = threading.Lock()


class Claims:
    """Locks that keep two processes from working on one unit; they end with their process.

    One byte of the file ``claims`` stands for each unit: locked, a live process works on it.
    Nothing is left behind by a process that is killed. Without locks on the file system (a warning
    says so) two runs may do a unit twice: the same bytes, renamed over each other.

    Parameters
    ----------
    folder
        Of the results; made if it is not there.

    Raises
    ------
    FileError
        If the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._mine: set[str] = set()
        path = folder / "claims"
        with _GUARD:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._place = _open(path)
            except OSError as error:
                raise write_error(path, error) from error
            _OPEN[self._place].users += 1

    def take(self, key: str) -> bool:
        """Claim a unit; False if someone else has it."""
        with _GUARD:
            file = _OPEN[self._place]
            if key in file.held or not _lock(file.descriptor, key):
                return False
            file.held.add(key)
            self._mine.add(key)
            return True

    def release(self, key: str) -> None:
        """Give a unit back."""
        with _GUARD:
            self._mine.discard(key)
            file = _OPEN[self._place]
            file.held.discard(key)
            _unlock(file.descriptor, key)

    def close(self) -> None:
        """Give everything back."""
        for key in tuple(self._mine):
            self.release(key)
        with _GUARD:
            file = _OPEN[self._place]
            file.users -= 1
            if file.users == 0:
                del _OPEN[self._place]
                os.close(file.descriptor)


def _open(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
        if (found.st_dev, found.st_ino) in _OPEN:
            return found.st_dev, found.st_ino
    except FileNotFoundError:
        pass
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    made = os.fstat(descriptor)
    place = (made.st_dev, made.st_ino)
    _OPEN[place] = _LockFile(descriptor)
    return place


def _lock(descriptor: int, key: str) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        text = "this file system knows no locks: two runs on one folder may do the same work twice"
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return True


def _unlock(descriptor: int, key: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _offset(key))
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _offset(key: str) -> int:
    return int(key[:15], 16)
