"""Unfolded solvers: layers are the solvers' own steps, trained and shipped."""

from dataclasses import replace

import pytest
import torch

import holobeam as hb
from holobeam.errors import FileError, InputError, UnsupportedError
from holobeam.learned.checkpoints import Weights, write_weights
from holobeam.learned.curriculum import Curriculum, Scenario
from holobeam.learned.network import Learned
from holobeam.learned.settings import Settings
from holobeam.learned.training import averaged, train
from holobeam.learned.unfolded import (
    TrainedProjection,
    UnfoldedPga,
    UnfoldedVp,
    extracted_phases,
)
from holobeam.learned.unfolded_solver import Unfolded, hardware, shipped_layers
from holobeam.learned.zoo import card, restore, shipped
from holobeam.solvers.gradient import VariableProjection
from holobeam.solvers.starts import digital_target, matched_control
from holobeam.studies.reading import read_toml
from holobeam.studies.recipe import Recipe
from holobeam.testing import check_solver, example_problems, gaussian

KINDS = ("phase-shifters", "phase-shifters-sub", "phase-shifters-2bit", "rhs", "dma")


def problem(kind="phase-shifters", subcarriers=1, batch=4, snr_db=10.0, dtype=torch.complex128):
    model = hb.channels.SalehValenzuela(12, 3, 5, subcarriers=subcarriers)
    frontend = hb.frontends.build(kind, hb.arrays.upa((3, 4), spacing=0.3), 3)
    return hb.Downlink(model.sample(batch, seed=3, dtype=dtype), frontend, snr_db=snr_db)


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subcarriers", [1, 4])
def test_a_layer_is_a_step_of_vp_with_the_same_size(kind, subcarriers):
    at = problem(kind, subcarriers)
    sizes, momenta = (0.2, 0.11, 0.05), (0.3, 0.7, 0.9)
    state = mine = VariableProjection().init(at, generator())
    layers = TrainedProjection(sizes=sizes, momenta=momenta, digital_steps=2)
    for size, momentum in zip(sizes, momenta, strict=True):
        plain = VariableProjection(
            first_step=size, last_step=size, momentum=momentum, digital_steps=2
        )
        state, mine = plain.step(at, state), layers.step(at, mine)
        assert torch.equal(state.control, mine.control)
        assert torch.equal(state.utility, mine.utility)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power_at", ["radiated", "feeds"])
def test_compiled_layers_are_the_layers(kind, power_at):
    at = problem(kind).with_(power_at=power_at)
    layers = TrainedProjection(sizes=(0.2, 0.11, 0.05), momenta=(0.3, 0.7, 0.9), max_iterations=3)
    slow = first = layers.init(at, generator())
    for _ in range(3):
        slow = layers.step(at, slow)
    fused = layers.advance(at, first, 3)
    assert torch.allclose(fused.utility, slow.utility, atol=1e-9, rtol=0)
    assert torch.allclose(fused.control, slow.control, atol=1e-8, rtol=0)
    parts = layers.advance(at, layers.advance(at, first, 1), 2)
    assert torch.allclose(parts.utility, fused.utility, atol=1e-9, rtol=0)


@pytest.mark.parametrize("network", [UnfoldedVp(4, 2), UnfoldedPga(3, 2), UnfoldedPga(2, 3, True)])
def test_the_walk_is_what_the_solver_runs(network):
    at = problem()
    trace = network(at)
    frozen = network.frozen("matched", "last")
    solution = frozen(at, history=True)
    assert torch.allclose(trace.utilities[-1], solution.utility, atol=1e-6, rtol=0)
    passed = replace(frozen, keep="best")(at, history=True).history
    seen = torch.stack(trace.utilities, dim=1).cummax(dim=1).values
    assert torch.allclose(passed[:, 1:].clamp(min=seen[:, :1]), seen, atol=1e-6, rtol=0)
    assert torch.allclose(Learned(network=network)(at).utility, solution.utility, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["phase-shifters", "phase-shifters-sub"])
