"""Results on disk: one Parquet file a unit, written aside and renamed, never half there.

A folder of results holds ``study.json`` (what was asked), ``units/`` and ``timings/`` (one file a
unit of work, named by a hash of all that its numbers depend on), ``packs/`` (many units in one
file, made by :func:`compact`) and ``claims`` (which running process works on what).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holobeam.errors import FileError
from holobeam.studies.claims import Claims
from holobeam.studies.files import (
    CorruptFileError,
    FullDiskError,
    encode_table,
    read_bytes,
    read_table,
    set_aside,
    sweep,
    table_meta,
    write_atomically,
    write_error,
)
from holobeam.studies.packs import list_packs, read_packs, write_packs

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "CorruptFileError",
    "FullDiskError",
    "Store",
    "compact",
    "encode_table",
    "read_table",
    "read_units",
    "table_meta",
    "write_atomically",
]

PACKING = "f" * 20
"""What is claimed by the process that packs a folder; no unit has this key."""


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
            for folder in (self.folder, self.units, self.timings, self.packs):
                sweep(folder)
        except OSError as error:
            raise write_error(self.folder, error) from error

    def finished(self, wanted: Collection[str] | None = None) -> set[str]:
        """Keys of the units that are there and whole; damaged files are set aside.

        Parameters
        ----------
        wanted
            Keys to look for, all by default: one part of many need not read the others' files.
        """
        # Single files first: a unit that is packed meanwhile is in the pack that is read next.
        whole = _whole(self.units, wanted)
        packed = self.packed()
        return whole | (set(packed) if wanted is None else packed.keys() & set(wanted))

    def has(self, key: str) -> bool:
        """Whether a unit is there, alone or in a pack."""
        return self.unit_path(key).exists() or key in self.packed()

    def finished_timings(self) -> dict[str, bool]:
        """Keys of the timings that are there and whole, and whether each is contended."""
        found = {}
        for key in _whole(self.timings, None):
            with suppress(FileNotFoundError):
                meta = table_meta(read_table(self.timing_path(key)))
                found[key] = bool(meta.get("contended", False))
        return found

    def packed(self) -> dict[str, Path]:
        """Keys of compacted units, with the pack that each is in."""
        try:
            changed = self.packs.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        return _packed(self.packs, changed)

    def loose(self) -> int:
        """Count the units that are files of their own."""
        return len(_names(self.units))

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


def _names(folder: Path) -> set[str]:
    """Stems of the Parquet files in a folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except FileNotFoundError:
        return set()
    return {name[: -len(".parquet")] for name in names if name.endswith(".parquet")}


def _whole(folder: Path, wanted: Collection[str] | None) -> set[str]:
    """Stems of the files that are whole; damaged ones are set aside."""
    names = _names(folder)
    whole = set()
    for key in names if wanted is None else names & set(wanted):
        path = folder / f"{key}.parquet"
        try:
            read_bytes(path)
        except FileNotFoundError:
            continue
        except CorruptFileError:
            set_aside(path)
            continue
        whole.add(key)
    return whole


@lru_cache(maxsize=64)
def _packed(packs: Path, changed: int) -> dict[str, Path]:
    """Content of a folder of packs that was last changed at a time."""
    return list_packs(packs)


def compact(store: Store) -> int:
    """Put all single unit files into packs; returns how many went in.

    Safe at any time: beside runs that go on, and killed at any moment. While another process packs
    the folder there is nothing to do, and 0 is returned.
    """
    claims = Claims(store.folder)
    try:
        return write_packs(store.units, store.packs) if claims.take(PACKING) else 0
    finally:
        claims.close()


def read_units(store: Store, wanted: set[str]) -> Iterator[tuple[str, pa.Table, dict[str, Any]]]:
    """Read units, from single files first, then from packs, each once.

    Raises
    ------
    CorruptFileError
        If one is damaged.
    """
    left = set(wanted)
    for key in sorted(_names(store.units) & left):
        try:
            table = read_table(store.unit_path(key))
        except FileNotFoundError:
            # Packed meanwhile: found below.
            continue
        left.discard(key)
        yield key, table, table_meta(table)
    if left:
        packs = {path for key, path in store.packed().items() if key in left}
        yield from read_packs(packs, left)
