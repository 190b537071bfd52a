"""Front-ends by name: what the command line and third parties build from an array."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from holobeam.arrays import Array
from holobeam.errors import unknown_name
from holobeam.frontends.feeds import feed_positions, reference_wave, strips_of_array
from holobeam.frontends.frontend import (
    Frontend,
    dma,
    fully_digital,
    phase_shifters,
    rhs,
    vector_modulators,
)

FrontendFactory = Callable[[Array, int], Frontend]
"""Makes a front-end for an array and a number of RF chains."""

ENTRY_POINT_GROUP = "holobeam.frontends"


def _surface(array: Array, rf_chains: int, levels: int | None = None) -> Frontend:
    feeds = feed_positions(array, rf_chains, "edge")
    return rhs(reference_wave(array.positions, feeds, array.wavelength), levels)


_BUILT_IN: dict[str, tuple[FrontendFactory, str]] = {
    "rhs": (_surface, "holographic surface, amplitudes in [0, 1], feeds along one edge"),
    "rhs-binary": (lambda a, r: _surface(a, r, 2), "holographic surface, elements on or off"),
    "rhs-4level": (lambda a, r: _surface(a, r, 4), "holographic surface, amplitudes in thirds"),
    "dma": (lambda a, r: dma(strips_of_array(a, r)), "metasurface antenna, Lorentzian elements"),
    "dma-binary": (
        lambda a, r: dma(strips_of_array(a, r), "binary"),
        "metasurface antenna, elements on or off",
    ),
    "phase-shifters": (
        lambda a, r: phase_shifters(a.antennas, r),
        "every chain to every antenna, any phase",
    ),
    "phase-shifters-2bit": (
        lambda a, r: phase_shifters(a.antennas, r, bits=2),
        "fully connected, four phases",
    ),
    "phase-shifters-sub": (
        lambda a, r: phase_shifters(a.antennas, r, "sub"),
        "each chain drives N / R antennas",
    ),
    "vector-modulators": (
        lambda a, r: vector_modulators(a.antennas, r),
        "every chain to every antenna, any gain and any phase, radiated power",
    ),
    "digital": (lambda a, r: fully_digital(a.antennas), "a chain behind every antenna"),
}


@cache
def _registered() -> dict[str, tuple[FrontendFactory, str]]:
    found = dict(_BUILT_IN)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        factory = entry.load()
        found[entry.name] = (factory, (factory.__doc__ or entry.value).strip().splitlines()[0])
    return found


def available() -> dict[str, str]:
    """Names of the front-ends that can be built from an array, each with one line."""
    return {name: line for name, (_, line) in sorted(_registered().items())}


def build(name: str, array: Array, rf_chains: int) -> Frontend:
    """Build the front-end called ``name`` for an array and a number of RF chains.

    Raises
    ------
    UnknownNameError
        With the nearest names.
    """
    try:
        factory, _ = _registered()[name]
    except KeyError:
        raise unknown_name("frontend", name, _registered()) from None
    return factory(array, rf_chains)
