"""Imperfect and ageing channel knowledge: what denoising, robust designs and warm starts give."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.published import PUBLISHED
from benchmarks.table import Table
from holobeam.channels import (
    AngularPrior,
    RelativeError,
    channel_track,
    faded,
    headings,
    munich,
    munich_drops,
    munich_panel,
)
from holobeam.robust import Denoise, Prepared, WorstCase, follow_track, robustness, two_timescale
from holobeam.solvers import Solver
from holobeam.studies import estimate, paired_difference

DRAWS = 20
NOISE_DBM = -85.0


def tables(full: bool) -> Iterator[Table]:
    yield steps()
    yield worst_cases()
    if full:
        # 300 epochs of networks on every channel and error.
        yield meta()
    yield timescales()
    yield moving()


def channels(count: int = 100) -> Tensor:
    """Published channels where the file is at hand, else from their generator."""
    if PUBLISHED.exists():
        return hb.channels.read_channels(PUBLISHED, "HH")[:count].to(torch.complex64)
    return hb.channels.LaplacianClusters().sample(count, seed=0).to(torch.complex64)


def observed(h: Tensor, delta: float, snr_db: float, draws: int) -> hb.Downlink:
    """Every channel estimated ``draws`` times; entry ``d B + b`` is draw d of channel b."""
    seen = RelativeError(delta).observe(h, seed=3, draws=draws).flat()
    return hb.Downlink(
        seen.h,
        hb.frontends.phase_shifters(h.shape[3], h.shape[2]),
        snr_db=snr_db,
        true_h=h.repeat(draws, 1, 1, 1),
        error_variance=seen.error_variance,
    )


def per_channel(rates: Tensor, draws: int) -> Tensor:
    """Rate of a user, mean over the draws of each channel."""
    return rates.double().view(draws, -1).mean(dim=0) / 4


def cell(found: Tensor) -> str:
    value = estimate(found)
    return f"{value.mean:.3f} ± {value.standard_error:.3f}"


def gap(found: Tensor, base: Tensor) -> str:
    value = paired_difference(found, base)
    return f"{value.mean:+.4f} ± {value.standard_error:.4f}"


def steps(draws: int = DRAWS, prior_draws: int = 5) -> Table:
    table = Table(
        f"Steps before vpk, 100 channels, {draws} errors each, bits/s/Hz per user",
        ("SNR, delta", "steps", "rate on the true channel", "over nominal", "asked", "verdict"),
        "Paired over channels, means over errors taken first. The angular prior is an LMMSE filter "
        f"whose covariance is fitted to each row; {prior_draws} errors, paired with `denoise`.",
    )
    h = channels()
    prior = Denoise(AngularPrior.clusters(64))
    for snr_db, delta, asked in ((10.0, 0.1, 0.15), (10.0, 0.2, 0.25), (20.0, 0.1, None)):
        problem = observed(h, delta, snr_db, draws)
        place = f"{snr_db:g} dB, {delta:g}"
        rate: dict[str, Tensor] = {}
        for name, taken in (
            ("nominal", ()),
            ("denoise", ("denoise",)),
            ("noise-equivalent", ("noise-equivalent",)),
            ("denoise, noise-equivalent", ("denoise", "noise-equivalent")),
            ("shrink-element", ("shrink-element",)),
        ):
            found = hb.solve(problem, Prepared(solver="vpk", steps=taken)).sum_rate
            rate[name] = per_channel(found, draws)
            cells = place, name, cell(rate[name]), gap(rate[name], rate["nominal"])
            if name == "denoise" and asked is not None:
                mean = float((rate[name] - rate["nominal"]).mean())
                table.check(mean >= asked, *cells, f">= {asked:g}")
            else:
                table.add(*cells, "", "")
        few = problem.take(torch.arange(prior_draws * len(h)))
        pair = [
            per_channel(hb.solve(few, Prepared(solver="vpk", steps=(step,))).sum_rate, prior_draws)
            for step in (prior, Denoise())
        ]
        better = float((pair[0] - pair[1]).mean())
        cells = place, "angular prior, over denoise", cell(pair[0]), gap(*pair)
        table.check(better >= 0.05, *cells, ">= 0.05 (stretch)")
    return table


def worst_cases(
    count: int = 100, draws: int = DRAWS, delta: float = 0.02, snr_db: float = 10.0
) -> Table:
    table = Table(
        f"Mean, outage and worst case, {count} channels, {draws} errors each, sum of four users",
        ("design", "mean", "5 % outage", "worst case in the ball", "over nominal: mean", "outage",
         "worst"),
        f"{snr_db:g} dB, delta = {delta:g}. Outage is over the errors of each channel; the ball "
        "has the radius that the norm of 5 % of the errors exceeds, about each estimate.",
    )  # fmt: skip
    problem = observed(channels(count), delta, snr_db, draws)
    designs: dict[str, Solver] = {
        "vpk": hb.solver("vpk"),
        "vpk, noise-equivalent": Prepared(solver="vpk", steps=("noise-equivalent",)),
        "vpk, shrink-vector": Prepared(solver="vpk", steps=("shrink-vector",)),
        "vpk, denoise": Prepared(solver="vpk", steps=("denoise",)),
        "vp": hb.solver("vp"),
        "vp, sample average of 16": Prepared(solver="vp", steps=("sample-average",)),
        "worst-case (adversarial) design": WorstCase(solver="vpk"),
    }
    base: list[Tensor] = []
    for name, solver in designs.items():
        solution = hb.solve(problem, solver)
        rates = solution.sum_rate.double().view(draws, -1)
        worst = robustness(solution, draws=1, iterations=40, starts=1).worst.double()
        found = [
            rates.mean(dim=0),
            torch.quantile(rates, 0.05, dim=0),
            worst.view(draws, -1).mean(dim=0),
        ]
        base = base or found
        gains = [gap(a, b) for a, b in zip(found, base, strict=True)]
        table.add(name, *(cell(value) for value in found), *gains)
    return table


def meta(count: int = 100, draws: int = 1, epochs: int = 300) -> Table:
    table = Table(
        f"GGML and GGML-ImCSI, {epochs} epochs, {count} channels, {draws} error each, 10 dB",
        ("delta", "solver", "bits/s/Hz per user on the true channel", "over ggml (paired)"),
    )
    h = channels(count)
    for delta in (0.1, 0.2):
        problem = observed(h, delta, 10.0, draws)
        runs = {
            "ggml": ("ggml", {"max_iterations": epochs}),
            "ggml-imcsi, element": ("ggml-imcsi", {"max_iterations": epochs}),
            "ggml-imcsi, vector": ("ggml-imcsi", {"max_iterations": epochs, "reading": "vector"}),
            "vpk": ("vpk", {}),
        }
        rate: dict[str, Tensor] = {}
        for name, (solver, options) in runs.items():
            found = hb.solve(problem, solver, **options).sum_rate
            rate[name] = per_channel(found, draws)
            table.add(f"{delta:g}", name, cell(rate[name]), gap(rate[name], rate["ggml"]))
        found = hb.solve(problem, Prepared(solver="vpk", steps=("denoise",))).sum_rate
        clean = per_channel(found, draws)
        table.add(f"{delta:g}", "vpk, denoise", cell(clean), gap(clean, rate["ggml"]))
    return table


def sighted_drops() -> Tensor:
    """Bundled Munich drops whose users all see the base station."""
    drops = munich_drops()
    return drops[munich().line_of_sight[drops].all(dim=1)]


def timescales(samples: int = 32, dbm: tuple[float, ...] = (10.0, 20.0, 30.0)) -> Table:
    panel, drops = munich_panel(), sighted_drops()
    table = Table(
        f"Two timescales on {len(drops)} Munich line-of-sight drops, 16 x 16 panel, sum rate",
        ("front-end", "dBm", "instantaneous design", f"{samples} samples", "share", "asked",
         "verdict"),
        "Control from samples in which every path has a random phase; V from the channel as it is.",
    )  # fmt: skip
    h = faded(munich(), panel, drops, samples=1, seed=99, noise_dbm=NOISE_DBM)[0]
    statistics = faded(munich(), panel, drops, samples=samples, seed=5, noise_dbm=NOISE_DBM)
    for kind, solver in (("phase-shifters", "vp"), ("rhs", "mmse-fast"), ("dma", "vp")):
        frontend = hb.frontends.build(kind, panel.array, rf_chains=4)
        fast = {"phase-shifters": "vp", "rhs": "mmse-fast", "dma": "wmmse-cd"}[kind]
        for power in dbm:
            problem = hb.Downlink(h, frontend, noise_power=1.0, power=10 ** (power / 10))
            full = hb.solve(problem, fast).sum_rate
            slow = hb.solve(problem, two_timescale(statistics, samples, solver=solver)).sum_rate
            share = float(slow.mean() / full.mean())
            table.check(
                share >= 0.9,
                f"{kind}, control by {solver}, compared with {fast}",
                f"{power:g}",
                cell(full),
                cell(slow),
                f"{share:.3f}",
                ">= 0.90",
            )
    return table


def moving(count: int = 16, slots: int = 20, slot_ms: float = 0.125) -> Table:
    table = Table(
        f"Moving users: {count} Munich drops in sight, {slots} slots of {slot_ms:g} ms, 20 dBm",
        ("front-end, solver", "m/s", "converged", "3 warm", "3 cold", "1 warm", "asked", "verdict"),
        "Shares of the mean rate of designs that converge in every slot.",
    )
    panel, drops = munich_panel(), sighted_drops()[:count]
    times = slot_ms * 1e-3 * torch.arange(slots + 1).double()
    for speed in (1.0, 10.0, 30.0):
        track = channel_track(
            munich(), panel, drops, velocity=headings(2000, speed, 0), times=times,
            noise_dbm=NOISE_DBM,
        )  # fmt: skip
        for kind, name in (("phase-shifters", "vpk"), ("rhs", "mmse-fast"), ("dma", "wmmse-cd")):
            frontend = hb.frontends.build(kind, panel.array, rf_chains=4)
            problem = hb.Downlink(track[0], frontend, noise_power=1.0, power=100.0)
            first = hb.solve(problem, name, max_iterations=100)

            def rate(problem: hb.Downlink, track: Tensor, name: str, **options: object) -> float:
                return float(follow_track(problem, track[1:], name, **options).sum(dim=2).mean())

            best = rate(problem, track, name, iterations=100, warm=False)
            warm = rate(problem, track, name, iterations=3, first=first) / best
            cold = rate(problem, track, name, iterations=3, warm=False) / best
            once = rate(problem, track, name, iterations=1, first=first) / best
            cells = (
                f"{kind}, {name}", f"{speed:g}", f"{best:.2f}", f"{warm:.4f}", f"{cold:.4f}",
                f"{once:.4f}",
            )  # fmt: skip
            if speed == 1.0:
                table.check(warm >= 0.97, *cells, ">= 0.97, 3 warm")
            else:
                table.add(*cells, "", "")
    return table
