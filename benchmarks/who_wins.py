"""Who wins on phase shifters: every solver at its converged best, over SNR, antennas and users."""

from __future__ import annotations

import time

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.table import Table
from holobeam.studies import paired_difference

SOLVERS: dict[str, tuple[str, dict[str, object]]] = {
    "vpk": ("vpk", {"max_iterations": 100, "starts": 4}),
    "vp": ("vp", {"max_iterations": 300}),
    "wmmse-cd": ("wmmse-cd", {"max_iterations": 300}),
    "wmmse-mo": ("wmmse-mo", {}),
    "mm-altmin": ("mm-altmin", {}),
    "element-altmax": ("element-altmax", {}),
    "pga+w": ("pga+w", {}),
    "pe-altmin+w": ("pe-altmin+w", {}),
    "manifold-cg+w": ("manifold-cg+w", {}),
    "ggml": ("ggml", {"max_iterations": 500}),
}
"""More iterations than the defaults where these stop early; the others as they are set."""

STANDARD = {"antennas": 64, "chains": 4, "users": 4, "snr_db": 10.0}
AXES = {
    "snr_db": (-10.0, 0.0, 10.0, 20.0, 30.0),
    "antennas": (32, 128, 256),
    "chains": (5, 6, 8, 10),
    "users": (2, 6, 8),
}


def points() -> list[dict[str, float]]:
    """One axis at a time about the standard point; users have a chain each."""
    found = []
    for axis, values in AXES.items():
        for value in values:
            point = {**STANDARD, axis: value}
            if axis == "users":
                point["chains"] = value
            found.append(point)
    return found


def tables(full: bool) -> list[Table]:
    return contest(32 if full else 8)


def contest(count: int, solvers: tuple[str, ...] = tuple(SOLVERS)) -> list[Table]:
    names = tuple(name for name in SOLVERS if name in solvers)
    rates = Table(
        f"Who wins: {count} channels of the generator, bits/s/Hz per user less `wmmse-digital`'s",
        ("N, R, K, SNR", "digital", *names, "winner", "ahead of the next"),
        "`vpk` 100 iterations from 4 starts, `vp` and `wmmse-cd` 300, `ggml` 500, "
        "the others as they are set. "
        "*Ahead*: paired difference of the best two.",
    )
    times = Table(
        "Who wins: CPU milliseconds a channel, all channels as one batch, one torch thread",
        ("N, R, K, SNR", *names),
    )
    for point in points():
        label = f"{point['antennas']}, {point['chains']}, {point['users']}, {point['snr_db']:g} dB"
        top, found, spent = measured(point, count, names)
        order = sorted(names, key=lambda name: float(found[name].mean()), reverse=True)
        ahead = paired_difference(found[order[0]], found[order[1]]) if len(order) > 1 else None
        rates.add(
            label,
            f"{float(top.mean()):.3f}",
            *(f"{float((found[name] - top).mean()):+.3f}" for name in names),
            order[0],
            "" if ahead is None else f"{ahead.mean:+.4f} ± {ahead.standard_error:.4f}",
        )
        times.add(label, *(f"{spent[name]:.3g}" for name in names))
    return [rates, times]


def measured(
    point: dict[str, float], count: int, names: tuple[str, ...]
) -> tuple[Tensor, dict[str, Tensor], dict[str, float]]:
    """Rates of a user: digital and of every solver; and CPU milliseconds a channel."""
    antennas, chains, users = (int(point[name]) for name in ("antennas", "chains", "users"))
    h = hb.channels.LaplacianClusters(antennas=antennas, users=users).sample(count, seed=11)
    digital = hb.Downlink(h, hb.frontends.fully_digital(antennas), snr_db=point["snr_db"])
    top = hb.solve(digital, "wmmse-digital").sum_rate / users
    frontend = hb.frontends.phase_shifters(antennas, chains)
    exact = hb.Downlink(h, frontend, snr_db=point["snr_db"])
    single = hb.Downlink(h.to(torch.complex64), frontend, snr_db=point["snr_db"])
    found, spent = {}, {}
    for name in names:
        solver, options = SOLVERS[name]
        problem = single if name == "ggml" else exact
        # Compiled before the clock runs.
        hb.solve(problem.take(torch.arange(1)), solver, **{**options, "max_iterations": 1})
        begin = time.process_time()
        solution = hb.solve(problem, solver, **options)
        spent[name] = 1e3 * (time.process_time() - begin) / count
        found[name] = solution.sum_rate.double() / users
    return top, found, spent
