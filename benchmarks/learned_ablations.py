"""What each part of the learned beamformers on surfaces is worth: equal steps, own plateaus, K.

``python -m benchmarks.learned_ablations --steps 2000 --seeds 3`` prints all of it at length.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.table import Table
from holobeam.channels.bundled import surface_benchmark
from holobeam.learned.curriculum import Curriculum, Scenario
from holobeam.learned.network import Learned, Network
from holobeam.learned.training import Settings, averaged, train
from holobeam.learned.zoo import build

SNR_DB = 10.0
BATCH = 128
SAMPLES = 5000
BASE = "mb-dnn: sees the feed, MMSE head"

_BLIND = {"feed_aware": False}
_PRINTED = {
    **_BLIND,
    "variant": "literal",
    "activations": "printed",
    "head": "ls",
    "snr_aware": False,
}

ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    BASE: ("mb-dnn", {}),
    "... weighted least squares": ("mb-dnn", {"head": "wls"}),
    "... least squares": ("mb-dnn", {"head": "ls"}),
    "... sigmoid and tanh, MMSE head": ("mb-dnn", {"activations": "swapped"}),
    "... conjugate of (10), MMSE head": ("mb-dnn", {"variant": "conjugate"}),
    "... conjugate of (10), weighted": ("mb-dnn", {"variant": "conjugate", "head": "wls"}),
    "... literal (11)-(12), MMSE head": ("mb-dnn", {"variant": "literal"}),
    "... literal (11)-(12), weighted": ("mb-dnn", {"variant": "literal", "head": "wls"}),
    "mb-dnn: blind, MMSE head": ("mb-dnn", _BLIND),
    "... weighted least squares, blind": ("mb-dnn", {**_BLIND, "head": "wls"}),
    "... least squares, blind": ("mb-dnn", {**_BLIND, "head": "ls"}),
    "... least squares, blind, conjugate": (
        "mb-dnn",
        {**_BLIND, "head": "ls", "variant": "conjugate"},
    ),
    "mb-dnn as printed": ("mb-dnn", _PRINTED),
    "2dgnn: sees the feed, MMSE head": ("2dgnn", {}),
    "... 2dgnn, weighted": ("2dgnn", {"head": "wls"}),
    "... 2dgnn, least squares": ("2dgnn", {"head": "ls"}),
    "... 2dgnn, blind, least squares": ("2dgnn", {**_BLIND, "head": "ls"}),
    "fnn: MMSE head": ("fnn", {}),
    "... fnn, precoder itself": ("fnn", {"head": "direct"}),
    "... fnn, weighted": ("fnn", {"head": "wls"}),
    "... fnn, least squares": ("fnn", {"head": "ls"}),
    "mb-dnn-plus: MMSE head": ("mb-dnn-plus", {}),
    "... plus, weighted": ("mb-dnn-plus", {"head": "wls"}),
    "mb-dnn-unrolled": ("mb-dnn-unrolled", {}),
    "unrolled-mmse": ("unrolled-mmse", {}),
}
"""Networks compared at equal steps: label, model, options."""

PLATEAUS = (
    "unrolled-mmse",
    "mb-dnn-unrolled",
    "mb-dnn-plus: MMSE head",
    "fnn: MMSE head",
    "... fnn, weighted",
    BASE,
    "mb-dnn: blind, MMSE head",
    "2dgnn: sees the feed, MMSE head",
    "... 2dgnn, weighted",
)
"""Networks trained to their plateau on 5 000 channels."""

GENERAL = ("unrolled-mmse", "mb-dnn-unrolled", "mb-dnn-plus: MMSE head", BASE)
"""Networks that serve any number of users."""


def tables(
    steps: int = 300,
    seeds: int = 1,
    doublings: int = 2,
    only: Iterable[str] = ("equal", "plateau", "users"),
) -> Iterator[Table]:
    """Yield the tables as they are done.

    Parameters
    ----------
    steps
        Gradient steps of a batch of 128, and the first budget of the plateaus.
    seeds
        Training runs of each network at equal steps.
    doublings
        Of the budget at most, on the way to a plateau.
    only
        Some of ``equal``, ``plateau``, ``users``.
    """
    made = {
        "equal": lambda: equal_steps(steps, seeds),
        "plateau": lambda: plateaus(steps, doublings),
        "users": lambda: numbers_of_users(steps),
    }
    for name in only:
        yield made[name]()


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, what its training took, and how many weights it has."""

    network: Network
    cpu_seconds: float
    weights: int


