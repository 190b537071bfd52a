"""Scaling to a budget: what all problems do, and for a downlink the bridge to compiled code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holobeam.analog.coordinate import as_array

if TYPE_CHECKING:
    from holobeam.problems.downlink import Downlink


def serves(problem: Downlink, control: Tensor, digital: Tensor) -> bool:
    """Whether the kernel serves: narrowband, radiated power, built-in elements, CPU, no gradients.

    The rest is done in torch.
    """
    frontend = problem.frontend
    return (
        problem.power_at == "radiated"
        and problem.h.shape[1] == 1
        and problem.h.device.type == control.device.type == digital.device.type == "cpu"
        and control.dtype == digital.dtype == problem.h.dtype
        and not (control.requires_grad or digital.requires_grad)
        and not frontend.is_digital
        and hasattr(frontend.element_set, "kernel_code")
    )


def settle(problem: Downlink, control: Tensor, digital: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Controls on their set, precoders at the budget, and which of them don't hold it."""
    from holobeam.kernels import budget as kernel
    from holobeam.kernels.cpu import available_threads

    frontend = problem.frontend
    element_set: Any = frontend.element_set
    kind, levels = element_set.kernel_code()
    q, v = _own(control), _own(digital[:, 0])
    single = digital.dtype == torch.complex64
    off = kernel.settle(
        as_array(frontend.scaled_feed()[0]),
        q,
        v,
        as_array(problem.power),
        kind,
        np.asarray(levels, dtype=complex),
        single,
        available_threads(),
    )
    if single:  # NumPy converts: its calls cost a fraction of torch's
        q, v = q.astype(np.complex64), v.astype(np.complex64)
    return torch.from_numpy(q), torch.from_numpy(v).unsqueeze(1), torch.from_numpy(off)


def _own(tensor: Tensor) -> Any:
    """Array in double precision that may be written to."""
    return np.array(tensor.detach().resolve_conj().numpy(), dtype=complex, order="C")


def scaled(digital: Tensor, load: Tensor) -> Tensor:
    """Precoders ``(B, F, R, K)`` scaled by what their load ``(B, F)`` is off one."""
    tiny = torch.finfo(load.dtype).tiny
    scale = torch.where(load > tiny, load.clamp(min=tiny).rsqrt(), torch.ones_like(load))
    return (digital * scale[:, :, None, None]).to(digital.dtype)
