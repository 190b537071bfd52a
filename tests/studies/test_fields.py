"""Fields: the map passes through what the users receive, and beams point at their users."""

import pytest
import torch

from holobeam.errors import UnsupportedError
from holobeam.studies.fields import beam_field
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import read_study
from holobeam.studies.work import answer, pose

from .small_study import SMALL

NEAR = SMALL.replace(
    'model = "path-wise"\nshape = [3, 3]',
    'model = "spherical-wave"\nshape = [12, 12]\nfraunhofer = [0.05, 0.3]\n'
    "azimuth_deg = [-40, 40]\nelevation_deg = [0, 0]",
)


@pytest.fixture
def case(small_file):
    plan = make_plan(read_study(small_file(text=NEAR)))
    return next(entry.case for entry in plan.entries if entry.label == "bound")


def test_positions_are_those_of_the_channels(case):
    model = case.channels.model_of()
    h = model.sample(5, seed=case.seed, start=62)
    places = model.user_positions(5, case.seed, start=62)
    from holobeam.arrays import near_field_vector

    rows = near_field_vector(model.array, places)
    ratio = h[:, 0] / rows
    assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio), atol=1e-9)


def test_each_beam_is_strongest_near_its_user(case):
    for channel in range(3):
        field = beam_field(case, channel)
        for user, (_, azimuth) in enumerate(field.users):
            row = field.power_db[user].amax(dim=0)
            assert abs(float(field.azimuth_deg[row.argmax()] - azimuth)) < 8.0


def test_the_map_agrees_with_what_users_receive(case):
    field = beam_field(case, 1, resolution=(400, 400))
    solution = answer(case, pose(case, 1, 2))
    received = (pose(case, 1, 2).h[0, 0] @ solution.precoder[0, 0]).abs().square()
    at = []
    for user, (distance, azimuth) in enumerate(field.users):
        row = (field.distance - distance).abs().argmin()
        column = (field.azimuth_deg - azimuth).abs().argmin()
        at.append(float(field.power_db[user, row, column]))
    wanted = 10 * torch.log10(received.diagonal())
    assert at[0] - at[1] == pytest.approx(float(wanted[0] - wanted[1]), abs=0.3)


def test_channels_without_places_are_refused(small_file):
    plan = make_plan(read_study(small_file()))
    with pytest.raises(UnsupportedError, match="spherical-wave"):
        beam_field(plan.entries[0].case)
