"""Reading HDF5 datasets (and MATLAB 7.3 variables) without trust.

A file can point at other files in three ways: links, external storage and virtual datasets. None
is followed.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from holobeam.channels.foreign import check_dtype, check_size, reading, refusal

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DEFLATE, SHUFFLE, CHECKSUM = 1, 2, 3
DEFLATE_RATIO = 1032
"""Largest factor by which deflate can grow data."""


def is_matlab_hdf5(path: Path) -> bool:
    """Whether a ``.mat`` file is of version 7.3: HDF5, usually behind 512 bytes of header."""
    with reading(path), path.open("rb") as stream:
        head = stream.read(520)
    return head.startswith(SIGNATURE) or head[512:] == SIGNATURE


def hdf5_names(path: Path) -> list[str]:
    """Paths of the datasets of a file, and of links, which reading will refuse."""
    import h5py

    names: list[str] = []
    with reading(path), h5py.File(path, "r") as file:

        def note(name: str, link: Any) -> None:
            if not isinstance(link, h5py.HardLink) or isinstance(file[name], h5py.Dataset):
                names.append(name)

        file.visititems_links(note)
    return names


def read_hdf5(path: Path, name: str, max_bytes: int) -> np.ndarray[Any, Any]:
    """Read one dataset."""
    import h5py

    with reading(path), h5py.File(path, "r") as file:
        _refuse_links(path, file, name)
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise refusal(path, f"{name} is a group", "name a dataset inside it")
        if dataset.is_virtual or dataset.external is not None:
            raise refusal(path, f"{name} keeps its data in other files", "need data in this file")
        check_dtype(path, name, dataset.dtype)
        check_size(path, name, dataset.shape or (), max_bytes)
        _check_chunks(path, dataset, max_bytes)
        return np.asarray(dataset[...])


def read_matlab_hdf5(path: Path, name: str, max_bytes: int) -> np.ndarray[Any, Any]:
    """Read one variable of a MATLAB 7.3 file, which stores axes in reverse order."""
    return read_hdf5(path, name, max_bytes).transpose()


def _refuse_links(path: Path, file: Any, name: str) -> None:
    """Raise if any step of a path is a soft or external link."""
    import h5py

    steps = name.strip("/").split("/")
    for depth in range(1, len(steps) + 1):
        step = "/".join(steps[:depth])
        if not isinstance(file.get(step, getlink=True), h5py.HardLink):
            raise refusal(path, f"{step} is a link", "links are not followed; name a dataset")


def _check_chunks(path: Path, dataset: Any, max_bytes: int) -> None:
    """Raise if unpacking a chunk could take more memory than the limit."""
    if dataset.chunks is None:
        return
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if not filters <= {DEFLATE, SHUFFLE, CHECKSUM}:
        raise refusal(path, f"{dataset.name} is packed by filters {sorted(filters)}", "use gzip")
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk_bytes > max_bytes:
        raise refusal(path, f"{dataset.name} has chunks of {chunk_bytes:,} bytes", "too large")

    def check(stored: Any) -> None:
        if DEFLATE in filters and stored.size * DEFLATE_RATIO > max_bytes:
            _, packed = dataset.id.read_direct_chunk(stored.chunk_offset)
            _check_inflation(path, packed, chunk_bytes)

    dataset.id.chunk_iter(check)


def _check_inflation(path: Path, packed: bytes, chunk_bytes: int) -> None:
    """Unpack a chunk piece by piece, keeping nothing, and raise if it outgrows its size."""
    inflater, grown = zlib.decompressobj(), 0
    while packed and not inflater.eof:
        grown += len(inflater.decompress(packed, 2**20))
        packed = inflater.unconsumed_tail
        if grown > chunk_bytes:
            raise refusal(path, "a chunk unpacks to more than its size", "the file is forged")
