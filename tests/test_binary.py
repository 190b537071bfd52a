"""Signs that minimise a quadratic: every exact method against enumeration, every bound below it."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holobeam.analog import minimize_binary
from holobeam.errors import InputError, ShapeError, UnknownNameError

PAPER = [
    {"shift": "minimal", "pre_decision": pre, "hc_bound": bound}
    for pre in (False, True)
    for bound in (False, True)
]
SHIFTED = [
    {"shift": shift, "order": "fixed", "pre_decision": pre, "hc_bound": bound}
    for shift in ("sdp", "mixing", "hc")
    for pre in (False, True)
    for bound in (False, True)
]
EXACT = [*PAPER, *SHIFTED, {}, {"pre_decision": True}]
KINDS = ("low-rank", "outside", "zero-c", "indefinite", "scaled", "dominant", "equal")


def problem(n, kind, seed):
    """Q (n, n) and c (n,): a kind of trouble each."""
    rng = np.random.default_rng([seed, n, KINDS.index(kind)])
    rank = int(rng.integers(1, n + 2))
    z = rng.normal(size=(n, rank))
    q, c = z @ z.T, z @ rng.normal(size=rank)
    if kind == "outside":  # c out of the range of a singular Q
        c = rng.normal(size=n)
    elif kind == "zero-c":
        c = np.zeros(n)
    elif kind == "indefinite":
        q = rng.normal(size=(n, n))
        q = q + q.T
    elif kind == "scaled":  # users that are almost switched off
        size = 10.0 ** rng.uniform(-3, 0, n)
        q, c = size[:, None] * q * size, size * c
    elif kind == "dominant":  # pre-decision decides some entries
        c = rng.normal(size=n) * 0.6 * np.abs(q).sum(axis=1)
    elif kind == "equal":  # all eigenvalues equal, c along no particular vector
        q, c = np.eye(n), rng.normal(size=n) * rng.integers(0, 2, n)
    return torch.from_numpy(q), torch.from_numpy(c)


def batch(n, seeds):
    pairs = [problem(n, kind, seed) for kind in KINDS for seed in seeds]
    return tuple(torch.stack(part) for part in zip(*pairs, strict=True))


def scale(q, c, value):
    return value.abs() + math.sqrt(c.shape[-1]) * q.norm(dim=(-2, -1)) + c.norm(dim=-1)


def objective(q, c, x):
    return torch.einsum("...i,...ij,...j->...", x, q, x) - 2 * (c * x).sum(dim=-1)


def agree(sizes, seeds):
    for n in sizes:
        q, c = batch(n, seeds)
        brute = minimize_binary(q, c, "brute")
        unit = scale(q, c, brute.value)
        assert (objective(q, c, brute.x) - brute.value).abs().max() <= 1e-12 * unit.max()
        for options in EXACT:
            found = minimize_binary(q, c, "sd", **options)
            assert ((found.value - brute.value).abs() <= 1e-9 * unit).all(), options
            assert (objective(q, c, found.x) - found.value).abs().max() <= 1e-12 * unit.max()
            assert found.proven.all(), options
            assert (found.gap == 0).all()


def test_exact_methods_return_the_enumerated_optimum():
    agree((1, 2, 4, 7, 10), range(2))


@pytest.mark.slow
def test_exact_methods_return_the_enumerated_optimum_of_thousands():
    """7 kinds x 16 seeds x 11 sizes, 18 exact variants each."""
    agree(range(4, 15), range(16))


def test_enumeration_is_right():
    q, c = problem(6, "outside", 0)
    signs = torch.tensor([[1.0 if word >> i & 1 else -1.0 for i in range(6)] for word in range(64)])
    values = objective(q, c, signs.double())
    assert abs(float(minimize_binary(q, c, "brute").value - values.min())) < 1e-12


def test_norm_relaxation_bounds_from_below_and_is_exact():
    from holobeam.kernels.relaxation import sphere_minimum

    for n in (1, 2, 5, 12):
        q, c = batch(n, range(4))
        best = minimize_binary(q, c, "brute").value
        found = minimize_binary(q, c, "hc")
        unit = scale(q, c, best)
        assert (found.bound <= best + 1e-9 * unit).all()
        assert (found.value >= best - 1e-9 * unit).all()
        for b in range(len(c)):
            mu, basis = np.linalg.eigh(q[b].numpy())
            z = np.empty(n)
            value, lam = sphere_minimum(mu, basis.T @ c[b].numpy(), float(n), z)
            assert abs(z @ z - n) <= 1e-6 * n
            x = torch.from_numpy(basis @ z)
            assert abs(float(objective(q[b], c[b], x)) - value) <= 1e-8 * float(unit[b])
            # The conditions of optimality: (Q + lam) x = c, Q + lam positive semidefinite.
            assert lam >= -mu[0] - 1e-12 * abs(mu).max()
            away = (q[b] @ x + lam * x - c[b]).abs().max()
            assert away <= 1e-6 * float(unit[b])


@pytest.mark.parametrize("multiplicity", [1, 2, 4])
def test_hard_case(multiplicity):
    """c orthogonal to the lowest eigenvectors: the sphere's minimum still has its norm."""
    from holobeam.kernels.relaxation import sphere_minimum

    mu = np.array([0.5] * multiplicity + [3.0, 4.0, 7.0])
    ct = np.array([0.0] * multiplicity + [0.3, -0.2, 0.1])
    n, z = float(len(mu)), np.empty(len(mu))
    value, lam = sphere_minimum(mu, ct, n, z)
    assert lam == -0.5
    assert abs(z @ z - n) < 1e-9
    assert abs(value - (mu @ z**2 - 2 * ct @ z)) < 1e-9
    # A hair away from it the value is the same.
    ct[0] = 1e-9
    near, _ = sphere_minimum(mu, ct, n, z)
    assert abs(near - value) < 1e-6
    assert abs(z @ z - n) < 1e-6


