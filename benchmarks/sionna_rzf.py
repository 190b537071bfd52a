"""Regularised zero forcing beside Sionna's, where both do the same job: a fully digital array."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor

import holobeam as hb
from benchmarks.table import Table
from holobeam.digital.link import Link
from holobeam.digital.zero_forcing import regularised_zero_forcing

ANTENNAS, USERS, SNR_DB = 64, 4, 12.0
COLUMNS = (
    "channels at once",
    "dtype",
    "sionna, us/channel",
    "our function, us/channel",
    "`hb.solve`, us/channel",
    "sionna over our function",
    "sionna over `hb.solve`",
    "largest difference of precoders",
    "asked",
    "verdict",
)


def tables(full: bool) -> Iterator[Table]:
    table = Table(
        f"`rzf-equal-power` against Sionna's RZF, {ANTENNAS} antennas, {USERS} users, 12 dB",
        COLUMNS,
        "The same matrix: every column of the same power, regulariser K sigma^2 / P. CPU time, "
        "interleaved, best of 15, one thread. `hb.solve` also checks its arguments, meets the "
        "budget exactly and returns a solution with its rates' problem; Sionna returns the matrix. "
        "The difference is relative to the largest entry. Sionna is no dependency of holobeam: "
        "`pip install sionna-no-rt` to repeat this.",
    )
    try:
        from sionna.phy.mimo.precoding import rzf_precoding_matrix
    except ImportError as error:
        print(f"SKIPPED: sionna can't be imported ({error})", file=sys.stderr, flush=True)
        table.add("not measured: sionna is not installed", *[""] * (len(COLUMNS) - 1))
        yield table
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for batch in (1, 256):
        for dtype, precision in ((torch.complex64, "single"), (torch.complex128, "double")):
            _row(table, batch, dtype, lambda h, c, p=precision: rzf_precoding_matrix(h, c, p))
    torch.set_num_threads(threads)
    yield table


def _row(table: Table, batch: int, dtype: torch.dtype, theirs: Callable[..., Tensor]) -> None:
    model = hb.channels.SalehValenzuela(antennas=ANTENNAS, users=USERS, paths=10)
    h = model.sample(batch, seed=1).to(dtype)
    problem = hb.Downlink(h, hb.frontends.fully_digital(ANTENNAS), snr_db=SNR_DB)
    level = problem.noise_power / problem.power.unsqueeze(1)
    load = USERS * float(level[0, 0])
    runs = {
        "sionna": lambda: theirs(h[:, 0], load),
        # Without a front-end between them the link is the channel, the metric the identity.
        "function": lambda: regularised_zero_forcing(Link(h), level, equal_power=True),
        "solve": lambda: hb.solve(problem, "rzf-equal-power"),
    }
    wanted = theirs(h[:, 0], load) / USERS**0.5
    found = hb.solve(problem, "rzf-equal-power").precoder[:, 0]
    direct = regularised_zero_forcing(Link(h), level, equal_power=True)[:, 0] / USERS**0.5
    gap = max(float((one - wanted).abs().max() / wanted.abs().max()) for one in (found, direct))
    spent = _interleaved(runs)
    best = {name: 1e6 * min(times) / batch for name, times in spent.items()}
    ratio = median(a / b for a, b in zip(spent["sionna"], spent["function"], strict=True))
    whole = median(a / b for a, b in zip(spent["sionna"], spent["solve"], strict=True))
    limit = 1e-4 if dtype == torch.complex64 else 1e-10
    table.check(
        gap <= limit,
        batch,
        str(dtype).removeprefix("torch."),
        *(f"{best[name]:.1f}" for name in runs),
        f"{ratio:.2f}x",
        f"{whole:.2f}x",
        f"{gap:.0e}",
        f"difference <= {limit:g}",
    )


def _interleaved(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """CPU time of each, taking turns, after one round that does not count; many calls a turn."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(16):
        for name, run in runs.items():
            begin = time.process_time()
            for _ in range(20):
                run()
            if turn:
                spent[name].append((time.process_time() - begin) / 20)
    return spent
