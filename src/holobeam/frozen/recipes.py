"""How the frozen channels were made, and where they are kept.

The benchmark ships its channels as data. A seed is not enough to freeze them: sines and
exponentials differ in the last bit between processors and library versions, so a hash of drawn
channels would hold on one machine only. The recipes stay, for whoever wants more channels of the
same kind, and tests hold today's generators against the data to single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from holobeam.arrays import Array, ula, upa
from holobeam.channels import (
    draw_drops,
    munich,
    munich_panel,
    subcarrier_offsets,
    surface_benchmark,
)
from holobeam.channels.bundled import MUNICH_FREQUENCY
from holobeam.channels.foreign import reading
from holobeam.channels.numpy_files import npz_names, read_npz
from holobeam.errors import unknown_name
from holobeam.frontends import build
from holobeam.studies.sources import Request, load
from holobeam.units import noise_power_dbm, wavelength

FEEDS = ("rhs", "dma")
"""Front-ends whose feed depends on the places of the elements, and is therefore data too."""

Members = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Recipe:
    """How one set of channels was drawn.

    Attributes
    ----------
    line
        Model, seed and count in one line.
    make
        Draws the set: ``h`` complex64 ``(B, F, K, N)`` and the feeds ``feed_rhs`` and
        ``feed_dma``, complex128 ``(N, R)``, where they are used.
    """

    line: str
    make: Callable[[], Members]


def _drawn(source: str, request: Request, array: Array, feeds: tuple[str, ...]) -> Members:
    return _members(load(source, request).h, array, feeds, request.users)


def _members(h: Tensor, array: Array, feeds: tuple[str, ...], rf_chains: int) -> Members:
    members = {"h": h.numpy().astype(np.complex64)}
    for name in feeds:
        feed = build(name, array, rf_chains).feed
        assert feed is not None
        members[f"feed_{name}"] = feed.numpy()
    return members


def _path_wise() -> Members:
    # A strip's attenuation and wavenumber are per metre: the elements need their places in metres.
    array = upa((8, 8), wavelength(MUNICH_FREQUENCY), 1 / 3)
    return _drawn("path-wise", Request(64, 4, (8, 8), 1, 2026), array, FEEDS)


def _saleh_valenzuela() -> Members:
    return _drawn("saleh-valenzuela", Request(64, 4, (32, 1), 1, 2026), ula(32), ())


def _munich() -> Members:
    return _drawn("munich", Request(64), munich_panel().array, FEEDS)


def _munich_wideband() -> Members:
    # Drops among the users that this small panel can serve, not the standard one's.
    panel, noise = munich_panel((8, 8)), noise_power_dbm(100e6, 9.0)
    kept = munich().keep_users(panel, noise_dbm=noise)
    drops = draw_drops(kept, 32, 4, seed=2026)
    tones = subcarrier_offsets(8, 100e6)
    h = munich().channel(panel, drops, noise_dbm=noise, subcarriers=tones)
    return _members(h, panel.array, (), 4)


def _sparse() -> Members:
    bundled = surface_benchmark()
    return {"h": bundled.h.numpy().astype(np.complex64), "feed_rhs": bundled.feed.numpy()}


RECIPES: dict[str, Recipe] = {
    "path-wise-8x8": Recipe(
        "path_wise((8, 8), users=4, spacing=1/3), channels 0 to 63 of seed 2026; feeds for 28 GHz",
        _path_wise,
    ),
    "saleh-valenzuela-32": Recipe(
        "SalehValenzuela(antennas=32, users=4, paths=10), channels 0 to 63 of seed 2026",
        _saleh_valenzuela,
    ),
    "munich-16x16": Recipe(
        "the 64 Munich drops of 4 users, 16 x 16 panel, 28 GHz, noise -85 dBm folded in", _munich
    ),
    "munich-8x8-ofdm": Recipe(
        "32 Munich drops of 4 users (seed 2026), 8 x 8 panel, 8 subcarriers over 100 MHz",
        _munich_wideband,
    ),
    "sparse-5x5": Recipe("the 256 bundled channels of surface_benchmark()", _sparse),
}


def draw(name: str) -> Members:
    """Draw a set of channels anew, with the generators of today."""
    if name not in RECIPES:
        raise unknown_name("channels", name, RECIPES)
    return RECIPES[name].make()


@cache
def kept(name: str) -> Members:
    """Read a set of channels as it was frozen; the arrays are read-only and shared."""
    if name not in RECIPES:
        raise unknown_name("channels", name, RECIPES)
    if name == "sparse-5x5":  # its data are bundled already
        members = _sparse()
        for values in members.values():
            values.flags.writeable = False
        return members
    with as_file(files("holobeam.frozen") / "data" / f"{name}.npz") as path, reading(path):
        return read_npz(path, npz_names(path))


def freeze(folder: Path) -> None:
    """Write every set that is not bundled elsewhere; how the data files were made."""
    for name in RECIPES:
        if name != "sparse-5x5":
            np.savez_compressed(folder / f"{name}.npz", **draw(name))  # type: ignore[arg-type]
