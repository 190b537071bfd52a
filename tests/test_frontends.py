"""A = Q * Phi, whatever the hardware."""

import pytest
import torch

from holobeam import frontends, testing
from holobeam.arrays import upa
from holobeam.errors import InputError, ShapeError, UnknownNameError
from holobeam.frontends import LOSSLESS, Circle, Frontend, Interval, Points, PowerModel
from holobeam.testing import gaussian

NAMES = tuple(frontends.available())


@pytest.mark.parametrize("name", NAMES)
def test_registered_frontends_conform(name):
    testing.check_frontend(frontends.build(name, upa((4, 3)), 2))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_builds_what_it_says(name):
    frontend = frontends.build(name, upa((4, 4)), 4)
    assert frontend.name == name
    assert frontend.antennas == 16
    assert frontend.rf_chains == (16 if name == "digital" else 4)
    assert frontends.available()[name]


def test_geometry_of_each_kind_of_hardware():
    feed = gaussian((6, 2), 0)
    assert frontends.rhs(feed).element_set == Interval(0.0, 1.0)
    assert frontends.rhs(feed, 2).element_set.levels == (0, 1)
    assert frontends.dma(feed).element_set == Circle(0.5j, 0.5)
    assert frontends.dma(feed, "binary").element_set == Points((0.0, 1.0))
    full, sub = frontends.phase_shifters(6, 2), frontends.phase_shifters(6, 2, "sub")
    assert (full.controls, sub.controls) == (2, 1)
    assert torch.equal(full.feed, torch.ones(6, 2, dtype=torch.complex128))
    assert (sub.feed != 0).sum(dim=1).tolist() == [1] * 6
    assert len(frontends.phase_shifters(6, 2, bits=3).element_set.levels) == 8


def test_lorentzian_elements_obey_the_lorentzian_constraint():
    q = Circle(0.5j, 0.5).sample((100,), torch.Generator().manual_seed(0), torch.complex128)
    # (j + e^{j phi}) / 2: the polarisability of a passive resonator has |q|^2 = Im q.
    assert (q.abs().square() - q.imag).abs().max() < 1e-14


def test_shared_and_separate_controls_multiply_the_feed():
    feed = gaussian((5, 3), 1)
    shared, separate = gaussian((2, 5, 1), 2), gaussian((2, 5, 3), 3)
    one = Frontend(feed, Interval()).analog(shared)
    many = Frontend(feed, Interval(), controls=3).analog(separate)
    assert torch.equal(one[1, 0], shared[1] * feed)
    assert torch.equal(many[1, 0], separate[1] * feed)


def test_feed_per_subcarrier():
    feed = gaussian((4, 5, 3), 1)
    control = gaussian((2, 5, 1), 2)
    frontend = Frontend(feed, Interval())
    assert (frontend.antennas, frontend.rf_chains) == (5, 3)
    assert torch.equal(frontend.analog(control)[1, 2], control[1] * feed[2])


def test_insertion_loss_scales_the_radiated_wave():
    feed, control = gaussian((5, 3), 1), gaussian((1, 5, 1), 2)
    lossy = Frontend(feed, Interval(), insertion_loss_db=3.0103)
    power = lossy.analog(control).abs().square().sum()
    lossless = Frontend(feed, Interval()).analog(control).abs().square().sum()
    assert float(power / lossless) == pytest.approx(0.5, rel=1e-5)


def test_dc_power_adds_up():
    model = PowerModel(rf_chain=10.0, control=2.0, fixed=5.0, amplifier_efficiency=0.5)
    frontend = Frontend(gaussian((6, 3), 0), Interval(), power_model=model)
    assert float(frontend.dc_power(torch.tensor(4.0))) == 5 + 3 * 10 + 6 * 2 + 4 / 0.5
    separate = Frontend(gaussian((6, 3), 0), Circle(), controls=3, power_model=model)
    assert float(separate.dc_power(torch.tensor(4.0))) == 5 + 3 * 10 + 18 * 2 + 4 / 0.5
    digital = frontends.fully_digital(6).with_power_model(model)
    assert float(digital.dc_power(torch.tensor(4.0))) == 5 + 6 * 10 + 4 / 0.5
    assert float(LOSSLESS.total(torch.tensor(4.0), 3, 6)) == 4.0


