"""Surfaces on the mmse paper's channels, and what the place where power counts changes."""

from __future__ import annotations

from itertools import pairwise

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.studies import estimate, paired_difference

SOLVERS = ("mmse-fast", "mmse", "wmmse-hbf", "zf-hbf", "random")


def _problem(width: int, snr_db: float, channels: int, power_at: str) -> hb.Downlink:
    h = hb.channels.path_wise((width, width), users=4).sample(channels, seed=1)
    array = hb.arrays.upa((width, width), wavelength=0.01, spacing=1 / 3)
    return hb.Downlink(h, hb.frontends.build("rhs", array, 4), snr_db=snr_db, power_at=power_at)


def tables() -> list[Table]:
    return [_rates(), _convergence(), _random()]


def _rates() -> Table:
    table = Table(
        "Surfaces, 64 elements, 4 chains, 4 users, 100 channels, 60 iterations",
        ("power", "SNR dB", *SOLVERS, "fast over mmse", "fast over wmmse-hbf", "verdict"),
        "Sum rates in bits/s/Hz. Asked (radiated, 10 dB): mmse-fast >= 5 % above "
        "mmse, >= 15 % above wmmse-hbf.",
    )
    for power_at in ("radiated", "feeds"):
        for snr_db in (0.0, 10.0, 20.0):
            problem = _problem(8, snr_db, 100, power_at)
            found = {name: hb.solve(problem, name).sum_rate for name in SOLVERS}
            gains = [
                float(found["mmse-fast"].mean() / found[n].mean() - 1)
                for n in ("mmse", "wmmse-hbf")
            ]
            cells = (
                power_at,
                f"{snr_db:g}",
                *(f"{float(found[n].mean()):.2f}" for n in SOLVERS),
                *(f"{gain:+.1%}" for gain in gains),
            )
            if power_at == "radiated" and snr_db == 10.0:
                table.check(gains[0] >= 0.05 and gains[1] >= 0.15, *cells)
            else:
                table.add(*cells, "")
    return table


def _convergence() -> Table:
    marks = (0, 1, 5, 10, 20, 30, 60, 150)
    table = Table(
        "Convergence of surfaces at 0 dB, radiated power, 100 channels",
        ("elements", "solver", *(f"after {m}" for m in marks), "largest fall", "verdict"),
        "Best sum rate so far. `mmse` has no annealing and no extrapolation: its utility may not "
        "fall from one iteration to the next.",
    )
    for width in (8, 16):
        problem = _problem(width, 0.0, 100, "radiated")
        for name in ("mmse", "mmse-fast"):
            solution = hb.solve(problem, name, max_iterations=150, history=True)
            mean = solution.history.mean(dim=0)
            cells = (width**2, name, *(f"{float(mean[min(m, len(mean) - 1)]):.2f}" for m in marks))
            if name == "mmse":
                fall = _largest_fall(problem)
                table.check(fall <= 1e-9, *cells, f"{fall:.0e}")
            else:
                table.add(*cells, "", "")
    return table


def _largest_fall(problem: hb.Downlink) -> float:
    solver = hb.solver("mmse", tolerance=0.0)
    state = solver.init(problem, torch.Generator())
    worst = 0.0
    for _ in range(60):
        after = solver.step(problem, state)
        worst = max(worst, float((state.utility - after.utility).max()))
        state = after
    return worst


def _random() -> Table:
    table = Table(
        "Random amplitudes at 0 dB: where power is counted decides whether they gain from size",
        ("power", "16 elements", "64 elements", "256 elements", "verdict"),
        "Asked: rise with N at the feeds, don't when radiated. 100 channels.",
    )
    for power_at in ("feeds", "radiated"):
        sums = [hb.solve(_problem(w, 0.0, 100, power_at), "random").sum_rate for w in (4, 8, 16)]
        steps = [paired_difference(b, a).mean for a, b in pairwise(sums)]
        rises = all(step > 0.1 for step in steps)
        means = [estimate(s) for s in sums]
        table.check(
            rises == (power_at == "feeds"),
            power_at,
            *(f"{m.mean:.2f} ± {m.standard_error:.2f}" for m in means),
        )
    return table
