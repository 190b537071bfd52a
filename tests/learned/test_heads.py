"""Heads: projections are projections, and the optimal structure holds the optimum."""

import pytest
import torch

import holobeam as hb
from holobeam.learned.heads import amplitudes, direct, point_rate, project, structure
from holobeam.learned.scene import radiated, see
from holobeam.testing import gaussian

from .surface_networks import channels, downlink, surface


def _scene(shape=(4, 3), chains=3, users=3, snr_db=10.0):
    h = channels(5, users, shape)
    return see(downlink(h, surface(shape, chains), snr_db))


def _control(scene, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = scene.columns.shape[:2]
    return amplitudes(torch.rand(shape, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "chains"), [((4, 3), 3), ((6, 6), 7)])
def test_what_lies_in_the_span_comes_back(weighted, shape, chains):
    scene = _scene(shape, chains)
    control = _control(scene)
    wanted = scene.feed @ gaussian((5, chains, 3), 1)
    made = project(scene, control, wanted, weighted=weighted)
    back = scene.feed @ made.digital
    scale = (back.conj() * wanted).sum(dim=(1, 2)) / back.abs().square().sum(dim=(1, 2))
    assert (scale[:, None, None] * back - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert (radiated(made.metric, made.digital) - 1.0).abs().max() < 1e-9


def test_each_projection_is_the_closest_point_of_its_norm():
    scene = _scene()
    control, wanted = _control(scene), gaussian((5, 12, 3), 2)

    def missed(point, weight):
        reached = weight * (scene.feed @ point.digital)
        aim = weight * wanted
        # Over the scale too: the head is free in it.
        inner = (reached.conj() * aim).sum(dim=(1, 2)).abs().square()
        return aim.abs().square().sum(dim=(1, 2)) - inner / reached.abs().square().sum(dim=(1, 2))

    plain = project(scene, control, wanted, weighted=False)
    masked = project(scene, control, wanted, weighted=True)
    ones, mask = torch.ones(1, 1, 1), control.unsqueeze(2)
    assert (missed(plain, ones) < missed(masked, ones)).all()
    assert (missed(masked, mask) < missed(plain, mask)).all()
    for step in range(20):
        near = masked.digital + 0.05 * gaussian((5, 3, 3), 10 + step)
        other = direct(scene, control, near)
        assert (missed(masked, mask) <= missed(other, mask) + 1e-5).all()


def test_projector_of_the_printed_head():
    scene = _scene((6, 6), 7)
    projector = scene.feed @ scene.feed.mH / 36
    assert (projector @ projector - projector).abs().max() < 1e-12
    assert (projector - projector.mH).abs().max() < 1e-12
    assert projector.diagonal().real.sum() == pytest.approx(7, abs=1e-9)
    feed = surface((6, 6), 7).to(projector)
    assert (projector @ feed - feed).abs().max() < 1e-9


def test_the_optimal_structure_holds_the_optimum():
    """At a stationary point of the digital step, prices and powers give its precoder back."""
    h, feed = channels(4), surface()
    problem = downlink(h, feed, 10.0)
    scene = see(problem)
    control = _control(scene)[:4]
    fixed = hb.frontends.Frontend(feed * control[0].unsqueeze(1), hb.frontends.Points((1.0,)))
    alone = hb.Downlink(h[:1], fixed, snr_db=10.0)
    found = hb.solve(alone, "mmse-fast", max_iterations=2000, tolerance=0.0)
    link = alone.link(found.control)
    cost = alone.weights(link, found.digital).cost[:, 0]
    powers = link.column_power(found.digital)[:, 0]
    logits = torch.stack([powers.clamp(min=1e-30).log(), (cost / cost.sum()).log()], dim=2)
    first = see(problem.take(torch.tensor([0])))
    made = structure(first, control[:1], logits)
    assert point_rate(first, made) == pytest.approx(float(found.sum_rate), abs=1e-4)


def test_a_user_may_be_switched_off():
    scene = _scene()
    logits = torch.zeros(5, 3, 2, dtype=torch.float64)
    logits[:, 1, 0] = -200.0
    made = structure(scene, _control(scene), logits)
    assert made.digital[:, :, 1].abs().max() < 1e-30
    assert (radiated(made.metric, made.digital) - 1.0).abs().max() < 1e-9


def test_powers_of_the_structure_are_its_softmax():
    scene = _scene()
    logits = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    made = structure(scene, _control(scene), logits)
    spent = (made.digital.conj() * (made.metric @ made.digital)).real.sum(dim=1)
    assert torch.allclose(spent, logits[..., 0].softmax(dim=1), atol=1e-9)
