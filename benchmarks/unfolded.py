"""Unfolded phase-shifter solvers: rates, transfer, SNRs, other hardware, time of a channel."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.phase_shifters import SNRS, channels, pair
from benchmarks.table import Table
from holobeam.learned.curriculum import Curriculum, Scenario
from holobeam.learned.settings import Settings
from holobeam.learned.training import averaged, train
from holobeam.learned.unfolded import UnfoldedVp
from holobeam.studies import paired_difference

CHANNELS = 256
DIGITAL = (11.69, 16.43, 21.50, 26.71, 31.98, 37.24)
"""Rates of digital WMMSE on the prototype's channels: what is asked moves by the difference."""

ASKED = {
    3: (10.93, 15.58, 20.58, 25.75, 31.00, 36.28),
    5: (10.98, 15.65, 20.66, 25.84, 31.09, 36.36),
    20: (11.12, 15.80, 20.83, 26.02, 31.28, 36.55),
}
LEARNED = {3: 25.10, 10: 25.25}
STRETCH = 26.15


def tables(_full: bool) -> Iterator[Table]:
    h = channels(CHANNELS, seed=4)
    shift = [_shift(h, i) for i in range(len(SNRS))]
    yield _rates(h, shift)
    yield _algorithm(h, shift[3])
    yield _transfer()
    yield _snr(h)
    yield _hardware()
    yield _time()


def _shift(h: Tensor, index: int) -> float:
    digital = hb.solve(pair(h, float(SNRS[index]))[1], "wmmse-digital")
    return float(digital.sum_rate.mean()) - DIGITAL[index]


def _rates(h: Tensor, shift: list[float]) -> Table:
    table = Table(
        f"unfolded-vp, one set for all SNRs, {CHANNELS} channels",
        ("layers", *(f"{s} dB" for s in SNRS), "asked", "verdict"),
        "Asked: what a prototype reached, moved by what digital WMMSE differs on these channels.",
    )
    for layers in (3, 5, 10, 20):
        rates = [_mean(h, snr, layers=layers) for snr in SNRS]
        want = [a + s for a, s in zip(ASKED.get(layers, ()), shift, strict=False)]
        cells = (layers, *(f"{r:.2f}" for r in rates))
        if want:
            met = all(r >= w for r, w in zip(rates, want, strict=True))
            table.check(met, *cells, " ".join(f"{w:.2f}" for w in want))
        else:
            table.add(*cells, "", "")
        if layers == 20:
            goal = STRETCH + shift[3]
            blank = ("",) * len(SNRS)
            table.check(rates[3] >= goal, "20, 12 dB, stretch", *blank, f"{goal:.2f}")
    for name, iterations in (("vp", 20), ("vp", 300)):
        rates = [
            float(hb.solve(pair(h, float(s))[0], name, max_iterations=iterations).sum_rate.mean())
            for s in SNRS
        ]
        table.add(f"{name}, {iterations}", *(f"{r:.2f}" for r in rates), "", "")
    return table


def _mean(h: Tensor, snr_db: float, **options: object) -> float:
    return float(hb.solve(pair(h, float(snr_db))[0], "unfolded-vp", **options).sum_rate.mean())


def _algorithm(h: Tensor, shift: float) -> Table:
    table = Table(
        "Algorithm 1 unfolded, 12 dB",
        ("solver", "rate", "asked", "verdict"),
        "unfolded-pga with J = 10, and one trained layer of vp against ten of it.",
    )
    problem = pair(h, 12.0)[0]
    found = {n: hb.solve(problem, "unfolded-pga", layers=n).sum_rate for n in (3, 5, 10, 20)}
    for layers, rate in found.items():
        cells = (f"unfolded-pga, {layers} layers", f"{rate.mean():.2f}")
        want = LEARNED.get(layers)
        if want is None:
            table.add(*cells, "", "")
        else:
            table.check(float(rate.mean()) >= want + shift, *cells, f">= {want + shift:.2f}")
    for inner in (1, 10):
        plain = hb.solve(problem, "pga", inner_steps=inner).sum_rate
        table.add(f"pga, J = {inner}, 30 iterations", f"{plain.mean():.2f}", "", "")
    one = _trained(UnfoldedVp(1, 3), (0.0, 20.0), 60).frozen("matched", "best")(problem).sum_rate
    apart = paired_difference(one, found[10])
    table.check(
        apart.mean - 3 * apart.standard_error >= 0.1,
        "vp, 1 trained layer, less unfolded-pga, 10 layers",
        f"{apart.mean:.3f} +- {apart.standard_error:.3f}",
        ">= 0.1 by 3 standard errors",
    )
    return table