def sdp_bound(q, c, x, accuracy):
    """Bound of the best diagonal, by the barrier method."""
    from holobeam.kernels.barrier import barrier_batch

    s = np.zeros(c.shape)
    barrier_batch(q.numpy().copy(), c.numpy().copy(), x.numpy().copy(), accuracy, s, (0, len(c)))
    shifted = q + torch.diag_embed(torch.from_numpy(s))
    assert (torch.linalg.eigvalsh(shifted)[:, 0] > 0).all()
    free = torch.linalg.solve(shifted, c.unsqueeze(-1)).squeeze(-1)
    return -(c * free).sum(dim=1) - torch.from_numpy(s).sum(dim=1)


def test_sdp_bound_lies_between_norm_bound_and_optimum():
    for n in (3, 6, 11):
        q, c = batch(n, range(4))
        brute = minimize_binary(q, c, "brute")
        best, unit = brute.value, scale(q, c, brute.value)
        norm = minimize_binary(q, c, "hc").bound
        bound = sdp_bound(q, c, brute.x, 1e-3)
        assert (bound <= best + 1e-9 * unit).all()
        assert (bound >= norm - 0.01 * (best - norm) - 1e-6 * unit).all()
        root = minimize_binary(q, c, node_budget=1).bound
        assert (root <= best + 1e-9 * unit).all()


def test_sdp_bound_agrees_with_an_independent_solver():
    cvxpy = pytest.importorskip("cvxpy")
    for kind in ("low-rank", "indefinite", "outside"):
        q, c = (t.numpy() for t in problem(9, kind, 3))
        cost = np.block([[q, -c[:, None]], [-c[None], np.zeros((1, 1))]])
        lifted = cvxpy.Variable((10, 10), PSD=True)
        solver = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.trace(cost @ lifted)), [cvxpy.diag(lifted) == 1]
        )
        want = solver.solve(solver=cvxpy.CLARABEL)
        pair = torch.from_numpy(q)[None], torch.from_numpy(c)[None]
        got = float(sdp_bound(*pair, minimize_binary(*pair, "brute").x, 1e-4))
        assert want - 1e-3 * abs(want) <= got <= want + 1e-6 * abs(want)


