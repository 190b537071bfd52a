"""Learned solvers keep the promises of the conformance kit, whatever their weights."""

import pytest
import torch

from holobeam import frontends, testing
from holobeam.arrays import upa
from holobeam.learned.network import Learned

from .surface_networks import make


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