@pytest.mark.parametrize("subcarriers", [1, 3])
@pytest.mark.parametrize("network", [UnfoldedVp(3, 2), UnfoldedPga(2, 2)])
def test_gradients_against_finite_differences(network, kind, subcarriers):
    at, network = problem(kind, subcarriers), network.double()
    parameters = list(network.parameters())
    loss = sum(u.mean() for u in network(at).utilities)
    found = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        direction = torch.linspace(1.0, 2.0, parameter.numel(), dtype=torch.float64)
        direction = direction.view_as(parameter)
        values = []
        for shift in (1e-5 * direction, -1e-5 * direction):
            with torch.no_grad():
                parameter.add_(shift)
                values.append(sum(u.mean() for u in network(at).utilities))
                parameter.sub_(shift)
        numeric = (values[0] - values[1]) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(
            float(numeric), rel=2e-5, abs=1e-8
        )


@pytest.mark.parametrize("network", [UnfoldedVp(3, 2), UnfoldedPga(2, 3)])
def test_training_improves_on_channels_never_seen(network, tmp_path):
    model = hb.channels.SalehValenzuela(antennas=12, users=3, paths=5)
    frontend = hb.frontends.phase_shifters(12, 3)
    scenario = Scenario(lambda n, s, i: model.sample(n, seed=s, start=i), frontend, (5.0, 15.0))
    fresh = hb.Downlink(model.sample(64, seed=99), frontend, snr_db=10.0)
    before = network.frozen("matched", "last")(fresh).sum_rate
    settings = Settings(steps=12, learning_rate=0.15, warmup=2, averaging=0.5, layer_weight=0.0)
    average = train(network, Curriculum((scenario,), batch=16), settings, tmp_path)
    after = averaged(network, average).frozen("matched", "last")(fresh).sum_rate
    gain = after - before
    assert gain.mean() > 3 * gain.std() / 8 > 0


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", ["unfolded-vp", "unfolded-pga"])
def test_designs_are_feasible_and_keep_the_dtype(name, dtype):
    solution = hb.solve(problem(dtype=dtype), name, layers=3)
    assert solution.control.dtype == solution.digital.dtype == dtype
    assert solution.violation.max() < (1e-5 if dtype == torch.complex64 else 1e-12)
    assert solution.history is None
    assert bool((solution.iterations == 3).all())


def test_history_holds_the_best_rate_after_every_layer():
    at = problem()
    told = hb.solve(at, "unfolded-vp", layers=5, history=True)
    silent = hb.solve(at, "unfolded-vp", layers=5)
    assert told.history.shape == (4, 6)
    assert bool((told.history.diff(dim=1) >= 0).all())
    assert torch.allclose(told.sum_rate, silent.sum_rate, atol=1e-9, rtol=0)


def test_one_set_serves_every_gain_of_the_channel():
    at = problem()
    louder = at.with_(h=1e3 * at.h, noise_power=1e6 * at.noise_power)
    rates = [hb.solve(p, "unfolded-vp").sum_rate for p in (at, louder)]
    assert torch.allclose(*rates, atol=1e-9, rtol=0)


def test_hardware_chooses_the_set():
    kinds = {kind: hardware(problem(kind)) for kind in KINDS}
    assert kinds == {
        "phase-shifters": "",
        "phase-shifters-sub": "sub",
        "phase-shifters-2bit": "",
        "rhs": "surface",
        "dma": "metasurface",
    }
    assert hardware(problem("phase-shifters-sub", 4)) == "sub-wideband"
    at = problem("phase-shifters-sub")
    chosen = hb.solver("unfolded-vp", layers=3).inner(at)
    named = hb.solver("unfolded-vp", weights="unfolded-vp-3-sub").inner(at)
    other = hb.solver("unfolded-vp", weights="unfolded-vp-3").inner(at)
    assert chosen.sizes == named.sizes != other.sizes


def test_layers_that_do_not_ship_are_refused_by_name():
    with pytest.raises(InputError, match=r"layers: got 4, and unfolded-vp ships with 3, 5, 10, 20"):
        hb.solver("unfolded-vp", layers=4)
    with pytest.raises(InputError, match="weights"):
        hb.solver("unfolded-vp", weights="unfolded-vq-3")
    with pytest.raises(FileError, match="belongs to unfolded-pga"):
        hb.solver("unfolded-vp", weights="unfolded-pga-3")
    with pytest.raises(UnsupportedError, match="phase shifters"):
        hb.solve(problem("rhs"), "unfolded-pga")


