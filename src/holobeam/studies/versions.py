"""Versions of what numbers depend on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("holobeam", "torch", "numba", "numpy")

TRAINERS = ("holobeam", "torch")
"""Packages that a training is done anew for: a checkpoint of other ones ends in other bits."""


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def training_versions() -> tuple[tuple[str, str], ...]:
    """Versions that trainings go by."""
    return tuple((name, number) for name, number in versions().items() if name in TRAINERS)
