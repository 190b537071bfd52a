"""How kernels are compiled, said once: the same bits whoever compiles or loads a kernel first.

Numba would have it otherwise. A function that another one calls stays a symbol of its own, and of
all copies, each optimised where it was linked in, the one that a process happens to load first
serves every kernel; with fast math they differ in the last digit. So what is called is inlined
(``forceinline``) if it, or anything inlined into it, has fast math. And what a function leaves
unsaid it takes over from whichever caller compiles it first; so everything is said, also what is
not wanted. Last, a function read back from disk is not to the optimiser quite what it was when
compiled: sums inlined from it can be formed in another order. So only what Python calls is kept on
disk (``KEPT`` at its definition), never what that calls.
"""

from __future__ import annotations

import warnings
from typing import Any

from numba import njit

_ALL: dict[str, Any] = {
    "nogil": True,
    "error_model": "python",
}

EXACT: dict[str, Any] = {**_ALL, "fastmath": False, "forceinline": False}
"""Every operation as written, rounded as IEEE 754 says."""

INLINED: dict[str, Any] = {**EXACT, "forceinline": True}
"""As :data:`EXACT`, for what other kernels call and what itself calls fast ones."""

# No "nnan"/"ninf": a non-finite channel must stay visible to the caller.
FAST: dict[str, Any] = {
    **_ALL,
    "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "forceinline": True,
}
"""Sums in the order that suits the machine, products fused into them."""

FAST_QUIET: dict[str, Any] = {**FAST, "error_model": "numpy"}
"""As :data:`FAST`, and a division by zero gives what NumPy gives: such loops become vector code."""

QUIET: dict[str, Any] = {**EXACT, "error_model": "numpy"}
"""As :data:`EXACT` with NumPy's divisions: networks, whose exponential does not bear fast math."""

WITHIN: dict[str, Any] = {**QUIET, "inline": "always"}
"""Parts of one caller that take many arrays: passing those costs as much as the work."""


def _can_keep() -> bool:
    """Whether there is a folder for compiled code: containers may let us write nowhere."""
    try:
        njit(cache=True)(_can_keep)
    except RuntimeError:
        warnings.warn(
            "compiled loops can be kept neither beside the package nor at home, so every process "
            "compiles them anew (seconds each); set NUMBA_CACHE_DIR to a folder that is writable",
            stacklevel=2,
        )
        return False
    return True


KEPT: dict[str, Any] = {"cache": _can_keep()}
"""For what Python calls: found on disk by the next process."""
