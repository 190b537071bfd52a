"""A small study that trains, for the tests of the engine."""

import pytest

from holobeam.studies.engine import Errand
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import read_study

TRAINED = """
title = "Trained"
paper = "test"
figure = "trained"
count = 6
shard = 3
seed = 3

[channels]
model = "sparse-paths"
shape = [3, 3]
users = 2

[problem]
snr_db = 10

[frontends.surface]
kind = "rhs"
feeds = "edge-far"
rf_chains = 2

[trainings.small]
recipe = "mb-dnn"
lessons = "study"
set.batch = 8
set.options = { rf_chains = 2, widths = [4, 2] }
set.settings = { steps = 6, warmup = 2, checkpoint_every = 2, validate_every = 2 }

[quick]
channels = 3
trainings = { settings = { steps = 4 } }

[[solvers]]
name = "mb-dnn"
options = { weights = "training:small" }

[[solvers]]
name = "random"
"""


@pytest.fixture
def trained(tmp_path):
    """Lay out the study, with changes; returns what the engine runs."""

    def make(folder="out", overrides=(), quick=False, text=TRAINED):
        path = tmp_path / "trained.toml"
        path.write_text(text)
        plan = make_plan(read_study(path, overrides), quick)
        out = tmp_path / folder
        return Errand(plan, out / "test" / "trained", trainings=out / "trainings")

    return make


def files(errand, below=("units", "weights")):
    folders = [errand.folder / "units", *(errand.trained / name for name in below)]
    found = [path for folder in folders for path in sorted(folder.iterdir())]
    return {path.name: path.read_bytes() for path in found}
