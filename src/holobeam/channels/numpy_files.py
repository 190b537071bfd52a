"""Reading ``.npy`` and ``.npz`` without trust: headers first, no pickle, no zip bombs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from holobeam.channels.foreign import MAX_BYTES, check_dtype, check_size, reading, refusal


def read_npz(
    path: Path, names: Sequence[str], max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray[Any, Any]]:
    """Read some members of an npz file.

    Parameters
    ----------
    path
        The file.
    names
        Members wanted, without ``.npy``.
    max_bytes
        Limit of each member, counted as complex128.

    Raises
    ------
    FileError
        If the file is damaged, lacks a member, or a member is too large or holds objects.
    """
    missing = sorted(set(names) - set(npz_names(path)))
    if missing:
        raise refusal(path, f"it lacks {', '.join(missing)}", f"it must hold {', '.join(names)}")
    return {name: read_npz_member(path, name, max_bytes) for name in names}


def npz_names(path: Path) -> list[str]:
    """Names of the arrays of an npz file."""
    with reading(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_npz_member(path: Path, name: str, max_bytes: int) -> np.ndarray[Any, Any]:
    """Read one array of an npz file, after the zip's and the array's own sizes agree."""
    with reading(path), zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        # The other methods may inflate without a bound on one step.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refusal(path, f"{name} is packed by method {info.compress_type}", "use deflate")
        with archive.open(info) as stream:
            return _read_array(path, name, stream, info.file_size, max_bytes)


def npy_names(path: Path) -> list[str]:
    """Name of the only array of an npy file."""
    return ["h"] if path.is_file() else []


def read_npy(path: Path, name: str, max_bytes: int) -> np.ndarray[Any, Any]:
    """Read an npy file, after its header and its length agree."""
    with reading(path), path.open("rb") as stream:
        return _read_array(path, name, stream, path.stat().st_size, max_bytes)


def _read_array(
    path: Path, name: str, stream: IO[bytes], declared: int, max_bytes: int
) -> np.ndarray[Any, Any]:
    """Read an array from a stream that claims to hold ``declared`` bytes."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise refusal(path, f"{name} has npy version {version}", "need version 1.0 or 2.0")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    check_dtype(path, name, dtype)
    size = check_size(path, name, shape, max_bytes) * dtype.itemsize
    if declared != stream.tell() + size:
        wrong = f"{name} should take {size:,} bytes, {declared - stream.tell():,} are there"
        raise refusal(path, wrong, "the file is truncated or forged")
    data = stream.read(size)
    # Reading past the end makes zipfile compare its checksum.
    if len(data) != size or stream.read(1):
        raise refusal(
            path, f"{name} is not as long as it claims", "the file is truncated or forged"
        )
    values = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
    return values.reshape(shape, order="F" if fortran else "C")
