"""Solutions of frozen instances in files: read without trust, written in one piece."""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Complex
from numpy.lib import format as npy

from holobeam.channels.files import MATLAB, MATLAB_HDF5, NPZ, Format
from holobeam.channels.foreign import pair_fields, reading, refusal
from holobeam.channels.hdf5_files import is_matlab_hdf5
from holobeam.errors import FileError, InputError
from holobeam.frozen.instances import Instance, instance, seal
from holobeam.solvers.solution import Solution

SUFFIXES = (".npz", ".mat")
MAX_BYTES = 2**28
"""Largest member of a solution file, counted as complex128: ten times what any instance needs."""

MAX_TEXT = 500
"""Longest text, in characters."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A solution of an instance at some of its points, as somebody handed it in.

    Attributes
    ----------
    instance
        What was solved.
    points
        Operating points, P of them.
    control
        ``(P, B, N, C)`` complex128, or None for a fully digital array.
    digital
        ``(P, B, F, R, K)`` complex128; for a fully digital array the precoder, R = N.
    how
        What the file says of how it was made; may be empty.
    sha256
        Of the file; empty if the entry was never in one.
    """

    instance: Instance
    points: tuple[float, ...]
    control: Complex[np.ndarray, "points batch antennas controls"] | None
    digital: Complex[np.ndarray, "points batch subcarriers rf_chains users"]
    how: str = ""
    sha256: str = ""


def from_solution(
    chosen: Instance, points: Sequence[float], solution: Solution, how: str = ""
) -> Entry:
    """Make an entry of a solution of :meth:`Instance.problem`."""
    count = len(points)
    digital = (solution.precoder if chosen.is_digital else solution.digital).resolve_conj().numpy()
    control = None if chosen.is_digital else solution.control.resolve_conj().numpy()
    return Entry(
        chosen,
        tuple(points),
        None if control is None else control.reshape(count, -1, *control.shape[1:]),
        digital.reshape(count, -1, *digital.shape[1:]),
        how,
    )


def read_entry(path: str | Path, name: str | None = None) -> Entry:
    """Read a solution from a file.

    Parameters
    ----------
    path
        ``.npz`` or ``.mat`` (version 5 or 7.3) with ``control`` and ``digital``, or ``precoder``
        for a fully digital array. Optional: ``point`` (all points of the instance, in its order,
        where absent), ``sha256`` (32 bytes), and as text or character codes ``instance``, ``how``.
    name
        Name of the instance; needed where the file has none.

    Raises
    ------
    FileError
        If the file is missing, damaged or hostile, lacks a member or names another instance.
    InputError
        If an array has the wrong shape, or an entry is NaN or infinite.
    """
    path = Path(path)
    kind = _format(path)
    names = kind.names(path)
    chosen = _instance(path, kind, names, name)
    points = _points(path, kind, names, chosen)
    b, f, k, n, r = chosen.sizes
    count = len(points)

    def member(title: str, axes: dict[str, int]) -> np.ndarray[Any, Any]:
        if title not in names:
            needed = "precoder" if chosen.is_digital else "control and digital"
            wrong = f"it lacks {title}"
            raise refusal(path, wrong, f"a solution of {chosen.name} holds {needed}")
        return _fitted(title, kind.read(path, title, MAX_BYTES), axes, chosen)

    lead = {"points": count, "channels": b}
    if chosen.is_digital:
        control = None
        digital = member("precoder", {**lead, "subcarriers": f, "antennas": n, "users": k})
    else:
        control = member("control", {**lead, "antennas": n, "controls": chosen.controls})
        digital = member("digital", {**lead, "subcarriers": f, "rf_chains": r, "users": k})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Entry(chosen, points, control, digital, _text(path, kind, names, "how"), digest)


def write_entry(path: str | Path, entry: Entry) -> None:
    """Write a solution to ``.npz`` or ``.mat``, whole or not at all."""
    members: dict[str, np.ndarray[Any, Any]] = {
        "instance": codes(entry.instance.name),
        "sha256": np.frombuffer(bytes.fromhex(seal(entry.instance)), np.uint8),
        "point": np.array(entry.points),
    }
    if entry.how:
        members["how"] = codes(entry.how)
    if entry.control is None:
        members["precoder"] = entry.digital
    else:
        members |= {"control": entry.control, "digital": entry.digital}
    write_arrays(Path(path), members)


def codes(text: str) -> np.ndarray[Any, Any]:
    """Text as character codes: the one form that NumPy, MATLAB and a plain reader agree on."""
    return np.frombuffer(text.encode("ascii", "replace"), np.uint8)


