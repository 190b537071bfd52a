"""One base station, many single-antenna users, a power budget: the problem that solvers serve."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.digital.link import Link, Weights, power_metric
from holobeam.digital.per_rf_chain import row_step
from holobeam.digital.wmmse import folded_step, mmse_weights
from holobeam.frontends.frontend import Frontend
from holobeam.problems import budget, inputs
from holobeam.problems.inputs import Budget, PowerAt, Utility
from holobeam.problems.rates import proportional_fairness, spectral_efficiency
from holobeam.problems.rounding import held


@dataclass(frozen=True, eq=False, init=False)
class Downlink:
    """Design the control and the digital precoder for a batch of channels.

    Parameters
    ----------
    h
        ``(B, F, K, N)`` or ``(B, K, N)`` complex; row k is h_k^H, received ``y = h x + n``.
    frontend
        The hardware.
    snr_db
        Transmit SNR ``10 log10(P / sigma^2)``, a number or one per channel. Either this or
        ``noise_power``.
    noise_power
        sigma^2: a number, ``(K,)`` or ``(B, K)``.
    power
        P: a number or ``(B,)``; per chain also ``(R,)`` or ``(B, R)``. In mW where channels carry
        a link budget.
    power_at
        ``radiated``: ``||A V||^2 <= P``; ``feeds``: ``||V||^2 <= P``; ``per_rf_chain``:
        ``||row r of V||^2 <= P_r``.
    budget
        Whether P bounds the ``mean`` over subcarriers or holds on ``each``.
    weights
        User weights, ``(K,)`` or ``(B, K)``, >= 0; 1 by default.
    utility
        ``sum_rate`` (weighted) or ``proportional_fair`` (the same sum of
        ``log max(R, 0.01)``).
    true_h
        Same shape as ``h``: what the designs are judged on when ``h`` is only an estimate.
    error_variance
        What is known of the estimate's error: mean power of one entry, a number, ``(K,)`` or
        ``(B, K)``, >= 0. Plain solvers don't look at it, robust ones do.

    Raises
    ------
    InputError
        Names the argument, what was wrong and what would be right.

    Notes
    -----
    With one budget the noise is folded, ``nu = sigma^2 p / P`` with p the power spent: no
    constraint is left and every block update is an exact minimiser (docs/methods.md, section 2).
    A fully digital array is taken in the span of its channel: ``digital`` then holds the
    coordinates in the orthonormal basis that :meth:`analog` returns.
    """

    h: Complex[Tensor, "batch subcarriers users antennas"]
    frontend: Frontend
    noise_power: Float[Tensor, "batch users"]
    power: Float[Tensor, batch * rf_chains]
    power_at: PowerAt
    budget: Budget
    user_weights: Float[Tensor, "batch users"]
    utility_name: Utility
    true_h: Tensor | None
    error_variance: Float[Tensor, "batch users"] | None
    basis: Tensor | None

    def __init__(
        self,
        h: Tensor,
        frontend: Frontend,
        *,
        snr_db: float | Tensor | None = None,
        noise_power: float | Tensor | None = None,
        power: float | Tensor = 1.0,
        power_at: PowerAt = "radiated",
        budget: Budget = "mean",
        weights: Tensor | None = None,
        utility: Utility = "sum_rate",
        true_h: Tensor | None = None,
        error_variance: float | Tensor | None = None,
    ) -> None:
        h = inputs.channels("h", h)
        inputs.frontend_fits(frontend, h)
        frontend = frontend.to(h)
        place = inputs.power_place(power_at, frontend)
        allowed = inputs.power(power, place, h, frontend)
        values: dict[str, Any] = {
            "h": h,
            "frontend": frontend,
            "power": allowed,
            "noise_power": inputs.noise(snr_db, noise_power, allowed, h, place),
            "power_at": place,
            "budget": inputs.budget(budget),
            "user_weights": inputs.weights(weights, h),
            "utility_name": inputs.utility(utility),
            "true_h": None if true_h is None else inputs.true_channels(true_h, h),
            "error_variance": inputs.variance(error_variance, (h.shape[0], h.shape[2]), h),
            "basis": inputs.span(h) if frontend.is_digital and place != "per_rf_chain" else None,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # -- sizes ---------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Number of channel realisations B."""
        return int(self.h.shape[0])

    @property
    def users(self) -> int:
        """Number of users K."""
        return int(self.h.shape[2])

    @property
    def chains(self) -> int:
        """Rows of the digital precoder: R, or the dimension of the span for a digital array."""
        if self.frontend.feed is not None:
            return self.frontend.rf_chains
        return int(self.h.shape[3] if self.basis is None else self.basis.shape[3])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of ``control`` and ``digital``."""
        return {
            "control": (self.batch, self.frontend.antennas, self.frontend.controls),
            "digital": (self.batch, int(self.h.shape[1]), self.chains, self.users),
        }

    @property
    def present(self) -> Tensor:
        """Whether each user has a channel at all, ``(B, K)``."""
        return (self.h != 0).any(dim=3).any(dim=1)

    # -- the four things that every solver asks for --------------------------------------------

    def link(self, control: Complex[Tensor, "batch antennas controls"]) -> Link:
        """Effective channel and power metric for given controls."""
        return self._link(self.h, control)

    def measured_link(self, control: Complex[Tensor, "batch antennas controls"]) -> Link:
        """:meth:`link` in double precision: designs are judged on it, whatever their dtype."""
        return self._link(self.h.to(torch.complex128), control)

    def rates(
        self, link: Link, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Float[Tensor, "batch users"]:
        """Rates of the users in bits/s/Hz, with the budget met exactly (folded noise)."""
        return spectral_efficiency(link.received(digital), self.noise(link, digital))

    def utility(
        self, link: Link, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Float[Tensor, " batch"]:
        """What is maximised: weighted sum rate, or the proportional-fair utility."""
        rates = self.rates(link, digital)
        if self.utility_name == "proportional_fair":
            return proportional_fairness(rates, self.user_weights)
        return (self.user_weights * rates).sum(dim=1)

    def weights(
        self, link: Link, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Weights:
        """Matched receivers and mean-square-error weights."""
        return mmse_weights(link, digital, self.noise(link, digital), self.user_weights)

    def digital_step(
        self,
        link: Link,
        weights: Weights,
        digital: Complex[Tensor, "batch subcarriers rf_chains users"],
    ) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
        """Exact minimiser over the digital precoder (over one row after the other per chain)."""
        if self.power_at == "per_rf_chain":
            joint = self.budget == "mean"
            return row_step(link, weights, self.power, digital, joint=joint)
        return folded_step(link, weights, self.price(weights), digital)

    def analog_quadratic(
        self, weights: Weights, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Quadratic:
        """Weighted mean-square error as a function of the controls alone."""
        root = weights.mse_weights.sqrt()
        y = (root * weights.decoders.conj()).unsqueeze(3) * self.h
        t = torch.diag_embed(root.to(self.h.dtype))
        d = self.frontend.branches(digital)
        price = self.price(weights)
        if self.power_at != "radiated":
            price = torch.zeros_like(price)
        return Quadratic(y, t, d, price.to(self.h.real.dtype))

    # -- power ---------------------------------------------------------------------------------

    def price(self, weights: Weights) -> Float[Tensor, "batch subcarriers"]:
        """Price of a unit of power, ``sum_k c_k sigma_k^2 / P``; 0 under per-chain limits."""
        spent = (weights.cost * self.noise_power.unsqueeze(1)).sum(dim=2)
        if self.power_at == "per_rf_chain":
            return torch.zeros_like(spent)
        if self.budget == "mean":
            spent = spent.mean(dim=1, keepdim=True).expand_as(spent)
        return spent / self.power.unsqueeze(1)

    def load(
        self, link: Link, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Float[Tensor, "batch subcarriers"]:
        """Power spent over power allowed; what the noise is multiplied by."""
        if self.power_at == "per_rf_chain":
            rows = digital.abs().square().sum(dim=3)
            rows = rows.mean(dim=1, keepdim=True).expand_as(rows) if self.budget == "mean" else rows
            return (rows / self.power.unsqueeze(1)).amax(dim=2)
        return self._over_budget(link.power(digital))

    def _over_budget(self, spent: Tensor) -> Tensor:
        if self.budget == "mean":
            spent = spent.mean(dim=1, keepdim=True).expand_as(spent)
        return spent / self.power.unsqueeze(1)

    def _measured_load(self, control: Tensor, digital: Tensor) -> Tensor:
        """:meth:`load` from what leaves the antennas, in double precision.

        The metric of the link squares the condition of A: on nearly parallel beams its power is
        right to half the digits only.
        """
        if self.power_at != "radiated" or self.frontend.is_digital:
            return self.load(self.link(control), digital)
        wide = torch.complex128
        radiated = self.analog(control).to(wide) @ digital.to(wide)
        return self._over_budget(radiated.abs().square().sum(dim=(2, 3)))

    def noise(
        self, link: Link, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Float[Tensor, "batch subcarriers users"]:
        """Noise power with the budget folded in (plain noise under per-chain limits)."""
        noise = self.noise_power.unsqueeze(1).expand(-1, self.h.shape[1], -1)
        if self.power_at == "per_rf_chain":
            return noise
        load = self.load(link, digital)
        return noise * torch.where(load > 0, load, torch.ones_like(load)).unsqueeze(2)

    def rescale(
        self, link: Link, digital: Complex[Tensor, "batch subcarriers rf_chains users"]
    ) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
        """Scale a digital precoder so that the budget is met with equality.

        Under per-chain limits until the tightest chain is full: up, too, for in one cell a common
        factor only gains.
        """
        return budget.scaled(digital, self.load(link, digital))

    # -- feasibility ---------------------------------------------------------------------------

    def feasible(
        self, control: Tensor, digital: Tensor
    ) -> tuple[
        Complex[Tensor, "batch antennas controls"],
        Complex[Tensor, "batch subcarriers rf_chains users"],
    ]:
        """Nearest controls that the hardware can set, and the precoder scaled to the budget.

        An all-zero precoder is replaced by equal entries, so that even a channel without users
        gets a feasible answer that uses its power.
        """
        if budget.serves(self, control, digital):
            control, digital, off = budget.settle(self, control, digital)
            return control, self._held(control, digital, off) if bool(off.any()) else digital
        control = self.frontend.project(control)
        load = self._measured_load(control, digital)
        dead = (load <= 0).all(dim=1)
        if bool(dead.any()):
            digital = torch.where(dead[:, None, None, None], torch.ones_like(digital), digital)
            load = self._measured_load(control, digital)
        return control, self._settled(control, digital, load)

    def _settled(self, control: Tensor, digital: Tensor, load: Tensor) -> Tensor:
        """Scale to the budget, also where beams cancel and rounding decides on the power."""
        scaled = budget.scaled(digital, load)
        if self.power_at != "radiated" or self.frontend.is_digital:
            return scaled
        load = self._measured_load(control, scaled)
        step = torch.finfo(digital.dtype).eps
        off = (((load - 1.0).abs() > step**0.6) & (load > 0)).any(dim=1)
        if not bool(off.any()):
            return scaled
        return self._held(control, scaled, off)

    def _held(self, control: Tensor, digital: Tensor, off: Tensor) -> Tensor:
        """Hold the budget on channels that are ``off``, where rounding decides on the power."""
        rows = off.nonzero().squeeze(1)
        some = self.take(rows)
        analog = some.analog(control[rows]).to(torch.complex128)
        new = digital.clone()
        new[rows] = held(analog, digital[rows], some._over_budget)
        return new

    def violation(self, control: Tensor, digital: Tensor) -> Float[Tensor, " batch"]:
        """Largest breach of a constraint per channel: control off its set, or power over budget."""
        over = (self._measured_load(control, digital).amax(dim=1) - 1.0).clamp(min=0.0)
        return torch.maximum(self.frontend.violation(control), over)

    # -- judging and slicing -------------------------------------------------------------------

    def analog(
        self, control: Complex[Tensor, "batch antennas controls"]
    ) -> Complex[Tensor, "batch subcarriers antennas rf_chains"]:
        """Analog beamformer ``(B, F, N, R)``; the basis of the span for a digital array."""
        if self.frontend.feed is not None:
            analog = self.frontend.analog(control)
            return analog.expand(-1, self.h.shape[1], -1, -1)
        if self.basis is not None:
            return self.basis
        eye = torch.eye(self.h.shape[3], dtype=self.h.dtype, device=self.h.device)
        return eye.expand(self.batch, self.h.shape[1], -1, -1)

    def radiated_power(self, precoder: Tensor) -> Float[Tensor, " batch"]:
        """``||A V||_F^2``, mean over subcarriers."""
        return precoder.abs().square().sum(dim=(2, 3)).mean(dim=1)

    def dc_power(self, precoder: Tensor, digital: Tensor) -> Float[Tensor, " batch"]:
        """DC power: the amplifiers deliver what is counted, and the loss where it is radiated."""
        if self.power_at == "radiated":
            output = self.radiated_power(precoder) / self.frontend.loss_amplitude**2
        else:
            output = self.radiated_power(digital)
        return self.frontend.dc_power(output)

    def true_rates(self, control: Tensor, digital: Tensor) -> Float[Tensor, "batch users"]:
        """Rates on ``true_h`` where given, else on ``h``; the power is what the design spends."""
        h = self.h if self.true_h is None else self.true_h
        link = self._link(h.to(torch.complex128), control)
        return self.rates(link, digital).to(h.real.dtype)

    def take(self, rows: Tensor) -> Downlink:
        """Restrict the problem to some channels of the batch."""
        return self.with_(
            **{
                name: None if value is None else value[rows]
                for name, value in (
                    ("h", self.h),
                    ("noise_power", self.noise_power),
                    ("power", self.power),
                    ("user_weights", self.user_weights),
                    ("true_h", self.true_h),
                    ("error_variance", self.error_variance),
                    ("basis", self.basis),
                )
            }
        )

    def with_(self, **changes: Any) -> Downlink:
        """Copy with some fields replaced, unchecked: for solvers, on tensors of the right shape."""
        new = copy(self)
        for name, value in changes.items():
            object.__setattr__(new, name, value)
        return new

    def with_noise_scaled(self, factor: float) -> Downlink:
        """Copy at another SNR: how solvers anneal, whatever the power mode."""
        return self.with_(noise_power=self.noise_power * factor) if factor != 1.0 else self

    def _link(self, h: Tensor, control: Tensor) -> Link:
        if self.frontend.feed is None:
            basis = self.basis
            return Link(h if basis is None else h @ basis.to(h.dtype))
        analog = self.frontend.analog(control)
        e = h @ analog.to(h.dtype)
        if self.power_at != "radiated":
            return Link(e)
        return Link(e, power_metric(analog).expand(-1, h.shape[1], -1, -1))
