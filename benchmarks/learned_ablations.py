"""What each part of the learned beamformers on surfaces is worth: equal steps, own plateaus, K.

``python -m benchmarks.learned_ablations --steps 2000 --seeds 3 --kept runs`` prints all of it at
length; killed, the same command goes on with what is in ``runs``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.table import Table
from holobeam.channels.bundled import surface_benchmark
from holobeam.frontends.feeds import FeedLayout
from holobeam.learned.checkpoints import read_state
from holobeam.learned.curriculum import Curriculum, Scenario
from holobeam.learned.network import Learned, Network
from holobeam.learned.settings import Settings
from holobeam.learned.training import averaged, train
from holobeam.learned.zoo import build

SNR_DB = 10.0
BATCH = 128
SAMPLES = 5000
RATES = (2e-3, 5e-3, 1e-2, 2e-2)
"""Learning rates that a network chooses from on its way to a plateau."""

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
    "mb-dnn as printed, wide": ("mb-dnn", {**_PRINTED, "widths": (32, 512, 512, 512, 512, 32, 2)}),
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
"""Label, model, options."""

WIDE = "mb-dnn as printed, wide"

EQUAL = tuple(label for label in ABLATIONS if label != WIDE)
"""Networks compared at equal steps."""

GENERAL = ("unrolled-mmse", "mb-dnn-unrolled", "mb-dnn-plus: MMSE head", BASE)
"""Networks that serve any number of users."""


@dataclass(frozen=True)
class Course:
    """A training run: which network, on what, for how long."""

    label: str
    steps: int
    seed: int = 0
    width: int = 5
    users: int = 3
    chains: int = 3
    feeds: FeedLayout = "side-far"
    samples: int | None = None
    batch: int = BATCH
    learning_rate: float = 2e-3

    @property
    def name(self) -> str:
        """Folder of its checkpoints."""
        told = json.dumps(asdict(self) | {"network": ABLATIONS[self.label]}, sort_keys=True)
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, what its training took, and how many weights it has."""

    network: Network
    cpu_seconds: float
    weights: int


def tables(
    kept: Path,
    steps: int,
    seeds: int,
    doublings: int,
    only: Iterable[str],
    *,
    networks: Sequence[str] = EQUAL,
) -> Iterator[Table]:
    """Yield the tables as they are done.

    Parameters
    ----------
    kept
        Folder of checkpoints: what it holds is not trained again.
    steps
        Gradient steps of a batch of 128, and the first budget of the plateaus.
    seeds
        Training runs of each network.
    doublings
        Of the budget at most, on the way to a plateau.
    only
        Some of ``equal``, ``plateau``, ``users``, ``printed``.
    networks
        That go to their plateaus, by their labels.
    """
    made = {
        "equal": lambda: equal_steps(kept, steps, seeds),
        "plateau": lambda: plateaus(kept, networks, steps, doublings, seeds),
        "users": lambda: numbers_of_users(kept, steps),
        "printed": lambda: printed(kept),
    }
    for name in only:
        yield made[name]()


def _surface(width: int, chains: int, feeds: FeedLayout = "side-far") -> hb.frontends.Frontend:
    array = hb.arrays.upa((width, width), wavelength=0.01, spacing=0.25)
    places = hb.frontends.feed_positions(array, chains, feeds)
    return hb.frontends.rhs(hb.frontends.reference_wave(array.positions, places, 0.01))


def _curriculum(course: Course) -> Curriculum:
    model = hb.channels.sparse_paths((course.width, course.width), course.users)

    def draw(count: int, drawn: int, start: int) -> Tensor:
        return model.sample(count, seed=drawn, start=start)

    surface = _surface(course.width, course.chains, course.feeds)
    scenario = Scenario(draw, surface, (SNR_DB, SNR_DB))
    return Curriculum((scenario,), course.batch, course.seed, course.samples)


