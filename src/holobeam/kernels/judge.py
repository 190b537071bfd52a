"""Scale precoders to the budget and rate designs, compiled: narrowband, one power budget."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.blocks import link, rate, rescale
from holobeam.kernels.compiling import compiled
from holobeam.kernels.copying import assign
from holobeam.kernels.cpu import spread
from holobeam.kernels.options import FAST, KEPT


@njit(**FAST, **KEPT)
def _judge(problem: Any, control: Any, digital: Any, utility: Any, scaled: Any, part: Any) -> None:
    h, feed, noise, alpha, power, radiated = problem
    users, chains = h.shape[1], feed.shape[1]
    e = np.empty((users, chains), dtype=np.complex128)
    g = np.empty((chains, chains), dtype=np.complex128)
    v = np.empty((chains, users), dtype=np.complex128)
    for b in range(part[0], part[1]):
        link(h[b], feed, control[b], e, g, radiated)
        assign(v, digital[b])
        if scaled:
            rescale(g, v, power[b])
            assign(digital[b], v)
        utility[b] = rate(e, g, v, noise[b], alpha[b], power[b])


def judge(problem: tuple[Any, ...], control: Any, digital: Any, scaled: bool, threads: int) -> Any:
    """Weighted sum rates of designs in bits/s/Hz, ``(B,)``, the budget met with equality.

    Parameters
    ----------
    problem
        Channels ``(B, K, N)``, feed ``(N, R)``, noise and user weights ``(B, K)``, budget
        ``(B,)``, and whether radiated power counts (else power at the feeds).
    control, digital
        ``(B, N, C)`` and ``(B, R, K)``, complex in the precision of the channels.
    scaled
        Whether to scale ``digital`` to the budget, in place.
    threads
        At most.
    """
    h, feed = problem[0], problem[1]
    utility = np.empty(len(h), dtype=h.real.dtype)
    cost = h.size * feed.shape[1] * 2e-9
    arguments = (problem, control, digital, utility, scaled)
    run = compiled(_judge, (*arguments, (0, len(h))), h.dtype.char)

    def work(first: int, last: int) -> None:
        run(*arguments, (first, last))

    spread(work, len(h), cost, threads)
    return utility
