"""Files of results: Parquet with a sum over every byte, whole or not there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holobeam.durable import FullDiskError, write_atomically, write_error
from holobeam.errors import FileError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "CorruptFileError",
    "FullDiskError",
    "decode_table",
    "encode_table",
    "is_whole",
    "read_bytes",
    "read_table",
    "set_aside",
    "sweep",
    "table_meta",
    "write_atomically",
    "write_error",
]

META = b"holobeam"
"""Key of a file's own description among its metadata."""

_SUM = b"holobeam-blake2b-16"
_BLANK = b"0" * 32

ABANDONED_AFTER = 86_400.0
"""Age in seconds of a temporary file that nobody can still be writing."""


class CorruptFileError(FileError):
    """A file of results that can't be read back as it was written."""


def encode_table(table: pa.Table, meta: Mapping[str, Any]) -> bytes:
    """Make the content of a file of results from a table and its description.

    The same table gives the same bytes: nothing of time or place is in the file unless ``meta``
    says so. A hash of the whole content, itself taken as zeros, stands in the file: the sums that
    Parquet keeps of its pages don't cover the description.

    Parameters
    ----------
    table
        Any; its schema's metadata are dropped.
    meta
        What can be written as JSON.
    """
    import pyarrow.parquet as pq

    text = json.dumps(meta, sort_keys=True, separators=(",", ":"))
    buffer = io.BytesIO()
    plain = table.replace_schema_metadata(None)
    with pq.ParquetWriter(
        buffer,
        plain.schema,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(plain)
        writer.add_key_value_metadata({META: text.encode(), _SUM: _BLANK})
    content = buffer.getvalue()
    place = _sum_place(content)
    return content[:place] + _digest(content) + content[place + len(_BLANK) :]


def _sum_place(content: bytes) -> int:
    """Where the hash stands, or -1."""
    # In the footer, behind all data: the last that is found, whatever a column may hold.
    found = content.rfind(_SUM)
    # Between a key and its value there are a field header and a length, of one byte each.
    place = found + len(_SUM) + 2
    return place if found >= 0 and place + len(_BLANK) <= len(content) else -1


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=len(_BLANK) // 2).hexdigest().encode()


def is_whole(content: bytes) -> bool:
    """Whether every byte of a file's content is as it was written."""
    place = _sum_place(content)
    if place < 0:
        return False
    said = content[place : place + len(_BLANK)]
    blank = content[:place] + _BLANK + content[place + len(_BLANK) :]
    return said == _digest(blank)


def read_bytes(path: Path) -> bytes:
    """Read a file of results without looking into it.

    Costs a twentieth of parsing it, which is what makes looking at all files at each resume cheap.

    Raises
    ------
    FileNotFoundError
        If it is not there (any more).
    CorruptFileError
        If it is damaged, truncated, or something else.
    FileError
        If it can't be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        wrong = f"can't read {path}: {error.strerror}"
        raise FileError("results", wrong, "see to the folder's permissions and disk") from error
    if not is_whole(content):
        wrong = f"{path.name} is damaged, or was not written by holobeam"
        raise CorruptFileError("results", wrong, "run the study again")
    return content


def decode_table(content: bytes) -> pa.Table:
    """Table of a file's content; its description is found by :func:`table_meta`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(content))
    meta = (file.metadata.metadata or {}).get(META, b"{}")
    return file.read(use_threads=False).replace_schema_metadata({META: meta})


def read_table(path: Path) -> pa.Table:
    """Read a file of results, every byte checked; raises as :func:`read_bytes`."""
    return decode_table(read_bytes(path))


def table_meta(table: pa.Table) -> dict[str, Any]:
    """Description of a table that was read."""
    found: dict[str, Any] = json.loads(table.schema.metadata[META])
    return found


def set_aside(path: Path) -> None:
    """Rename a damaged file to ``*.corrupt``, so that its unit is done again."""
    # Another run may have done so already.
    with suppress(FileNotFoundError):
        path.replace(path.with_suffix(".corrupt"))


def sweep(folder: Path) -> None:
    """Remove what processes that are gone left half written in a folder."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                path = Path(entry.path)
                with suppress(FileNotFoundError):
                    if _abandoned(path):
                        path.unlink()


def _abandoned(path: Path) -> bool:
    """Whether the process that was writing a temporary file is gone.

    Of other machines (and of a process whose number another one got since) only the age tells.
    """
    if time.time() - path.stat().st_mtime > ABANDONED_AFTER:
        return True
    parts = path.name.split(".")
    host, pid = ".".join(parts[3:-3]), parts[-3]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