def _train(kept: Path, course: Course) -> Trained:
    model, options = ABLATIONS[course.label]
    if model == "mb-dnn":
        options = {**options, "rf_chains": course.chains}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(course.seed)
        network = build(model, **options)
    settings = Settings(
        steps=course.steps,
        learning_rate=course.learning_rate,
        checkpoint_every=200,
        validate_every=10**9,
    )
    folder = kept / course.name
    average = train(network, _curriculum(course), settings, folder)
    found = read_state(folder)
    assert found is not None, "the last step leaves a checkpoint"
    weights = sum(parameter.numel() for parameter in network.parameters())
    return Trained(averaged(network, average), found[1]["cpu_seconds"], weights)


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


def _range(means: Tensor) -> str:
    return f"{float(means.min()):.3f} .. {float(means.max()):.3f}"


def _add_floor(table: Table, problem: hb.Downlink, best: Tensor, empty: int) -> None:
    """What is left without a hologram: amplitudes 1 and a converged digital precoder."""
    ones = problem.frontend.scaled_feed()[0]
    open_ = hb.frontends.Frontend(ones, hb.frontends.Points((1.0,)), name="open")
    rates = hb.solve(problem.with_(frontend=open_), "wmmse-cd").sum_rate
    share = float(rates.mean() / best.mean())
    table.add("amplitudes 1, WMMSE precoder", _mean(rates), f"{share:.3f}", *[""] * empty)


def equal_steps(kept: Path, steps: int, seeds: int) -> Table:
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
    for label in EQUAL:
        runs = [_train(kept, Course(label, steps, seed)) for seed in range(seeds)]
        every = torch.stack([_rates(run.network, problem) for run in runs])
        rates = every.mean(dim=0)
        base = rates if base is None else base
        table.add(
            label,
            _mean(rates),
            f"{float(rates.mean() / best.mean()):.3f}",
            _range(every.mean(dim=1)),
            _paired(rates, base),
            runs[0].weights,
            f"{sum(run.cpu_seconds for run in runs) / seeds:.0f}",
        )
    return table


@dataclass(frozen=True, eq=False)
class Plateau:
    """Where doubling the budget stopped to help: the course, whether it did, and the CPU spent."""

    course: Course
    reached: bool
    cpu_seconds: float


def _plateau(kept: Path, label: str, steps: int, doublings: int, held_back: hb.Downlink) -> Plateau:
    """Choose a learning rate, then double the budget until what is gained is under half a per cent.

    Both on channels held back; where a rate makes nothing of a network, another wins.
    """
    spent = 0.0

    def level(course: Course) -> float:
        nonlocal spent
        run = _train(kept, course)
        spent += run.cpu_seconds
        return float(_rates(run.network, held_back).mean())

    first = [Course(label, steps, samples=SAMPLES, learning_rate=rate) for rate in RATES]
    levels = {course: level(course) for course in first}
    chosen = max(first, key=levels.__getitem__)
    top = levels[chosen]
    for doubling in range(1, doublings + 1):
        longer = replace(chosen, steps=steps * 2**doubling)
        reached = (found := level(longer)) < 1.005 * top
        if found > top:
            top, chosen = found, longer
        if reached:
            return Plateau(chosen, True, spent)
    return Plateau(chosen, False, spent)


