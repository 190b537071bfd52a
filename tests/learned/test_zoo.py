"""Weights that ship: small, described, true, and solvers like any other."""

from dataclasses import replace
from importlib.resources import files

import pytest
import torch

import holobeam as hb
from holobeam import testing
from holobeam.errors import FileError, InputError, UnknownNameError, UnsupportedError
from holobeam.learned import zoo
from holobeam.learned.checkpoints import Weights, write_weights
from holobeam.learned.network import Learned
from holobeam.studies.reading import read_toml
from holobeam.studies.recipe import Recipe, read_recipe, shipped_recipes

from .small_training import scenario, small_network

SURFACE = [name for name in zoo.shipped() if zoo.card(name).model == "unrolled-mmse"]
JUDGED = [*SURFACE, *(name for name in zoo.shipped() if zoo.card(name).model == "cnn")]


def test_all_weights_together_are_small():
    sizes = [f.stat().st_size for f in map(_path, zoo.shipped())]
    assert sizes
    assert sum(sizes) <= 3_000_000


def _path(name):
    return files("holobeam.learned.zoo") / f"{name}.safetensors"


@pytest.mark.parametrize("name", zoo.shipped())
def test_a_card_says_what_one_has_to_know(name):
    about = zoo.card(name).about
    assert about["licence"] == "Apache-2.0"
    assert about["cpu_seconds"] > 0
    assert about["scores"]
    for score in about["scores"]:
        assert 0 < score["utility"] < score["reference"] * 1.2


@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGED)
def test_cards_are_true(name, tmp_path):
    card = zoo.card(name)
    path = tmp_path / "recipe.toml"
    path.write_text(card.about["recipe"])
    scores = read_toml(path, Recipe).validation().score(zoo.learned(name).network)
    for said, found in zip(card.about["scores"], scores, strict=True):
        assert found.label == said["label"]
        assert found.utility == pytest.approx(said["utility"], abs=2e-3)
        assert found.reference == pytest.approx(said["reference"], rel=5e-3)


@pytest.mark.parametrize("name", shipped_recipes())
def test_recipes_can_be_read_and_built(name):
    recipe, _ = read_recipe(name)
    first, second = recipe.network(), recipe.network()
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    # Fresh channels: a fixed set would be drawn in full.
    replace(recipe.curriculum(), samples=None).problem(0, 0, 2)


@pytest.mark.parametrize("name", SURFACE)
def test_shipped_networks_conform(name):
    testing.check_solver(hb.solver(name))


@pytest.fixture
def problem():
    one = scenario(side=4, users=3, rf_chains=3)
    return one.problem(one.draw(6, 5, 0), 10.0)


def test_eight_starts_are_never_below_one(problem):
    network = Learned(network=small_network())
    one = hb.solve(problem, network).sum_rate
    eight = hb.solve(problem, network, starts=8).sum_rate
    assert (eight >= one - 1e-12).all()
    assert (eight > one + 1e-6).any()


def test_stacked_starts_are_the_same_starts_one_by_one(problem):
    network = Learned(network=small_network())
    together = hb.solve(problem, network, starts=3, seed=4).sum_rate
    generator = torch.Generator().manual_seed(4)
    alone = [network.variant(i)(problem, generator=generator).sum_rate for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).amax(dim=0), rtol=1e-9, atol=0)


def test_a_network_goes_on_from_a_given_start_and_is_never_below_it(problem):
    start = hb.solve(problem, "mmse-fast", max_iterations=100)
    after = hb.solve(problem, Learned(network=small_network()), start=start)
    assert (after.sum_rate >= start.sum_rate - 1e-9).all()


def test_single_and_double_precision_agree(problem):
    network = Learned(network=small_network())
    single = hb.Downlink(problem.h.to(torch.complex64), problem.frontend, snr_db=10.0)
    rates = [network(p).sum_rate.double() for p in (problem, single)]
    torch.testing.assert_close(*rates, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda p: hb.Downlink(p.h, p.frontend, snr_db=1.0, power_at="feeds"), "radiated"),
        (lambda p: hb.Downlink(p.h.repeat(1, 2, 1, 1), p.frontend, snr_db=1.0), "subcarrier"),
        (lambda p: hb.Downlink(p.h, hb.frontends.fully_digital(16), snr_db=1.0), "surfaces"),
        (lambda p: hb.Downlink(p.h, p.frontend, snr_db=1.0, weights=torch.arange(1, 4.0)), "plain"),
    ],
)
def test_what_it_is_not_trained_for_is_refused_with_a_way_out(problem, build, why):
    with pytest.raises(UnsupportedError, match=why):
        Learned(network=small_network())(build(problem))


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, Weights("unrolled-mmse", {"layers": 2}, small_network().state_dict(), {}))
    with pytest.raises(FileError, match="don't fit unrolled-mmse"):
        hb.solver("unrolled-mmse", weights=path)
    write_weights(path, Weights("unrolled-mmse", {"depth": 2}, {}, {}))
    with pytest.raises(InputError, match="depth"):
        hb.solver("unrolled-mmse", weights=path)
    write_weights(path, Weights("unrolled-mse", {}, {}, {}))
    with pytest.raises(UnknownNameError, match="did you mean unrolled-mmse"):
        hb.solver("unrolled-mmse", weights=path)


def test_unknown_shipped_weights_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean unrolled-mmse"):
        hb.solver("unrolled-mmse", weights="unroled-mmse")
