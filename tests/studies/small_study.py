"""Small studies for the tests of the engine."""

from pathlib import Path

import pytest

from holobeam.studies.engine import Errand, local_runner, run_studies
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import read_study

SMALL = """
title = "Small"
paper = "test"
figure = "small"
count = 10
shard = 4
seed = 3

[channels]
model = "path-wise"
shape = [3, 3]
users = 2

[problem]
snr_db = 10

[frontends.surface]
kind = "rhs"
rf_chains = 2

[frontends.digital]
kind = "digital"

[sweep]
"problem.snr_db" = [0, 10]

[quick]
channels = 4
sweep = { "problem.snr_db" = [10] }

[[solvers]]
name = "mmse"
label = "folded"
frontend = "surface"
history = true
options = { max_iterations = 5, keep = "last", tolerance = 0.0 }

[[solvers]]
name = "random"
frontend = "surface"

[[solvers]]
name = "wmmse-digital"
label = "bound"
frontend = "digital"
role = "bound"
"""


@pytest.fixture
def small_file(tmp_path):
    """Write a study file, the small one with some text put behind it; returns its path."""

    def write(extra: str = "", text: str = SMALL, name: str = "small.toml") -> Path:
        path = tmp_path / name
        path.write_text(text + extra)
        return path

    return write


@pytest.fixture
def ran(tmp_path, small_file):
    """Run a small study in this process; returns its folder."""

    def run(extra: str = "", quick: bool = False, overrides=(), name: str = "results") -> Path:
        study = read_study(small_file(extra), overrides)
        folder = tmp_path / name / study.paper / study.figure
        run_studies([Errand(make_plan(study, quick), folder)], local_runner(0))
        return folder

    return run
