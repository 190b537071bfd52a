"""Many base stations that disturb each other, users with several antennas and streams."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.digital.cell_rows import cell_rows
from holobeam.digital.cells import (
    CellLink,
    CellWeights,
    capped_step,
    cell_rates,
    cell_weights,
)
from holobeam.digital.link import power_metric
from holobeam.frontends.frontend import Frontend
from holobeam.problems import cell_inputs, inputs
from holobeam.problems.budget import scaled
from holobeam.problems.inputs import PowerAt
from holobeam.problems.rates import proportional_fairness


@dataclass(frozen=True, eq=False, init=False)
class MultiCell:
    """Design the controls and digital precoders of all cells at once, for a batch of channels.

    Parameters
    ----------
    h
        ``(B, L, L, K, M, N)`` complex: from base station i (axis 1) to the M antennas of user k of
        cell j (axes 2 and 3), received ``y = h x + n``. Cells with fewer users are padded with
        users whose h is zero; :attr:`present` masks them.
    frontend
        The hardware: one for all cells, or one per cell. Feeds, losses and power models may differ
        between cells; N, R and the element set may not.
    noise_power
        sigma^2 at each receive antenna: a number, ``(L, K)`` or ``(B, L, K)``.
    power_per_rf_chain
        Limit of each row of the digital precoders: a number, ``(R,)``, ``(L, R)`` or
        ``(B, L, R)``. In mW where channels carry a link budget. Either this or ``power``.
    power
        Budget of each cell: a number, ``(L,)`` or ``(B, L)``.
    power_at
        Where ``power`` counts: at the ``feeds`` (``||V_l||^2 <= P_l``, the default) or
        ``radiated`` (``||A_l V_l||^2 <= P_l``).
    streams
        Streams S of each user, at most M.
    weights
        User weights, ``(K,)``, ``(L, K)`` or ``(B, L, K)``, >= 0; 1 by default.
    utility
        ``sum_rate`` (weighted, of all cells) or ``proportional_fair``:
        ``sum alpha log max(R, 0.01)`` over the users that have a channel.
    true_h
        Same shape as ``h``: what the designs are judged on when ``h`` is only an estimate.
    error_variance
        What is known of the estimate's error: mean power of one entry, a number or anything that
        broadcasts to ``(B, L, L, K)``, >= 0. Plain solvers don't look at it, robust ones do.

    Raises
    ------
    InputError
        Names the argument, what was wrong and what would be right.

    Notes
    -----
    Several budgets don't fold into the noise: rates are those of the precoder as it stands, and
    precoders are scaled down to their budgets only. The control is ``(B, L, N, C)``, the digital
    precoder ``(B, L, R, K S)`` (streams user-major), rates are ``(B, L K)``. With L = M = S = 1 it
    agrees with :class:`Downlink`. Source: multicell paper (our reading); docs/methods.md,
    section 15.
    """

    h: Complex[Tensor, "batch cells cells users receivers antennas"]
    frontend: Frontend
    frontends: tuple[Frontend, ...]
    feed: Tensor | None
    noise_power: Float[Tensor, "batch cells users"]
    power: Float[Tensor, batch * rf_chains]
    power_at: PowerAt
    streams: int
    user_weights: Float[Tensor, "batch cells users"]
    utility_name: inputs.Utility
    true_h: Tensor | None
    error_variance: Float[Tensor, "batch cells cells users"] | None

    def __init__(
        self,
        h: Tensor,
        frontend: Frontend | Sequence[Frontend],
        *,
        noise_power: float | Tensor = 1.0,
        power_per_rf_chain: float | Tensor | None = None,
        power: float | Tensor | None = None,
        power_at: PowerAt | None = None,
        streams: int = 1,
        weights: Tensor | None = None,
        utility: inputs.Utility = "sum_rate",
        true_h: Tensor | None = None,
        error_variance: float | Tensor | None = None,
    ) -> None:
        h = cell_inputs.channels("h", h)
        several = cell_inputs.frontends(frontend, h)
        allowed, place = cell_inputs.budgets(
            power, power_per_rf_chain, power_at, h, several[0].rf_chains
        )
        inputs.power_place(place, several[0])
        digital = several[0].is_digital
        values: dict[str, Any] = {
            "h": h,
            "frontend": several[0],
            "frontends": several,
            "feed": None if digital else torch.cat([one.scaled_feed() for one in several]),
            "noise_power": cell_inputs.noise(noise_power, h),
            "power": allowed,
            "power_at": place,
            "streams": cell_inputs.streams(streams, h),
            "user_weights": cell_inputs.weights(weights, h),
            "utility_name": inputs.utility(utility),
            "true_h": None if true_h is None else cell_inputs.true_channels(true_h, h),
            "error_variance": inputs.variance(error_variance, tuple(h.shape[:4]), h),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # -- sizes ---------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Number of channel realisations B."""
        return int(self.h.shape[0])

    @property
    def cells(self) -> int:
        """Number of cells L."""
        return int(self.h.shape[1])

    @property
    def users(self) -> int:
        """Number of users of all cells, L K (padding included)."""
        return int(self.h.shape[2] * self.h.shape[3])

    @property
    def chains(self) -> int:
        """Rows of each digital precoder: R (N for fully digital arrays)."""
        return self.frontend.rf_chains

    @property
    def columns(self) -> int:
        """Columns of each digital precoder, K S."""
        return int(self.h.shape[3]) * self.streams

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of ``control`` and ``digital``."""
        lead = (self.batch, self.cells)
        return {
            "control": (*lead, self.frontend.antennas, self.frontend.controls),
            "digital": (*lead, self.chains, self.columns),
        }

    @property
    def present(self) -> Tensor:
        """Whether each user has a channel at all, ``(B, L, K)``."""
        return cell_inputs.present(self.h)

    # -- the four things that every solver asks for --------------------------------------------

    def link(self, control: Complex[Tensor, "batch cells antennas controls"]) -> CellLink:
        """Effective channels and power metrics for given controls."""
        return self._link(self.h, control)

    def measured_link(self, control: Complex[Tensor, "batch cells antennas controls"]) -> CellLink:
        """:meth:`link` in double precision: designs are judged on it, whatever their dtype."""
        return self._link(self.h.to(torch.complex128), control)

    def rates(
        self, link: CellLink, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> Float[Tensor, "batch users"]:
        """Rates of the users of all cells in bits/s/Hz, cell by cell, of the precoder as it is."""
        return cell_rates(link, digital, self.noise_power.flatten(1))

    def utility(
        self, link: CellLink, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> Float[Tensor, " batch"]:
        """Weighted sum rate of all cells, or proportional fairness."""
        weights, rates = self.user_weights.flatten(1), self.rates(link, digital)
        if self.utility_name == "proportional_fair":
            return proportional_fairness(rates, weights * self.present.flatten(1))
        return (weights * rates).sum(dim=1)

    def weights(
        self, link: CellLink, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> CellWeights:
        """Matched receivers and mean-square-error weights."""
        budget = self.power if self.power_at == "radiated" else None
        noise, alpha = self.noise_power.flatten(1), self.user_weights.flatten(1)
        return cell_weights(link, digital, noise, alpha, budget)

    def digital_step(
        self,
        link: CellLink,
        weights: CellWeights,
        digital: Complex[Tensor, "batch cells rf_chains streams"],
        visits: int = 1,
        tolerance: float = 0.0,
    ) -> Complex[Tensor, "batch cells rf_chains streams"]:
        """Exact minimiser over each digital precoder.

        Under limits per RF chain: over one row after the other, ``visits`` times at most and until
        a visit moves V by no more than ``tolerance ||V||``.
        """
        if self.power_at == "per_rf_chain":
            return cell_rows(link, weights, self.power, digital, visits=visits, tolerance=tolerance)
        rows, wanted = weights.whitened(link.e), weights.wanted(self.cells)
        return capped_step(rows, wanted, link.g, self.power, digital)

    def analog_quadratic(
        self, weights: CellWeights, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> Quadratic:
        """Weighted mean-square error as a function of the controls: cells are batch entries.

        Given receivers and weights the cells don't interact: entry ``b L + l`` is the share of
        base station l, whose controls are ``control.flatten(0, 1)``.
        """
        y = weights.whitened(self.h.flatten(2, 3))
        return Quadratic(
            _stack(y),
            _stack(weights.wanted(self.cells)),
            _stack(self._branches(digital)),
            _stack(weights.price),
        )

    # -- power ---------------------------------------------------------------------------------

    def load(
        self, link: CellLink, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> Float[Tensor, "batch cells"]:
        """Power spent over power allowed, per cell; of the fullest chain under per-chain limits."""
        if self.power_at == "per_rf_chain":
            return (digital.abs().square().sum(dim=3) / self.power).amax(dim=2)
        return link.power(digital) / self.power

    def rescale(
        self, link: CellLink, digital: Complex[Tensor, "batch cells rf_chains streams"]
    ) -> Complex[Tensor, "batch cells rf_chains streams"]:
        """Scale the precoders of overspending cells down to their budgets, the others not."""
        return scaled(digital, self.load(link, digital).clamp(min=1.0))

    def with_noise_scaled(self, factor: float) -> MultiCell:
        """Copy at another noise level: how solvers anneal."""
        return self.with_(noise_power=self.noise_power * factor) if factor != 1.0 else self

    def blind_to_other_cells(self) -> MultiCell:
        """Copy whose base stations know nothing of other cells, judged on the channels as they are.

        The channels between cells are zero in ``h`` and stay in ``true_h``.
        """
        own = torch.eye(self.cells, dtype=self.h.dtype, device=self.h.device)
        hidden = self.h * own[:, :, None, None, None]
        return self.with_(h=hidden, true_h=self.h if self.true_h is None else self.true_h)

    def _measured_load(self, control: Tensor, digital: Tensor) -> Tensor:
        """:meth:`load` from what leaves the antennas, in double precision."""
        wide = digital.to(torch.complex128)
        if self.power_at == "radiated" and self.feed is not None:
            wide = self.analog(control).to(torch.complex128) @ wide
        if self.power_at == "per_rf_chain":
            return (wide.abs().square().sum(dim=3) / self.power).amax(dim=2)
        return wide.abs().square().sum(dim=(2, 3)) / self.power

    # -- feasibility ---------------------------------------------------------------------------

    def feasible(
        self, control: Tensor, digital: Tensor
    ) -> tuple[
        Complex[Tensor, "batch cells antennas controls"],
        Complex[Tensor, "batch cells rf_chains streams"],
    ]:
        """Nearest controls that the hardware can set, and precoders within their budgets.

        Where every cell is below its budget, a factor common to all fills that of the fullest one:
        signals and interference grow alike, the noise does not.
        """
        control = self.frontend.project(control)
        load = self._measured_load(control, digital)
        fullest = load.amax(dim=1, keepdim=True)
        return control, scaled(digital, torch.maximum(load, fullest.clamp(max=1.0)))

    def violation(self, control: Tensor, digital: Tensor) -> Float[Tensor, " batch"]:
        """Largest breach of a constraint per channel: control off its set, or power over budget."""
        over = (self._measured_load(control, digital).amax(dim=1) - 1.0).clamp(min=0.0)
        return torch.maximum(self.frontend.violation(control), over)

    # -- judging and slicing -------------------------------------------------------------------

    def analog(
        self, control: Complex[Tensor, "batch cells antennas controls"]
    ) -> Complex[Tensor, "batch cells antennas rf_chains"]:
        """Analog beamformer ``(B, L, N, R)``; the identity for fully digital arrays."""
        if self.feed is not None:
            return control * self.feed
        eye = torch.eye(self.chains, dtype=self.h.dtype, device=self.h.device)
        return eye.expand(self.batch, self.cells, -1, -1)

    def true_rates(self, control: Tensor, digital: Tensor) -> Float[Tensor, "batch users"]:
        """Rates on ``true_h`` where given, else on ``h``."""
        h = self.h if self.true_h is None else self.true_h
        return self.rates(self._link(h.to(torch.complex128), control), digital)

    def radiated_power(self, precoder: Tensor) -> Float[Tensor, " batch"]:
        """Power in the air, summed over cells."""
        return precoder.abs().square().sum(dim=(1, 2, 3))

    def dc_power(self, precoder: Tensor, digital: Tensor) -> Float[Tensor, " batch"]:
        """DC power of all base stations."""
        counted = precoder if self.power_at == "radiated" else digital
        output = counted.abs().square().sum(dim=(2, 3))
        several = self.frontends * self.cells if len(self.frontends) == 1 else self.frontends
        radiated = self.power_at == "radiated"
        parts = [
            one.dc_power(output[:, cell] / (one.loss_amplitude**2 if radiated else 1.0))
            for cell, one in enumerate(several)
        ]
        return torch.stack(parts).sum(dim=0)

    def take(self, rows: Tensor) -> MultiCell:
        """Restrict the problem to some channels of the batch."""
        names = ("h", "noise_power", "power", "user_weights", "true_h", "error_variance")
        values = {name: getattr(self, name) for name in names}
        return self.with_(**{k: None if v is None else v[rows] for k, v in values.items()})

    def with_(self, **changes: Any) -> MultiCell:
        """Copy with some fields replaced, unchecked: for solvers, on tensors of the right shape."""
        new = copy(self)
        for name, value in changes.items():
            object.__setattr__(new, name, value)
        return new

    def _link(self, h: Tensor, control: Tensor) -> CellLink:
        channel = h.flatten(2, 3)
        if self.feed is None:
            return CellLink(channel)
        analog = self.analog(control)
        g = power_metric(analog) if self.power_at == "radiated" else None
        return CellLink(channel @ analog.unsqueeze(2).to(channel.dtype), g)

    def _branches(self, digital: Tensor) -> Tensor:
        """What each control lets through, ``(B, L, N, C, K S)``."""
        assert self.feed is not None, "a fully digital array has no controls"
        if self.frontend.controls == 1:
            return (self.feed @ digital).unsqueeze(3)
        return self.feed.unsqueeze(3) * digital.unsqueeze(2)


def _stack(tensor: Tensor) -> Tensor:
    """Cells as batch entries, with a subcarrier axis of one."""
    return tensor.flatten(0, 1).unsqueeze(1)
