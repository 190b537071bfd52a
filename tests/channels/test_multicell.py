"""Cellular drops: reproducible, with the geometry and the link budget that they claim."""

import math
from dataclasses import replace

import pytest
import torch

import holobeam as hb
from holobeam.channels import CellularDrops, draw_sector_drops, sector_channels
from holobeam.errors import InputError, ShapeError


def test_channel_i_depends_on_seed_and_index_alone():
    model = CellularDrops()
    h = model.sample(130, seed=3)
    assert h.shape == (130, 3, 3, 2, 2, 32)
    assert torch.equal(model.sample(5, seed=3, start=62), h[62:67])
    assert not torch.equal(model.sample(5, seed=4), h[:5])


def test_mean_gain_is_what_a_user_has_from_its_own_base_station():
    for model in (
        CellularDrops(),
        CellularDrops(element_area=0.4, radius=(50.0, 51.0), scattered_paths=0),
        CellularDrops(path_loss_exponent=3.0, noise_dbm=-85.0),
    ):
        own = model.sample(3000, seed=0).diagonal(dim1=1, dim2=2)
        measured = float(own.abs().square().mean())
        assert measured == pytest.approx(model.mean_gain, rel=0.06)
    fixed = CellularDrops(radius=(30.0, 30.0))
    budget = -61.4 - 20 * math.log10(30.0) + 94.0
    assert fixed.mean_gain == pytest.approx(1.1 * 10 ** (budget / 10))


def test_a_lone_path_is_a_plane_wave_of_the_budgeted_amplitude():
    model = CellularDrops(scattered_paths=0, radius=(40.0, 40.0), receivers=1)
    h = model.sample(20, seed=1).diagonal(dim1=1, dim2=2)[..., 0, :, :]
    amplitude = 10 ** ((-61.4 - 20 * math.log10(40.0) + 94.0) / 20)
    assert torch.allclose(h.abs(), torch.tensor(amplitude, dtype=torch.float64))
    strips = h.movedim(2, -1).reshape(-1, 4, 8)
    steps = strips[:, :, 1:] / strips[:, :, :-1]
    assert (steps - steps[:, :1, :1]).abs().max() < 1e-9, "one slope along all strips"
    up = strips[:, 1:, 0] / strips[:, :-1, 0]
    # Elevation -atan(8 / 40): the same turn between strips for everyone, conjugated in y = h x.
    turn = -2 * math.pi * 0.5 * math.sin(-math.atan(8 / 40))
    assert torch.allclose(up, torch.tensor(complex(math.cos(turn), math.sin(turn))).to(up))


def test_own_cell_is_stronger_on_average_and_cells_are_alike():
    h = CellularDrops().sample(600, seed=2).abs().square().mean(dim=(0, 3, 4, 5))
    own = h.diagonal()
    assert float(own.min()) > 2.0 * float((h.sum() - own.sum()) / 6)
    assert float(own.max() / own.min()) < 1.35


def test_unequal_cells_are_padded_with_silent_users():
    full = CellularDrops(users_per_cell=3)
    padded = replace(full, users_per_cell=(3, 1, 0))
    a, b = full.sample(4, seed=0), padded.sample(4, seed=0)
    assert (b[:, :, 1, 1:] == 0).all()
    assert (b[:, :, 2] == 0).all()
    assert torch.equal(a[:, :, 0], b[:, :, 0])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"cells": 0}, "cells"),
        ({"users_per_cell": (1, 2)}, "users_per_cell"),
        ({"users_per_cell": (0, 0, 0)}, "users_per_cell"),
        ({"radius": (50.0, 20.0)}, "radius"),
        ({"spacing": -0.1}, "spacing"),
        ({"scattered_paths": -1}, "scattered_paths"),
    ],
)
def test_bad_input_is_named(options, match):
    with pytest.raises(InputError, match=match):
        CellularDrops(**options)


def test_facings_of_a_ray_traced_site_are_cells():
    paths = hb.channels.munich()
    panels = [hb.channels.munich_panel((8, 4), azimuth_deg=a) for a in (20.0, 60.0, 100.0)]
    users = draw_sector_drops(paths, panels, 6, 2, seed=0, sector_deg=20.0)
    assert users.shape == (6, 3, 2)
    for cell, panel in enumerate(panels):
        assert paths.visible(panel, 20.0)[users[:, cell]].all()
    h = sector_channels(paths, panels, users, noise_dbm=-85.0)
    assert h.shape == (6, 3, 3, 2, 1, 32)
    direct = paths.channel(panels[2], users[:, 0], noise_dbm=-85.0)
    assert torch.equal(h[:, 2, 0, :, 0], direct[:, 0])
    problem = hb.MultiCell(h, hb.frontends.phase_shifters(32, 4), power=100.0)
    solution = hb.solve(problem, "wmmse-cd", max_iterations=10)
    assert (solution.sum_rate > 5.0).all()
    with pytest.raises(ShapeError, match="users"):
        sector_channels(paths, panels, users[:, :2])
    with pytest.raises(ShapeError, match="panels"):
        sector_channels(paths, [*panels[:2], hb.channels.munich_panel((4, 4))], users)
