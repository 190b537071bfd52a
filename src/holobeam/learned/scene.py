"""What a network on a surface sees: the users' columns, the feed, and how loud the noise is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.frontends.element_sets import Interval
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink

RIDGE = 1e-6
"""Relative to the mean diagonal of a small system, so that float32 survives dead surfaces."""

FAINTEST = 1e8
"""Most noise over power that a scene has: beyond it single precision has no gradients, and no
rate is larger than 1e-5."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One subcarrier, one budget of radiated power, P = 1, channels of unit mean power.

    Attributes
    ----------
    columns
        ``(B, N, K)``: h_k, over the noise amplitude of its user, scaled to mean power 1.
    feed
        ``(N, R)``: orthonormal basis of the span of the feed times ``sqrt(N)``. The rate knows of
        the feed by its span alone, and an orthonormal one keeps single precision honest.
    back
        ``(R, R)``: digital precoders of ``feed`` become those of the hardware by ``back @ V``.
    noise
        ``(B,)``: noise power over the budget, on that scale.
    """

    columns: Complex[Tensor, "batch antennas users"]
    feed: Complex[Tensor, "antennas rf_chains"]
    back: Complex[Tensor, "rf_chains rf_chains"]
    noise: Float[Tensor, " batch"]

    @cached_property
    def loudness(self) -> Float[Tensor, " batch"]:
        """``-log10(noise) / 2``: the SNR in units of 20 dB."""
        return -0.5 * self.noise.log10()

    @cached_property
    def feed_products(self) -> Complex[Tensor, "antennas squares"]:
        """Row n: ``conj(feed_n) feed_n^T``, flattened; weighted by ``a^2`` they add up to S."""
        outer = self.feed.conj().unsqueeze(2) * self.feed.unsqueeze(1)
        return outer.flatten(1)

    def metric(self, control: Float[Tensor, "batch antennas"]) -> Complex[Tensor, "batch r r"]:
        """``S = M^H diag(a)^2 M``."""
        chains = self.feed.shape[1]
        power = control.square().to(self.feed.dtype) @ self.feed_products
        return power.view(-1, chains, chains)

    def effective(self, control: Float[Tensor, "batch antennas"]) -> Complex[Tensor, "batch k r"]:
        """``E = H^H diag(a) M``, a row a user."""
        return (self.columns * control.unsqueeze(2)).mH @ self.feed

    def rate(
        self, control: Float[Tensor, "batch antennas"], digital: Complex[Tensor, "batch r users"]
    ) -> Float[Tensor, " batch"]:
        """Sum rate, bits/s/Hz, whatever the scale of the precoder."""
        gains = received_power(self.effective(control) @ digital)
        power = radiated(self.metric(control), digital)
        return link_rate(gains, self.noise * power)


def see(problem: Downlink) -> Scene:
    """Make the scene of a problem that :func:`unserved` has no objection to."""
    ratio = problem.noise_power / problem.power.unsqueeze(1)
    columns = problem.h[:, 0].mH * ratio.rsqrt().unsqueeze(1)
    gain = columns.abs().square().mean(dim=(1, 2))
    # A channel that is not there is heard at 0 dB: any feasible answer is right.
    gain = torch.where(gain > 0, gain, torch.ones_like(gain))
    seen = span(problem.frontend)
    noise = gain.reciprocal().clamp(max=FAINTEST)
    return Scene(columns * gain.rsqrt()[:, None, None], seen.feed, seen.back, noise)


@dataclass(frozen=True, eq=False)
class Span:
    """What networks are told of a feed, worked out once for a front-end.

    Attributes
    ----------
    entries
        The feed ``(N, R)`` that the rest belongs to.
    feed, back
        Of a :class:`Scene`.
    """

    entries: Complex[Tensor, "antennas rf_chains"]
    feed: Complex[Tensor, "antennas rf_chains"]
    back: Complex[Tensor, "rf_chains rf_chains"]

    @cached_property
    def arrays(self) -> tuple[Any, Any]:
        """``feed`` and ``back`` in double precision, as kernels read them."""
        wide = torch.complex128
        return _array(self.feed.to(wide)), _array(self.back.to(wide))

    @cached_property
    def plain_array(self) -> Any:
        """Columns of the feed itself at mean power 1, in double precision."""
        return _array(plain_feed(self.entries).to(torch.complex128))


_SPANS: WeakKeyDictionary[Frontend, Span] = WeakKeyDictionary()


def span(frontend: Frontend) -> Span:
    """Orthonormal basis of a feed; kept while the front-end lives and its feed stays as it is."""
    feed = frontend.scaled_feed()[0]
    if feed.requires_grad or torch.is_inference_mode_enabled() or torch.compiler.is_compiling():
        return Span(feed, *orthonormal(feed))
    kept = _SPANS.get(frontend)
    # The entries themselves are compared: no counter knows of all ways to write to a tensor.
    if kept is None or not torch.equal(kept.entries, feed):
        kept = Span(feed.clone(), *orthonormal(feed))
        _SPANS[frontend] = kept
    return kept


def plain_feed(
    feed: Complex[Tensor, "antennas rf_chains"],
) -> Complex[Tensor, "antennas rf_chains"]:
    """Feed of the hardware, every column at mean power 1."""
    level = feed.abs().square().mean(dim=0, keepdim=True).clamp(min=1e-30)
    return feed * level.rsqrt()


def _array(tensor: Tensor) -> Any:
    return tensor.detach().resolve_conj().contiguous().numpy()


def orthonormal(
    feed: Complex[Tensor, "antennas rf_chains"],
) -> tuple[Complex[Tensor, "antennas rf_chains"], Complex[Tensor, "rf_chains rf_chains"]]:
    """``feed`` and ``back`` of a scene."""
    basis, triangle = torch.linalg.qr(feed)
    size = float(feed.shape[0]) ** 0.5
    return basis * size, torch.linalg.pinv(triangle) * size


def unserved(problem: Downlink) -> str | None:
    """Reason why networks on surfaces can't see this problem, or None."""
    frontend = problem.frontend
    if frontend.is_digital or not isinstance(frontend.element_set, Interval):
        return "it is trained for amplitude surfaces; use vp or wmmse-cd on other hardware"
    if (frontend.element_set.low, frontend.element_set.high) != (0.0, 1.0):
        return "its amplitudes lie in [0, 1]; use mmse-fast on other intervals"
    if problem.h.shape[1] > 1 or frontend.scaled_feed().shape[0] > 1:
        return "it is trained for one subcarrier; use mmse-fast for several"
    if problem.power_at != "radiated":
        return "it is trained for radiated power; use mmse-fast for other budgets"
    if problem.utility_name != "sum_rate" or bool((problem.user_weights != 1.0).any()):
        return "it is trained for the plain sum rate; use mmse-fast for weights and fairness"
    return None


