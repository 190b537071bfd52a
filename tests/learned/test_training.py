import os
import subprocess
import sys
import textwrap
from itertools import pairwise

import pytest
import torch

from holobeam.errors import FileError, InputError
from holobeam.learned.checkpoints import read_state
from holobeam.learned.curriculum import Curriculum
from holobeam.learned.network import Network, Trace
from holobeam.learned.settings import Settings
from holobeam.learned.training import train

from .small_training import scenario, small_network

SETTINGS = Settings(steps=10, warmup=2, checkpoint_every=3, random_starts=0.5)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("stop", [1, 5, 6])
def test_ten_steps_are_so_many_and_the_rest(tmp_path, curriculum, stop):
    whole = train(small_network(), curriculum, SETTINGS, tmp_path / "whole")
    train(small_network(), curriculum, SETTINGS, tmp_path / "parts", until=stop)
    # Another network's weights: what the checkpoint holds must replace all of it.
    resumed = train(small_network(seed=9), curriculum, SETTINGS, tmp_path / "parts")
    assert equal(whole, resumed)
    first, second = (read_state(tmp_path / name)[0] for name in ("whole", "parts"))
    assert equal(first, second)


def test_training_improves_on_channels_that_it_never_saw(tmp_path):
    lessons = Curriculum((scenario(side=4),), batch=32, seed=1)
    fresh = Curriculum((scenario(side=4),), batch=512, seed=2).problem(0)
    network = small_network(layers=3)
    with torch.no_grad():
        before = network(fresh).utilities[-1]
    settings = Settings(steps=150, learning_rate=5e-3, checkpoint_every=1000)
    network.load_state_dict(train(network, lessons, settings, tmp_path))
    with torch.no_grad():
        gain = network(fresh).utilities[-1] - before
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5


class Poisoned(Network):
    """Utility that is not a number on every other step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.calls = 0

    def refusal(self, problem):
        return None

    def forward(self, problem, control=None):
        self.calls += 1
        factor = float("nan") if self.calls % 2 else 1.0
        return Trace(None, None, (self.weight * factor * problem.h.abs().sum(dim=(1, 2, 3)),))


def test_gradients_that_are_not_finite_are_left_out(tmp_path, curriculum):
    network, moments = Poisoned(), []
    train(network, curriculum, Settings(steps=6), tmp_path, watch=moments.append)
    assert moments[-1].skipped == 3
    assert torch.isfinite(network.weight)
    assert network.weight > 1.0


def test_the_rate_rises_and_falls():
    settings = Settings(steps=100, learning_rate=1.0, warmup=10, final_share=0.1)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert settings.rate(100) == pytest.approx(0.1)


def test_a_folder_of_another_run_is_refused(tmp_path, curriculum):
    train(small_network(), curriculum, SETTINGS, tmp_path, until=3)
    with pytest.raises(InputError, match="other settings"):
        train(small_network(), curriculum, Settings(steps=11), tmp_path)
    with pytest.raises(InputError, match="another network"):
        train(small_network(layers=3), curriculum, SETTINGS, tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path, curriculum):
    train(small_network(), curriculum, SETTINGS, tmp_path, until=3)
    (kept,) = tmp_path.glob("state-*.safetensors")
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    with pytest.raises(FileError, match="not those that were written"):
        train(small_network(), curriculum, SETTINGS, tmp_path)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"clip": -1.0}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Settings(**wrong)


@pytest.mark.slow
def test_two_workers_take_the_steps_of_one(tmp_path, curriculum):
    alone = train(small_network(), curriculum, SETTINGS, tmp_path / "one")
    script = tmp_path / "worker.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, pathlib
            from small_training import scenario, small_network
            from holobeam.learned.curriculum import Curriculum
            from holobeam.learned.settings import Settings
            from holobeam.learned.training import train
            settings = Settings(steps=10, warmup=2, checkpoint_every=3, random_starts=0.5)
            lessons = Curriculum((scenario(),), batch=16, seed=3)
            train(small_network(), lessons, settings, pathlib.Path(sys.argv[1]))
            """
        )
    )
    here = os.path.dirname(__file__)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, str(script), str(tmp_path / "two")],
        check=True,
        env={**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        timeout=240,
        capture_output=True,
    )
    together = read_state(tmp_path / "two")[0]
    for name, value in alone.items():
        torch.testing.assert_close(together[f"average.{name}"], value, rtol=1e-4, atol=1e-5)
