"""Where the channels of a comparison come from: a city, a model, or a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.arrays import Array, ula, upa
from holobeam.channels import (
    LaplacianClusters,
    Rayleigh,
    SalehValenzuela,
    SphericalWave,
    draw_drops,
    munich,
    munich_drops,
    munich_panel,
    path_wise,
    read_channels,
    sparse_paths,
    subcarrier_offsets,
)
from holobeam.errors import InputError, ShapeError, check_count, unknown_name
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink
from holobeam.units import dbm_to_mw, noise_power_dbm

BANDWIDTH = 100e6
NOISE_FIGURE_DB = 9.0


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


@dataclass(frozen=True, eq=False)
class Source:
    """Channels with the array that they belong to.

    Attributes
    ----------
    h
        ``(B, F, K, N)``.
    array
        Elements, for front-ends that need their places.
    physical
        Whether channels carry a link budget (powers in dBm) or are normalised (SNR in dB).
    description
        One line.
    """

    h: Complex[Tensor, "batch subcarriers users antennas"]
    array: Array
    physical: bool
    description: str

    def problem(
        self, h: Tensor, frontend: Frontend, point: Tensor, utility: str = "sum_rate"
    ) -> Downlink:
        """Problem at operating points in dBm (physical) or dB of transmit SNR."""
        if self.physical:
            power = dbm_to_mw(point)
            return Downlink(h, frontend, noise_power=1.0, power=power, utility=utility)  # type: ignore[arg-type]
        return Downlink(h, frontend, snr_db=point, utility=utility)  # type: ignore[arg-type]


def _munich(request: Request) -> Source:
    panel = munich_panel(request.shape or (16, 16))
    paths = munich()
    noise = noise_power_dbm(BANDWIDTH, NOISE_FIGURE_DB)
    default = request.users == 4 and request.channels <= 64 and request.seed == 0
    if default and request.shape in {None, (16, 16)}:
        drops = munich_drops()[: request.channels]
    else:
        kept = paths.keep_users(panel, noise_dbm=noise)
        drops = draw_drops(kept, request.channels, request.users, seed=request.seed)
    offsets = None
    if request.subcarriers > 1:
        offsets = subcarrier_offsets(request.subcarriers, BANDWIDTH)
    h = paths.channel(panel, drops, noise_dbm=noise, subcarriers=offsets)
    return Source(
        h,
        panel.array,
        True,
        f"Munich, 28 GHz, ray-traced; {len(drops)} drops of {request.users} users, "
        f"noise {noise:g} dBm",
    )


def _linear(request: Request, model: type[SalehValenzuela] | type[LaplacianClusters]) -> Source:
    along, across = request.shape or ((32, 1) if model is SalehValenzuela else (64, 1))
    if across != 1:
        raise InputError("shape", f"got {along}x{across}", "this model is a linear array: N x 1")
    drawn = model(antennas=along, users=request.users).sample(request.channels, seed=request.seed)
    return _normalised(drawn, ula(along), model.__name__, request)


def _saleh_valenzuela(request: Request) -> Source:
    return _linear(request, SalehValenzuela)


def _laplacian(request: Request) -> Source:
    return _linear(request, LaplacianClusters)


def _rayleigh(request: Request) -> Source:
    shape = request.shape or (8, 8)
    model = Rayleigh(antennas=shape[0] * shape[1], users=request.users)
    h = model.sample(request.channels, seed=request.seed)
    return _normalised(h, upa(shape), "Rayleigh", request)


def _path_wise(request: Request) -> Source:
    shape = request.shape or (8, 8)
    h = path_wise(shape, request.users).sample(request.channels, seed=request.seed)
    return _normalised(h, upa(shape, spacing=1 / 3), "path-wise (4 equal paths)", request)


def _sparse(request: Request) -> Source:
    shape = request.shape or (5, 5)
    h = sparse_paths(shape, request.users).sample(request.channels, seed=request.seed)
    return _normalised(h, upa(shape, spacing=0.25), "sparse paths (1 and 0.01)", request)


def _spherical(request: Request) -> Source:
    shape = request.shape or (16, 16)
    array = upa(shape, wavelength=0.01, spacing=0.5)
    h = SphericalWave(array=array, users=request.users).sample(request.channels, seed=request.seed)
    return _normalised(h, array, "spherical waves, 30 GHz", request)


def _normalised(h: Tensor, array: Array, name: str, request: Request) -> Source:
    if request.subcarriers != 1:
        raise InputError(
            "subcarriers",
            f"got {request.subcarriers} for {name}",
            "this model is narrowband; use munich or a file",
        )
    return Source(h, array, False, f"{name}; {h.shape[0]} channels of {h.shape[2]} users")


_MODELS: dict[str, tuple[Callable[[Request], Source], str]] = {
    "munich": (_munich, "ray-traced Munich at 28 GHz, link budget included (powers in dBm)"),
    "path-wise": (_path_wise, "planar array, four equal paths (mmse paper)"),
    "sparse-paths": (_sparse, "planar array, two paths of gains 1 and 0.01 (mb-dnn paper)"),
    "saleh-valenzuela": (_saleh_valenzuela, "linear array, ten paths (unfolded-pga paper)"),
    "laplacian-clusters": (_laplacian, "linear array, 3 clusters of 30 rays (ggml paper)"),
    "spherical-wave": (_spherical, "near field of a planar array at 30 GHz, 5 to 50 m"),
    "rayleigh": (_rayleigh, "independent complex Gaussian entries"),
}


def available() -> dict[str, str]:
    """Names of the built-in channel sources, each with one line."""
    return {name: line for name, (_, line) in _MODELS.items()}


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
    if name in _MODELS:
        return _MODELS[name][0](request)
    path = Path(name)
    if not path.suffix and not path.exists():
        raise unknown_name("channels", name, _MODELS)
    h = read_channels(path)[: request.channels]
    antennas = h.shape[3]
    shape = request.shape or (antennas, 1)
    if shape[0] * shape[1] != antennas:
        raise ShapeError(
            "shape",
            f"{shape[0]}x{shape[1]} against {antennas} antennas in {path}",
            "its product must be the number of antennas",
        )
    return Source(h.to(torch.complex128), upa(shape), False, f"{path.name}; {h.shape[0]} channels")
