"""Surfaces on the mmse paper's channels, and what the place where power counts changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.solvers import Perturb, Restart
from holobeam.studies import estimate, paired_difference

SOLVERS = ("mmse-fast", "mmse", "wmmse-hbf", "zf-hbf", "random")


def _problem(width: int, snr_db: float, channels: int, power_at: str) -> hb.Downlink:
    h = hb.channels.path_wise((width, width), users=4).sample(channels, seed=1)
    array = hb.arrays.upa((width, width), wavelength=0.01, spacing=1 / 3)
    return hb.Downlink(h, hb.frontends.build("rhs", array, 4), snr_db=snr_db, power_at=power_at)


GROUPS = {
    # name: (elements, users, chains, SNR dB, channels), asked of one run and of eight starts
    "a": ((64, 4, 4, 0.0, 40), (0.94, 0.975)),
    "b": ((64, 4, 4, 10.0, 40), (0.965, 0.988)),
    "c": ((64, 4, 4, 20.0, 40), (0.97, 0.99)),
    "d": ((256, 4, 4, 10.0, 20), (0.98, 0.99)),
    "e": ((64, 8, 8, 10.0, 20), (0.945, 0.975)),
    "f": ((36, 3, 4, 10.0, 40), (0.95, 0.98)),
}


def tables(full: bool) -> Iterator[Table]:
    yield _rates()
    yield _readings()
    yield _reference()
    yield _convergence()
    yield _random()


def _readings() -> Table:
    table = Table(
        "The mmse paper's update, as far as we can read it: 64 elements, 100 channels, 60 sweeps",
        ("digital step / sweep", "0 dB", "10 dB", "20 dB"),
        "Radiated power, best iterate. The paper's digital formula is lost in our copy: with or "
        "without a regulariser, both are our reading. `mmse-analog` has one chain a user.",
    )
    rows = {
        "no regulariser / no power term (`mmse-paper`)": ("mmse-paper", {}),
        "no regulariser / power term": ("mmse-paper", {"power_term": True}),
        "bisection / no power term (`wmmse-hbf`)": ("mmse-paper", {"multiplier": True}),
        "bisection / power term": ("mmse-paper", {"multiplier": True, "power_term": True}),
        "folded / power term (`mmse`)": ("mmse", {}),
        "one chain a user (`mmse-analog`)": ("mmse-analog", {}),
        "folded, fit, annealed, extrapolated (`mmse-fast`)": ("mmse-fast", {}),
    }
    for label, (method, options) in rows.items():
        cells = []
        for snr_db in (0.0, 10.0, 20.0):
            solution = hb.solve(_problem(8, snr_db, 100, "radiated"), method, **options)
            mean = estimate(solution.sum_rate)
            cells.append(f"{mean.mean:.2f} ± {mean.standard_error:.2f}")
        table.add(label, *cells)
    return table


def _reference() -> Table:
    table = Table(
        "Against a reference of twenty random starts, its best perturbed and solved again 5 times",
        (
            "group (elements, users, chains, dB)",
            "channels",
            "one run of 200 sweeps",
            "asked",
            "8 starts x 100 sweeps",
            "asked",
            "reference, bits/s/Hz",
            "verdict",
        ),
        "Mean over channels of the ratio to the reference (amplitudes times e^(N(0,1)/2), 200 "
        "sweeps a solve), the worst channel in brackets. The reference is the best we know, not a "
        "certified optimum.",
    )
    for name, ((elements, users, chains, snr_db, channels), asked) in GROUPS.items():
        side = round(elements**0.5)
        h = hb.channels.path_wise((side, side), users=users).sample(channels, seed=7)
        array = hb.arrays.upa((side, side), wavelength=0.01, spacing=1 / 3)
        problem = hb.Downlink(h, hb.frontends.build("rhs", array, chains), snr_db=snr_db)
        random = hb.solver("mmse-fast", begin="random", max_iterations=200)
        many = Restart(solver=random, starts=20)
        best = Perturb(solver=many, rounds=5, size=0.5)(problem, seed=0).sum_rate
        one = hb.solve(problem, "mmse-fast", max_iterations=200).sum_rate / best
        eight = hb.solve(problem, "mmse-fast", max_iterations=100, starts=8).sum_rate / best
        table.check(
            float(one.mean()) >= asked[0] and float(eight.mean()) >= asked[1],
            f"{name} ({elements}, {users}, {chains}, {snr_db:g})",
            channels,
            f"{float(one.mean()):.3f} ({float(one.min()):.3f})",
            f">= {asked[0]:g}",
            f"{float(eight.mean()):.3f} ({float(eight.min()):.3f})",
            f">= {asked[1]:g}",
            f"{float(best.mean()):.2f}",
        )
    return table


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
