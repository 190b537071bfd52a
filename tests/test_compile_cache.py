"""Kernels are compiled once a machine, also when several processes are first at the same time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holobeam.kernels import cpu

# Two shapes of the specialised sweep and the generic one: versions of one function.
_SOLVE = """
import sys, torch
import holobeam as hb
users = int(sys.argv[1])
h = torch.randn(2, users, 64, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
frontend = hb.frontends.build("rhs", hb.arrays.upa((8, 8)), users)
problem = hb.Downlink(h, frontend, noise_power=0.1, power_at="per_rf_chain")
rates = hb.solve(problem, "wmmse-cd", max_iterations=5).sum_rate
print(*(f"{float(r):.12f}" for r in rates))
"""


def _start(users, cache=None):
    root = Path(__file__).parents[1]
    environment = {
        **os.environ,
        **({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}),
        "PYTHONPATH": os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", _SOLVE, str(users)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def _finish(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
def test_processes_may_compile_at_once(tmp_path):
    wanted = {users: _finish(_start(users)) for users in (2, 3)}
    racing = {users: _start(users, tmp_path / "together") for users in (2, 3)}
    assert {users: _finish(process) for users, process in racing.items()} == wanted
    stored = sorted(path.name for path in (tmp_path / "together").rglob("*.nbc"))
    again = {users: _finish(_start(users, tmp_path / "together")) for users in (2, 3)}
    assert again == wanted
    assert sorted(path.name for path in (tmp_path / "together").rglob("*.nbc")) == stored, (
        "something was compiled twice: its entry had been lost"
    )


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path):
    script = (
        "import sys\nfrom holobeam.kernels import cpu\n"
        "print('ready', flush=True)\n"
        "with cpu._locked(sys.argv[1]):\n    print('inside', flush=True)\n"
    )
    with cpu._locked(str(tmp_path)):
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=0.5)
    assert other.communicate(timeout=60)[0] == "inside\n"


def test_a_folder_that_can_not_be_written_is_no_obstacle(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with cpu._locked(str(blocked / "cache")):
        pass
    with cpu._locked(None):
        pass
