"""The frozen instances: channels, front-end, power and objective, sealed by a hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Complex, Float

from holobeam.errors import HolobeamError, InputError, unknown_name
from holobeam.frontends.element_sets import Circle, ElementSet, Interval, Points
from holobeam.frontends.frontend import Frontend
from holobeam.frozen.recipes import RECIPES, kept
from holobeam.problems import Downlink
from holobeam.problems.inputs import PowerAt

Hardware = Literal[
    "rhs",
    "rhs-binary",
    "dma",
    "dma-binary",
    "phase-shifters",
    "phase-shifters-2bit",
    "phase-shifters-sub",
    "digital",
]

ELEMENT_SETS: dict[Hardware, ElementSet] = {
    "rhs": Interval(0.0, 1.0),
    "rhs-binary": Points((0.0, 1.0)),
    "dma": Circle(0.5j, 0.5),
    "dma-binary": Points((0.0, 1.0)),
    "phase-shifters": Circle(),
    # Exact: a computed exp(j pi / 2) is off by rounding, and by another one elsewhere.
    "phase-shifters-2bit": Points((1.0, 1j, -1.0, -1j)),
    "phase-shifters-sub": Circle(),
    "digital": Points((1.0,)),
}
"""Where the controls of each kind of hardware live."""


class FrozenError(HolobeamError):
    """An instance that is no longer what its hash says."""


@dataclass(frozen=True)
class Instance:
    """One problem of the benchmark, for a batch of channels at one or more operating points.

    Attributes
    ----------
    name
        What it is called.
    line
        One line for people.
    channels
        The set of channels, a key of :data:`holobeam.frozen.recipes.RECIPES`.
    hardware
        Kind of front-end.
    points
        Operating points: transmit SNR in dB, or power in dBm where channels carry a link budget.
    unit
        ``dB``: the budget is 1 and the noise ``10^(-point / 10)``. ``dBm``: the budget is
        ``10^(point / 10)`` mW and the noise 1.
    power_at
        Where the budget is counted; per RF chain each has an equal share of it.
    weights
        ``(K,)`` user weights of the objective; empty is 1 for everyone.
    noise
        ``(K,)`` noise of each user over the noise above; empty is 1 for everyone.
    """

    name: str
    line: str
    channels: str
    hardware: Hardware
    points: tuple[float, ...]
    unit: Literal["dB", "dBm"] = "dB"
    power_at: PowerAt = "radiated"
    weights: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()

    @property
    def h(self) -> Complex[np.ndarray, "batch subcarriers users antennas"]:
        """Channels in complex64; row k is ``h_k^H``."""
        return kept(self.channels)["h"]

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """B, F, K, N and R; as many RF chains as users, or as antennas where fully digital."""
        b, f, k, n = self.h.shape
        return b, f, k, n, (n if self.is_digital else k)

    @property
    def is_digital(self) -> bool:
        """Whether answers are precoders, without controls."""
        return self.hardware == "digital"

    @property
    def controls(self) -> int:
        """Controls per element: 1, or R where every branch has its own."""
        return self.sizes[4] if self.hardware in {"phase-shifters", "phase-shifters-2bit"} else 1

    @property
    def element_set(self) -> ElementSet:
        """Where each control lives."""
        return ELEMENT_SETS[self.hardware]

    @property
    def feed(self) -> Complex[np.ndarray, "antennas rf_chains"] | None:
        """Phi in complex128, or None for a fully digital array."""
        _, _, _, n, r = self.sizes
        if self.is_digital:
            return None
        if self.hardware == "phase-shifters-sub":
            return np.kron(np.eye(r), np.ones((n // r, 1))).astype(np.complex128)
        if self.hardware.startswith("phase-shifters"):
            return np.ones((n, r), dtype=np.complex128)
        return kept(self.channels)[f"feed_{self.hardware.removesuffix('-binary')}"]

    @property
    def user_weights(self) -> Float[np.ndarray, " users"]:
        """Weights of the rates in the objective."""
        return np.array(self.weights or [1.0] * self.sizes[2])

    def noise_power(self, point: float) -> Float[np.ndarray, " users"]:
        """Noise power of each user at an operating point."""
        base = 10.0 ** (-point / 10.0) if self.unit == "dB" else 1.0
        return base * np.array(self.noise or [1.0] * self.sizes[2])

    def power(self, point: float) -> float:
        """Whole budget at an operating point."""
        return 1.0 if self.unit == "dB" else float(10.0 ** (point / 10.0))

    def frontend(self) -> Frontend:
        """Front-end for the solvers of the house."""
        feed = self.feed
        if feed is None:
            return Frontend(None, self.element_set, 1, "digital", array_size=self.sizes[3])
        return Frontend(torch.tensor(feed), self.element_set, self.controls, self.hardware)

    def problem(self, points: tuple[float, ...]) -> Downlink:
        """Problem for the solvers of the house: the batch repeated at each point, points lead."""
        batch, _, _, _, chains = self.sizes
        h = torch.tensor(self.h).to(torch.complex128).repeat(len(points), 1, 1, 1)
        noise = torch.from_numpy(np.stack([self.noise_power(point) for point in points]))
        budget = torch.tensor([self.power(point) for point in points], dtype=torch.float64)
        budget = budget.repeat_interleave(batch)
        if self.power_at == "per_rf_chain":
            budget = (budget / chains).unsqueeze(1).expand(-1, chains)
        return Downlink(
            h,
            self.frontend(),
            noise_power=noise.repeat_interleave(batch, dim=0),
            power=budget,
            power_at=self.power_at,
            weights=torch.from_numpy(self.user_weights),
        )

    def card(self) -> dict[str, Any]:
        """Everything that is not an array, in plain values."""
        b, f, k, n, r = self.sizes
        return {
            "name": self.name,
            "line": self.line,
            "channels": RECIPES[self.channels].line,
            "sizes": {"B": b, "F": f, "K": k, "N": n, "R": r, "C": self.controls},
            **self._rules(),
            "sha256": seal(self),
        }

    def _rules(self) -> dict[str, Any]:
        return {
            "points": list(self.points),
            "unit": self.unit,
            "power_at": self.power_at,
            "budget": "mean over subcarriers",
            "objective": "sum over users of weight times rate, bits/s/Hz, mean over subcarriers",
            "element_set": None if self.is_digital else describe(self.element_set),
            "controls": self.controls,
        }


def describe(element_set: ElementSet) -> dict[str, Any]:
    """Element set in plain values: an interval, a circle, or a list of points (real, imaginary)."""
    if isinstance(element_set, Interval):
        return {"kind": "interval", "low": element_set.low, "high": element_set.high}
    if isinstance(element_set, Circle):
        centre = complex(element_set.centre)
        return {
            "kind": "circle",
            "centre": [centre.real, centre.imag],
            "radius": element_set.radius,
        }
    if isinstance(element_set, Points):
        return {
            "kind": "points",
            "levels": [[level.real, level.imag] for level in element_set.levels],
        }
    raise InputError(
        "element_set", f"got {type(element_set).__name__}", "need Interval, Circle or Points"
    )


def seal(instance: Instance) -> str:
    """SHA-256 of all that defines an instance: arrays as little-endian bytes, the rest as JSON."""
    feed = instance.feed
    arrays = {
        "h": instance.h.astype("<c8"),
        "feed": np.zeros((0, 0), "<c16") if feed is None else feed.astype("<c16"),
        "weights": instance.user_weights.astype("<f8"),
        "noise": np.array(instance.noise or [1.0] * instance.sizes[2], "<f8"),
    }
    digest = hashlib.sha256()
    for name, values in arrays.items():
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(json.dumps(instance._rules(), sort_keys=True).encode())
    return digest.hexdigest()


_SNRS = (0.0, 10.0, 20.0)

INSTANCES: tuple[Instance, ...] = (
    Instance("rhs-5x5", "small surface, sparse paths", "sparse-5x5", "rhs", _SNRS),
    Instance("rhs-8x8", "amplitude surface", "path-wise-8x8", "rhs", _SNRS),
    Instance("rhs-8x8-binary", "on/off surface", "path-wise-8x8", "rhs-binary", _SNRS),
    Instance(
        "rhs-8x8-feeds",
        "amplitude surface, power counted at the feeds",
        "path-wise-8x8",
        "rhs",
        (10.0,),
        power_at="feeds",
    ),
    Instance(
        "rhs-8x8-weighted",
        "amplitude surface, unequal user weights and noise",
        "path-wise-8x8",
        "rhs",
        (10.0,),
        weights=(1.0, 1.0, 2.0, 4.0),
        noise=(0.5, 1.0, 2.0, 4.0),
    ),
    Instance("dma-8x8", "metasurface antenna, Lorentzian", "path-wise-8x8", "dma", (10.0,)),
    Instance(
        "dma-8x8-binary", "metasurface antenna, on/off", "path-wise-8x8", "dma-binary", (10.0,)
    ),
    Instance("digital-8x8", "fully digital", "path-wise-8x8", "digital", _SNRS),
    Instance(
        "phase-shifters-32",
        "fully connected phase shifters",
        "saleh-valenzuela-32",
        "phase-shifters",
        (12.0,),
    ),
    Instance(
        "phase-shifters-32-2bit",
        "fully connected, four phases",
        "saleh-valenzuela-32",
        "phase-shifters-2bit",
        (12.0,),
    ),
    Instance(
        "phase-shifters-32-sub",
        "sub-connected phase shifters",
        "saleh-valenzuela-32",
        "phase-shifters-sub",
        (12.0,),
    ),
    Instance(
        "phase-shifters-32-chains",
        "fully connected phase shifters, a power limit on each RF chain",
        "saleh-valenzuela-32",
        "phase-shifters",
        (12.0,),
        power_at="per_rf_chain",
    ),
    Instance("digital-32", "fully digital", "saleh-valenzuela-32", "digital", (12.0,)),
    Instance("munich-rhs", "amplitude surface in Munich", "munich-16x16", "rhs", (20.0,), "dBm"),
    Instance("munich-dma", "metasurface antenna in Munich", "munich-16x16", "dma", (20.0,), "dBm"),
    Instance(
        "munich-phase-shifters",
        "fully connected phase shifters in Munich",
        "munich-16x16",
        "phase-shifters",
        (20.0,),
        "dBm",
    ),
    Instance(
        "munich-digital", "fully digital in Munich", "munich-16x16", "digital", (20.0,), "dBm"
    ),
    Instance(
        "munich-ofdm",
        "phase shifters in Munich, one setting for 8 subcarriers",
        "munich-8x8-ofdm",
        "phase-shifters",
        (20.0,),
        "dBm",
    ),
)
"""The benchmark, unchecked: :func:`instance` checks.

Nothing here may change: a better idea is a new instance with a new name.
"""


@cache
def _seals() -> dict[str, str]:
    text = (files("holobeam.frozen") / "data" / "sha256.json").read_text()
    loaded: dict[str, str] = json.loads(text)
    return loaded


@cache
def instance(name: str) -> Instance:
    """Return an instance by name, after its hash was checked.

    Raises
    ------
    UnknownNameError
        With the nearest names.
    FrozenError
        If channels, feed or rules are no longer those that were frozen.
    """
    found = next((one for one in INSTANCES if one.name == name), None)
    if found is None:
        raise unknown_name("instance", name, [one.name for one in INSTANCES])
    return check_seal(found, _seals()[name])


def check_seal(found: Instance, expected: str) -> Instance:
    """Return an instance, or raise :class:`FrozenError` if its hash is another."""
    got = seal(found)
    if got != expected:
        raise FrozenError(
            f"instance {found.name} no longer gives the frozen channels, feed or rules: its "
            f"SHA-256 is {got[:12]}..., {expected[:12]}... was frozen; restore its data, or give "
            "the new instance a new name"
        )
    return found
