"""Phase-shifter methods on the unfolded-pga paper's channels: rates, sizes, bits, speed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

import holobeam as hb
from benchmarks import phase_shifter_speed
from benchmarks.table import Table
from holobeam.digital.rate_gradient import gradient_of_analog, gradient_of_digital, rate_slope
from holobeam.solvers.refit import digital_refit
from holobeam.studies import estimate, paired_difference
from holobeam.testing import gaussian

SNRS = (0, 4, 8, 12, 16, 20)
CHANNELS, MANY = 512, 2048
DIGITAL = (11.69, 16.43, 21.50, 26.71, 31.98, 37.28)
LEADS = {
    "zf": (11.30, 16.09, 21.18, 26.41, 31.69, 36.99),
    "zf-water-filling": (11.59, 16.39, 21.48, 26.70, 31.98, 37.28),
    "pga, J = 1": (10.45, 14.99, 19.91, 25.03, 30.14, 35.07),
    "pga": (10.55, 15.11, 20.05, 25.19, 30.43, 35.70),
    "sca-rmm": (10.82, 14.86, 18.56, 21.45, 23.41, 24.51),
    "sca-rmm+w": (11.15, 15.84, 20.88, 26.05, 31.24, 36.45),
    "pe-altmin": (10.98, 15.45, 20.02, 24.24, 27.71, 29.90),
    "pe-altmin+w": (11.07, 15.74, 20.77, 25.94, 31.12, 36.33),
    "omp": (6.45, 8.47, 10.01, 10.95, 11.42, 11.47),
    "omp+w": (7.53, 11.04, 15.20, 19.75, 24.39, 28.69),
    "rzf+w": (10.57, 15.15, 20.13, 25.29, 30.47, 35.67),
}
"""Mean rates that a prototype measured on 128 other channels, whose digital rates are above."""


def tables(full: bool) -> Iterator[Table]:
    yield _gradients()
    yield from _rates(MANY if full else CHANNELS)
    yield _sizes()
    yield _bits()
    yield from phase_shifter_speed.tables()


def channels(count: int, *, antennas: int = 32, users: int = 4, seed: int = 1) -> Tensor:
    model = hb.channels.SalehValenzuela(antennas=antennas, users=users, paths=10)
    return model.sample(count, seed=seed)


def pair(h: Tensor, snr_db, bits: int | None = None) -> tuple[hb.Downlink, hb.Downlink]:
    """Phase shifters with a chain for each user, and the fully digital array."""
    antennas, users = h.shape[3], h.shape[2]
    hardware = hb.frontends.phase_shifters(antennas, users, bits=bits)
    return (
        hb.Downlink(h, hardware, snr_db=snr_db),
        hb.Downlink(h, hb.frontends.fully_digital(antennas), snr_db=snr_db),
    )


def _gradients() -> Table:
    table = Table(
        "Gradients of the rate in closed form",
        (
            "K, M, N",
            "over phases, against autograd",
            "over V, against autograd",
            "asked",
            "verdict",
        ),
        "Largest relative difference, complex128, 50 random points.",
    )
    for users, chains, antennas in ((4, 4, 32), (2, 3, 17)):
        h = gaussian((50, 1, users, antennas), 0)
        f = hb.frontends.Circle().project(gaussian((50, 1, antennas, chains), 1)).requires_grad_()
        v = gaussian((50, 1, chains, users), 2).requires_grad_()
        power = (h @ f @ v).abs().square()
        own = power.diagonal(dim1=2, dim2=3)
        (1 + own / (power.sum(dim=3) - own + 1.0)).log2().sum().backward()
        with torch.no_grad():
            one = torch.ones(50, 1, users, dtype=torch.float64)
            slope = rate_slope(h @ f @ v, one, one[:, 0])
            mine = (gradient_of_analog(h.mH, v.mH, slope), gradient_of_digital(h @ f, slope))
        gaps = [
            float((m - t.grad / 2).abs().amax() / t.grad.abs().amax() * 2)
            for m, t in zip(mine, (f, v), strict=True)
        ]
        sizes = f"{users}, {chains}, {antennas}"
        table.check(max(gaps) <= 1e-10, sizes, *(f"{g:.0e}" for g in gaps), "<= 1e-10")
    problem = pair(hb.channels.Rayleigh(antennas=4096, users=4).sample(1, seed=0), 10.0)[0]
    solver = hb.solver("pga", inner_steps=1, max_iterations=1)
    state = solver.init(problem, torch.Generator())
    begin = time.process_time()
    solver.step(problem, state)
    spent = time.process_time() - begin
    table.check(spent < 1.0, "4, 4, 4096", f"one step {1e3 * spent:.1f} ms", "", "< 1 s")
    return table


def _rates(count: int) -> list[Table]:
    h = channels(count)
    at = torch.tensor(SNRS, dtype=torch.float64).repeat_interleave(count)
    hybrid, digital = pair(h.repeat(len(SNRS), 1, 1, 1), at)
    found: dict[str, hb.Solution] = {}
    for name in ("zf", "zf-equal-power", "zf-water-filling", "wmmse-digital", "sca"):
        found[name] = hb.solve(digital, name)
    found["pga, J = 1"] = hb.solve(hybrid, "pga", inner_steps=1)
    for name in ("pga", "sca-rmm", "manifold-cg", "pe-altmin", "omp", "rzf"):
        found[name] = hb.solve(hybrid, name)
        found[f"{name}+w"] = digital_refit()(hybrid, start=found[name])
    found["vp"] = hb.solve(hybrid, "vp", max_iterations=20)
    bound = torch.maximum(found["wmmse-digital"].sum_rate, found["sca"].sum_rate)
    shift = bound.view(len(SNRS), -1).mean(dim=1) - torch.tensor(DIGITAL)
    return [_rate_table(found, bound, shift), _feasibility(found, bound)]


def _rate_table(found: dict[str, hb.Solution], bound: Tensor, shift: Tensor) -> Table:
    table = Table(
        f"Phase shifters, 32 antennas, 4 chains, 4 users, {len(bound) // len(SNRS)} channels",
        (
            "solver",
            *(f"{s} dB" for s in SNRS),
            "behind digital at 12 dB (paired)",
            "asked",
            "verdict",
        ),
        "Sum rates, the difference to the prototype's row in brackets. Asked figures belong to 128 "
        "other channels; they are moved by what the better of `sca` and `wmmse-digital` gains "
        f"on them here: {', '.join(f'{float(s):+.2f}' for s in shift)}. What is left is known no "
        "better than the distance to digital on 128 channels: standard errors over the SNRs "
        f"{_spread(found['pga'], bound)} (`pga`), {_spread(found['pga, J = 1'], bound)} (J = 1).",
    )
    for name, solution in found.items():
        mean = solution.sum_rate.view(len(SNRS), -1).mean(dim=1)
        gap = paired_difference(solution.sum_rate.view(6, -1)[3], bound.view(6, -1)[3])
        lead = LEADS.get(name)
        away = None if lead is None else mean - torch.tensor(lead) - shift
        cells = [f"{float(m):.2f}" for m in mean]
        if away is not None:
            cells = [f"{c} ({float(a):+.2f})" for c, a in zip(cells, away, strict=True)]
        row = (name, *cells, f"{gap.mean:+.3f} ± {gap.standard_error:.3f}")
        asked, met = _asked(name, mean, away, shift, bound)
        if met is None:
            table.add(*row, asked, "")
        else:
            table.check(met, *row, asked)
    return table


def _spread(solution: hb.Solution, bound: Tensor, count: int = 128) -> str:
    """Standard errors that ``count`` channels leave on the distance to the digital rate."""
    gap = (solution.sum_rate - bound).view(len(SNRS), -1)
    return " ".join(f"{float(s):.2f}" for s in gap.std(dim=1) / count**0.5)


def _asked(name, mean, away, shift, bound):
    """What the acceptance criteria say of a row, and whether it is met (None: nothing asked)."""
    twelve = float(mean[3])
    if name == "zf" or (name.startswith("pga") and away is not None):
        slack = [0.06] * 5 + [0.1 if "J" in name else 0.06]
        met = all(abs(float(a)) <= s for a, s in zip(away, slack, strict=True))
        return "within 0.06 (J = 1: 0.1 at 20 dB)", met
    if name in {"sca", "wmmse-digital"}:
        away = mean - bound.view(len(SNRS), -1).mean(dim=1)
        return "within 0.06 of the better (20 dB: 0.02)", bool(
            (away[:5] > -0.06).all() and away[5] > -0.02
        )
    if name == "sca-rmm":
        return "21.45 ± 0.3 at 12 dB", abs(float(away[3])) <= 0.3
    floor = {"sca-rmm+w": 25.95, "pe-altmin+w": 25.85}.get(name)
    if floor is None:
        return "", None
    floor += float(shift[3])
    return f">= {floor:.2f} at 12 dB", twelve >= floor


def _feasibility(found: dict[str, hb.Solution], bound: Tensor) -> Table:
    table = Table(
        "Feasibility of all rows above",
        ("what", "largest", "asked", "verdict"),
        "Hybrid rows against the digital rate, as means at each SNR; the same in complex64.",
    )
    hybrids = [s for s in found.values() if not s.problem.frontend.is_digital]
    over = max(float((s.sum_rate - bound).view(len(SNRS), -1).mean(dim=1).max()) for s in hybrids)
    modulus = max(float((s.control.abs() - 1).abs().max()) for s in hybrids)
    power = max(float((s.radiated_power / s.problem.power - 1).abs().max()) for s in found.values())
    table.check(modulus <= 1e-6, "modulus of a phase shifter - 1", f"{modulus:.0e}", "<= 1e-6")
    table.check(power <= 1e-5, "power over the budget - 1", f"{power:.0e}", "<= 1e-5")
    table.check(over <= 0, "hybrid mean above the digital one", f"{over:+.3f}", "<= 0")
    single = pair(channels(128).to(torch.complex64), 12.0)[0]
    solutions = [hb.solve(single, n) for n in ("pga", "sca-rmm", "pe-altmin", "omp", "omp+w")]
    modulus = max(float((s.control.abs() - 1).abs().max()) for s in solutions)
    power = max(float((s.radiated_power - 1).abs().max()) for s in solutions)
    table.check(modulus <= 1e-6, "modulus - 1, complex64", f"{modulus:.0e}", "<= 1e-6")
    table.check(power <= 1e-5, "power - 1, complex64", f"{power:.0e}", "<= 1e-5")
    return table


def _sizes() -> Table:
    names = ("pga", "rzf+w", "pe-altmin+w", "sca-rmm+w", "vp")
    table = Table(
        "Other sizes at 12 dB, 128 channels, nothing tuned",
        ("antennas, users", "zf (digital)", *names, "prototype's zf / pga / rzf+w", "verdict"),
        "`rzf+w`: channel phases and 50 WMMSE steps. Asked: it is as far below `zf` as in the "
        "prototype, within 0.15, and `pe-altmin+w` is not below it.",
    )
    cases = (
        (64, 4, (30.83, 29.61, 29.67)),
        (128, 4, (35.07, 32.32, 33.88)),
        (32, 8, (42.50, 40.03, 39.94)),
    )
    for antennas, users, lead in cases:
        hybrid, digital = pair(channels(128, antennas=antennas, users=users), 12.0)
        forced = float(hb.solve(digital, "zf").sum_rate.mean())
        rate = {name: hb.solve(hybrid, name).sum_rate for name in names}
        means = {name: float(r.mean()) for name, r in rate.items()}
        near = abs((means["rzf+w"] - forced) - (lead[2] - lead[0])) <= 0.15
        table.check(
            near and means["pe-altmin+w"] >= means["rzf+w"],
            f"{antennas}, {users}",
            f"{forced:.2f}",
            *(f"{means[n]:.2f}" for n in names),
            " / ".join(f"{v:.2f}" for v in lead),
        )
    return table


def _bits() -> Table:
    names = ("pga", "sca-rmm", "pe-altmin", "omp", "wmmse-cd")
    table = Table(
        "b-bit phases at 12 dB, 128 channels",
        ("bits", *names),
        "Rounded from the continuous solution, digital part re-optimised (continuous: `+w`); "
        "`wmmse-cd` optimises over the levels themselves.",
    )
    h = channels(128)
    for bits in (1, 2, 3, 4, None):
        problem = pair(h, 12.0, bits)[0]
        cells = []
        for name in names:
            again = bits is None and name != "wmmse-cd"
            mean = estimate(hb.solve(problem, f"{name}+w" if again else name).sum_rate)
            cells.append(f"{mean.mean:.2f} ± {mean.standard_error:.2f}")
        table.add(bits or "any phase", *cells)
    return table
