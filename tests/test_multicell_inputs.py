"""What a multi-cell problem refuses, by the name of the argument."""

import pytest
import torch

from holobeam import MultiCell, frontends
from holobeam.errors import InputError, ShapeError
from holobeam.testing import gaussian

FEED = frontends.microstrips(4, 6, 0.002)
DMA = frontends.dma(FEED)
H = gaussian((3, 3, 3, 2, 2, 24), 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"power_per_rf_chain": torch.ones(3)}, r"power_per_rf_chain: .*\(3, 3, 4\)"),
        ({"power_per_rf_chain": -1.0}, "power_per_rf_chain: .*positive"),
        ({"power": torch.ones(2)}, r"power: .*\(3, 3\)"),
        ({"power": 1.0, "power_per_rf_chain": 1.0}, "power: .*both"),
        ({}, "power: .*neither"),
        ({"power": 1.0, "power_at": "per_rf_chain"}, "power_at"),
        ({"power_per_rf_chain": 1.0, "power_at": "feeds"}, "power_at"),
        ({"power": 1.0, "streams": 3}, "streams: got 3 for users with 2 antennas"),
        ({"power": 1.0, "streams": 0}, "streams"),
        ({"power": 1.0, "noise_power": 0.0}, "noise_power"),
        ({"power": 1.0, "weights": torch.zeros(2)}, "weights"),
        ({"power": 1.0, "true_h": torch.ones(1, 3, 3, 2, 2, 24) * 1j}, "true_h"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(InputError, match=match):
        MultiCell(H, DMA, **options)


def test_bad_channels_and_front_ends_are_named():
    h, good = H, DMA
    cases = [
        (h[:, 0], good, ShapeError, "h: .*6|h: .*cells"),
        (h[:, :2], good, ShapeError, "axes 1"),
        (h.real, good, InputError, "complex"),
        (h * torch.nan, good, InputError, "NaN"),
        (h[..., :20], good, ShapeError, "antennas"),
        (h, [good, good], ShapeError, "one for each of 3"),
        (h, [good, good, frontends.dma(FEED, "binary")], InputError, "element set"),
        (h, "dma", InputError, "frontend"),
        (h, frontends.Frontend(FEED.expand(2, -1, -1), good.element_set), ShapeError, "subcarr"),
    ]
    for channel, frontend, kind, match in cases:
        with pytest.raises(kind, match=match):
            MultiCell(channel, frontend, power=1.0)