def test_with_power_model_replaces_the_loss_only_where_given():
    lossy = Frontend(gaussian((6, 3), 0), Interval(), insertion_loss_db=2.0)
    assert lossy.with_power_model(LOSSLESS).insertion_loss_db == 2.0
    assert lossy.with_power_model(LOSSLESS, 1.0).insertion_loss_db == 1.0


def test_samples_have_no_batch_axis_of_their_own():
    frontend = frontends.phase_shifters(6, 2)
    few, many = (
        frontend.sample(b, torch.Generator().manual_seed(0), torch.complex128, torch.device("cpu"))
        for b in (1, 5)
    )
    assert torch.equal(few.expand(5, -1, -1), many)


def test_violation_is_per_channel():
    frontend = frontends.phase_shifters(3, 1)
    control = torch.ones(2, 3, 1, dtype=torch.complex128)
    control[1, 2, 0] = 1.5j
    assert frontend.violation(control).tolist() == pytest.approx([0.0, 0.5])


@pytest.mark.parametrize(
    ("call", "argument", "kind"),
    [
        (lambda: Frontend(torch.ones(4, 2), Interval()), "feed", InputError),
        (lambda: Frontend(torch.ones(4, dtype=torch.complex64), Interval()), "feed", ShapeError),
        (lambda: Frontend(torch.ones(0, 2, dtype=torch.complex64), Interval()), "feed", ShapeError),
        (lambda: Frontend(gaussian((4, 2), 0) * torch.nan, Interval()), "feed", InputError),
        (lambda: Frontend(gaussian((4, 3), 0), Interval(), controls=2), "controls", InputError),
        (
            lambda: Frontend(gaussian((4, 3), 0), Interval(), insertion_loss_db=-1.0),
            "insertion_loss_db",
            InputError,
        ),
        (lambda: Frontend(None, Interval()), "array_size", InputError),
        (lambda: frontends.fully_digital(0), "antennas", InputError),
        (lambda: frontends.phase_shifters(5, 2, "sub"), "antennas", InputError),
        (lambda: frontends.phase_shifters(4, 2, "ful"), "connection", UnknownNameError),
        (lambda: frontends.phase_shifters(4, 2, bits=0), "bits", InputError),
        (lambda: frontends.dma(gaussian((4, 2), 0), "grey"), "control", UnknownNameError),
        (lambda: frontends.build("rhss", upa((2, 2)), 1), "frontend", UnknownNameError),
        (lambda: PowerModel(rf_chain=-1.0), "rf_chain", InputError),
        (lambda: PowerModel(amplifier_efficiency=0.0), "amplifier_efficiency", InputError),
        (lambda: PowerModel(amplifier_efficiency=1.5), "amplifier_efficiency", InputError),
        (lambda: frontends.fully_digital(4).scaled_feed(), "frontend", InputError),
    ],
)
def test_bad_input_is_named(call, argument, kind):
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.argument == argument


def test_unknown_frontend_names_its_neighbours():
    with pytest.raises(UnknownNameError, match="phase-shifters"):
        frontends.build("phase-shifter", upa((2, 2)), 1)


class _Wrong(Frontend):
    def analog(self, control):
        return 2.0 * super().analog(control)


def test_the_kit_catches_a_wrong_frontend():
    with pytest.raises(AssertionError, match="control times feed"):
        testing.check_frontend(_Wrong(gaussian((4, 2), 0), Interval()))
    feed = gaussian((4, 2), 0)
    feed[:, 1] = 0.0
    with pytest.raises(AssertionError, match="no element"):
        testing.check_frontend(Frontend(feed, Interval()))
