"""What a solver returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from holobeam.errors import FileError
from holobeam.problems.problem import Problem


class Status(IntEnum):
    """How the run of one channel ended."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    STALLED = 2
    NON_FINITE = 3

    @property
    def message(self) -> str:
        """One line for people."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.CONVERGED: "the last step gained less than the tolerance, or a closed form",
    Status.MAX_ITERATIONS: "stopped at max_iterations; more of them may still help",
    Status.STALLED: "no better point was found for `patience` steps",
    Status.NON_FINITE: "a step gave NaN or infinity; the best finite point is returned",
}


@dataclass(frozen=True, eq=False)
class Solution:
    """Controls and digital precoder of every channel, and what they achieve.

    Attributes
    ----------
    problem
        What was solved.
    control
        ``(B, N, C)``, or ``(B, L, N, C)`` with many cells, on the element set.
    digital
        ``(B, F, R, K)``, or ``(B, L, R, K S)``, within the budget.
    status
        ``(B,)`` of :class:`Status`.
    iterations
        ``(B,)``: steps taken.
    solver
        Name of the solver.
    history
        ``(B, iterations + 1)`` best utility so far, or None.
    seconds
        Wall-clock time of the solve.
    """

    problem: Problem
    control: Complex[Tensor, "batch antennas controls"]
    digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    status: Int[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]
    solver: str = "custom"
    history: Tensor | None = None
    seconds: float = 0.0

    @property
    def analog(self) -> Complex[Tensor, "batch subcarriers antennas rf_chains"]:
        """Analog beamformer A."""
        return self.problem.analog(self.control)

    @property
    def precoder(self) -> Complex[Tensor, "batch subcarriers antennas users"]:
        """What the antennas radiate for each user, ``A V``."""
        wide = self.analog.to(torch.complex128) @ self.digital.to(torch.complex128)
        return wide.to(self.digital.dtype)

    @property
    def rates(self) -> Float[Tensor, "batch users"]:
        """bits/s/Hz of each user, on ``true_h`` where the problem has one."""
        return self.problem.true_rates(self.control, self.digital)

    @property
    def sum_rate(self) -> Float[Tensor, " batch"]:
        """bits/s/Hz summed over users (unweighted), on ``true_h`` where given."""
        return self.rates.sum(dim=1)

    @property
    def design_rate(self) -> Float[Tensor, " batch"]:
        """Sum rate on ``h``: what the solver believed."""
        link = self.problem.measured_link(self.control)
        rates = self.problem.rates(link, self.digital)
        return rates.sum(dim=1).to(self.digital.real.dtype)

    @property
    def utility(self) -> Float[Tensor, " batch"]:
        """Design objective."""
        link = self.problem.measured_link(self.control)
        return self.problem.utility(link, self.digital).to(self.digital.real.dtype)

    @property
    def radiated_power(self) -> Float[Tensor, " batch"]:
        """``||A V||_F^2``, mean over subcarriers or summed over cells."""
        return self.problem.radiated_power(self.precoder)

    @property
    def dc_power(self) -> Float[Tensor, " batch"]:
        """DC power of the transmitter in mW, if the problem's power is in mW.

        The amplifiers deliver the radiated power and the insertion loss (or, where power is
        counted at the feeds or per chain, that power); the rest is the front-end's power model.
        """
        return self.problem.dc_power(self.precoder, self.digital)

    @property
    def violation(self) -> Float[Tensor, " batch"]:
        """Largest breach of a constraint: 0 when everything is feasible."""
        return self.problem.violation(self.control, self.digital)

    def better(self, other: Solution) -> Solution:
        """Take the better of two solutions of one problem, channel by channel."""
        wins = other.utility > self.utility

        def pick(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(wins.view(-1, *[1] * (new.ndim - 1)), new, old)

        history = self.history
        if history is not None and other.history is not None:
            width = max(history.shape[1], other.history.shape[1])
            history = torch.maximum(_stretch(history, width), _stretch(other.history, width))
        return replace(
            self,
            control=pick(other.control, self.control),
            digital=pick(other.digital, self.digital),
            status=pick(other.status, self.status),
            iterations=self.iterations + other.iterations,
            history=history,
            seconds=self.seconds + other.seconds,
        )

    def after(self, earlier: Solution) -> Solution:
        """Mark the solution as the continuation of an earlier one."""
        history = self.history
        if history is not None and earlier.history is not None:
            history = torch.cat([earlier.history, history[:, 1:]], dim=1)
        return replace(
            self,
            iterations=self.iterations + earlier.iterations,
            history=history,
            seconds=self.seconds + earlier.seconds,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write controls, precoders and rates to ``.npz`` or ``.mat``.

        Raises
        ------
        FileError
            If the suffix is neither, or the file can't be written.
        """
        path = Path(path)
        arrays: dict[str, Any] = {
            "control": self.control,
            "digital": self.digital,
            "analog": self.analog,
            "rates": self.rates,
            "sum_rate": self.sum_rate,
            "status": self.status,
        }
        arrays = {
            name: value.detach().cpu().resolve_conj().numpy() for name, value in arrays.items()
        }
        try:
            if path.suffix == ".npz":
                import numpy as np

                np.savez_compressed(path, **arrays)
            elif path.suffix == ".mat":
                from scipy.io import savemat

                savemat(path, arrays)
            else:
                raise FileError("path", f"got suffix {path.suffix!r}", "use .npz or .mat")
        except OSError as error:
            raise FileError(
                "path", f"can't write {path}: {error.strerror}", "choose a writable folder"
            ) from error
        return path


def _stretch(history: Tensor, width: int) -> Tensor:
    """Repeat the last column so that histories of different length can be compared."""
    missing = width - history.shape[1]
    return torch.cat([history, history[:, -1:].expand(-1, missing)], dim=1) if missing else history
