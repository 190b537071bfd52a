"""The 64 Munich drops: every front-end, every power, on the same channels."""

from __future__ import annotations

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.studies import estimate, paired_difference, sources, starved_share

POWERS = (10.0, 20.0, 30.0)


def _asked(low: tuple[float, ...], high: tuple[float, ...] | None = None):
    return low, high or (float("inf"),) * 3


# (front-end, solver, options, lowest and highest mean rate asked for at 10, 20, 30 dBm)
ROWS = (
    ("digital", "wmmse-digital", {}, _asked((15.50, 27.48, 40.44), (15.56, 27.54, 99.0))),
    ("phase-shifters", "vp", {"max_iterations": 20}, _asked((15.3, 27.1, 40.0))),
    ("phase-shifters", "wmmse-cd", {}, None),
    ("phase-shifters-2bit", "wmmse-cd", {}, None),
    ("phase-shifters-sub", "wmmse-cd", {}, None),
    ("dma", "wmmse-cd", {}, _asked((9.9, 20.2, 30.6))),
    ("dma", "vp", {}, None),
    ("rhs", "mmse-fast", {"max_iterations": 60}, _asked((7.40, 16.25, 27.6))),
    ("rhs", "mmse", {"max_iterations": 60}, _asked((7.15, 15.2, 22.5))),
    ("rhs", "wmmse-hbf", {}, _asked((6.23, 13.89, 20.80), (6.53, 14.19, 21.10))),
    ("rhs", "zf-hbf", {}, _asked((4.69, 11.23, 19.28), (4.99, 11.53, 19.58))),
    ("rhs", "random", {}, None),
    ("rhs", "vp", {}, None),
    ("rhs-binary", "wmmse-cd", {"starts": 6}, None),
)


def _problem(source: sources.Source, name: str) -> hb.Downlink:
    batch = source.h.shape[0]
    powers = torch.tensor(POWERS, dtype=torch.float64).repeat_interleave(batch)
    frontend = hb.frontends.build(name, source.array, 4)
    return source.problem(source.h.repeat(len(POWERS), 1, 1, 1), frontend, powers)


def munich_drops(full: bool) -> list[Table]:
    source = sources.load("munich")
    table = Table(
        "Munich, 64 drops of 4 users: sum rate by front-end and solver",
        (
            "front-end",
            "solver",
            *(f"{p:g} dBm" for p in POWERS),
            "asked",
            "starved",
            "ms/channel",
            "worst violation",
            "verdict",
        ),
        "bits/s/Hz summed over users; 16 x 16 elements at a quarter wavelength, 28 GHz, radiated "
        "power, zero losses. All 192 (drop, power) pairs are solved as one batch.",
    )
    for name, solver, options, asked in ROWS:
        solution = hb.solve(_problem(source, name), solver, **options)
        rates = solution.sum_rate.view(3, -1)
        starved = [starved_share(r) for r in solution.rates.view(3, -1, 4)]
        means = [estimate(r) for r in rates]
        cells = (
            name,
            _label(solver, options),
            *(f"{m.mean:.2f} ± {m.standard_error:.2f}" for m in means),
            _range(asked),
            " ".join(f"{s:.0%}" for s in starved),
            f"{1e3 * solution.seconds / rates.numel():.1f}",
            f"{float(solution.violation.max()):.0e}",
        )
        if asked is None:
            table.add(*cells, "")
        else:
            low, high = asked
            met = all(lo <= m.mean <= hi for lo, m, hi in zip(low, means, high, strict=True))
            table.check(met and float(solution.violation.max()) <= 1e-9, *cells)
    return [table]


def _label(solver: str, options: dict[str, int]) -> str:
    return " ".join([solver, *(f"{k}={v}" for k, v in options.items())])


def _range(asked: tuple[tuple[float, ...], tuple[float, ...]] | None) -> str:
    if asked is None:
        return ""
    low, high = asked
    if high[0] == float("inf"):
        return ">= " + " / ".join(f"{x:g}" for x in low)
    return " / ".join(f"{a:g}..{b:g}" for a, b in zip(low, high, strict=True)).replace("..99", "..")


def bounds(full: bool) -> list[Table]:
    source = sources.load("munich")
    digital = hb.solve(_problem(source, "digital"), "wmmse-digital")
    shifters = hb.solve(_problem(source, "phase-shifters"), "vp", max_iterations=60)
    binary = hb.solve(_problem(source, "rhs-binary"), "wmmse-cd", starts=6)
    amplitude = hb.solve(_problem(source, "rhs"), "mmse-fast", max_iterations=200, starts=3)
    table = Table(
        "What can't be, isn't: per-drop order of the front-ends",
        ("pair", *(f"{p:g} dBm: largest excess" for p in POWERS), "mean gap", "verdict"),
        "Largest amount by which the weaker hardware beats the stronger on any drop (negative: it "
        "never does). Converged, best of starts, each from its own: nothing of the on/off solution "
        "is handed to the amplitude surface.",
    )
    for name, weak, strong in (
        ("phase shifters - digital", shifters, digital),
        ("binary - amplitude surface", binary, amplitude),
    ):
        excess = (weak.sum_rate - strong.sum_rate).view(3, -1)
        gap = paired_difference(weak.sum_rate, strong.sum_rate)
        table.check(
            bool((excess <= 1e-6).all()),
            name,
            *(f"{float(e.max()):+.3f}" for e in excess),
            f"{gap.mean:+.2f} ± {gap.standard_error:.2f}",
        )
    return [table]
