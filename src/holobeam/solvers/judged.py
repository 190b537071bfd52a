"""States at given designs, with the utility from a compiled kernel where one serves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from holobeam.problems.downlink import Downlink
from holobeam.solvers import fused
from holobeam.solvers.base import State, make_state


def judged_state(
    problem: Downlink, control: Tensor, digital: Tensor, memory: Any = None, *, scaled: bool = False
) -> State:
    """State at a point, with its utility, as :func:`make_state` makes it.

    Parameters
    ----------
    problem, control, digital, memory
        As for :func:`make_state`.
    scaled
        Whether to scale ``digital`` to the budget first.

    Notes
    -----
    At one channel the dozens of small operations in torch cost more than what they compute.
    """
    if torch.is_grad_enabled() or not fused.serves(problem):
        if scaled:
            digital = problem.rescale(problem.link(control), digital)
        return make_state(problem, control, digital, memory)
    from holobeam.kernels.cpu import available_threads
    from holobeam.kernels.judge import judge

    if scaled:  # written to in place: of a layout that the kernel takes without a copy
        digital = digital.clone(memory_format=torch.contiguous_format).resolve_conj()
    inputs = (
        problem.h[:, 0],
        problem.frontend.scaled_feed()[0],
        problem.noise_power,
        problem.user_weights,
        problem.power,
    )
    utility = judge(
        (*map(plain_array, inputs), problem.power_at == "radiated"),
        plain_array(control),
        plain_array(digital[:, 0]),
        scaled,
        available_threads(),
    )
    return State(control, digital, torch.from_numpy(utility), memory)


def plain_array(tensor: Tensor) -> Any:
    """NumPy view in the precision of a tensor; a copy where its layout asks for one."""
    if tensor.requires_grad or tensor.is_conj() or tensor.is_neg() or not tensor.is_contiguous():
        tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return tensor.numpy()
