"""Kill anything at any moment: what is finished stays, and the end is the same."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from holobeam.studies.engine import local_runner, run_studies
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import read_study
from holobeam.studies.store import Store

KILLS = 32
SECONDS = 420.0
"""Bound on a machine that others use; some 80 s on two idle cores."""


def _workers(pid):
    """Workers of a driver."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _some(units):
    return len(list(units.glob("*.parquet"))) if units.is_dir() else 0


@pytest.mark.slow
@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("seed", [7])
def test_kills_change_nothing(study_file, command, tmp_path, content, errand, seed):
    """SIGKILL of drivers and workers at random moments, from start-up to the last unit."""
    slow = {"name": "slow", "options": {"seconds": 0.1}}
    how = {"solvers": [slow, "random"], "count": 120, "shard": 2, "snr": (0, 5)}
    study = study_file(**how)
    undisturbed = errand("undisturbed", **how)
    run_studies([undisturbed], local_runner(2))
    expected = content(undisturbed.folder)
    assert len(expected) == 240

    draw = random.Random(seed)
    out = tmp_path / "killed"
    folder = out / "tiny" / "one"
    arguments = ("run", study, "--out", out, "--workers", 2)
    kills = {"driver": 0, "worker": 0}
    finished: dict[str, bytes] = {}
    end = time.monotonic() + SECONDS
    driver = command(*arguments)
    while sum(kills.values()) < KILLS:
        assert time.monotonic() < end
        time.sleep(draw.uniform(0.0, 2.5))
        if driver.poll() is not None:
            # Everything was done before we were through: begin anew with a part of it.
            assert driver.returncode in {0, 1, -signal.SIGKILL}
            for path in draw.sample(sorted((folder / "units").glob("*.parquet")), 40):
                path.unlink()
                finished.pop(path.name, None)
            driver = command(*arguments)
            continue
        if draw.random() < 0.3:
            kills["driver"] += _kill(driver.pid)
            driver.communicate()
            driver = command(*arguments)
        else:
            victims = _workers(driver.pid)
            kills["worker"] += bool(victims) and _kill(draw.choice(victims))
        finished |= _check(folder, finished, expected)
    driver.communicate(timeout=max(1.0, end - time.monotonic()))
    for _ in range(2):
        # Units whose workers were killed three times were given up: they are done now.
        driver = command(*arguments)
        driver.communicate(timeout=max(1.0, end - time.monotonic()))
    assert driver.returncode == 0
    assert kills["driver"] >= 3
    assert kills["worker"] >= 10
    assert content(folder) == expected
    assert not list(out.rglob("*.tmp"))
    assert not list(out.rglob("*.corrupt"))
    assert Store(folder).finished() == {unit.key for unit in make_plan(read_study(study)).units}


def _check(folder: Path, before: dict[str, bytes], expected: dict[str, bytes]) -> dict[str, bytes]:
    """Read every finished file: it is whole, it is right, and none that was there is gone."""
    units = folder / "units"
    now = {path.name: path.read_bytes() for path in units.glob("*.parquet")}
    assert before.keys() <= now.keys()
    for name, found in now.items():
        assert found == expected[name]
    return now
