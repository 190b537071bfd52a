"""The concave surrogate of successive convex approximation, maximised through its dual."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.digital.wmmse import keep_finite

_LEAP = 2.0
_NEWTON_STEPS = 40


@dataclass(frozen=True, eq=False)
class Surrogate:
    """``max sum_k alpha_k log(1 + q_k(V))`` within ``||V||^2 <= 1`` (F under a joint budget).

    ``q_k = 2 phi_k Re T_kk - phi_k^2 (sum_{l != k} |T_kl|^2 + 1)``, ``T = E V``, is a concave lower
    bound of user k's SINR, tight where ``phi_k = T_kk / I_k``.

    Attributes
    ----------
    e
        ``(B, F, K, R)`` complex128: channel, in units where noise and budget are 1.
    phi
        ``(B, F, K)`` >= 0: expansion points.
    sinr
        ``(B, F, K)`` >= 0: what the users have there; where the multipliers begin.
    weights
        ``(B, F, K)`` >= 0: alpha.
    joint
        Whether the budget bounds the mean over subcarriers.
    """

    e: Complex[Tensor, "batch subcarriers users rf_chains"]
    phi: Float[Tensor, "batch subcarriers users"]
    sinr: Float[Tensor, "batch subcarriers users"]
    weights: Float[Tensor, "batch subcarriers users"]
    joint: bool

    def value(self, digital: Tensor) -> Float[Tensor, " batch"]:
        """``sum alpha log(1 + q)``, minus infinity outside the domain."""
        inside = 1.0 + bound_of_sinr(self.e @ digital, self.phi)
        log = torch.where(inside > 0, inside.clamp(min=1e-300).log(), -torch.inf)
        return torch.where(self.weights > 0, self.weights * log, 0.0).sum(dim=(1, 2))


@dataclass(frozen=True, eq=False)
class DualPoint:
    """Multipliers ``lam`` of the SINR bounds and what they say about V.

    ``ratio = lam (1 + q) / alpha`` is 1 at the optimum, and ``gap = sum alpha (ratio - 1 - log
    ratio)`` bounds how far the surrogate of :func:`precoder` is below its maximum.
    """

    lam: Tensor
    price: Tensor
    ratio: Tensor
    dual: Tensor
    gap: Tensor


def expand(
    e: Complex[Tensor, "batch subcarriers users rf_chains"],
    digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    user_weights: Float[Tensor, "batch users"],
    *,
    joint: bool,
) -> Surrogate:
    """Surrogate around a precoder, in units where noise and budget are 1."""
    power, own = _heard(e @ digital)
    interference = power.masked_fill(own, 0.0).sum(dim=3) + 1.0
    signal = power.diagonal(dim1=2, dim2=3)
    phi = signal.sqrt() / interference
    return Surrogate(e, phi, signal / interference, user_weights.unsqueeze(1).expand_as(phi), joint)


def _heard(received: Tensor) -> tuple[Tensor, Tensor]:
    """Received powers, and where a user's own are."""
    power = received.abs().square()
    return power, torch.eye(power.shape[3], dtype=torch.bool, device=power.device)


def bound_of_sinr(
    received: Complex[Tensor, "batch subcarriers users users"],
    phi: Float[Tensor, "batch subcarriers users"],
) -> Float[Tensor, "batch subcarriers users"]:
    """``q_k`` of :class:`Surrogate` at noise 1."""
    power, own = _heard(received)
    interference = power.masked_fill(own, 0.0).sum(dim=3) + 1.0
    return 2.0 * phi * received.diagonal(dim1=2, dim2=3).real - phi.square() * interference


def maximise(
    surrogate: Surrogate, tolerance: float = 1e-10, iterations: int = 200
) -> tuple[Complex[Tensor, "batch subcarriers rf_chains users"], Float[Tensor, " batch"]]:
    """Maximiser of the surrogate and its duality gap, ``(B,)``, in nats.

    For given multipliers V has a closed form in one K x K eigendecomposition, so a first-order
    method over K multipliers is left: ``log lam -= t log(ratio)``, a descent direction of the dual,
    with a backtracking t for each channel. Stops, channel by channel, at a gap of ``tolerance``.

    Notes
    -----
    Source: docs/methods.md, section 13. Cost per iteration ``O(K^3)``, whatever R.
    """
    users = surrogate.e.shape[2]
    at = _evaluate(surrogate, surrogate.weights / (1.0 + surrogate.sinr), None)
    step = torch.full_like(at.dual, 0.5)
    for _ in range(iterations):
        active = at.gap > tolerance * users
        if not bool(active.any()):
            break
        lead = -at.ratio.clamp(min=1e-300).log().clamp(-_LEAP, _LEAP)
        lead = torch.where(surrogate.weights > 0, lead, 0.0)
        slope = (surrogate.weights * (at.ratio - 1.0) * lead).sum(dim=(1, 2))
        size = torch.where(active, step, 0.0)[:, None, None]
        trial = _evaluate(surrogate, at.lam * (size * lead).exp(), at.price)
        better = active & (trial.dual <= at.dual + 1e-4 * step * slope)
        # Near the optimum the dual no longer tells: there a smaller gap decides.
        better = better | (active & (trial.gap < 0.5 * at.gap))
        at = _select(better, trial, at)
        step = torch.where(better, (1.3 * step).clamp(max=1.0), 0.5 * step)
        if not bool((step > 1e-6).any()):
            break
    return precoder(surrogate, at), at.gap


