"""Downlinks known by samples: one control for all of them, one digital precoder or one each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.analog.quadratic import Quadratic
from holobeam.digital.link import Link, Weights, priced_metric, solve_small, widen
from holobeam.digital.per_rf_chain import update_rows
from holobeam.digital.wmmse import keep_finite
from holobeam.errors import ShapeError
from holobeam.frontends.frontend import Frontend
from holobeam.problems.downlink import Downlink


@dataclass(frozen=True, eq=False, init=False)
class SampledDownlink(Downlink):
    """A downlink whose utility is the mean over samples of its channel, controls and V shared.

    Samples stand beside subcarriers, ``(B, F S, K, N)`` with the S samples of a subcarrier side by
    side, so that every solver that knows subcarriers serves it. ``digital`` keeps that axis; what
    differs within the samples of a subcarrier is averaged before it is used.

    Notes
    -----
    Source: docs/methods.md, section 25. Made by :func:`sample_average`.
    """

    samples: int = 1

    def shared(self, digital: Tensor) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
        """The same V on all samples of a subcarrier."""
        grouped = self._grouped(digital)
        same: Tensor = grouped.mean(dim=2, keepdim=True).expand_as(grouped).flatten(1, 2)
        return same

    def rates(self, link: Link, digital: Tensor) -> Float[Tensor, "batch users"]:
        """Mean rates over the samples."""
        return super().rates(link, self.shared(digital))

    def weights(self, link: Link, digital: Tensor) -> Weights:
        """Matched receivers and weights of every sample."""
        return super().weights(link, self.shared(digital))

    def digital_step(
        self, link: Link, weights: Weights, digital: Tensor
    ) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
        """Exact minimiser over the one V of all samples."""
        count = self.samples
        now = self._grouped(self.shared(digital))[:, :, 0]
        wanted = torch.diag_embed(weights.mse_weights * weights.decoders)
        rows = self._beside(link.e), self._beside(weights.cost), self._beside(wanted)
        if self.power_at == "per_rf_chain":
            new = update_rows(*rows, self.power, now, joint=self.budget == "mean")
        else:
            metric = None
            if link.g is not None:
                metric = self._grouped(link.g.expand(-1, link.e.shape[1], -1, -1))
            price = self._grouped(self.price(weights)).sum(dim=2)
            new = _stacked_step(rows, None if metric is None else metric[:, :, 0], price, now)
        again: Tensor = new.unsqueeze(2).expand(-1, -1, count, -1, -1).flatten(1, 2)
        return again

    def analog_quadratic(self, weights: Weights, digital: Tensor) -> Quadratic:
        """Weighted mean-square error, summed over samples as over subcarriers."""
        return super().analog_quadratic(weights, self.shared(digital))

    def load(self, link: Link, digital: Tensor) -> Float[Tensor, "batch subcarriers"]:
        """Power spent over power allowed."""
        return super().load(link, self.shared(digital))

    def rescale(
        self, link: Link, digital: Tensor
    ) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
        """Scale V so that the budget is met."""
        return super().rescale(link, self.shared(digital))

    def feasible(self, control: Tensor, digital: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest controls, one V for all samples, scaled to the budget."""
        return super().feasible(control, self.shared(digital))

    def handed_back(self, digital: Tensor) -> Complex[Tensor, "batch subcarriers rf_chains users"]:
        """One V a subcarrier, as the problem without samples has it."""
        return self._grouped(self.shared(digital))[:, :, 0].contiguous()

    def _beside(self, rows: Tensor) -> Tensor:
        """Rows of all samples of a subcarrier under one another."""
        return self._grouped(rows).flatten(2, 3)

    def _grouped(self, value: Tensor) -> Tensor:
        """Subcarriers and their samples on axes of their own."""
        return value.reshape(len(value), -1, self.samples, *value.shape[2:])


def _stacked_step(
    rows: tuple[Tensor, Tensor, Tensor], metric: Tensor | None, price: Tensor, digital: Tensor
) -> Tensor:
    """``V = (E^H diag(c) E + price G)^-1 E^H wanted`` over the rows of all samples."""
    e, cost, wanted = rows
    wide = widen(Link(e, metric))
    back = wide.e.mH
    system = (back * cost.double().unsqueeze(2)) @ wide.e + priced_metric(wide, price.double())
    return keep_finite(solve_small(system, back @ wanted.to(back)).to(digital.dtype), digital)


def sampled_channels(
    h: Complex[Tensor, "batch subcarriers users antennas"],
    samples: Complex[Tensor, "samples batch subcarriers users antennas"],
) -> Complex[Tensor, "batch subcarriers users antennas"]:
    """Samples beside subcarriers: ``(B, F S, K, N)``, those of a subcarrier side by side."""
    if samples.ndim != 5 or tuple(samples.shape[1:]) != tuple(h.shape):
        right = f"need (samples, {', '.join(map(str, h.shape))})"
        raise ShapeError("samples", f"got shape {tuple(samples.shape)}", right)
    return samples.movedim(0, 2).flatten(1, 2).to(h)


def spread_frontend(frontend: Frontend, count: int) -> Frontend:
    """Front-end whose feed of each subcarrier stands for all its samples."""
    if frontend.feed is None or frontend.feed.ndim == 2:
        return frontend
    return replace(frontend, feed=frontend.feed.repeat_interleave(count, dim=0))


def sample_average(
    problem: Downlink, samples: Complex[Tensor, "samples batch subcarriers users antennas"]
) -> SampledDownlink:
    """Pose the mean rate over samples of the channel, with one control and one V.

    Parameters
    ----------
    problem
        Power, noise, weights and hardware.
    samples
        ``(S, B, F, K, N)``: channels that are equally likely, as far as anybody knows.
    """
    h = sampled_channels(problem.h, samples)
    count = len(samples)
    values: dict[str, Any] = {
        **vars(problem),
        "h": h,
        "frontend": spread_frontend(problem.frontend, count),
        "true_h": None,
        "samples": count,
    }
    if problem.basis is not None:
        # One V needs one basis: that of everything a user may have.
        rows = h.reshape(len(h), -1, count * h.shape[2], h.shape[3])
        basis = torch.linalg.qr(rows.mH)[0].resolve_conj().contiguous()
        values["basis"] = basis.repeat_interleave(count, dim=1)
    new = object.__new__(SampledDownlink)
    for name, value in values.items():
        object.__setattr__(new, name, value)
    return new