def test_a_file_of_weights_is_a_solver(tmp_path):
    network = UnfoldedVp(2, 1)
    path = tmp_path / "mine.safetensors"
    options = {"layers": 2, "digital_steps": 1}
    write_weights(path, Weights("unfolded-vp", options, network.state_dict(), {}))
    solver = hb.solver("unfolded-vp", weights=str(path))
    assert solver.max_iterations == 2
    at = problem("dma")
    expected = network.frozen("matched", "best")(at).sum_rate
    assert torch.allclose(solver(at).sum_rate, expected, atol=1e-6, rtol=0)


def test_fewer_layers_may_be_walked_never_more():
    assert hb.solver("unfolded-vp", layers=5, max_iterations=2).max_iterations == 2
    assert hb.solver("unfolded-vp", layers=5, max_iterations=9).max_iterations == 5
    at = problem()
    for name in ("unfolded-vp", "unfolded-pga"):
        whole = hb.solve(at, name, layers=10, history=True).history
        part = hb.solve(at, name, layers=10, max_iterations=4).sum_rate
        assert torch.allclose(part, whole[:, 4], atol=1e-9, rtol=0)


def test_random_starts_and_fairness_pass_through():
    at = problem(batch=3)
    one, four = hb.solve(at, "unfolded-vp"), hb.solve(at, "unfolded-vp", starts=4)
    assert bool((four.sum_rate >= one.sum_rate - 1e-9).all())
    fair = at.with_(utility_name="proportional_fair")
    for name in ("unfolded-vp", "unfolded-pga"):
        assert hb.solve(fair, name).violation.max() < 1e-9


@pytest.mark.parametrize("name", ["unfolded-vp", "unfolded-pga"])
def test_conformance(name):
    problems = example_problems([hb.frontends.phase_shifters(12, 2, bits=b) for b in (None, 2)])
    check_solver(hb.solver(name, layers=3), problems)


def test_phase_extraction_is_an_alternation_that_never_falls():
    at = problem()
    target = digital_target(at, iterations=0)[:, 0]

    def kept(phases):
        # Nuclear norm of X^H F: what a semi-unitary digital part can reach.
        return torch.linalg.svdvals(target.mH @ phases).sum(dim=1)

    control = matched_control(at, generator())
    passed = [control] + [extracted_phases(at, control, steps) for steps in (1, 2, 5, 20)]
    assert bool((torch.stack([kept(p) for p in passed]).diff(dim=0) >= -1e-9).all())
    assert at.frontend.violation(passed[-1]).max() < 1e-12
    begun = TrainedProjection(extraction=20).init(at, generator())
    assert torch.allclose(begun.control, passed[-1])
    # Where it is not defined the start is that of vp.
    for kind in ("phase-shifters-sub", "rhs"):
        other = problem(kind)
        plain = VariableProjection().init(other, generator())
        assert torch.equal(
            TrainedProjection(extraction=5).init(other, generator()).control, plain.control
        )


def test_every_depth_ships_for_phase_shifters():
    assert shipped_layers("unfolded-vp") == shipped_layers("unfolded-pga") == (3, 5, 10, 20)
    for layers in (3, 5):
        for kind in ("-sub", "-wideband", "-sub-wideband"):
            assert f"unfolded-vp-{layers}{kind}" in shipped()


def test_zero_channels_stay_finite_in_training():
    h = gaussian((3, 1, 3, 12), 1)
    h[0] = 0.0
    at = hb.Downlink(h, hb.frontends.phase_shifters(12, 3), snr_db=10.0)
    network = UnfoldedVp(2, 1)
    network(at).utilities[-1].mean().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in shipped() if n.startswith("unfolded")])
def test_cards_are_true(name, tmp_path):
    """What a card says was scored is what the exam of its recipe gives."""
    about = card(name).about
    path = tmp_path / "recipe.toml"
    path.write_text(about["recipe"])
    scores = read_toml(path, Recipe).validation().score(restore(card(name)))
    for said, found in zip(about["scores"], scores, strict=True):
        assert found.label == said["label"]
        assert found.utility == pytest.approx(said["utility"], abs=5e-3)
        assert found.reference == pytest.approx(said["reference"], abs=5e-3)
    assert about["command"].startswith("holobeam train ")


def test_registered():
    names = {entry.name for entry in hb.solvers.available()}
    assert {"unfolded-vp", "unfolded-pga"} <= names
    assert isinstance(hb.solver("unfolded-pga"), Unfolded)
