"""What the compiled loops keep of the iterations they pass: the best point, and when to end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from holobeam.kernels.copying import assign
from holobeam.kernels.options import FAST


@njit(**FAST)
def passed(
    b: int, scheduled: bool, before: float, q: Any, v: Any, utility: Any, record: Any, steps: Any,
    tolerance: float, patience: int,
) -> bool:  # fmt: skip
    """Note an iteration of channel b; whether it was the last one.

    ``record`` holds controls, precoder, utility and idle count of the best point. ``steps`` turns
    negative where the channel converged; nothing ends while a noise schedule runs.
    """
    best_q, best_v, best_utility, idle = record
    steps[b] += 1
    if not np.isfinite(utility[b]):
        return True
    idle[b] += 1
    if utility[b] > best_utility[b]:
        assign(best_q[b], q[b])
        assign(best_v[b], v[b])
        best_utility[b], idle[b] = utility[b], 0
    if scheduled:
        idle[b] = 0
        return False
    if abs(utility[b] - before) < tolerance * max(abs(utility[b]), 1e-12):
        steps[b] = -steps[b]
        return True
    return bool(idle[b] >= patience)
