"""Results on disk: one Parquet file a unit, written aside and renamed, never half there.

A folder of results holds ``study.json`` (what was asked), ``units/`` and ``timings/`` (one file a
unit of work, named by a hash of all that its numbers depend on), ``packs/`` (many units in one
file, made by :func:`compact`) and ``claims`` (which running process works on what).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holobeam.errors import FileError

if TYPE_CHECKING:
    import pyarrow as pa

META = b"holobeam"
"""Key of a file's own description among the metadata of its schema."""


class FullDiskError(FileError):
    """The disk is full: what is finished is safe, what was being written is not there."""


class CorruptFileError(FileError):
    """A file of results that can't be read back as it was written."""


@dataclass(frozen=True)
class Store:
    """A folder of results.

    Attributes
    ----------
    folder
        Where; made when something is first written.
    """

    folder: Path

    @property
    def units(self) -> Path:
        """Folder of finished units."""
        return self.folder / "units"

    @property
    def timings(self) -> Path:
        """Folder of finished timings."""
        return self.folder / "timings"

    @property
    def packs(self) -> Path:
        """Folder of compacted units."""
        return self.folder / "packs"

    def unit_path(self, key: str) -> Path:
        """File of a unit."""
        return self.units / f"{key}.parquet"

    def timing_path(self, key: str) -> Path:
        """File of a timing."""
        return self.timings / f"{key}.parquet"

    def prepare(self) -> None:
        """Make the folders and sweep out what dead processes left half written.

        Raises
        ------
        FileError
            If the folder can't be written.
        """
        try:
            for folder in (self.units, self.timings):
                folder.mkdir(parents=True, exist_ok=True)
            for stale in self.folder.rglob(".*.tmp"):
                if _abandoned(stale):
                    stale.unlink(missing_ok=True)
        except OSError as error:
            raise _write_error(self.folder, error) from error

    def finished(self) -> set[str]:
        """Keys of the units that are there and whole; damaged files are set aside.

        A damaged file is renamed to ``*.corrupt``, so that its unit is done again.
        """
        whole = set()
        for path in sorted(self.units.glob("*.parquet")):
            try:
                read_table(path)
                whole.add(path.stem)
            except CorruptFileError:
                path.replace(path.with_suffix(".corrupt"))
        return whole | set(self.packed())

    def finished_timings(self) -> set[str]:
        """Keys of the timings that are there."""
        return {path.stem for path in self.timings.glob("*.parquet")}

    def packed(self) -> dict[str, Path]:
        """Keys of compacted units, with the pack that each is in."""
        found: dict[str, Path] = {}
        for path in sorted(self.packs.glob("*.parquet")):
            try:
                found |= dict.fromkeys(read_meta(path)["units"], path)
            except CorruptFileError:
                path.replace(path.with_suffix(".corrupt"))
        return found

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Say in ``study.json`` what the folder holds results of."""
        # Unsorted: the order of axes is that of the study file.
        text = json.dumps(manifest, indent=1) + "\n"
        write_atomically(self.folder / "study.json", text.encode())

    def manifest(self) -> dict[str, Any]:
        """Read ``study.json``.

        Raises
        ------
        FileError
            If there is none, or it is damaged.
        """
        path = self.folder / "study.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            right = "name a folder that `holobeam run` wrote"
            raise FileError("results", f"no study.json in {self.folder}", right) from None
        except ValueError:
            raise FileError("results", f"{path} is damaged", "run the study again") from None
        return found


def encode_table(table: pa.Table, meta: Mapping[str, Any]) -> bytes:
    """Make the content of a file of results from a table and its description.

    The same table gives the same bytes: nothing of time or place is in the file unless ``meta``
    says so.
    """
    import pyarrow.parquet as pq

    text = json.dumps(meta, sort_keys=True, separators=(",", ":"))
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({META: text.encode()}),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    return buffer.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either whole or not there.

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
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise _write_error(path, error) from error


def _flush_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(path: Path, error: OSError) -> FileError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return FullDiskError(
            "results",
            f"the disk is full, {path.name} was not written",
            "make room and run the same command again: nothing that is finished is lost",
        )
    return FileError("results", f"can't write {path}: {error.strerror}", "choose another folder")


def _abandoned(path: Path) -> bool:
    """Whether the process that was writing a temporary file is gone."""
    parts = path.name.split(".")
    host, pid = ".".join(parts[3:-3]), parts[-3]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file of results, checking the sums of its pages.

    Raises
    ------
    CorruptFileError
        If it is damaged, truncated, or something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise _corrupt(path, str(error)) from error
    if META not in (table.schema.metadata or {}):
        raise _corrupt(path, "it was not written by holobeam")
    return table


def read_meta(path: Path) -> dict[str, Any]:
    """Read the description of a file of results.

    Raises
    ------
    CorruptFileError
        If it is damaged, truncated, or something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        found: dict[str, Any] = json.loads((schema.metadata or {})[META])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise _corrupt(path, str(error)) from error
    return found


