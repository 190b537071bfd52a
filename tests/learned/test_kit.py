"""Learned solvers keep the promises of the conformance kit, whatever their weights."""

import pytest
import torch

from holobeam import frontends, testing
from holobeam.arrays import upa
from holobeam.learned.network import Learned
from holobeam.solvers.solution import Status

from .surface_networks import channels, downlink, make, surface


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", ["mb-dnn-blind", "mb-dnn-plus", "mb-dnn-unrolled"])
def test_networks_of_any_size_conform(name, dtype):
    surface = frontends.build("rhs", upa((4, 3)), 2)
    problems = testing.example_problems([surface], batch=2, dtype=dtype)
    testing.check_solver(Learned(network=make(name)), problems)


@pytest.mark.parametrize("name", ["mb-dnn", "2dgnn-mmse"])
def test_networks_of_three_chains_conform(name):
    surface = frontends.build("rhs", upa((4, 3)), 3)
    problems = testing.example_problems([surface], batch=2, dtype=torch.complex64)
    testing.check_solver(Learned(network=make(name)), problems)


def test_one_pass_without_the_loop_is_the_same():
    problem = downlink(channels(8).to(torch.complex64), surface())
    solver = Learned(network=make("mb-dnn-plus"))
    looped, plain = solver(problem, history=True), solver(problem)
    assert torch.equal(looped.control, plain.control)
    assert torch.allclose(looped.digital, plain.digital, atol=1e-6)
    assert torch.equal(looped.status, plain.status)
    assert torch.equal(looped.iterations, plain.iterations)
    assert plain.history is None


def test_a_network_that_fails_leaves_the_start():
    problem = downlink(channels(4).to(torch.complex64), surface())
    network = make("mb-dnn-plus")
    with torch.no_grad():
        network.element_out.bias.fill_(torch.nan)
    solution = Learned(network=network)(problem)
    assert torch.isfinite(solution.sum_rate).all()
    assert solution.violation.max() < 1e-5
    assert (solution.status == Status.NON_FINITE).all()
