"""The spline layer: a partition of unity, SciPy's splines, autograd, and networks of their own."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from holobeam.errors import InputError
from holobeam.learned.kan import (
    KolmogorovArnold,
    SplineBasis,
    branch_slopes,
    branches,
    draw_kan,
    draw_layer,
)
from holobeam.solvers.embedded import fresh_layer

LIKE = torch.zeros(1, dtype=torch.float64)


def knots(basis):
    return basis.low + basis.spacing * (np.arange(basis.grid + 2 * basis.order + 1) - basis.order)


bases = st.builds(
    lambda order, grid, low, width: SplineBasis(order, grid, low, low + width),
    st.integers(1, 5),
    st.integers(1, 9),
    st.floats(-3, 3),
    st.floats(0.1, 7),
)


@given(bases)
def test_splines_sum_to_one_on_the_grid_and_fade_beside_it(basis):
    inside = torch.linspace(basis.low, basis.high, 41, dtype=torch.float64)
    assert (basis(inside).sum(dim=-1) - 1).abs().max() < 1e-12
    assert (basis(inside) >= -1e-14).all()
    assert basis.slopes(inside[:-1]).sum(dim=-1).abs().max() < 1e-10 / basis.spacing
    away = (basis.order + 0.01) * basis.spacing
    outside = torch.tensor([basis.low - away, basis.high + away, -1e300, 1e300, -torch.inf])
    assert (basis(outside.double()) == 0).all()
    assert (basis.slopes(outside.double()) == 0).all()


@given(bases)
def test_every_spline_is_scipys(basis):
    t = knots(basis)
    x = np.linspace(t[0] - 1.0, t[-1] + 1.0, 97)
    ours = basis(torch.from_numpy(x)).numpy()
    slopes = basis.slopes(torch.from_numpy(x)).numpy()
    for i in range(basis.size):
        local = t[i : i + basis.order + 2]
        spline = BSpline.basis_element(local, extrapolate=False)
        assert np.abs(ours[:, i] - np.nan_to_num(spline(x))).max() < 1e-9
        if basis.order > 1:
            there = np.nan_to_num(spline.derivative()(x))
            assert np.abs(slopes[:, i] - there).max() * basis.spacing < 1e-8


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_slopes_are_autograds(order):
    basis = SplineBasis(order, 6, -1.5, 2.0)
    # Off the knots, on the grid, beside it and far away.
    x = torch.linspace(-6.03, 6.04, 23, dtype=torch.float64).requires_grad_()
    values = branches(basis, x.unsqueeze(-1))
    for i in range(values.shape[-1]):
        (judge,) = torch.autograd.grad(values[:, i].sum(), x, retain_graph=True)
        mine = branch_slopes(basis, x.detach().unsqueeze(-1))[:, 0, i]
        assert (mine - judge).abs().max() < 1e-10
    if order > 1:  # pieces of order 1 have corners, which finite differences step over
        assert torch.autograd.gradcheck(lambda x: branches(basis, x.unsqueeze(-1)), x)


def test_single_precision_and_huge_inputs_stay_finite():
    basis = SplineBasis()
    x = torch.cat([torch.linspace(-3, 3, 101), torch.tensor([-1e30, 1e30, 0.0, 1.0, -1.0])])
    single, double = branches(basis, x[:, None]), branches(basis, x.double()[:, None])
    assert torch.isfinite(single).all()
    near = x.abs() < 10
    assert (single[near] - double[near]).abs().max() < 2e-6
    assert torch.isfinite(branch_slopes(basis, x)).all()


def test_a_known_spline_is_fitted_exactly():
    """Its coefficients come back from its values, base branch and all."""
    basis = SplineBasis(3, 7, -2.0, 1.0)
    generator = np.random.default_rng(0)
    wanted = generator.standard_normal(basis.size)
    known = BSpline(knots(basis), wanted, basis.order)
    x = torch.linspace(-2.0, 1.0, 200, dtype=torch.float64)
    target = torch.from_numpy(known(x.numpy())) + 0.5 * torch.nn.functional.silu(x)
    rows = branches(basis, x.unsqueeze(-1))
    found = torch.linalg.lstsq(rows, target.unsqueeze(1)).solution[:, 0]
    assert (rows @ found - target).abs().max() < 1e-10
    assert (found[1:] - torch.from_numpy(wanted)).abs().max() < 1e-6
    assert float(found[0]) == pytest.approx(0.5, abs=1e-6)
    layer = fresh_layer(found.view(1, 1, -1).expand(200, 1, -1))
    assert (layer(branches(basis, x.unsqueeze(-1)))[:, 0] - target).abs().max() < 1e-10


def forward(weights, basis, x):
    inner, outer = weights
    return outer @ branches(basis, inner @ branches(basis, x))


def drawn(count=3, sizes=(4, 5, 2)):
    basis = SplineBasis(3, 4)
    network = draw_kan(sizes, (count,), torch.Generator().manual_seed(0), LIKE, basis)
    own = torch.Generator().manual_seed(1)
    inner, outer = (
        fresh_layer(w + 0.3 * torch.randn(w.shape, generator=own, dtype=w.dtype))
        for w in (network.inner.weight, network.outer.weight)
    )
    return KolmogorovArnold(inner, outer, basis)


def test_networks_are_drawn_alike_and_trained_as_torch_would_train_them():
    """Three Adam steps of three networks, each against autograd and torch.optim."""
    network = drawn()
    alike = draw_kan((4, 5, 2), (3,), torch.Generator().manual_seed(0), LIKE, network.basis)
    assert (alike.inner.weight == alike.inner.weight[:1]).all()
    weights = [
        [w[b].clone().requires_grad_() for w in (network.inner.weight, network.outer.weight)]
        for b in range(3)
    ]
    optimisers = [torch.optim.Adam(pair, lr=0.01) for pair in weights]
    for time in range(1, 4):
        draw = torch.Generator().manual_seed(time)
        x = 2.0 * torch.randn(3, 4, generator=draw, dtype=torch.float64)
        slope = torch.randn(3, 2, generator=draw, dtype=torch.float64)
        out, hidden = network(x)
        for b, optimiser in enumerate(optimisers):
            optimiser.zero_grad()
            judged = forward(weights[b], network.basis, x[b])
            assert (out[b] - judged).abs().max() < 1e-12
            (judged * slope[b]).sum().backward()
            optimiser.step()
        network = network.trained(x, hidden, slope, 0.01, time)
    for b, (inner, outer) in enumerate(weights):
        assert (network.inner.weight[b] - inner).abs().max() < 1e-9
        assert (network.outer.weight[b] - outer).abs().max() < 1e-9


def test_gradients_of_a_whole_network():
    network = drawn(2)
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    hidden = network(x)[1].requires_grad_()
    out = network.outer(branches(network.basis, hidden))
    (judge,) = torch.autograd.grad(out.sum(), hidden)
    mine = network.back(hidden.detach(), torch.ones(2, 2, dtype=torch.float64))
    assert (mine - judge).abs().max() < 1e-12
    pair = [network.inner.weight[0].requires_grad_(), network.outer.weight[0].requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: forward((a, b), network.basis, x[0]), pair)


def test_a_batch_of_networks_is_one_after_the_other():
    network = drawn(3)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    slope = torch.ones(3, 2, dtype=torch.float64)
    out, hidden = network(x)
    together = network.trained(x, hidden, slope, 0.02, 1)
    for b in range(3):
        alone = KolmogorovArnold(
            fresh_layer(network.inner.weight[b]),
            fresh_layer(network.outer.weight[b]),
            network.basis,
        )
        mine, inside = alone(x[b])
        assert (mine - out[b]).abs().max() < 1e-12
        after = alone.trained(x[b], inside, slope[b], 0.02, 1)
        assert (after.inner.weight - together.inner.weight[b]).abs().max() < 1e-12
    # Cells are a second leading axis.
    cells = draw_layer((4, 5), network.basis, (2, 3), torch.Generator().manual_seed(0), LIKE)
    assert cells.weight.shape == (2, 3, 5, 4 * (1 + network.basis.size))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"order": 0}, "order"),
        ({"order": 2.5}, "order"),
        ({"grid": 0}, "grid"),
        ({"low": 1.0, "high": 1.0}, "high"),
        ({"high": float("inf")}, "high"),
        ({"low": float("nan")}, "high"),
    ],
)
def test_bad_grids_are_named(options, name):
    with pytest.raises(InputError, match=name):
        SplineBasis(**options)
