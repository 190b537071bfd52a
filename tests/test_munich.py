"""The 64 Munich drops of the demonstration: what every front-end must reach there."""

import pytest
import torch

import holobeam as hb
from holobeam import Downlink, frontends
from holobeam.channels import munich, munich_drops, munich_panel

pytestmark = pytest.mark.slow

DBM = (10.0, 20.0, 30.0)


@pytest.fixture(scope="module")
def channels():
    return munich().channel(munich_panel(), munich_drops(), noise_dbm=-85.0)


@pytest.fixture(scope="module")
def rates(channels):
    """Sum rates ``(3, 64)`` of a solver on a front-end, computed once."""
    known = {}
    array = munich_panel().array

    def rate(name, method, **options):
        key = (name, method, tuple(options.items()))
        if key not in known:
            frontend = frontends.build(name, array, 4)
            power = torch.tensor([10 ** (dbm / 10) for dbm in DBM], dtype=torch.float64)
            problem = Downlink(
                channels.repeat(3, 1, 1, 1), frontend, noise_power=1.0,
                power=power.repeat_interleave(64),
            )  # fmt: skip
            solution = hb.solve(problem, method, **options)
            assert solution.violation.max() < 1e-9
            known[key] = solution.sum_rate.reshape(3, 64)
        return known[key]

    return rate


LEAST = [
    ("phase-shifters", "vp", {}, (15.3, 27.1, 40.0)),
    ("rhs", "mmse-fast", {}, (7.40, 16.25, 27.6)),
    ("rhs", "mmse", {}, (7.15, 15.2, 22.5)),
    ("dma", "wmmse-cd", {}, (9.9, 20.2, 30.6)),
    ("rhs-binary", "wmmse-cd", {"starts": 6}, (6.8, 15.2, 26.0)),
]


@pytest.mark.parametrize(("name", "method", "options", "least"), LEAST)
def test_thresholds(rates, name, method, options, least):
    for mean, bound in zip(rates(name, method, **options).mean(dim=1).tolist(), least, strict=True):
        assert mean >= bound


def test_digital_bound(rates):
    low, middle, high = rates("digital", "wmmse-digital").mean(dim=1).tolist()
    assert low == pytest.approx(15.53, abs=0.03)
    assert middle == pytest.approx(27.51, abs=0.03)
    assert high >= 40.47 - 0.03


@pytest.mark.parametrize(
    ("method", "printed"),
    [("wmmse-hbf", (6.38, 14.04, 20.95)), ("zf-hbf", (4.84, 11.38, 19.43))],
)
def test_baselines_are_as_strong_as_printed(rates, method, printed):
    for mean, expected in zip(rates("rhs", method).mean(dim=1).tolist(), printed, strict=True):
        assert mean == pytest.approx(expected, abs=0.15)


def test_no_phase_shifter_network_beats_digital_on_any_drop(rates):
    """A "win" over digital is a digital solver that stopped early."""
    assert (rates("phase-shifters", "vp") <= rates("digital", "wmmse-digital") + 1e-3).all()


def test_on_off_elements_never_beat_grey_ones_on_any_drop(rates):
    """Each from its own starts: the grey surface holds every on/off hologram, and must find better.

    Nothing of the on/off solution is handed to the grey one, so that the order is earned.
    """
    on_off = rates("rhs-binary", "wmmse-cd", starts=6)
    grey = rates("rhs", "mmse-fast", max_iterations=200, starts=3)
    assert (on_off <= grey).all()
    assert float((grey - on_off).mean()) > 0.3