def _surface(width: int, chains: int) -> hb.frontends.Frontend:
    array = hb.arrays.upa((width, width), wavelength=0.01, spacing=0.25)
    feeds = hb.frontends.feed_positions(array, chains, "side-far")
    return hb.frontends.rhs(hb.frontends.reference_wave(array.positions, feeds, 0.01))


def _curriculum(
    width: int, users: int, chains: int, seed: int, samples: int | None = None
) -> Curriculum:
    model = hb.channels.sparse_paths((width, width), users)

    def draw(count: int, drawn: int, start: int) -> Tensor:
        return model.sample(count, seed=drawn, start=start)

    scenario = Scenario(draw, _surface(width, chains), (SNR_DB, SNR_DB))
    return Curriculum((scenario,), BATCH, seed, samples)


def _train(label: str, curriculum: Curriculum, steps: int, seed: int, **more: Any) -> Trained:
    model, options = ABLATIONS[label]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(model, **{**options, **more})
    settings = Settings(steps=steps, checkpoint_every=10**9, validate_every=10**9)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        average = train(network, curriculum, settings, Path(folder))
    spent = time.process_time() - begin
    weights = sum(parameter.numel() for parameter in network.parameters())
    return Trained(averaged(network, average), spent, weights)


def _rates(network: Network, problem: hb.Downlink) -> Tensor:
    return hb.solve(problem, Learned(network=network)).sum_rate


def _benchmark() -> tuple[hb.Downlink, Tensor]:
    """The 256 frozen channels at 10 dB and the best rates known."""
    frozen = surface_benchmark()
    row = int((frozen.snr_db - SNR_DB).abs().argmin())
    problem = hb.Downlink(frozen.h, hb.frontends.rhs(frozen.feed), snr_db=SNR_DB)
    return problem, frozen.best_known_sum_rate[row]


def _mean(values: Tensor) -> str:
    error = float(values.std()) / len(values) ** 0.5
    return f"{float(values.mean()):.3f} ± {error:.3f}"


def _paired(values: Tensor, base: Tensor) -> str:
    apart = values - base
    return f"{float(apart.mean()):+.3f} ± {float(apart.std()) / len(apart) ** 0.5:.3f}"


def _add_floor(table: Table, problem: hb.Downlink, best: Tensor, empty: int) -> None:
    """What is left without a hologram: amplitudes 1 and a converged digital precoder."""
    ones = problem.frontend.scaled_feed()[0]
    open_ = hb.frontends.Frontend(ones, hb.frontends.Points((1.0,)), name="open")
    rates = hb.solve(problem.with_(frontend=open_), "wmmse-cd").sum_rate
    share = float(rates.mean() / best.mean())
    table.add("amplitudes 1, WMMSE precoder", _mean(rates), f"{share:.3f}", *[""] * empty)


def equal_steps(steps: int, seeds: int) -> Table:
    """Every ablation after the same number of steps on fresh channels."""
    table = Table(
        f"Learned beamformers on surfaces at equal steps: {steps} of {BATCH} fresh channels, 10 dB",
        (
            "network",
            "bits/s/Hz, 256 channels",
            "of best known",
            "seeds, least to most",
            "less the first, paired",
            "weights",
            "CPU s a run",
        ),
        f"5 x 5 elements, K = R = 3, feeds `side-far`; {seeds} seed(s); Adam at 2e-3, cosine. "
        "Equal steps are not equal times.",
    )
    problem, best = _benchmark()
    _add_floor(table, problem, best, 4)
    base = None
    for label in ABLATIONS:
        runs = [_train(label, _curriculum(5, 3, 3, seed), steps, seed) for seed in range(seeds)]
        every = torch.stack([_rates(run.network, problem) for run in runs])
        rates = every.mean(dim=0)
        base = rates if base is None else base
        means = every.mean(dim=1)
        table.add(
            label,
            _mean(rates),
            f"{float(rates.mean() / best.mean()):.3f}",
            f"{float(means.min()):.3f} .. {float(means.max()):.3f}",
            _paired(rates, base),
            runs[0].weights,
            f"{sum(run.cpu_seconds for run in runs) / seeds:.0f}",
        )
    return table


