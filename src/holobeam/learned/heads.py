"""Heads: how a network's last features become amplitudes and a digital precoder."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from holobeam.errors import check_choice
from holobeam.learned import compiled
from holobeam.learned.network import Network, Trace
from holobeam.learned.scene import Scene, link_rate, radiated, received_power, solve_ridged
from holobeam.learned.unrolled import Point
from holobeam.problems.downlink import Downlink

Head = Literal["ls", "wls", "mmse", "direct"]
HEADS: tuple[Head, ...] = ("ls", "wls", "mmse", "direct")
"""Printed least squares, weighted least squares, optimal structure, the precoder itself."""

GRAPH_HEADS: tuple[Head, ...] = ("ls", "wls", "mmse")
"""Heads of networks that are equivariant; ``direct`` needs an order of users and chains."""

_LEAST_AMPLITUDE = 1e-6
_LEAST_POWER = 1e-20


def graph_head(head: str) -> Head:
    """Check the name of a head of an equivariant network."""
    return check_choice("head", head, GRAPH_HEADS)


def amplitudes(shares: Float[Tensor, "batch antennas"]) -> Float[Tensor, "batch antennas"]:
    """Scale amplitudes so that the largest is 1: the rate knows of them up to scale."""
    lifted = shares + _LEAST_AMPLITUDE
    return lifted / lifted.amax(dim=1, keepdim=True)


def project(
    scene: Scene,
    control: Float[Tensor, "batch antennas"],
    wanted: Complex[Tensor, "batch antennas users"],
    *,
    weighted: bool,
) -> Point:
    """Digital precoder that comes closest to an equivalent precoder outside of the feed's span.

    Parameters
    ----------
    scene
        What the network sees.
    control
        Amplitudes.
    wanted
        The free equivalent precoder, of which the surface radiates ``diag(a) wanted``.
    weighted
        Fit ``diag(a) M V`` to ``diag(a) wanted``, so that dark elements cost nothing, instead of
        ``M V`` to ``wanted`` as printed.

    Notes
    -----
    Source: mb-dnn paper, equations (6)-(7) and their weighted correction; docs/methods.md,
    section 20.
    """
    effective, metric = scene.effective(control), scene.metric(control)
    if not weighted:
        # The basis of the feed is orthonormal up to sqrt(N): nothing is to be inverted.
        digital = scene.feed.mH @ wanted / float(scene.feed.shape[0])
    else:
        seen = scene.feed.mH @ (control.square().unsqueeze(2) * wanted)
        digital = solve_ridged(metric, seen)
    return Point(control, effective, metric, _unit(metric, digital))


def structure(
    scene: Scene,
    control: Float[Tensor, "batch antennas"],
    logits: Float[Tensor, "batch users 2"],
) -> Point:
    """Digital precoder of the optimal structure from two numbers a user.

    ``v_k`` points along ``(sum_i lambda_i f_i f_i^H + n0 S)^-1 f_k`` with ``f_k = M^H diag(a) h_k``
    and radiates ``p_k``; both ``p`` and ``lambda`` are softmaxes over the users.

    Notes
    -----
    Source: docs/methods.md, section 20. For any amplitudes the best precoder is of this form.
    """
    effective, metric = scene.effective(control), scene.metric(control)
    powers, prices = logits.softmax(dim=1).unbind(dim=2)
    back = effective.mH
    # Over 1 + n0, so that beams keep a size of about 1 however faint the channel is.
    weight = (1.0 + scene.noise).reciprocal()[:, None, None]
    heard = (back * (weight * prices.unsqueeze(1))) @ effective
    system = heard + (scene.noise[:, None, None] * weight) * metric
    beams = solve_ridged(system, back)
    spent = (beams.conj() * (metric @ beams)).real.sum(dim=1)
    scale = (powers / spent.clamp(min=_LEAST_POWER)).sqrt()
    return Point(control, effective, metric, beams * scale.unsqueeze(1))


def direct(
    scene: Scene,
    control: Float[Tensor, "batch antennas"],
    digital: Complex[Tensor, "batch rf_chains users"],
) -> Point:
    """Point of a digital precoder that a network gives itself, in the basis of the scene."""
    metric = scene.metric(control)
    return Point(control, scene.effective(control), metric, _unit(metric, digital))


def _unit(metric: Tensor, digital: Tensor) -> Tensor:
    """Scale a precoder to radiate 1."""
    scale = radiated(metric, digital).clamp(min=_LEAST_POWER).rsqrt()
    return digital * scale[:, None, None]


def point_rate(scene: Scene, point: Point) -> Float[Tensor, " batch"]:
    """Sum rate at a point, bits/s/Hz."""
    gains = received_power(point.effective @ point.digital)
    return link_rate(gains, scene.noise * radiated(point.metric, point.digital))


def trace(
    problem: Downlink, scene: Scene, point: Point, utilities: tuple[Tensor, ...] | None = None
) -> Trace:
    """Point as controls and digital precoder of the hardware."""
    if utilities is None:
        utilities = (point_rate(scene, point),)
    control = point.control.unsqueeze(2).to(problem.h.dtype)
    return Trace(control, (scene.back @ point.digital).unsqueeze(1), utilities)


def finish(
    network: Network,
    problem: Downlink,
    scene: Scene,
    shares: Float[Tensor, "batch antennas"],
    logits: Float[Tensor, "batch users 2"],
) -> Trace:
    """Design of the optimal structure, compiled where that serves the network.

    ``shares`` are amplitudes up to scale.
    """
    if compiled.serves(network, problem):
        return compiled.design(problem, shares, logits)
    return trace(problem, scene, structure(scene, amplitudes(shares), logits))


class Shares(nn.Module):
    """Logits of power and price of every user from what its edges say on average.

    Parameters
    ----------
    features
        Number of pooled features of a user.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.inner = nn.Linear(features + 3, 16)
        self.out = nn.Linear(16, 2)

    def forward(
        self, scene: Scene, pooled: Float[Tensor, "batch users features"]
    ) -> Float[Tensor, "batch users 2"]:
        """``pooled`` beside the user's gain, the SNR and the number of users."""
        gain = (received_power(scene.columns).mean(dim=1) + 1e-6).log().unsqueeze(2)
        loud = scene.loudness[:, None, None].expand_as(gain)
        crowd = torch.full_like(gain, pooled.shape[1] / 4.0)
        hidden = nn.functional.silu(self.inner(torch.cat([pooled, gain, loud, crowd], dim=2)))
        logits: Tensor = self.out(hidden)
        return logits
