"""Channels in files: NumPy, MATLAB and HDF5, read without trust and written in one piece."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.channels import hdf5_files, matlab_files, numpy_files
from holobeam.channels.foreign import MAX_BYTES, pair_fields, refusal
from holobeam.errors import (
    FileError,
    HolobeamError,
    ShapeError,
    check_count,
    check_finite,
    unknown_name,
)

COMMON_NAMES = ("h", "H", "HH")
"""Variables that are taken for the channels when a file holds several."""


class Format(NamedTuple):
    """How to list and read the variables of a kind of file."""

    names: Callable[[Path], list[str]]
    read: Callable[[Path, str, int], np.ndarray[Any, Any]]


NPZ = Format(numpy_files.npz_names, numpy_files.read_npz_member)
NPY = Format(numpy_files.npy_names, numpy_files.read_npy)
MATLAB = Format(matlab_files.matlab_names, matlab_files.read_matlab)
MATLAB_HDF5 = Format(hdf5_files.hdf5_names, hdf5_files.read_matlab_hdf5)
HDF5 = Format(hdf5_files.hdf5_names, hdf5_files.read_hdf5)
SUFFIXES = {".npz": NPZ, ".npy": NPY, ".mat": MATLAB, ".h5": HDF5, ".hdf5": HDF5}


def read_channels(
    path: str | Path, variable: str | None = None, max_bytes: int = MAX_BYTES
) -> Complex[Tensor, "batch subcarriers users antennas"]:
    """Read channels from a file.

    Parameters
    ----------
    path
        ``.npz``, ``.npy``, ``.mat`` (version 5 or 7.3), ``.h5`` or ``.hdf5``.
    variable
        Name of the array; None takes the only one, or the one called h, H or HH.
    max_bytes
        Largest array that is read, counted as complex128; checked before it is allocated.

    Returns
    -------
    Tensor
        ``(B, F, K, N)``, complex64 for single precision and complex128 else. ``(K, N)`` becomes
        B = F = 1 and ``(B, K, N)`` becomes F = 1. Pairs ``{real, imag}`` and real arrays of three
        or more axes whose last has length 2 become complex. Rows are taken for ``h_k^H``.

    Raises
    ------
    FileError
        If the file is missing, damaged, hostile, too large, empty, or holds NaN or infinity. No
        pickle is opened and no link to another file is followed.
    UnknownNameError
        If there is no such variable.
    """
    path = Path(path)
    check_count("max_bytes", max_bytes)
    kind = _format(path)
    name = _choose(path, kind.names(path), variable)
    h = _four_axes(path, name, _to_complex(kind.read(path, name, max_bytes)))
    try:
        return check_finite(name, h)
    except HolobeamError as error:
        raise refusal(path, str(error), "repair the file") from error


def write_channels(
    path: str | Path, h: Complex[Tensor, "batch subcarriers users antennas"]
) -> None:
    """Write channels to a file, whole or not at all.

    Parameters
    ----------
    path
        ``.npz``, ``.npy``, ``.mat`` (version 5), ``.h5`` or ``.hdf5``; replaced if there.
    h
        ``(B, F, K, N)`` complex, any device. Stored under the name h.

    Raises
    ------
    FileError
        If the suffix is unknown or the folder is missing.
    """
    path = Path(path)
    if h.ndim != 4 or not h.is_complex() or not h.numel():
        wrong = f"got {h.dtype} of shape {tuple(h.shape)}"
        raise ShapeError("h", wrong, "need complex (batch, subcarriers, users, antennas)")
    values = check_finite("h", h).detach().cpu().resolve_conj().numpy()
    _format(path, writing=True)
    if not path.parent.is_dir():
        raise refusal(path, f"there is no folder {path.parent}", "make it first")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}{path.suffix}")
    try:
        _write(aside, values)
        _flush(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _flush(path.parent)


def _format(path: Path, writing: bool = False) -> Format:
    """Find out what kind of file it is."""
    if path.suffix not in SUFFIXES:
        raise refusal(path, f"unknown suffix {path.suffix!r}", f"known: {', '.join(SUFFIXES)}")
    if path.suffix == ".mat" and not writing and hdf5_files.is_matlab_hdf5(path):
        return MATLAB_HDF5
    return SUFFIXES[path.suffix]


def _choose(path: Path, names: list[str], variable: str | None) -> str:
    """Pick the variable that holds the channels."""
    if not names:
        raise FileError(
            "path", f"{path.name} is missing or holds no numeric array", "check the path"
        )
    if variable is not None:
        wanted = variable.strip("/")
        if wanted not in names:
            raise unknown_name("variable", variable, names)
        return wanted
    likely = names if len(names) == 1 else [name for name in COMMON_NAMES if name in names]
    if not likely:
        raise refusal(path, f"it holds {', '.join(sorted(names))}", "say which by variable=")
    return likely[0]


def _to_complex(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Make complex numbers of complex numbers, compound pairs, trailing pairs or real numbers."""
    fields = pair_fields(values.dtype)
    if fields is not None:
        real, imaginary = values[fields[0]], values[fields[1]]
    elif values.dtype.kind != "c" and values.ndim >= 3 and values.shape[-1] == 2:
        real, imaginary = values[..., 0], values[..., 1]
    else:
        return values.astype(np.result_type(values.dtype, np.complex64))
    whole = np.empty(real.shape, np.result_type(real.dtype, np.complex64))
    whole.real, whole.imag = real, imaginary
    return whole


def _four_axes(
    path: Path, name: str, values: np.ndarray[Any, Any]
) -> Complex[Tensor, "batch subcarriers users antennas"]:
    """Add the batch and subcarrier axes where they are missing."""
    if values.ndim not in (2, 3, 4):
        wrong = f"{name} has shape {values.shape}"
        raise refusal(path, wrong, "need (K, N), (B, K, N) or (B, F, K, N)")
    h = torch.from_numpy(np.ascontiguousarray(values))
    return h if h.ndim == 4 else h.reshape(-1, 1, *h.shape[-2:])


def _write(path: Path, values: np.ndarray[Any, Any]) -> None:
    """Write by suffix."""
    if path.suffix == ".npz":
        np.savez(path, h=values)
    elif path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".mat":
        from scipy.io import savemat

        savemat(path, {"h": values})
    else:
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("h", data=values)


def _flush(path: Path) -> None:
    """Make the system write a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