def write_arrays(path: Path, members: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write arrays to ``.npz`` or ``.mat``, whole or not at all."""
    if path.suffix not in SUFFIXES:
        raise FileError("path", f"got suffix {path.suffix!r}", "use .npz or .mat")

    def write(aside: Path) -> None:
        if path.suffix == ".npz":
            np.savez_compressed(aside, **members)  # type: ignore[arg-type]
        else:
            from scipy.io import savemat

            savemat(aside, members, do_compression=True)

    write_whole(path, write)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place in one step."""
    aside = path.with_name(f".{path.stem}.{secrets.token_hex(8)}{path.suffix}")
    try:
        write(aside)
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise FileError(
            "path", f"can't write {path}: {error.strerror}", "choose a writable folder"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _format(path: Path) -> Format:
    if path.suffix not in SUFFIXES:
        raise refusal(path, f"unknown suffix {path.suffix!r}", f"known: {', '.join(SUFFIXES)}")
    if path.suffix == ".npz":
        return NPZ
    return MATLAB_HDF5 if is_matlab_hdf5(path) else MATLAB


def _instance(path: Path, kind: Format, names: list[str], name: str | None) -> Instance:
    """Find the instance, by the file's own word and by the caller's."""
    inside = _text(path, kind, names, "instance")
    if name is None and not inside:
        raise refusal(path, "it names no instance", "give the name of the instance beside the file")
    if name is not None and inside and inside != name:
        raise refusal(path, f"it is a solution of {inside}, not of {name}", "name the right one")
    chosen = instance(name or inside)
    if "sha256" in names:
        digest = kind.read(path, "sha256", MAX_BYTES).reshape(-1)
        expected = np.frombuffer(bytes.fromhex(seal(chosen)), np.uint8)
        if digest.dtype.kind not in "iuf" or not np.array_equal(digest, expected):
            wrong = f"its sha256 is not that of {chosen.name}"
            raise refusal(path, wrong, "solve the instance as `holobeam bench export` gives it")
    return chosen


def _points(path: Path, kind: Format, names: list[str], chosen: Instance) -> tuple[float, ...]:
    if "point" not in names:
        return chosen.points
    values = kind.read(path, "point", MAX_BYTES)
    listed = ", ".join(f"{point:g}" for point in chosen.points)
    if values.dtype.kind not in "iuf":
        raise refusal(path, f"point holds {values.dtype}", f"need numbers from {listed}")
    points = tuple(float(value) for value in values.reshape(-1)[:100])
    if len(set(points)) != len(points) or not set(points) <= set(chosen.points):
        got = ", ".join(f"{point:g}" for point in points)
        raise refusal(path, f"its points are {got}", f"{chosen.name} has {listed}, each once")
    return points


def _fitted(
    title: str, values: np.ndarray[Any, Any], axes: dict[str, int], chosen: Instance
) -> Complex[np.ndarray, "..."]:
    """Values in complex128 in the full shape; axes of length 1 may be missing or added."""
    shape = tuple(axes.values())
    if [side for side in values.shape if side != 1] != [side for side in shape if side != 1]:
        raise InputError(
            title,
            f"got shape {values.shape}",
            f"{chosen.name} needs {shape}, that is ({', '.join(axes)}); axes of length 1 may be "
            "left out",
        )
    pair = pair_fields(values.dtype)
    if pair is not None:
        values = values[pair[0]] + 1j * values[pair[1]]
    full = np.ascontiguousarray(values.reshape(shape), dtype=np.complex128)
    bad = ~np.isfinite(full)
    if bad.any():
        channels = np.atleast_1d(bad.any(axis=(0, *range(2, full.ndim))))
        raise InputError(
            title,
            f"{int(bad.sum())} entries are NaN or infinite, in {int(channels.sum())} of "
            f"{len(channels)} channels (first: {int(channels.argmax())})",
            "a solution covers every channel of its points",
        )
    return full


def _text(path: Path, kind: Format, names: list[str], title: str) -> str:
    """Short text of a file: NumPy text, or character codes; empty where there is none."""
    if title not in names:
        return ""
    text = _npz_text(path, title) if kind is NPZ else None
    if text is None:
        values = kind.read(path, title, MAX_BYTES).reshape(-1)
        whole = values.dtype.kind in "iuf" and values.size <= MAX_TEXT
        if not whole or not all(32 <= value < 127 for value in values.tolist()):
            raise refusal(
                path, f"{title} is no text", f"need at most {MAX_TEXT} printable ASCII codes"
            )
        text = "".join(chr(int(value)) for value in values.tolist())
    return check_text(title, text)


def check_text(title: str, text: str) -> str:
    """Return a text that is short and printable: it will end up on terminals."""
    if len(text) > MAX_TEXT or not text.isprintable():
        raise InputError(
            title, f"got {text[:40]!r}", f"need at most {MAX_TEXT} printable characters"
        )
    return text


def _npz_text(path: Path, title: str) -> str | None:
    """Scalar NumPy text of an npz file; None if the member is something else."""
    with reading(path), zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{title}.npy")
        # The other methods may inflate without a bound on one step.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refusal(path, f"{title} is packed by method {info.compress_type}", "use deflate")
        with archive.open(info) as stream:
            if npy.read_magic(stream) != (1, 0):
                return None
            shape, _, dtype = npy.read_array_header_1_0(stream)
            if dtype.kind != "U":
                return None
            if shape not in {(), (1,)} or not 0 < dtype.itemsize <= 4 * MAX_TEXT:
                raise refusal(path, f"{title} is no short text", f"at most {MAX_TEXT} characters")
            data = stream.read(dtype.itemsize)
            if len(data) != dtype.itemsize:
                raise refusal(path, f"{title} ends too early", "the file is truncated")
            return str(np.frombuffer(data, dtype)[0])
