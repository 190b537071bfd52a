"""Importing holobeam is cheap, and brings no heavy package along."""

import json
import subprocess
import sys

import pytest

HEAVY = ("matplotlib", "scipy", "h5py", "numba", "pandas", "cvxpy", "IPython")


def _run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_brings_no_heavy_package():
    """Torch alone may bring some of them: what counts is what holobeam adds."""
    found = _run(
        "import json, sys, torch; before = set(sys.modules); import holobeam; "
        f"print(json.dumps([m for m in {HEAVY!r} if m in set(sys.modules) - before]))"
    )
    assert json.loads(found) == []


def test_import_draws_no_random_number_and_sets_no_default():
    state = _run(
        "import torch; a = torch.get_rng_state(); d = torch.get_default_dtype(); "
        "n = torch.get_num_threads(); import holobeam; "
        "print(bool((a == torch.get_rng_state()).all()), d == torch.get_default_dtype(), "
        "n == torch.get_num_threads())"
    )
    assert state == "True True True"


@pytest.mark.slow
def test_import_costs_half_a_second_beyond_torch():
    code = (
        "import torch, time; t = time.perf_counter(); import holobeam; "
        "print(time.perf_counter() - t)"
    )
    assert min(float(_run(code)) for _ in range(3)) <= 0.5


def test_public_names_exist():
    import holobeam

    for module in (holobeam, holobeam.solvers, holobeam.frontends, holobeam.channels):
        for name in module.__all__:
            assert getattr(module, name) is not None
