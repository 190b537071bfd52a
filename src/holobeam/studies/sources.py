"""Channels by name, for the command line: a city, a model, or a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from holobeam.channels import read_channels
from holobeam.errors import InputError, check_count, unknown_name
from holobeam.studies.channel_tables import Channels, ChannelTable
from holobeam.studies.source import Source

__all__ = ["Request", "Source", "available", "load"]


@dataclass(frozen=True)
class Request:
    """What is asked of a source.

    Attributes
    ----------
    channels
        Number of channel realisations.
    users
        Users in each.
    shape
        Elements along y and z; None takes the source's own.
    subcarriers
        Tones over 100 MHz; ray-traced channels only.
    seed
        Of the draw.
    """

    channels: int = 64
    users: int = 4
    shape: tuple[int, int] | None = None
    subcarriers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("channels", "users", "subcarriers"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, 0)


_LINES = {
    "munich": "ray-traced Munich at 28 GHz, link budget included (powers in dBm)",
    "path-wise": "planar array, four equal paths (mmse paper)",
    "sparse-paths": "planar array, two paths of gains 1 and 0.01 (mb-dnn paper)",
    "saleh-valenzuela": "linear array, ten paths (unfolded-pga paper)",
    "laplacian-clusters": "linear array, 3 clusters of 30 rays (ggml paper)",
    "spherical-wave": "near field of a planar array at 30 GHz, 5 to 50 m",
    "rayleigh": "independent complex Gaussian entries",
}
_LINEAR = ("saleh-valenzuela", "laplacian-clusters")


def available() -> dict[str, str]:
    """Names of the built-in channel sources, each with one line."""
    return dict(_LINES)


def load(name: str, request: Request | None = None) -> Source:
    """Load channels from a built-in source or from a file.

    Parameters
    ----------
    name
        One of :func:`available`, or the path of a ``.npz``, ``.npy``, ``.mat`` or ``.h5`` file.
    request
        How many channels, users and elements. Of a file the first ``channels`` are taken, and its
        array is taken for half-wavelength, linear unless ``shape`` says otherwise.

    Raises
    ------
    UnknownNameError
        With the nearest names.
    FileError
        If a file can't be read.
    """
    request = request or Request()
    if name not in _LINES:
        return _file(name, request)
    settings: dict[str, Any] = {"model": name, "users": request.users}
    if request.shape is not None:
        settings |= _size(name, request.shape)
    if name == "munich":
        bundled = request.users == 4 and request.channels <= 64 and request.seed == 0
        usual = request.shape in {None, (16, 16)}
        settings["drops"] = "bundled" if bundled and usual else "random"
        settings["subcarriers"] = request.subcarriers
    elif request.subcarriers != 1:
        raise InputError(
            "subcarriers",
            f"got {request.subcarriers} for {name}",
            "this model is narrowband; use munich or a file",
        )
    return table(settings).source(request.channels, request.seed)


def table(settings: dict[str, Any]) -> ChannelTable:
    """Make the channel table that a dictionary describes."""
    made: ChannelTable = TypeAdapter(Channels).validate_python(settings)
    return made


def _size(name: str, shape: tuple[int, int]) -> dict[str, Any]:
    if name not in _LINEAR:
        return {"shape": shape}
    if shape[1] != 1:
        raise InputError(
            "shape", f"got {shape[0]}x{shape[1]}", "this model is a linear array: N x 1"
        )
    return {"antennas": shape[0]}


def _file(name: str, request: Request) -> Source:
    path = Path(name)
    if not path.suffix and not path.exists():
        raise unknown_name("channels", name, _LINES)
    h = read_channels(path)
    settings = {
        "model": "file",
        "path": name,
        "users": int(h.shape[2]),
        "shape": request.shape,
    }
    return table(settings).source(min(request.channels, int(h.shape[0])), request.seed)
