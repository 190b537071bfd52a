"""Relations and verdicts: decided by paired confidence intervals, and by one rule."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holobeam.studies.checks import Decision, fit_exponent, infeasible, judge
from holobeam.studies.plan import make_plan
from holobeam.studies.reading import read_study
from holobeam.studies.results import Results, Series, Timing
from holobeam.studies.spec import Bound, Converges, Exponent, Faster, Monotone, Order, Steady
from holobeam.studies.verdicts import Verdict, judge_claim

CLAIM = """
[claim]
text = "folded is above random"
converged = ["bound"]
open = ["channels.paths"]
paper_scale = true
[[claim.relations]]
kind = "order"
above = "folded"
below = "random"
[variations]
"channels.paths" = [2, 4, 8]
"""


@pytest.fixture
def made(small_file):
    """Results made up: ``rates(label, point) -> (channels, users)``."""

    def make(rates, extra="", history=None, timings=None, quick=False, overrides=(), **changes):
        plan = make_plan(read_study(small_file(extra), overrides))
        plan = replace(plan, quick=quick)
        series = {}
        for entry in plan.entries:
            values = rates(entry.label, entry.point)
            if values is None:
                continue
            count = len(values)
            series[entry.point.label, entry.label] = Series(
                entry.point,
                entry.label,
                np.arange(count, dtype=np.int32),
                values,
                np.zeros(count, np.int8),
                np.ones(count, np.int32),
                np.full(count, changes.get("violation", 0.0)),
                np.ones(count),
                None if history is None else history(entry.label),
            )
        times = {}
        for entry in plan.entries:
            seconds = timings(entry.label, entry.point) if timings else None
            if seconds is not None:
                times[entry.point.label, entry.label, 1] = Timing(
                    entry.point, entry.label, 1, (seconds,), (seconds,), (0.0,), {}, "cpu", 1
                )
        return Results(plan, series, times, changes.get("missing", 0), ("v",))

    return make


def noise(seed, count=100, users=2):
    return np.random.default_rng(seed).normal(size=(count, users))


def steps(advantage, spread=0.1, base_spread=3.0):
    """Channels that differ a lot, contestants that differ a little, always the same way."""

    def rates(label, point):
        common = 10.0 + base_spread * noise(1)
        own = spread * noise({"folded": 2, "random": 3, "bound": 4}[label])
        gain = {"folded": advantage, "random": 0.0, "bound": 5.0}[label]
        return common + own + gain / 2 + 0.1 * point.at("problem.snr_db")

    return rates


ORDER = Order(kind="order", above="folded", below="random")


def test_paired_differences_see_what_two_means_do_not(made):
    results = made(steps(0.2))
    finding = judge(ORDER, results)
    assert finding.decision is Decision.CONFIRMED
    # Unpaired the same data decide nothing: the channels' own spread is 20 times the difference.
    point = results.points()[0]
    both = [results.get(point, label).sum_rate for label in ("folded", "random")]
    gap = both[0].mean() - both[1].mean()
    assert gap < 1.96 * math.hypot(*(s.std() / math.sqrt(len(s)) for s in both))


@pytest.mark.parametrize(
    ("advantage", "decision"),
    [(1.0, Decision.CONFIRMED), (-1.0, Decision.REFUTED), (0.0, Decision.UNDECIDED)],
)
def test_an_order_is_confirmed_refuted_or_undecided(made, advantage, decision):
    assert judge(ORDER, made(steps(advantage))).decision is decision
    swapped = Order(kind="order", above="random", below="folded")
    opposite = {
        Decision.CONFIRMED: Decision.REFUTED,
        Decision.REFUTED: Decision.CONFIRMED,
        Decision.UNDECIDED: Decision.UNDECIDED,
    }
    assert judge(swapped, made(steps(advantage))).decision is opposite[decision]


def test_one_bad_point_refutes(made):
    good, bad = steps(1.0), steps(-1.0)

    def rates(label, point):
        return (bad if point.at("problem.snr_db") == 10 else good)(label, point)

    finding = judge(ORDER, made(rates))
    assert finding.decision is Decision.REFUTED
    assert "snr_db=10" in finding.detail
    elsewhere = Order(kind="order", above="folded", below="random", where={"problem.snr_db": [0]})
    assert judge(elsewhere, made(rates)).decision is Decision.CONFIRMED


def test_margins_and_ratios(made):
    results = made(steps(1.0))
    for margin, decision in ((0.5, Decision.CONFIRMED), (1.5, Decision.REFUTED)):
        relation = Order(kind="order", above="folded", below="random", margin=margin)
        assert judge(relation, results).decision is decision
    for ratio, decision in ((1.02, Decision.CONFIRMED), (1.2, Decision.REFUTED)):
        relation = Order(kind="order", above="folded", below="random", ratio=ratio)
        assert judge(relation, results).decision is decision


def test_a_bound_counts_every_channel(made):
    def rates(label, point):
        values = 10 + noise(1)
        if label == "bound":
            values = values + 1.0
            values[17] -= 1.01
        return values

    tight = Bound(kind="bound", above="bound", below="folded")
    loose = tight.model_copy(update={"within": 0.03})
    assert judge(tight, made(rates)).decision is Decision.REFUTED
    assert judge(loose, made(rates)).decision is Decision.CONFIRMED
    assert judge(tight.model_copy(update={"below": "bound"}), made(rates)).decision is (
        Decision.CONFIRMED
    )


def test_false_alarms_are_rare(made):
    """Of contestants that are equal, hardly ever one is confirmed above the other."""
    alarms = 0
    for seed in range(60):

        def rates(label, point, seed=seed):
            own = noise(1000 * seed + {"folded": 2, "random": 3, "bound": 4}[label], 30)
            return 10 + own

        alarms += judge(ORDER, made(rates)).decision is not Decision.UNDECIDED
    assert alarms <= 5


def test_what_is_not_there_is_said_so(made):
    results = made(lambda label, point: None if label == "random" else steps(1.0)(label, point))
    assert judge(ORDER, results).decision is Decision.ABSENT
    steady = Steady(kind="steady", solvers=["folded"])
    assert judge(steady, results).decision is Decision.ABSENT
    slope = Exponent(kind="exponent", solver="folded", along="problem.snr_db", low=0, high=1)
    assert judge(slope, results).decision is Decision.ABSENT


def test_monotone_follows_the_axis(made):
    up = Monotone(kind="monotone", along="problem.snr_db", solvers=["folded"])
    down = up.model_copy(update={"direction": "down"})
    results = made(steps(1.0))
    assert judge(up, results).decision is Decision.CONFIRMED
    assert judge(down, results).decision is Decision.REFUTED


def test_a_fall_of_the_utility_is_seen(made):
    def history(label):
        path = np.tile(np.array([1.0, 2.0, 3.0, 3.5]), (100, 1))
        if label == "random":
            path[7, 2] = 1.5
        return path

    results = made(steps(1.0), history=history)
    good = judge(Steady(kind="steady", solvers=["folded"]), results)
    bad = judge(Steady(kind="steady", solvers=["folded", "random"]), results)
    assert good.decision is Decision.CONFIRMED
    assert bad.decision is Decision.REFUTED
    assert "5.0e-01" in bad.detail
    early = Converges(kind="converges", solver="folded", iterations=1, share=0.5)
    assert judge(early, results).decision is Decision.CONFIRMED
    too_early = Converges(kind="converges", solver="folded", iterations=1, share=0.9)
    assert judge(too_early, results).decision is Decision.REFUTED


def test_times_give_exponents_and_ratios(made):
    overrides = ['sweep={"channels.shape" = [[2, 2], [3, 3], [4, 4], [5, 5]]}', "quick.sweep={}"]

    def timings(label, point):
        size = point.at("channels.shape")[0] ** 2
        return {"folded": 1e-3 * size**1.5, "random": 1e-2 * size**1.5, "bound": None}[label]

    def rates(label, point):
        return 10 + noise(1)

    results = made(rates, timings=timings, overrides=overrides)
    slope = Exponent(kind="exponent", solver="folded", along="channels.shape", low=1.4, high=1.6)
    assert judge(slope, results).decision is Decision.CONFIRMED
    wrong = slope.model_copy(update={"high": 1.45})
    assert judge(wrong, results).decision is Decision.REFUTED
    fast = Faster(kind="faster", solver="folded", than="random", factor=9.9)
    assert judge(fast, results).decision is Decision.CONFIRMED
    assert judge(fast.model_copy(update={"factor": 10.1}), results).decision is Decision.REFUTED


@given(st.floats(-3, 3), st.floats(0.01, 100), st.integers(3, 8))
def test_exponents_are_recovered(exponent, factor, count):
    points = [(2.0**i, factor * 2.0 ** (i * exponent)) for i in range(count)]
    assert fit_exponent(points) == pytest.approx(exponent, abs=1e-9)


def test_infeasible_series_are_named(made):
    assert infeasible(made(steps(1.0))) == []
    found = infeasible(made(steps(1.0), violation=1e-3))
    assert len(found) == 6
    assert "1.0e-03" in found[0]


def test_a_claim_is_judged_only_at_full_scale(made):
    whole = {"overrides": ["count=100"], "extra": CLAIM}
    assert judge_claim(made(steps(1.0), **whole)).verdict is Verdict.HOLDS
    assert judge_claim(made(steps(-1.0), **whole)).verdict is Verdict.FAILS
    for change, reason in (
        ({"quick": True}, "quick"),
        ({"missing": 3}, "still to come"),
        ({"overrides": [*whole["overrides"], "claim.paper_scale=false"]}, "own sizes"),
        ({"overrides": [*whole["overrides"], "claim.converged=[]"]}, "converged"),
        ({"overrides": [*whole["overrides"], 'variations."channels.paths"=[2]']}, "left open"),
        ({"overrides": [*whole["overrides"], "claim.relations=[]"]}, "no relation"),
    ):
        judgement = judge_claim(made(steps(1.0), **{**whole, **change}))
        assert judgement.verdict is Verdict.UNCONFIRMED, change
        assert any(reason in line for line in judgement.lacking), (reason, judgement.lacking)
    few = judge_claim(made(lambda la, p: steps(1.0)(la, p)[:99], **whole))
    assert few.verdict is Verdict.UNCONFIRMED
    later = '\n[[solvers]]\nname = "tomorrow"\nfrontend = "surface"\nawaited = true\n'
    left = judge_claim(made(steps(1.0), overrides=["count=100"], extra=later + CLAIM))
    assert left.verdict is Verdict.UNCONFIRMED


def test_a_claim_may_hold_in_part_and_names_the_closest_setting(made):
    def rates(label, point):
        advantage = 1.0 if point.setting.endswith("=8") else -1.0
        return steps(advantage)(label, point)

    judgement = judge_claim(made(rates, extra=CLAIM, overrides=["count=100"]))
    assert judgement.verdict is Verdict.PARTLY
    assert judgement.closest == "channels.paths=8"


def test_no_claim_no_verdict(made):
    assert judge_claim(made(steps(1.0))) is None


def test_outage_is_another_order_than_the_sum(made):
    """One contestant sums higher and starves a user in ten; the other serves all."""

    def rates(label, point):
        level = 10.0 + 0.1 * noise({"folded": 2, "random": 3, "bound": 4}[label], count=200)
        if label == "folded":
            level += 2.0
            level[::5, 0] = 0.0
        return level

    results = made(rates)
    assert judge(ORDER, results).decision is Decision.CONFIRMED
    low = ORDER.model_copy(update={"quantity": "outage_user"})
    assert judge(low, results).decision is Decision.REFUTED
    upside_down = low.model_copy(update={"above": "random", "below": "folded", "margin": 5.0})
    found = judge(upside_down, results)
    assert found.decision is Decision.CONFIRMED
    assert "5 % outage" in found.text
    equal = low.model_copy(update={"above": "random", "below": "bound"})
    assert judge(equal, results).decision is Decision.UNDECIDED


def test_decades_and_signal_to_noise_ratios(made):
    results = made(lambda label, _: np.full((20, 1), 9.0 if label == "folded" else 3.0))
    factor = ORDER.model_copy(update={"quantity": "decades", "margin": math.log10(2.9)})
    assert judge(factor, results).decision is Decision.CONFIRMED
    assert judge(factor.model_copy(update={"margin": 0.5}), results).decision is Decision.REFUTED
    gap = 10 * math.log10((2**9 - 1) / (2**3 - 1))
    snr = ORDER.model_copy(update={"quantity": "snr_db", "margin": gap - 0.01})
    assert judge(snr, results).decision is Decision.CONFIRMED
    several = made(lambda *_: np.ones((20, 2)))
    assert judge(snr, several).decision is Decision.ABSENT
