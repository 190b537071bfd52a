"""The convolutional network with attention against searches: shares of the best hybrid, times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.meta import bound, hybrid
from benchmarks.published import PUBLISHED
from benchmarks.table import Table
from holobeam.learned.network import Network
from holobeam.learned.validation import Validation
from holobeam.studies import estimate, paired_difference

ANTENNAS = (32, 64, 128, 256)
CLAIMED = {128: 0.98, 256: 0.996}
"""Shares of the best hybrid rate that the paper reports."""

SEED = 1_000_007
"""Of channels that no step trains on."""

SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("cnn", {}),
    "cnn-direct": ("cnn", {"weights": "cnn-direct"}),
    "channel phases": ("rzf+w", {}),
    "unfolded-vp, 3": ("unfolded-vp", {"layers": 3}),
    "vpk, 10": ("vpk", {"max_iterations": 10}),
}


def tables(full: bool) -> Iterator[Table]:
    count = 2048 if full else 256
    yield _shares(
        f"{count} fresh channels of the generator, 4 users, 4 chains, 10 dB",
        {n: fresh(n, count) for n in ANTENNAS},
    )
    if PUBLISHED.exists():
        h = hb.channels.read_channels(PUBLISHED, "HH")[:20]
        yield _shares("Published channels HH[0:20], 64 antennas, 4 users, 10 dB", {64: h})
    yield _elsewhere(count)
    yield _warm(count)
    yield _times()


def fresh(antennas: int, count: int, users: int = 4) -> Tensor:
    model = hb.channels.LaplacianClusters(antennas=antennas, users=users)
    return model.sample(count, seed=SEED)


def best_hybrid(problem: hb.Downlink) -> Tensor:
    """Sum rate of the best of eight converged searches and ``vp``, channel by channel."""
    searched = hb.solve(problem, "vpk", starts=8, max_iterations=100).sum_rate
    return torch.maximum(searched, hb.solve(problem, "vp", max_iterations=300).sum_rate)


def size_scores(network: Network) -> list[dict[str, Any]]:
    """What a card says of other numbers of antennas, at 10 dB."""
    problems = {f"N = {n}": hybrid(fresh(n, 256), 4) for n in ANTENNAS}
    best = {label: best_hybrid(problem) for label, problem in problems.items()}
    scores = Validation(problems, best).score(network)
    return [{**asdict(score), "share": score.share} for score in scores]


def _shares(title: str, channels: dict[int, Tensor]) -> Table:
    others = [name for name in SOLVERS if name != "cnn"]
    table = Table(
        title,
        (
            *("N", "cnn", "share of best hybrid", "of digital", *others),
            *("best hybrid", "digital", "claimed share", "verdict"),
        ),
        "Bits/s/Hz a user, in brackets shares of the best hybrid rate: `vpk` with 8 starts of 100 "
        "iterations or `vp` with 300, whichever is better on a channel. *Channel phases* is where "
        "the network begins: phases of the channels and a converged digital part. *Claimed* is "
        "what the meta-learning paper says of the network that it cites; ours is a reconstruction.",
    )
    for antennas, h in channels.items():
        problem = hybrid(h, 4)
        rates = {
            name: hb.solve(problem, solver, **options).sum_rate.double() / 4
            for name, (solver, options) in SOLVERS.items()
        }
        best, top = best_hybrid(problem).double() / 4, bound(h)
        mean = estimate(rates["cnn"])
        share = float(rates["cnn"].mean() / best.mean())
        cells = (
            antennas,
            f"{mean.mean:.4f} ± {mean.standard_error:.3f}",
            f"{share:.4f}",
            f"{float(rates['cnn'].mean() / top.mean()):.4f}",
            *(
                f"{float(rates[n].mean()):.4f} ({float(rates[n].mean() / best.mean()):.4f})"
                for n in others
            ),
            f"{float(best.mean()):.4f}",
            f"{float(top.mean()):.4f}",
        )
        if antennas in CLAIMED:
            table.check(share >= CLAIMED[antennas], *cells, f"{CLAIMED[antennas]:.3f}")
        else:
            table.add(*cells, "", "")
    return table


def _elsewhere(count: int) -> Table:
    table = Table(
        f"cnn at other SNRs and numbers of users, N = 64, {count} channels, share of best hybrid",
        ("users = chains", "0 dB", "10 dB", "20 dB", "30 dB", "channel phases, 10 dB"),
        "Trained on 2, 4 and 8 users at 0 to 20 dB; 3, 6 and 30 dB it has not seen.",
    )
    for users in (2, 3, 4, 6, 8):
        h, shares = fresh(64, count, users), []
        for snr_db in (0.0, 10.0, 20.0, 30.0):
            problem = hybrid(h, users, snr_db)
            best = best_hybrid(problem).mean()
            shares.append(f"{float(hb.solve(problem, 'cnn').sum_rate.mean() / best):.4f}")
            if snr_db == 10.0:
                phases = f"{float(hb.solve(problem, 'rzf+w').sum_rate.mean() / best):.4f}"
        table.add(users, *shares, phases)
    return table


def _warm(count: int) -> Table:
    table = Table(
        f"vpk from the answer of cnn, 4 users, 10 dB, {count} channels, bits/s/Hz a user",
        ("N", "iterations", "from channel phases", "from cnn", "gain (paired)"),
    )
    for antennas in (64, 256):
        problem = hybrid(fresh(antennas, count), 4)
        start = hb.solve(problem, "cnn")
        for iterations in (5, 10, 30, 100):
            cold, warm = (
                hb.solve(problem, "vpk", max_iterations=iterations, start=begin).sum_rate / 4
                for begin in (None, start)
            )
            gain = paired_difference(warm, cold)
            table.add(
                antennas,
                iterations,
                f"{float(cold.mean()):.4f}",
                f"{float(warm.mean()):.4f}",
                f"{gain.mean:+.4f} ± {gain.standard_error:.4f}",
            )
    return table


def _times() -> Table:
    table = Table(
        "CPU ms a channel, 4 users, 10 dB, complex64, one thread: least (median)",
        ("N", "batch", *SOLVERS),
        "Taking turns, 9 rounds after one to warm up. On a loaded machine trust ratios in a row.",
    )
    for antennas in ANTENNAS:
        h = fresh(antennas, 256)
        for batch in (1, 256):
            problem = hybrid(h[:batch], 4)
            runs = {
                name: lambda s=solver, o=options, p=problem: hb.solve(p, s, **o)
                for name, (solver, options) in SOLVERS.items()
            }
            spent = _in_turns(runs, 9)
            table.add(
                antennas,
                batch,
                *(f"{min(t) / batch:.3g} ({median(t) / batch:.3g})" for t in spent.values()),
            )
    return table


def _in_turns(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            if turn:
                spent[name].append(1e3 * (time.process_time() - begin))
    return spent