def plateaus(steps: int, doublings: int, seed: int = 0) -> Table:
    """Every network to its own plateau on the same 5 000 channels at 10 dB.

    Budgets double, each from the beginning and with a schedule of its own, until channels held
    back gain less than half a per cent; the best budget on those counts.
    """
    table = Table(
        f"To its own plateau on {SAMPLES} channels, 10 dB",
        (
            "network",
            "bits/s/Hz, 256 channels",
            "of best known",
            "steps of the best budget",
            "plateau reached",
            "CPU s, all budgets",
        ),
        f"Budgets {steps}, {2 * steps}, ... steps of {BATCH}, at most {doublings} doublings, until "
        "256 channels held back gain less than 0.5 %; one seed.",
    )
    problem, best = _benchmark()
    _add_floor(table, problem, best, 3)
    held = hb.channels.sparse_paths().sample(256, seed=987_654_321)
    held_back = hb.Downlink(held, problem.frontend, snr_db=SNR_DB)
    found: dict[str, Tensor] = {}
    for label in PLATEAUS:
        spent, top, chosen, reached = 0.0, float("-inf"), steps, False
        for doubling in range(doublings + 1):
            budget = steps * 2**doubling
            run = _train(label, _curriculum(5, 3, 3, seed, SAMPLES), budget, seed)
            spent += run.cpu_seconds
            level = float(_rates(run.network, held_back).mean())
            if level > top:
                found[label], chosen = _rates(run.network, problem), budget
            reached = level < 1.005 * top
            top = max(top, level)
            if reached:
                break
        share = f"{float(found[label].mean() / best.mean()):.3f}"
        table.add(
            label, _mean(found[label]), share, chosen, "yes" if reached else "no", f"{spent:.0f}"
        )
    for ahead, behind, asked in (
        ("unrolled-mmse", "fnn: MMSE head", 1.0),
        ("mb-dnn-plus: MMSE head", "fnn: MMSE head", 0.3),
        ("mb-dnn-plus: MMSE head", "... 2dgnn, weighted", 1.5),
    ):
        apart = found[ahead] - found[behind]
        met = float(apart.mean()) >= asked
        table.check(
            met,
            f"{ahead} less {behind}",
            _paired(found[ahead], found[behind]),
            f">= {asked}",
            "",
            "",
        )
    return table


def numbers_of_users(steps: int, seed: int = 0) -> Table:
    """Trained with 5 users on 6 x 6 elements and 7 chains, tested with 3 to 7."""
    crowd = (3, 4, 5, 6, 7)
    table = Table(
        f"Trained with K = 5, {steps} steps, tested with K = 3 .. 7",
        ("network", *[f"K = {users}" for users in crowd], "asked", "verdict"),
        "6 x 6 elements, R = 7, feeds `side-far` (condition 45), 10 dB, 256 channels: share of "
        "`mmse-fast` with 6 starts of 80 iterations; in brackets of `wmmse-hbf`, the paper's own "
        "reference.",
    )
    frontend = _surface(6, 7)
    problems, strong, paper = {}, {}, {}
    for users in crowd:
        h = hb.channels.sparse_paths((6, 6), users).sample(256, seed=123_456_789)
        problems[users] = hb.Downlink(h, frontend, snr_db=SNR_DB)
        solved = hb.solve(problems[users], "mmse-fast", starts=6, max_iterations=80)
        strong[users] = float(solved.sum_rate.mean())
        paper[users] = float(hb.solve(problems[users], "wmmse-hbf").sum_rate.mean())
    for label in GENERAL:
        more = {"rf_chains": 7} if ABLATIONS[label][0] == "mb-dnn" else {}
        run = _train(label, _curriculum(6, 5, 7, seed), steps, seed, **more)
        means = {k: float(_rates(run.network, problem).mean()) for k, problem in problems.items()}
        shares = {k: means[k] / strong[k] for k in crowd}
        cells = [f"{shares[k]:.3f} ({means[k] / paper[k]:.3f})" for k in crowd]
        if label == "unrolled-mmse":
            table.check(min(shares.values()) >= 0.9, label, *cells, ">= 0.90")
        else:
            table.add(label, *cells, "", "")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.learned_ablations", description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--doublings", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=["equal", "plateau", "users"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for table in tables(chosen.steps, chosen.seeds, chosen.doublings, chosen.only):
        print(table.markdown(), flush=True)


if __name__ == "__main__":
    main()