@given(st.integers(2, 9), st.sampled_from(KINDS), st.integers(0, 10_000))
def test_heuristics_end_where_no_flip_helps(n, kind, seed):
    q, c = problem(n, kind, seed)
    start = torch.where(
        torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.5, -1.0, 1.0
    )
    start = start.double()
    best = minimize_binary(q, c, "brute").value
    unit = scale(q, c, best)
    for method in ("1-opt", "2-opt", "hc", "tabu"):
        found = minimize_binary(q, c, method, start=start)
        assert found.value <= objective(q, c, start) + 1e-12 * unit
        assert best - 1e-9 * unit <= found.value
        pull = q @ found.x - c
        change = q.diagonal() - found.x * pull
        assert (change >= -1e-9 * unit).all()
        if method == "2-opt":
            pairs = change[:, None] + change + 2 * found.x[:, None] * found.x * q
            pairs.fill_diagonal_(0.0)
            assert (pairs >= -1e-9 * unit).all()


@given(st.integers(2, 9), st.integers(0, 10_000))
def test_pre_decision_is_never_wrong(n, seed):
    from holobeam.kernels.binary import pre_decide_batch

    q, c = problem(n, "dominant", seed)
    known = np.zeros((1, n))
    pre_decide_batch(q.numpy()[None].copy(), c.numpy()[None].copy(), known)
    best = minimize_binary(q, c, "brute").x.numpy()
    assert ((known[0] == 0) | (known[0] == best)).all()


def test_pre_decision_decides():
    from holobeam.kernels.binary import pre_decide_batch

    q, c = batch(8, range(8))
    known = np.zeros(c.shape)
    pre_decide_batch(q.numpy().copy(), c.numpy().copy(), known)
    assert 0 < (known != 0).sum() < known.size


def hard(n, count, seed=0, rank=24):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, n, rank))
    q = torch.from_numpy(z @ z.transpose(0, 2, 1))
    return q, torch.from_numpy(np.einsum("bnr,br->bn", z, rng.normal(size=(count, rank)) * 2))


@pytest.mark.parametrize("options", [{}, {"shift": "minimal"}, {"shift": "hc", "hc_bound": True}])
@pytest.mark.parametrize("budget", [1, 30, 300])
def test_budgets_give_valid_certificates(options, budget):
    q, c = hard(26, 6)
    best = minimize_binary(q, c)
    assert best.proven.all()
    found = minimize_binary(q, c, node_budget=budget, **options)
    assert (found.nodes <= budget).all()
    assert not found.proven.all()
    assert (found.bound <= best.value + 1e-9 * best.value.abs()).all()
    assert (found.value >= best.value - 1e-9 * best.value.abs()).all()
    again = minimize_binary(q, c, node_budget=budget, **options)
    assert torch.equal(found.x, again.x)
    assert torch.equal(found.bound, again.bound)


def test_more_nodes_never_give_a_worse_certificate():
    q, c = hard(28, 4, seed=1)
    for options in ({}, {"shift": "minimal"}):
        runs = [minimize_binary(q, c, node_budget=k, **options) for k in (10, 100, 1000, 10_000)]
        for less, more in pairwise(runs):
            assert (more.value <= less.value + 1e-9).all()
            assert (more.bound >= less.bound - 1e-6 * less.bound.abs()).all()


def test_time_budget_stops_a_hopeless_search():
    q, c = hard(60, 2)
    found = minimize_binary(q, c, shift="minimal", time_budget=0.05)
    assert not found.proven.any()
    assert found.seconds < 5.0
    assert (found.gap > 0).all()
    exact = minimize_binary(q, c, node_budget=2_000_000)
    assert (found.bound <= exact.value).all()
    assert (exact.bound <= found.value + 1e-9 * found.value.abs()).all()


def test_bounds_prune_nodes():
    """Medians over problems: both <= norm bound <= original; shifts <= original."""
    q, c = hard(20, 15, seed=2, rank=12)

    def nodes(**options):
        return float(minimize_binary(q, c, **options).nodes.double().median())

    original = nodes(shift="minimal")
    bound = nodes(shift="minimal", hc_bound=True)
    assert nodes(shift="minimal", hc_bound=True, pre_decision=True) <= bound <= original
    shifted = nodes(shift="sdp", order="fixed")
    assert nodes() <= 0.5 * shifted <= 0.5 * original
    assert nodes(shift="hc") <= original


