"""The digital step of a cell with a budget of its own: its multiplier, and what it survives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holobeam.digital.cells import capped_step, capping_price
from holobeam.testing import gaussian


@given(st.integers(0, 10**6), st.floats(-6, 6), st.integers(0, 3))
def test_capping_price_meets_the_budget(seed, log_budget, zeros):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(2, 5, generator=generator, dtype=torch.float64) ** 4
    energy = torch.rand(2, 5, generator=generator, dtype=torch.float64) ** 4
    values[:, :zeros], energy[:, :zeros] = 0.0, 0.0
    budget = torch.full((2,), 10.0**log_budget, dtype=torch.float64)
    mu = capping_price(values, energy, budget)
    live = energy > 0
    power = torch.where(live, energy / (values + mu[:, None]).square(), 0.0).sum(dim=1)
    assert (power <= budget * (1 + 1e-10)).all()
    assert ((mu == 0) | (power >= budget * (1 - 1e-8))).all()


def test_capped_step_keeps_what_is_not_finite():
    rows = torch.full((1, 1, 2, 2), torch.nan, dtype=torch.complex128)
    old = gaussian((1, 1, 2, 1), 0)
    wanted = torch.ones(1, 1, 2, 1, dtype=torch.complex128)
    try:
        new = capped_step(rows, wanted, None, torch.ones(1, 1), old)
    except torch.linalg.LinAlgError:
        pytest.fail("a channel that is not finite must not raise for the batch")
    assert torch.equal(new, old)
