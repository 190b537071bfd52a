"""How pilots are heard: the analog front-end in a few settings of its controls."""

from __future__ import annotations

import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.errors import InputError, check_count
from holobeam.frontends.frontend import Frontend
from holobeam.solvers.base import make_generator


def training_combiner(
    frontend: Frontend, slots: int, seed: int | None = None
) -> Complex[Tensor, "antennas heard"]:
    """Analog parts of ``slots`` settings of random controls, side by side.

    Parameters
    ----------
    frontend
        What pilots pass through; reciprocal. A fully digital array hears every antenna at once.
    slots
        Settings T; ``T R`` numbers are heard of each user.
    seed
        Of the controls.

    Returns
    -------
    Tensor
        ``(N, T R)`` complex128, for :class:`holobeam.channels.PilotEstimate`.
    """
    check_count("slots", slots)
    if frontend.is_digital:
        eye = torch.eye(frontend.antennas, dtype=torch.complex128)
        return eye.repeat(1, slots)
    feed = frontend.scaled_feed().to(torch.complex128)
    if len(feed) > 1:
        raise InputError(
            "frontend",
            f"its feed differs between {len(feed)} subcarriers",
            "estimate one subcarrier at a time",
        )
    generator = make_generator(seed, None)
    settings = [
        frontend.sample(1, generator, torch.complex128, feed.device)[0] * feed[0]
        for _ in range(slots)
    ]
    return torch.cat(settings, dim=1)