def test_a_problem_does_not_see_its_batch_mates():
    q, c = hard(18, 5)
    for options in ({"method": "tabu"}, {"method": "hc"}, {}, {"shift": "hc", "hc_bound": True}):
        together = minimize_binary(q, c, **options)
        for b in range(5):
            alone = minimize_binary(q[b], c[b], **options)
            assert torch.equal(alone.x, together.x[b])
            assert alone.value.shape == ()
            assert abs(float(alone.value - together.value[b])) <= 1e-12 * abs(float(alone.value))


def test_the_scale_of_a_problem_does_not_matter():
    q, c = hard(14, 4)
    plain = minimize_binary(q, c)
    for factor in (1e-200, 1e-9, 1e200):
        scaled = minimize_binary(factor * q, factor * c)
        assert torch.equal(scaled.x, plain.x)
        assert torch.equal(scaled.nodes, plain.nodes)


def test_nothing_to_minimise():
    q, c = torch.zeros(2, 5, 5), torch.zeros(2, 5)
    for method in ("brute", "1-opt", "2-opt", "hc", "tabu", "sd"):
        found = minimize_binary(q, c, method)
        assert (found.value == 0).all()
        assert found.x.dtype == torch.float32
    empty = minimize_binary(torch.zeros(0, 4, 4), torch.zeros(0, 4))
    assert empty.x.shape == (0, 4)


def test_single_precision_is_kept():
    q, c = hard(12, 3)
    found = minimize_binary(q.float(), c.float())
    assert found.x.dtype == torch.float32
    assert found.value.dtype == torch.float64
    assert torch.equal(found.x.double(), minimize_binary(q, c).x)


@pytest.mark.parametrize(
    ("change", "error", "argument"),
    [
        ({"method": "tabo"}, UnknownNameError, "method"),
        ({"shift": "spd"}, UnknownNameError, "shift"),
        ({"order": "any"}, UnknownNameError, "order"),
        ({"order": "adaptive", "shift": "hc"}, InputError, "order"),
        ({"order": "adaptive", "hc_bound": True}, InputError, "order"),
        ({"node_budget": 0}, InputError, "node_budget"),
        ({"time_budget": 0.0}, InputError, "time_budget"),
        ({"time_budget": math.nan}, InputError, "time_budget"),
        ({"tabu_steps": 0}, InputError, "tabu_steps"),
        ({"q_matrix": torch.ones(3, 4)}, ShapeError, "q_matrix"),
        ({"q_matrix": torch.tensor([[1.0, 2.0], [0.0, 1.0]])}, InputError, "q_matrix"),
        ({"q_matrix": torch.full((2, 2), math.nan)}, InputError, "q_matrix"),
        ({"q_matrix": torch.eye(2) + 0j}, InputError, "q_matrix"),
        ({"c_vector": torch.ones(3)}, ShapeError, "c_vector"),
        ({"c_vector": torch.tensor([1.0, math.inf])}, InputError, "c_vector"),
        ({"start": torch.ones(3)}, ShapeError, "start"),
        ({"start": torch.tensor([1.0, 0.0])}, InputError, "start"),
    ],
)
def test_bad_input(change, error, argument):
    arguments = {"q_matrix": torch.eye(2), "c_vector": torch.ones(2), **change}
    with pytest.raises(error) as caught:
        minimize_binary(arguments.pop("q_matrix"), arguments.pop("c_vector"), **arguments)
    assert caught.value.argument == argument


def test_unknown_method_names_its_neighbours():
    with pytest.raises(UnknownNameError, match="tabu"):
        minimize_binary(torch.eye(2), torch.ones(2), "tabo")


def test_enumeration_knows_its_limit():
    with pytest.raises(InputError, match="26"):
        minimize_binary(torch.eye(27), torch.ones(27), "brute")
