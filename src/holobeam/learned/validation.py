"""Scores of a network on channels that it never trains on, paired with a reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from holobeam.learned.network import Learned, Network
from holobeam.problems.downlink import Downlink


@dataclass(frozen=True)
class Score:
    """Mean utility on one problem beside its reference.

    Attributes
    ----------
    label
        Of the problem.
    utility, error
        Mean, and standard error of the mean.
    reference
        Mean of the reference.
    difference, difference_error
        Paired, network less reference.
    """

    label: str
    utility: float
    error: float
    reference: float
    difference: float
    difference_error: float

    @property
    def share(self) -> float:
        """Mean over mean of the reference."""
        return self.utility / self.reference


@dataclass(frozen=True, eq=False)
class Validation:
    """Fixed problems with what a reference reaches on every channel.

    Attributes
    ----------
    problems
        By label.
    references
        ``(B,)`` each.
    """

    problems: dict[str, Downlink]
    references: dict[str, Float[Tensor, " batch"]]

    def score(self, network: Network, starts: int = 1) -> tuple[Score, ...]:
        """Score a network on every problem."""
        from holobeam.solvers.registry import solve

        scores = []
        for label, problem in self.problems.items():
            solution = solve(problem, Learned(network=network), starts=starts, seed=0)
            scores.append(paired(label, solution.sum_rate, self.references[label]))
        return tuple(scores)


def paired(
    label: str, utility: Float[Tensor, " batch"], reference: Float[Tensor, " batch"]
) -> Score:
    """Means, standard errors, and those of the differences on the same channels."""
    apart = utility.double() - reference.double()
    root = max(len(utility), 2) ** 0.5
    error, apart_error = (float(torch.std(x.double())) / root for x in (utility, apart))
    return Score(
        label,
        float(utility.double().mean()),
        error,
        float(reference.double().mean()),
        float(apart.mean()),
        apart_error,
    )
