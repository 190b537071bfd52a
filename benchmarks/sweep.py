"""What the compiled coordinate sweep costs."""

from __future__ import annotations

import time
from statistics import median

import torch

import holobeam as hb
from benchmarks.table import Table
from holobeam.analog.coordinate import coordinate_descent, coordinate_descent_torch

SIZES = (1024, 4096, 16384)
CASES = (
    ("surface, amplitudes", "rhs"),
    ("surface, on/off", "rhs-binary"),
    ("DMA, Lorentzian", "dma"),
    ("phase shifters, 4 branches an element", "phase-shifters"),
)


def tables(full: bool) -> list[Table]:
    return [_cost(), _twin(), _loop()]


def _quadratic(name: str, antennas: int):
    array = hb.arrays.upa((32, antennas // 32), wavelength=0.01, spacing=1 / 3)
    frontend = hb.frontends.build(name, array, 4)
    h = hb.channels.Rayleigh(antennas=antennas, users=4).sample(1, seed=0)
    problem = hb.Downlink(h, frontend, snr_db=10.0)
    state = hb.solver("wmmse-cd", noise_schedule=(), begin="matched").init(
        problem, torch.Generator().manual_seed(0)
    )
    weights = problem.weights(problem.link(state.control), state.digital)
    return problem.analog_quadratic(weights, state.digital), state.control, frontend.element_set


def _cost() -> Table:
    table = Table(
        "The generic compiled sweep, 4 users and 4 chains, one thread",
        ("front-end", *(f"N = {n}, ns/element" for n in SIZES), "time 16384 / 1024", "verdict"),
        "Median of 31 sweeps of one channel, sizes interleaved, arrays ready (`kernels.cpu`). "
        "Asked of the surface: <= 150 ns an element, and linear in N (factor 16 ± 30 %).",
    )
    for label, name in CASES:
        runs = {n: _timer(name, n) for n in SIZES}
        spent: dict[int, list[float]] = {n: [] for n in SIZES}
        for _ in range(31):
            for n in SIZES:
                spent[n].append(runs[n]())
        middle = {n: median(spent[n]) for n in SIZES}
        factor = middle[16384] / middle[1024]
        cells = (label, *(f"{1e9 * middle[n] / n:.0f}" for n in SIZES), f"{factor:.1f}")
        if name == "rhs":
            cheap = all(middle[n] / n <= 150e-9 for n in SIZES)
            table.check(cheap and 11.2 <= factor <= 20.8, *cells)
        else:
            table.add(*cells, "")
    return table


def _timer(name: str, antennas: int):
    import numpy as np

    from holobeam.kernels import cpu

    quadratic, control, element_set = _quadratic(name, antennas)
    kind, levels = element_set.kernel_code()
    y, d, rho = (
        t.resolve_conj().contiguous().numpy() for t in (quadratic.y, quadratic.d, quadratic.rho)
    )
    residual = quadratic.residual(control).numpy().copy()
    q, table = control.numpy().copy(), np.asarray(levels, dtype=complex)
    none = np.zeros((0, 1, antennas, 4), complex)

    def once() -> float:
        begin = time.perf_counter()
        cpu.coordinate_sweep(y, residual, d, rho, none, q, kind, table, 1, 1)
        return time.perf_counter() - begin

    once()
    return once


def _twin() -> Table:
    table = Table(
        "Compiled sweep against its torch twin, 256 elements, complex128",
        ("front-end", "largest difference", "speed ratio", "verdict"),
    )
    for label, name in CASES:
        quadratic, control, element_set = _quadratic(name, 256)
        fast = coordinate_descent(quadratic, control, element_set, sweeps=2)
        begin = time.perf_counter()
        slow = coordinate_descent_torch(quadratic, control, element_set, sweeps=2)
        middle = time.perf_counter()
        coordinate_descent(quadratic, control, element_set, sweeps=2)
        ratio = (middle - begin) / (time.perf_counter() - middle)
        away = float((fast - slow).abs().max())
        table.check(away <= 1e-9, label, f"{away:.0e}", f"{ratio:.0f}x")
    return table


def _loop() -> Table:
    table = Table(
        "The whole alternating loop compiled, against its steps in torch: mmse-fast, 60 iterations",
        (
            "elements",
            "channels",
            "compiled, ms/channel",
            "torch, ms/channel",
            "ratio",
            "largest difference of rates",
        ),
        "From the same start, 10 dB, 4 users and 4 chains, median of 5 runs, interleaved. The loop "
        "alone; `mmse-fast` also pays for its start (digital target and fit, in torch).",
    )
    for width, batch in ((8, 1), (8, 64), (16, 1), (16, 64)):
        h = hb.channels.path_wise((width, width), users=4).sample(batch, seed=0)
        array = hb.arrays.upa((width, width), wavelength=0.01, spacing=1 / 3)
        problem = hb.Downlink(h, hb.frontends.build("rhs", array, 4), snr_db=10.0)
        solver = hb.solver("mmse-fast", tolerance=0.0)
        first = solver.init(problem, torch.Generator())
        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(5):
            begin = time.perf_counter()
            fused = solver.advance(problem, first, 60)
            middle = time.perf_counter()
            slow = first
            for _ in range(60):
                slow = solver.step(problem, slow)
            spent[0].append(middle - begin)
            spent[1].append(time.perf_counter() - middle)
        fast, torch_time = (1e3 * median(times) / batch for times in spent)
        away = float((fused.utility - slow.utility).abs().max())
        table.add(
            width**2,
            batch,
            f"{fast:.2f}",
            f"{torch_time:.1f}",
            f"{torch_time / fast:.0f}x",
            f"{away:.0e}",
        )
    return table
