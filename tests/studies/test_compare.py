"""Comparisons: the same channels for everyone, and the same numbers as a plain solve."""

import pytest
import torch

import holobeam as hb
from holobeam.errors import HolobeamError, InputError, UnknownNameError
from holobeam.studies import Contestant, contestants, run, sources, table


@pytest.fixture(scope="module")
def source():
    return sources.load("path-wise", sources.Request(channels=5, users=2, shape=(3, 3)))


def test_points_solved_together_equal_points_solved_alone(source):
    frontend = hb.frontends.build("rhs", source.array, 2)
    results, solution = run(source.h, Contestant(frontend, "mmse"), [0.0, 10.0], source.problem)
    for result in results:
        alone = hb.solve(hb.Downlink(source.h, frontend, snr_db=result.point), "mmse")
        assert torch.allclose(result.rates, alone.rates, atol=1e-9, rtol=0)
    assert solution.rates.shape == (10, 2)


@pytest.mark.parametrize("name", ["zf", "mmse"])
def test_one_channel_warms_up_before_the_clock_runs(source, monkeypatch, name):
    seen = []

    def noted(problem, *args, **options):
        seen.append(problem.batch)
        return hb.solve(problem, *args, **options)

    monkeypatch.setattr("holobeam.studies.compare.solve", noted)
    frontend = hb.frontends.build("digital", source.array, 2)
    results, solution = run(source.h, Contestant(frontend, name), [0.0, 10.0], source.problem)
    assert seen == [1, 10]
    assert results[0].seconds == pytest.approx(solution.seconds / 10)


def test_rows_are_sorted_and_paired(source):
    frontends = [hb.frontends.build(name, source.array, 2) for name in ("digital", "rhs")]
    pairs, left_out = contestants(
        frontends,
        ["wmmse-digital", "mmse"],
        lambda f: source.problem(source.h, f, torch.zeros(5, dtype=torch.float64)),
    )
    assert [pair.label for pair in pairs] == [
        "digital / wmmse-digital",
        "digital / mmse",
        "rhs / mmse",
    ]
    assert len(left_out) == 1
    rows = table([r for p in pairs for r in run(source.h, p, [5.0], source.problem)[0]])
    means = [row.rate.mean for row in rows]
    assert means == sorted(means, reverse=True)
    assert rows[0].behind_best.mean == 0.0
    assert rows[-1].behind_best.mean == pytest.approx(means[-1] - means[0], abs=1e-12)


@pytest.mark.parametrize("name", sources.available())
def test_every_source_makes_channels_that_a_front_end_takes(name):
    found = sources.load(name, sources.Request(channels=2, users=2))
    frontend = hb.frontends.build("digital", found.array, 2)
    point = torch.full((2,), 10.0, dtype=torch.float64)
    solution = hb.solve(found.problem(found.h, frontend, point), "rzf")
    assert found.h.shape[:3] == (2, 1, 2)
    assert bool((solution.sum_rate > 0).all())


def test_munich_default_drops_are_the_shipped_ones():
    found = sources.load("munich", sources.Request(channels=3))
    panel = hb.channels.munich_panel()
    h = hb.channels.munich().channel(panel, hb.channels.munich_drops()[:3], noise_dbm=-85.0)
    assert torch.equal(found.h, h)
    other = sources.load("munich", sources.Request(channels=3, seed=7))
    assert not torch.equal(found.h, other.h)


def test_munich_wideband():
    found = sources.load("munich", sources.Request(channels=1, subcarriers=4))
    assert found.h.shape == (1, 4, 4, 256)


@pytest.mark.parametrize(
    ("name", "request_", "error", "hint"),
    [
        ("munchen", {}, UnknownNameError, "munich"),
        ("rayleigh", {"subcarriers": 4}, InputError, "narrowband"),
        ("saleh-valenzuela", {"shape": (4, 4)}, InputError, "linear"),
        ("rayleigh", {"channels": 0}, InputError, "channels"),
        ("rayleigh", {"seed": -1}, InputError, "seed"),
    ],
)
def test_wrong_requests_are_named(name, request_, error, hint):
    with pytest.raises(error, match=hint):
        sources.load(name, sources.Request(**request_))


def test_nothing_to_compare_is_an_error(source):
    frontend = hb.frontends.build("rhs", source.array, 2)
    with pytest.raises(HolobeamError, match="no solver serves"):
        contestants(
            [frontend],
            ["wmmse-digital"],
            lambda f: source.problem(source.h, f, torch.zeros(5, dtype=torch.float64)),
        )