def received_power(received: Complex[Tensor, "batch users users"]) -> Float[Tensor, "batch k k"]:
    """``|E V|^2`` entry by entry, differentiable at 0."""
    return received.real.square() + received.imag.square()


def radiated(
    metric: Complex[Tensor, "batch r r"], digital: Complex[Tensor, "batch r users"]
) -> Float[Tensor, " batch"]:
    """``tr(V^H S V)``."""
    return (digital.conj() * (metric @ digital)).real.sum(dim=(1, 2)).clamp(min=1e-30)


def link_rate(
    gains: Float[Tensor, "batch users users"], noise: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """``sum_k log2(1 + SINR_k)`` from powers received and the folded noise."""
    own = torch.eye(gains.shape[1], dtype=torch.bool, device=gains.device)
    signal = gains.diagonal(dim1=1, dim2=2)
    interference = gains.masked_fill(own, 0.0).sum(dim=2) + noise.unsqueeze(1)
    return torch.log2(1.0 + signal / interference).sum(dim=1)


def solve_ridged(matrix: Tensor, right: Tensor, ridge: float = RIDGE) -> Tensor:
    """Solve small Hermitian systems with a relative ridge; gradients stay finite too."""
    size = matrix.shape[-1]
    level = matrix.diagonal(dim1=-2, dim2=-1).real.mean(dim=-1).detach().clamp(min=1e-30)
    eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    solution: Tensor = torch.linalg.solve_ex(
        matrix + ridge * level[:, None, None] * eye, right, check_errors=False
    )[0]
    return solution