def table_meta(table: pa.Table) -> dict[str, Any]:
    """Description of a table that was read."""
    found: dict[str, Any] = json.loads(table.schema.metadata[META])
    return found


def _corrupt(path: Path, why: str) -> CorruptFileError:
    return CorruptFileError("results", f"{path.name} is damaged ({why[:120]})", "run it again")


class Claims:
    """Locks that keep two processes from working on one unit; they end with their process.

    One byte of the file ``claims`` stands for each unit: locked, a live process works on it.
    Nothing is left behind by a process that is killed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / "claims", os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, key: str) -> bool:
        """Claim a unit; False if another process has it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def release(self, key: str) -> None:
        """Give a unit back."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _place(key))

    def close(self) -> None:
        """Give everything back."""
        os.close(self._descriptor)


def _place(key: str) -> int:
    return int(key[:15], 16)


def compact(store: Store) -> int:
    """Put all single unit files into one pack; returns how many went in.

    A pack is written before the files in it are deleted: killed in between, a unit is there twice
    and counted once.
    """
    import pyarrow as pa

    paths = sorted(store.units.glob("*.parquet"))
    tables, metas, whole = [], {}, []
    for path in paths:
        try:
            table = read_table(path)
        except CorruptFileError:
            path.replace(path.with_suffix(".corrupt"))
            continue
        keys = pa.array([path.stem] * table.num_rows, pa.string()).dictionary_encode()
        tables.append(table.replace_schema_metadata(None).append_column("unit", keys))
        metas[path.stem] = table_meta(table)
        whole.append(path)
    if not tables:
        return 0
    joined = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    name = _pack_name(metas)
    content = encode_table(joined, {"units": metas})
    write_atomically(store.packs / f"{name}.parquet", content)
    for path in whole:
        path.unlink(missing_ok=True)
    return len(whole)


def _pack_name(keys: Mapping[str, Any]) -> str:
    return hashlib.blake2b(",".join(sorted(keys)).encode(), digest_size=10).hexdigest()


def read_units(store: Store, wanted: set[str]) -> Iterator[tuple[str, pa.Table, dict[str, Any]]]:
    """Read units, from single files first, then from packs, each once."""
    import pyarrow.compute as pc

    left = set(wanted)
    for key in sorted(wanted):
        path = store.unit_path(key)
        if path.exists():
            table = read_table(path)
            left.discard(key)
            yield key, table, table_meta(table)
    packs = {path for key, path in store.packed().items() if key in left} if left else set()
    for pack in sorted(packs):
        table = read_table(pack)
        metas = table_meta(table)["units"]
        for key in sorted(left & set(metas)):
            rows = table.filter(pc.equal(table["unit"], key)).drop_columns(["unit"])
            left.discard(key)
            yield key, rows, metas[key]
