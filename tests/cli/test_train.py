"""Training from the command line: recipes, killing and going on, what comes out."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import holobeam as hb
from holobeam.learned.checkpoints import read_weights

RECIPE = """
model = "unrolled-mmse"
batch = 8

[options]
layers = 1
hidden = 4
edge_width = 4
node_width = 4

[settings]
steps = {steps}
checkpoint_every = 2
validate_every = {steps}

[[lessons]]
channels = {{ model = "sparse-paths", shape = [3, 3], users = 2 }}
frontend = {{ kind = "rhs", feeds = "edge-far", rf_chains = 2 }}

[exam]
count = 8
snr_db = [10.0]
reference = {{ name = "mmse", starts = 1, options = {{ max_iterations = 5 }} }}
"""


@pytest.fixture
def recipe(tmp_path):
    def write(steps):
        path = tmp_path / "tiny.toml"
        path.write_text(RECIPE.format(steps=steps))
        return path

    return write


def command(*arguments):
    return [sys.executable, "-m", "holobeam", "train", *map(str, arguments)]


def call(*arguments):
    return subprocess.run(command(*arguments), check=False, capture_output=True, text=True)


def test_what_is_trained_is_a_solver(recipe, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        command(recipe(6), "--out", out, "--json"), check=True, capture_output=True, text=True
    )
    said = json.loads(done.stdout)
    assert said["steps"] == 6
    assert said["scores"][0]["label"] == "10 dB"
    solver = hb.solver("unrolled-mmse", weights=said["weights"])
    h = hb.channels.sparse_paths((4, 4), 3).sample(5, seed=0)
    frontend = hb.frontends.build("rhs", hb.arrays.upa((4, 4), spacing=0.25), 3)
    solution = solver(hb.Downlink(h, frontend, snr_db=10.0))
    assert solution.solver == "unrolled-mmse"
    assert solution.violation.max() < 1e-9


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_weights(recipe, tmp_path):
    path = recipe(400)
    subprocess.run(command(path, "--out", tmp_path / "whole"), check=True, capture_output=True)
    out, kills = tmp_path / "killed", 0
    while not (out / "tiny.safetensors").exists():
        run = subprocess.Popen(
            command(path, "--out", out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = steps_done(out)
        while run.poll() is None and kills < 3 and steps_done(out) < before + 40:
            time.sleep(0.02)
        if run.poll() is None and kills < 3:
            os.kill(run.pid, signal.SIGKILL)
            kills += 1
        run.wait(timeout=120)
    assert kills == 3
    first, second = (read_weights(p / "tiny.safetensors") for p in (tmp_path / "whole", out))
    assert all(torch.equal(first.tensors[k], second.tensors[k]) for k in first.tensors)


def steps_done(out):
    try:
        return json.loads((out / "state.json").read_text())["step"]
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("unrolled-mse",), "did you mean unrolled-mmse"),
        (("missing.toml",), "missing.toml"),
        (("unrolled-mmse", "--set", "settings.stps=3"), "did you mean steps"),
        (("unrolled-mmse", "--set", "options.depth=3"), "depth"),
        (("unrolled-mmse", "--set", "lessons.0.channels.model='sparse'"), "sparse-paths"),
        (("unrolled-mmse", "--device", "tpu"), "tpu"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path, arguments, said):
    done = call(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_is_over_says_again_what_it_took_and_takes_no_other_recipe(
    recipe, tmp_path, holobeam
):
    path, out = recipe(4), tmp_path / "out"
    code, first, _ = holobeam("train", path, "--out", out, "--json")
    assert code == 0
    assert json.loads(first)["cpu_seconds"] > 0
    assert holobeam("train", path, "--out", out, "--json")[:2] == (0, first)
    code, _, said = holobeam("train", path, "--out", out, "--set", "batch=4")
    assert code == 2
    assert "another recipe" in said