def plateaus(kept: Path, networks: Sequence[str], steps: int, doublings: int, seeds: int) -> Table:
    """Every network to its own plateau on 5 000 channels at 10 dB.

    The first budget chooses the learning rate. Budgets then double, each from the beginning and
    with a schedule of its own, until channels held back gain less than half a per cent; the best
    budget on those counts, and the other seeds (of weights, channels and their order) take it too.
    """
    table = Table(
        f"To its own plateau on {SAMPLES} channels, 10 dB",
        (
            "network",
            "bits/s/Hz, 256 channels",
            "of best known",
            "seeds, least to most",
            "learning rate",
            "steps of the best budget",
            "plateau reached",
            "CPU s, all runs",
        ),
        f"Budgets {steps}, {2 * steps}, ... steps of {BATCH}, at most {doublings} doublings, until "
        f"256 channels held back gain less than 0.5 %; {seeds} seed(s) at the best budget. "
        f"Learning rate: the best of {', '.join(f'{rate:g}' for rate in RATES)} at {steps} "
        "steps, on the same channels.",
    )
    problem, best = _benchmark()
    _add_floor(table, problem, best, 5)
    held = hb.channels.sparse_paths().sample(256, seed=987_654_321)
    held_back = hb.Downlink(held, problem.frontend, snr_db=SNR_DB)
    found: dict[str, Tensor] = {}
    for label in networks:
        plateau = _plateau(kept, label, steps, doublings, held_back)
        runs = [_train(kept, replace(plateau.course, seed=seed)) for seed in range(seeds)]
        every = torch.stack([_rates(run.network, problem) for run in runs])
        found[label] = every.mean(dim=0)
        table.add(
            label,
            _mean(found[label]),
            f"{float(found[label].mean() / best.mean()):.3f}",
            _range(every.mean(dim=1)),
            f"{plateau.course.learning_rate:g}",
            plateau.course.steps,
            "yes" if plateau.reached else "no",
            f"{plateau.cpu_seconds + sum(run.cpu_seconds for run in runs[1:]):.0f}",
        )
    for ahead, behind, asked in (
        ("unrolled-mmse", "fnn: MMSE head", 1.0),
        ("mb-dnn-plus: MMSE head", "fnn: MMSE head", 0.3),
        ("mb-dnn-plus: MMSE head", "... 2dgnn, weighted", 1.5),
    ):
        if ahead not in found or behind not in found:
            continue
        apart = found[ahead] - found[behind]
        met = float(apart.mean()) >= asked
        paired = _paired(found[ahead], found[behind])
        table.check(met, f"{ahead} less {behind}", paired, f">= {asked}", "", "", "", "")
    return table


def printed(kept: Path) -> Table:
    """The mb-dnn paper's network as printed, at its widths, on two layouts of the feeds."""
    table = Table(
        "The printed network at the paper's widths (32, 4 x 512, 32), 10 dB",
        (
            "feeds",
            "channels trained on",
            "passes over them",
            "bits/s/Hz, 256 channels",
            "of mmse-fast, 16 starts",
            "weights",
            "CPU s",
        ),
        f"A tenth of the paper's 500 000 samples, Adam at 1e-3; batches of {BATCH}, not 1024, "
        "which would leave it 98 steps. Blind to the feed, least-squares head, activations and "
        "inner products as printed.",
    )
    h = surface_benchmark().h
    layouts: tuple[FeedLayout, ...] = ("edge", "line")
    for feeds in layouts:
        problem = hb.Downlink(h, _surface(5, 3, feeds), snr_db=SNR_DB)
        strong = hb.solve(problem, "mmse-fast", starts=16, max_iterations=100).sum_rate
        passes, samples = 2, 50_000
        course = Course(
            WIDE,
            passes * (samples // BATCH),
            feeds=feeds,
            samples=samples,
            learning_rate=1e-3,
        )
        run = _train(kept, course)
        rates = _rates(run.network, problem)
        share = f"{float(rates.mean() / strong.mean()):.3f}"
        spent = f"{run.cpu_seconds:.0f}"
        table.add(feeds, samples, passes, _mean(rates), share, run.weights, spent)
    return table


def numbers_of_users(kept: Path, steps: int) -> Table:
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
        run = _train(kept, Course(label, steps, width=6, users=5, chains=7))
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
    parser.add_argument("--kept", type=Path, help="folder of finished and unfinished runs")
    parser.add_argument("--networks", nargs="+", default=EQUAL, choices=EQUAL, metavar="LABEL",
                        help="networks that go to their plateaus")  # fmt: skip
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        kept = chosen.kept or Path(scratch)
        course = chosen.steps, chosen.seeds, chosen.doublings, chosen.only
        for table in tables(kept, *course, networks=chosen.networks):
            print(table.markdown(), flush=True)


if __name__ == "__main__":
    main()