def _trained(network: UnfoldedVp, snr_db: tuple[float, float], steps: int) -> UnfoldedVp:
    """Train a network on the paper's channels for a few seconds."""
    model = hb.channels.SalehValenzuela(antennas=32, users=4, paths=10)
    scenario = Scenario(
        lambda count, seed, start: model.sample(count, seed=seed, start=start),
        hb.frontends.phase_shifters(32, 4),
        snr_db,
    )
    settings = Settings(
        steps=steps, learning_rate=0.1, warmup=5, averaging=0.9, layer_weight=0.0,
        checkpoint_every=steps,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        average = train(network, Curriculum((scenario,), batch=64), settings, Path(folder))
    made = averaged(network, average)
    assert isinstance(made, UnfoldedVp)
    return made


def _transfer() -> Table:
    table = Table(
        "unfolded-vp at other sizes, 12 dB, sets as they ship (32 antennas, 4 users)",
        ("antennas, users", "3 layers", "5 layers", "F0 and 50 WMMSE steps", "verdict"),
        f"{CHANNELS} channels; asked: at least the fourth column.",
    )
    for antennas, users in ((64, 4), (128, 4), (32, 8)):
        problem = pair(channels(CHANNELS, antennas=antennas, users=users, seed=5), 12.0)[0]
        floor = float(hb.solve(problem, "rzf+w").sum_rate.mean())
        got = [float(hb.solve(problem, "unfolded-vp", layers=n).sum_rate.mean()) for n in (3, 5)]
        cells = (f"{antennas}, {users}", *(f"{g:.2f}" for g in got), f"{floor:.2f}")
        table.check(min(got) >= floor, *cells)
    return table


def _snr(h: Tensor) -> Table:
    table = Table(
        "unfolded-vp, 5 layers: one set for all SNRs against sets trained at one",
        ("SNR", "all SNRs", "trained at it", "loss (paired)", "asked", "verdict"),
    )
    for snr in (0.0, 12.0, 20.0):
        problem = pair(h, snr)[0]
        own = _trained(UnfoldedVp(5, 3), (snr, snr), 100).frozen("matched", "best")
        special, general = own(problem).sum_rate, hb.solve(problem, "unfolded-vp").sum_rate
        loss = paired_difference(special, general)
        table.check(
            loss.mean <= 0.05,
            f"{snr:g} dB", f"{general.mean():.3f}", f"{special.mean():.3f}",
            f"{loss.mean:.3f} +- {loss.standard_error:.3f}", "<= 0.05",
        )  # fmt: skip
    return table


def _hardware() -> Table:
    table = Table(
        "Sub-connected arrays and 16 subcarriers, 12 dB",
        ("hardware", "3 layers", "5 layers", "pga, J = 10, 30 iterations", "vp, 20", "verdict"),
        "128 channels; asked: at most 5 layers of unfolded-vp reach the fourth column.",
    )
    for subcarriers in (1, 16):
        for connection in ("full", "sub"):
            model = hb.channels.SalehValenzuela(32, 4, 10, subcarriers=subcarriers)
            frontend = hb.frontends.phase_shifters(32, 4, connection)
            problem = hb.Downlink(model.sample(128, seed=6), frontend, snr_db=12.0)
            got = [hb.solve(problem, "unfolded-vp", layers=n).sum_rate.mean() for n in (3, 5)]
            plain = hb.solve(problem, "pga").sum_rate.mean()
            longer = hb.solve(problem, "vp").sum_rate.mean()
            table.check(
                bool(got[1] >= plain),
                f"{connection}, {subcarriers} subcarriers",
                *(f"{r:.2f}" for r in (*got, plain, longer)),
            )
    return table


def _time() -> Table:
    table = Table(
        "Time of unfolded-vp, 3 layers, one thread, complex64",
        ("what", "ms a channel", "asked", "verdict"),
        "CPU time, best of many.",
    )
    # Kernels too on one thread, whatever the machine.
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    for batch, limit in ((1, 0.5), (1024, 0.02)):
        problem = pair(channels(batch, seed=7).to(torch.complex64), 12.0)[0]
        solver = hb.solver("unfolded-vp", layers=3)
        inner = solver.inner(problem)
        state = inner.init(problem, torch.Generator())
        repeats = 200 if batch == 1 else 7
        whole = _milliseconds(lambda s=solver, p=problem: s(p), repeats) / batch
        layers = (
            _milliseconds(lambda i=inner, p=problem, s=state: i.advance(p, s, 3), repeats) / batch
        )
        table.check(
            whole <= limit, f"solver(problem), batch {batch}", f"{whole:.4f}", f"<= {limit}"
        )
        table.add(f"the three layers alone, batch {batch}", f"{layers:.4f}", "", "")
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    return table


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    work()
    spent = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return 1e3 * min(spent)
