"""Files that are either whole or not there, whenever the machine stops."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from holobeam.errors import FileError


class FullDiskError(FileError):
    """The disk is full: what is finished is safe, what was being written is not there."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or not there, whenever the machine stops.

    Raises
    ------
    FullDiskError
        If the disk is full.
    FileError
        If the file can't be written.
    """
    name = f".{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    aside = path.with_name(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        # Also when stopped by Ctrl-C; after the rename there is nothing to find.
        with suppress(OSError):
            aside.unlink()


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems don't know it of folders; they flush renames on their own.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def write_error(path: Path, error: OSError) -> FileError:
    """Say what kept a file from being written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return FullDiskError(
            "results",
            f"the disk is full, {path.name} was not written",
            "make room and run the same command again: nothing that is finished is lost",
        )
    return FileError("results", f"can't write {path}: {error.strerror}", "choose another folder")
