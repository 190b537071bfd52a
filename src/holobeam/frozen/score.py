"""Judging solutions of frozen instances: a second opinion in plain NumPy.

Nothing here is shared with the solvers: rates, power and distances are written out again from the
definitions in docs/conventions.md, so that a mistake in one of the two shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from holobeam.errors import InputError
from holobeam.frozen.entries import Entry
from holobeam.frozen.instances import Instance, describe

TOLERANCE = 1e-6
"""Distance of a control from its set, and relative power over the budget, that is still accepted.

Single precision fits in. It earns nothing: what is within the tolerance is moved onto the set and
scaled into the budget before it is rated.
"""

MARGIN = 1e-6
"""bits/s/Hz by which a rate must exceed the record to count as better."""


class InfeasibleError(InputError):
    """A solution that breaks a constraint."""


@dataclass(frozen=True, eq=False)
class PointScore:
    """What a solution is worth at one operating point, against the best known.

    Attributes
    ----------
    point
        Operating point.
    values
        ``(B,)`` objective of the solution, bits/s/Hz.
    best_known
        ``(B,)`` objective of the record; 0 where there is none yet.
    """

    point: float
    values: Float[np.ndarray, " batch"]
    best_known: Float[np.ndarray, " batch"]

    @property
    def ratios(self) -> Float[np.ndarray, " batch"]:
        """Share of the best known, channel by channel; NaN without a record."""
        known = self.best_known > 0
        return np.where(known, self.values / np.where(known, self.best_known, 1.0), np.nan)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers: means, shares of the best known, wins and the worst channel."""
        numbers = {
            "point": self.point,
            "mean": float(self.values.mean()),
            "best_known_mean": float(self.best_known.mean()),
        }
        if not (self.best_known > 0).all():
            return numbers
        worst = int(self.ratios.argmin())
        return {
            **numbers,
            "mean_of_ratios": float(self.ratios.mean()),
            "ratio_of_means": float(self.values.mean() / self.best_known.mean()),
            "wins": int((self.values > self.best_known + MARGIN).sum()),
            "worst_channel": worst,
            "worst_ratio": float(self.ratios[worst]),
        }


def values(entry: Entry) -> Float[np.ndarray, "points batch"]:
    """Recompute the objective of every channel of a solution.

    Parameters
    ----------
    entry
        The solution.

    Returns
    -------
    array
        ``(P, B)`` float64: ``sum_k weight_k R_k`` in bits/s/Hz, R_k averaged over subcarriers.

    Raises
    ------
    InfeasibleError
        With every constraint that is broken beyond :data:`TOLERANCE`.
    """
    found: list[Float[np.ndarray, " batch"]] = []
    breaches: list[str] = []
    for index, point in enumerate(entry.points):
        control = None if entry.control is None else entry.control[index]
        with np.errstate(over="ignore", invalid="ignore"):  # absurd powers are a breach
            value, broken = _at_point(entry.instance, point, control, entry.digital[index])
        found.append(value)
        breaches += broken
    if breaches:
        raise InfeasibleError(
            "solution",
            "infeasible, " + ", and ".join(breaches),
            f"controls may be off their set by {TOLERANCE:g}, power over its budget by "
            f"{TOLERANCE:g} of it",
        )
    return np.stack(found)


def _at_point(
    instance: Instance,
    point: float,
    control: Complex[np.ndarray, "batch antennas controls"] | None,
    digital: Complex[np.ndarray, "batch subcarriers rf_chains users"],
) -> tuple[Float[np.ndarray, " batch"], list[str]]:
    """Objective at one point, and what is infeasible."""
    at = f"point {point:g}: "
    load = _load(instance, point, control, digital)
    broken = _breach(at + "power over the budget", load - 1.0, "of it")
    if control is not None:
        nearest = _nearest(describe(instance.element_set), control)
        away = np.abs(control - nearest).max(axis=(1, 2))
        broken += _breach(at + "controls off their element set", away, "")
        control = nearest
        load = _load(instance, point, control, digital)
    scale = 1.0 / np.sqrt(np.maximum(load, 1.0))
    precoder = _radiated(instance, control, digital * scale[:, None, None, None])
    rates = _rates(instance.h.astype(np.complex128), precoder, instance.noise_power(point))
    return rates @ instance.user_weights, broken


def _radiated(
    instance: Instance,
    control: Complex[np.ndarray, "batch antennas controls"] | None,
    digital: Complex[np.ndarray, "batch subcarriers rf_chains users"],
) -> Complex[np.ndarray, "batch subcarriers antennas users"]:
    """What the antennas radiate for each user."""
    feed = instance.feed
    if feed is None or control is None:
        return digital
    radiated: Complex[np.ndarray, "batch subcarriers antennas users"] = np.einsum(
        "bnr,bfrk->bfnk", control * feed, digital
    )
    return radiated


def _load(
    instance: Instance,
    point: float,
    control: Complex[np.ndarray, "batch antennas controls"] | None,
    digital: Complex[np.ndarray, "batch subcarriers rf_chains users"],
) -> Float[np.ndarray, " batch"]:
    """Power spent over power allowed, mean over subcarriers; the fullest chain, per RF chain."""
    if instance.power_at == "per_rf_chain":
        rows = (np.abs(digital) ** 2).sum(axis=3).mean(axis=1)
        spent = rows.max(axis=1) * instance.sizes[4]
    else:
        counted = digital if instance.power_at == "feeds" else _radiated(instance, control, digital)
        spent = (np.abs(counted) ** 2).sum(axis=(2, 3)).mean(axis=1)
    load: Float[np.ndarray, " batch"] = spent / instance.power(point)
    return load


def _nearest(element_set: dict[str, Any], control: Complex[np.ndarray, "..."]) -> Any:
    """Nearest members of an element set."""
    if element_set["kind"] == "interval":
        return control.real.clip(element_set["low"], element_set["high"]) + 0j
    if element_set["kind"] == "circle":
        centre = complex(*element_set["centre"])
        return centre + element_set["radius"] * np.exp(1j * np.angle(control - centre))
    levels = np.array([complex(*level) for level in element_set["levels"]])
    return levels[np.abs(control[..., None] - levels).argmin(axis=-1)]


def _rates(
    h: Complex[np.ndarray, "batch subcarriers users antennas"],
    precoder: Complex[np.ndarray, "batch subcarriers antennas users"],
    noise: Float[np.ndarray, " users"],
) -> Float[np.ndarray, "batch users"]:
    """``log2(1 + |y_kk|^2 / (sum_{j != k} |y_kj|^2 + noise_k))``, mean over subcarriers."""
    received = np.abs(np.einsum("bfkn,bfnj->bfkj", h, precoder)) ** 2
    users = h.shape[2]
    signal = received[:, :, range(users), range(users)]
    interference = (received * (1.0 - np.eye(users))).sum(axis=3)
    rates: Float[np.ndarray, "batch users"] = np.log2(1.0 + signal / (interference + noise)).mean(
        axis=1
    )
    return rates


def _breach(what: str, excess: Float[np.ndarray, " batch"], of: str) -> list[str]:
    """One line if any channel exceeds the tolerance (or is not a number)."""
    bad = ~(excess <= TOLERANCE)
    if not bad.any():
        return []
    line = (
        f"{what} by up to {excess.max():.2g} {of}".rstrip()
        + f" in {int(bad.sum())} of {bad.size} channels (first: {int(bad.argmax())})"
    )
    return [line]