def _select(where: Tensor, yes: DualPoint, no: DualPoint) -> DualPoint:
    return DualPoint(
        *(
            torch.where(where.view(-1, *[1] * (a.ndim - 1)), a, b)
            for a, b in (
                (yes.lam, no.lam),
                (yes.price, no.price),
                (yes.ratio, no.ratio),
                (yes.dual, no.dual),
                (yes.gap, no.gap),
            )
        )
    )


def _gram(surrogate: Surrogate, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors of ``M = C^(1/2) E E^H C^(1/2)``, ``C = diag(lam phi^2)``."""
    scaled = (lam.sqrt() * surrogate.phi).unsqueeze(3) * surrogate.e
    values, vectors = torch.linalg.eigh(scaled @ scaled.mH)
    top = values.amax(dim=2, keepdim=True)
    return torch.where(values > 1e-15 * top, values, 0.0), vectors


def _evaluate(surrogate: Surrogate, lam: Tensor, price: Tensor | None) -> DualPoint:
    """Best V for given multipliers, the price of power that it takes, and what follows.

    With ``B = E^H C E`` column l is ``sqrt(lam_l) / s_l (B + mu I)^-1 E^H C^(1/2)`` at l, where
    ``s_l = [mu (M + mu I)^-1]_ll``; everything that the users receive follows from M alone, and
    ``1 - s_l`` never has to be formed by cancellation.
    """
    values, vectors = _gram(surrogate, lam)
    share = vectors.abs().square()
    mu = _price(values, share, lam, surrogate.joint, price)
    s = (share * (mu / (values + mu)).unsqueeze(2)).sum(dim=3)
    through = (vectors * (values / (values + mu)).unsqueeze(2)) @ vectors.mH
    heard = lam.unsqueeze(2) * through.abs().square() / s.square().unsqueeze(2)
    own = torch.eye(lam.shape[2], dtype=torch.bool, device=lam.device)
    others = heard.masked_fill(own, 0.0).sum(dim=3)
    signal = through.diagonal(dim1=2, dim2=3).real / s
    # lam q, so that a user of weight 0 needs no division.
    scaled = 2.0 * lam * signal - others - lam * surrogate.phi.square()
    weights = surrogate.weights
    ratio = torch.where(weights > 0, (lam + scaled) / weights.clamp(min=1e-300), 1.0)
    safe = torch.where(weights > 0, lam, 1.0)
    dual = ((lam + scaled) - weights * safe.log()).sum(dim=(1, 2))
    loss = torch.where(ratio > 0, ratio - 1.0 - ratio.clamp(min=1e-300).log(), torch.inf)
    loss = torch.where(weights > 0, weights * loss, 0.0)
    return DualPoint(lam, mu, ratio, dual, loss.sum(dim=(1, 2)))


def _price(
    values: Tensor, share: Tensor, lam: Tensor, joint: bool, guess: Tensor | None
) -> Float[Tensor, "batch subcarriers 1"]:
    """Price ``mu`` at which V spends the budget, by Newton's method on ``1 / ||V||``.

    That function is concave and increasing in mu, so that the iteration climbs to its root from
    the left; one step from anywhere on the right leads there.
    """
    budget = float(values.shape[1]) if joint else 1.0
    floor = 1e-14 * values.amax(dim=(1, 2) if joint else 2, keepdim=True)
    floor = floor.clamp(min=1e-200)
    mu = lam.sum(dim=(1, 2) if joint else 2, keepdim=True) / budget if guess is None else guess

    def total(x: Tensor) -> Tensor:
        x = x.sum(dim=2, keepdim=True)
        return x.sum(dim=1, keepdim=True) if joint else x

    for _ in range(_NEWTON_STEPS):
        left = 1.0 / (values + mu)
        once = values * left.square()
        n, s, fall = (share @ torch.stack([once, mu * left, once * left], dim=3)).unbind(dim=3)
        spent = total(lam * n / s.square())
        slope = -2.0 * total(lam * (fall / s.square() + n.square() / (s.square() * s)))
        step = 2.0 * spent * ((spent / budget).sqrt() - 1.0) / -slope
        new = torch.where(slope < 0, mu + step, mu)
        new = torch.where(torch.isfinite(new), new, mu)
        new = torch.maximum(torch.maximum(new, 0.01 * mu), floor)
        done = bool(((new - mu).abs() <= 1e-13 * mu).all())
        mu = new
        if done:
            break
    return mu.expand(-1, values.shape[1], -1)


def precoder(
    surrogate: Surrogate, at: DualPoint
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """V of a dual point."""
    values, vectors = _gram(surrogate, at.lam)
    left = 1.0 / (values + at.price)
    s = (vectors.abs().square() * (at.price * left).unsqueeze(2)).sum(dim=3)
    middle = (vectors * left.unsqueeze(2)) @ vectors.mH
    scaled = (at.lam.sqrt() * surrogate.phi).unsqueeze(3) * surrogate.e
    return scaled.mH @ middle * (at.lam.sqrt() / s).unsqueeze(2)


def surrogate_step(
    surrogate: Surrogate, digital: Tensor, tolerance: float = 1e-10
) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
    """V of the maximised surrogate, or the old one where that is not finite or not better."""
    new, _ = maximise(surrogate, tolerance, iterations=60)
    new = keep_finite(new, digital)
    worse = ~(surrogate.value(new) >= surrogate.value(digital))
    return torch.where(worse[:, None, None, None], digital, new)
