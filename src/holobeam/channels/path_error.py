"""Errors of estimated paths: angles that are somewhat off, gains that are not quite right."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex
from torch import Tensor

from holobeam.channels.csi_error import Estimate, draw_error, mean_power
from holobeam.channels.path_model import PathModel, Paths
from holobeam.channels.raypaths import RayPaths
from holobeam.errors import InputError

BELIEFS = 16
"""Perturbations of an estimate from which it is told how wrong it may be."""


@dataclass(frozen=True)
class PathError:
    """Paths known with errors: Gaussian on every angle, complex Gaussian on every gain.

    Attributes
    ----------
    angle_deg
        Standard deviation of an angle, degrees.
    gain
        Mean power of a gain's error over that of the gain.

    Notes
    -----
    Source: docs/methods.md, section 23.
    """

    angle_deg: float = 1.0
    gain: float = 0.0

    def __post_init__(self) -> None:
        for name in ("angle_deg", "gain"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(name, f"got {value!r}", "it must be finite and >= 0")

    def observe(
        self, model: PathModel, batch: int, seed: int, *, draws: int | None = None, start: int = 0
    ) -> tuple[Complex[Tensor, "batch 1 users antennas"], Estimate]:
        """Draw channels from a model that knows its paths, and estimates of them.

        Parameters
        ----------
        model
            E.g. :class:`SalehValenzuela`, :class:`LaplacianClusters`, :class:`PlanarPaths`.
        batch, seed, start
            As for :meth:`ChannelModel.sample`, whose channels these are.
        draws
            Error draws of each channel; None is one without an axis of its own.

        Returns
        -------
        tuple
            ``(B, 1, K, N)`` true channels, and their estimates. The error variance is what as
            large errors would do to the estimated paths.
        """
        paths = model.sample_paths(batch, seed, start=start)
        seen = [self._off(paths, seed, draw, start) for draw in range(draws or 1)]
        h = torch.stack([model.combine(one) for one in seen])
        believed = torch.stack([self._belief(model, one, seed, start) for one in seen])
        estimate = Estimate(h, believed) if draws is not None else Estimate(h[0], believed[0])
        return model.combine(paths), estimate

    def observe_rays(self, paths: RayPaths, seed: int) -> RayPaths:
        """Ray-traced paths as estimated: gains and angles of departure off, delays right.

        A user's errors depend on the seed and its place among the paths alone.
        """
        gain, angles = self._errors(paths.gain, 2, seed, 0, 0)
        return replace(
            paths,
            gain=paths.gain * gain,
            zenith=paths.zenith + angles[..., 0],
            azimuth=paths.azimuth + angles[..., 1],
        )

    def _off(self, paths: Paths, seed: int, draw: int, start: int) -> Paths:
        gain, angles = self._errors(paths.gain, paths.angles.shape[3], seed, draw, start)
        return Paths(paths.gain * gain, paths.angles + angles, paths.delay)

    def _errors(
        self, like: Tensor, angles: int, seed: int, draw: int, start: int
    ) -> tuple[Tensor, Tensor]:
        """Factors of gains, and what is added to angles."""
        blank = like.new_zeros(*like.shape, 1 + angles)
        drawn = draw_error(blank, seed, None, draws=draw + 1, start=start)[draw]
        turn = math.radians(self.angle_deg) * math.sqrt(2.0) * drawn[..., 1:].real
        return 1.0 + math.sqrt(self.gain) * drawn[..., 0], turn

    def _belief(self, model: PathModel, paths: Paths, seed: int, start: int) -> Tensor:
        """Mean power of an entry's error if the estimated paths were the true ones."""
        h = model.combine(paths)
        # Far from the draws of the estimates themselves.
        again = (model.combine(self._off(paths, ~seed, i, start)) for i in range(BELIEFS))
        total = torch.zeros_like(mean_power(h))
        for other in again:
            total = total + mean_power(other - h)
        return total / BELIEFS
