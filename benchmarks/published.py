"""Phase shifters on published and standard channels."""

from __future__ import annotations

from pathlib import Path

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.studies import estimate, paired_difference

PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "ggml_channels.mat"


def tables(full: bool) -> list[Table]:
    return [_ggml(), _saleh_valenzuela()]


def _ggml() -> Table:
    table = Table(
        "Published channels (ggml_channels.mat, rows 0-23): 64 antennas, 4 chains, 10 dB",
        ("solver", "dtype", "bits/s/Hz per user", "asked", "verdict"),
    )
    if not PUBLISHED.exists():
        table.add(
            "-",
            "-",
            "not measured: the file is not ours to redistribute, and not here",
            "-",
            "skipped",
        )
        return table
    h = hb.channels.read_channels(PUBLISHED, "HH")[:24]
    for dtype in (torch.complex128, torch.complex64):
        bound = hb.Downlink(h.to(dtype), hb.frontends.fully_digital(64), snr_db=10.0)
        rate = float(hb.solve(bound, "wmmse-digital").sum_rate.mean()) / 4
        table.check(
            abs(rate - 7.131) <= 2e-3, "wmmse-digital", dtype, f"{rate:.4f}", "7.131 ± 0.002"
        )
        problem = hb.Downlink(h.to(dtype), hb.frontends.phase_shifters(64, 4), snr_db=10.0)
        rate = float(hb.solve(problem, "vp", max_iterations=60).sum_rate.mean()) / 4
        table.check(rate >= 6.93, "vp, 60 iterations", dtype, f"{rate:.4f}", ">= 6.93")
    return table


def _saleh_valenzuela() -> Table:
    table = Table(
        "Saleh-Valenzuela, 32 antennas, 4 chains, 4 users, 12 dB, 256 channels",
        ("solver", "sum rate", "behind wmmse-digital (paired)", "asked", "verdict"),
        "The figures asked for were taken on channels whose digital rate is 26.76.",
    )
    h = hb.channels.SalehValenzuela(antennas=32, users=4, paths=10).sample(256, seed=0)
    bound = hb.solve(hb.Downlink(h, hb.frontends.fully_digital(32), snr_db=12.0), "wmmse-digital")
    table.add("wmmse-digital", f"{float(bound.sum_rate.mean()):.2f}", "", "", "")
    problem = hb.Downlink(h, hb.frontends.phase_shifters(32, 4), snr_db=12.0)
    for iterations, asked in ((20, 26.0), (300, 26.1)):
        found = hb.solve(problem, "vp", max_iterations=iterations).sum_rate
        mean, gap = estimate(found), paired_difference(found, bound.sum_rate)
        table.check(
            mean.mean >= asked,
            f"vp, {iterations} iterations",
            f"{mean.mean:.2f} ± {mean.standard_error:.2f}",
            f"{gap.mean:+.3f} ± {gap.standard_error:.3f}",
            f">= {asked:g}",
        )
    return table
