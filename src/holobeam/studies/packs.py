"""Packs: many finished units in one file, for folders that would hold too many small ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holobeam.studies.files import (
    CorruptFileError,
    decode_table,
    encode_table,
    read_bytes,
    read_table,
    set_aside,
    table_meta,
    write_atomically,
)

if TYPE_CHECKING:
    import pyarrow as pa

UNITS_IN_A_PACK = 4096
"""Most units that one pack holds: some 20 MB, a second of work that a stop may cost."""

_OWN = ("start", "stop")
"""Parts of a unit's description that differ from shard to shard; the rest is kept once."""


def write_packs(units: Path, packs: Path) -> int:
    """Put all single unit files of a folder into packs; returns how many went in.

    A pack is written before the files in it are deleted: killed in between, a unit is there twice
    and counted once.

    Parameters
    ----------
    units, packs
        Folder of single files, folder of packs.
    """
    paths = sorted(units.glob("*.parquet"))
    return sum(
        _write_pack(paths[a : a + UNITS_IN_A_PACK], packs)
        for a in range(0, len(paths), UNITS_IN_A_PACK)
    )


def _write_pack(paths: Sequence[Path], packs: Path) -> int:
    import pyarrow as pa

    whole, tables, rows = [], [], []
    shared: dict[str, int] = {}
    for path in paths:
        try:
            table = read_table(path)
        except FileNotFoundError:
            # Another process packs the same folder.
            continue
        except CorruptFileError:
            set_aside(path)
            continue
        meta = table_meta(table)
        own = {name: meta.pop(name) for name in _OWN if name in meta}
        common = shared.setdefault(json.dumps(meta, sort_keys=True), len(shared))
        whole.append(path)
        tables.append(table.replace_schema_metadata(None))
        rows.append([path.stem, table.num_rows, common, own])
    if not whole:
        return 0
    joined = pa.concat_tables(tables, promote_options="default").combine_chunks()
    description = {"units": rows, "shared": [json.loads(text) for text in shared]}
    name = hashlib.blake2b(",".join(path.stem for path in whole).encode(), digest_size=10)
    path = packs / f"{name.hexdigest()}.parquet"
    write_atomically(path, encode_table(joined, description))
    # Read back before anything is deleted: from here on the pack is all that there is.
    read_bytes(path)
    for single in whole:
        single.unlink(missing_ok=True)
    return len(whole)


def list_packs(packs: Path) -> dict[str, Path]:
    """Keys of packed units, with the pack that each is in; damaged packs are set aside."""
    found: dict[str, Path] = {}
    for path in sorted(packs.glob("*.parquet")):
        try:
            found |= dict.fromkeys(keys_of_pack(path), path)
        except CorruptFileError:
            set_aside(path)
        except FileNotFoundError:
            continue
    return found


def keys_of_pack(path: Path) -> list[str]:
    """Keys of the units in a pack."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from holobeam.studies.files import META

    file = pq.ParquetFile(pa.BufferReader(read_bytes(path)))
    return [unit[0] for unit in json.loads(file.metadata.metadata[META])["units"]]


def read_packs(
    paths: Iterable[Path], wanted: set[str]
) -> Iterator[tuple[str, pa.Table, dict[str, Any]]]:
    """Read units from packs, each once."""
    left = set(wanted)
    for path in sorted(paths):
        table = decode_table(read_bytes(path))
        meta = table_meta(table)
        table = table.replace_schema_metadata(None)
        begin = 0
        for key, count, common, own in meta["units"]:
            if key in left:
                left.discard(key)
                rows = table.slice(begin, count)
                yield key, _trimmed(rows), {**meta["shared"][common], **own}
            begin += count


def _trimmed(rows: pa.Table) -> pa.Table:
    """Units of one pack need not have the same columns: what a unit lacked is all null in it."""
    lacking = [n for n in rows.column_names if rows.num_rows == rows[n].null_count]
    return rows.drop_columns(lacking) if lacking and rows.num_rows else rows
