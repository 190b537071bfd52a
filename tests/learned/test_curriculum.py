import pytest
import torch

from holobeam.errors import InputError
from holobeam.learned.curriculum import Curriculum

from .small_training import scenario


def test_parts_of_a_batch_are_the_batch(curriculum):
    whole = curriculum.problem(4)
    parts = [curriculum.problem(4, first, 4) for first in range(0, 16, 4)]
    assert torch.equal(torch.cat([part.h for part in parts]), whole.h)
    assert torch.equal(torch.cat([part.noise_power for part in parts]), whole.noise_power)


def test_every_step_draws_channels_that_nobody_has_seen(curriculum):
    seen = torch.cat([curriculum.problem(step).h.flatten(1) for step in range(8)])
    assert len(torch.unique(seen.real, dim=0)) == len(seen)


def test_a_fixed_set_is_gone_through_once_an_epoch_in_new_orders():
    lessons = Curriculum((scenario(),), batch=8, seed=3, samples=24)
    epochs = [
        torch.cat([lessons.problem(3 * e + s).h[:, 0, 0, 0] for s in range(3)]) for e in (0, 1)
    ]
    order = [torch.view_as_real(epoch)[:, 0].argsort() for epoch in epochs]
    sorted_epochs = [epoch[place] for epoch, place in zip(epochs, order, strict=True)]
    assert torch.equal(*sorted_epochs)
    assert len(torch.unique(torch.view_as_real(epochs[0])[:, 0])) == 24
    assert not torch.equal(*epochs)


def test_snrs_fill_their_range(curriculum):
    noise = torch.cat([curriculum.problem(step).noise_power[:, 0] for step in range(40)])
    snr_db = -10.0 * noise.log10()
    assert snr_db.min() >= -1e-4
    assert snr_db.max() <= 20.0 + 1e-4
    assert snr_db.min() < 1.0
    assert snr_db.max() > 19.0


def test_scenarios_take_turns():
    lessons = Curriculum((scenario(), scenario(side=4)), batch=2, seed=0)
    sizes = [lessons.problem(step).h.shape[3] for step in range(60)]
    assert 15 < sizes.count(9) < 45


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"scenarios": ()}, "scenarios"), ({"batch": 0}, "batch"), ({"samples": 8}, "samples")],
)
def test_wrong_curricula_are_named(wrong, name):
    with pytest.raises(InputError, match=name):
        Curriculum(**{"scenarios": (scenario(),), "batch": 16, **wrong})
