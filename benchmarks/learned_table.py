"""The MB-DNN paper's Table I in one run: what it takes to reach the rate of ``wmmse-hbf``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.learned.network import Learned, Network
from holobeam.learned.settings import Moment
from holobeam.learned.training import train
from holobeam.learned.validation import Validation
from holobeam.studies.recipe import Recipe, read_recipe

MODELS = (
    "mb-dnn-blind",
    "mb-dnn",
    "2dgnn",
    "fnn",
    "mb-dnn-plus",
    "mb-dnn-unrolled",
    "unrolled-mmse",
)
BASELINES = ("wmmse-hbf", "zf-hbf")


class ReachedError(Exception):
    """The target was reached, or the budget spent."""


@dataclass
class Course:
    """What a training run took."""

    steps: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    share: float = 0.0
    reached: bool = False


def tables(full: bool) -> Iterator[Table]:
    """Table I at 0 and 10 dB: the paper's caption and text disagree."""
    torch.set_num_threads(1)
    for snr_db in (0.0, 10.0):
        yield table_one(snr_db, 600.0 if full else 60.0)


def table_one(snr_db: float, cpu_seconds: float) -> Table:
    table = Table(
        f"Table I at {snr_db:g} dB, 6 x 6 elements, K = R = 3: to reach the rate of wmmse-hbf",
        (
            "method",
            "batch 1, ms",
            "training channels",
            "training, CPU s",
            "parameters",
            "rate over wmmse-hbf",
            "reached",
        ),
        f"Channels drawn anew for every step; at most {cpu_seconds:g} CPU s a model, one thread. "
        "Rates on 256 channels that no step trains on.",
    )
    exam = read_recipe("mb-dnn", overrides("mb-dnn", snr_db))[0].validation()
    for name in MODELS:
        recipe, _ = read_recipe(name, overrides(name, snr_db))
        network = recipe.network()
        course = to_the_target(recipe, network, exam, cpu_seconds)
        table.add(
            name,
            f"{latency(Learned(name=name, network=network.eval()), exam):.2f}",
            course.steps * recipe.batch,
            f"{course.cpu_seconds:.0f}",
            sum(p.numel() for p in network.parameters()),
            f"{course.share:.3f}",
            "yes" if course.reached else "no",
        )
    (problem,) = exam.problems.values()
    (reference,) = exam.references.values()
    for name in BASELINES:
        share = float(hb.solve(problem, name).sum_rate.mean() / reference.mean())
        table.add(name, f"{latency(hb.solver(name), exam):.2f}", "", "", "", f"{share:.3f}", "")
    return table


def overrides(name: str, snr_db: float) -> list[str]:
    sizes = ["options.antennas=36"] if name == "fnn" else []
    return [
        *sizes,
        'lessons=[{channels={model="sparse-paths", shape=[6, 6], users=3, spacing=0.25}, '
        f'frontend={{kind="rhs", feeds="edge-far", rf_chains=3}}, snr_db=[{snr_db}, {snr_db}]}}]',
        f"exam={{count=256, snr_db=[{snr_db}], "
        'reference={name="wmmse-hbf", starts=1, options={}}}',
        "settings.validate_every=50",
        "settings.checkpoint_every=1000000",
    ]


def to_the_target(recipe: Recipe, network: Network, exam: Validation, cpu_seconds: float) -> Course:
    """Train until the mean rate is that of the reference, or the budget is spent."""
    course = Course()

    def watch(moment: Moment) -> None:
        course.steps, course.seconds = moment.step, moment.seconds
        course.cpu_seconds = moment.cpu_seconds
        if moment.scores:
            course.share = moment.scores[0].share
            course.reached = course.share >= 1.0
        if course.reached or (moment.scores and course.cpu_seconds > cpu_seconds):
            raise ReachedError

    with tempfile.TemporaryDirectory() as folder, suppress(ReachedError):
        train(
            network,
            recipe.curriculum(),
            recipe.settings,
            Path(folder),
            validation=exam,
            watch=watch,
        )
    return course


def latency(solver: hb.Solver, exam: Validation, repeats: int = 20) -> float:
    """Median milliseconds of one channel, the problem ready."""
    (problem,) = exam.problems.values()
    one = problem.take(torch.arange(1))
    solver(one)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        solver(one)
        times.append(time.perf_counter() - began)
    return 1e3 * sorted(times)[repeats // 2]
