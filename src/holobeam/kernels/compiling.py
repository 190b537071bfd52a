"""From a kernel to compiled code: once a machine, by one process at a time, of today's sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba

_READY: set[tuple[int, str]] = set()

_OF_SOURCES = "holobeam.sources"
"""File beside what is compiled: the fingerprint of the sources that it was compiled from."""


def compiled(kernel: Any, arguments: tuple[Any, ...], version: str = "") -> Any:
    """Return a kernel that is compiled for these arguments, from the cache on disk where it can.

    ``version`` tells apart the types of arguments, where a kernel serves several.

    One process at a time compiles a kernel or looks for it: processes that compile different
    versions of it at once may otherwise pick the same file for both.
    """
    if (id(kernel), version) not in _READY:
        folder, function = kernel.stats.cache_path, kernel.py_func
        if folder is not None:
            with locked(folder, "sources"):
                forget_other_sources(folder)
        # Suppressed: a full disk. Compiled it is then, only not kept.
        with locked(folder, f"{function.__module__}.{function.__name__}"), suppress(OSError):
            kernel.compile(tuple(map(numba.typeof, arguments)))
        _READY.add((id(kernel), version))
    return kernel


@contextmanager
def locked(folder: str | None, name: str) -> Iterator[None]:
    """Hold a lock file between processes, where the system and the folder allow one."""
    handle = None
    try:
        import fcntl

        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            handle = open(Path(folder) / f"{name}.lock", "a")  # noqa: SIM115
            fcntl.flock(handle, fcntl.LOCK_EX)
    except (ImportError, OSError):
        pass  # the cache is then as safe as numba's own
    try:
        yield
    finally:
        if handle is not None:
            handle.close()


@cache
def forget_other_sources(folder: str) -> None:
    """Remove what was compiled from other sources than today's.

    Numba looks at the file of a kernel alone, but a kernel is made of helpers from many files:
    after an update that changed only these, the old code would go on answering.
    """
    mark = Path(folder) / _OF_SOURCES
    today = fingerprint()
    with suppress(OSError):
        if mark.exists() and mark.read_text() == today:
            return
        for path in Path(folder).glob("*.nb[ci]"):
            path.unlink(missing_ok=True)
        mark.write_text(today)


@cache
def fingerprint() -> str:
    """Digest of the sources of all kernels."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
