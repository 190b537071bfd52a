"""What may be said of a paper's claim, by one rule for all.

*Holds*, *holds in part* and *does not hold* need a run at the paper's own sizes, budgets and
baselines beside the converged ones, on at least :data:`CHANNELS` paired channels, with every
setting that the paper leaves open varied over at least :data:`VALUES` values. Otherwise the claim
is *not confirmed at this scale*, whatever the numbers look like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from holobeam.studies.checks import Decision, Finding, judge
from holobeam.studies.plan import show
from holobeam.studies.results import Results

CHANNELS = 100
VALUES = 3


class Verdict(StrEnum):
    """What may be said of a claim."""

    HOLDS = "holds"
    PARTLY = "holds in part"
    FAILS = "does not hold"
    UNCONFIRMED = "not confirmed at this scale"


@dataclass(frozen=True)
class Judgement:
    """A verdict with its grounds.

    Attributes
    ----------
    verdict
        What may be said.
    findings
        Every relation of the claim in every setting.
    lacking
        What keeps the run from deciding; empty when it may.
    closest
        The setting in which the claim comes closest to holding.
    """

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    lacking: tuple[str, ...] = ()
    closest: str = field(default="")


def judge_claim(results: Results) -> Judgement | None:
    """Judge the claim of a study by the rule; None where it makes none."""
    claim = results.study.claim
    if claim is None:
        return None
    settings = results.settings()
    by_setting = {
        setting: [judge(relation, results, setting) for relation in claim.relations]
        for setting in settings
    }
    findings = tuple(f for found in by_setting.values() for f in found)
    lacking = tuple(_lacking(results, findings))
    closest = max(settings, key=lambda s: _closeness(by_setting[s]), default="")
    verdict = Verdict.UNCONFIRMED if lacking else _verdict(findings)
    return Judgement(verdict, findings, lacking, closest or "the nominal setting")


def _verdict(findings: tuple[Finding, ...]) -> Verdict:
    confirmed = [f.decision is Decision.CONFIRMED for f in findings]
    if all(confirmed):
        return Verdict.HOLDS
    return Verdict.PARTLY if any(confirmed) else Verdict.FAILS


def _closeness(findings: list[Finding]) -> float:
    """Smallest margin; a relation that can't be looked at is as far from holding as can be."""
    return min((-math.inf if math.isnan(f.margin) else f.margin for f in findings), default=0.0)


def _lacking(results: Results, findings: Sequence[Finding]) -> list[str]:
    """What the rule asks for and the run does not have."""
    claim = results.study.claim
    assert claim is not None
    lacking = []
    if results.plan.quick:
        lacking.append("it is a quick run")
    if not claim.paper_scale:
        lacking.append("the paper's own sizes, budgets or baselines are not all there")
    if results.plan.left_out:
        lacking.append("; ".join(results.plan.left_out))
    if results.missing:
        lacking.append(f"{results.missing} channel results are still to come")
    fewest = min((len(s) for s in results.series.values() if len(s)), default=0)
    if fewest < CHANNELS:
        lacking.append(f"{fewest} channels, {CHANNELS} are needed")
    if not claim.relations:
        lacking.append("no relation of ours puts the claim to the test")
    absent = [f.text for f in findings if f.decision is Decision.ABSENT]
    lacking += [f"nothing to compare for: {text}" for text in dict.fromkeys(absent)]
    if not claim.converged:
        lacking.append("no converged baseline stands beside the paper's")
    for path in claim.open:
        values = len(_values(results, path))
        if values < VALUES:
            lacking.append(f"{path} is left open by the paper: {values} of {VALUES} values tried")
    known = set(results.labels())
    lacking += [f"{label} is not there" for label in claim.converged if label not in known]
    return lacking


def _values(results: Results, path: str) -> set[str]:
    """Values that a setting took over the run, the nominal one included."""
    study = results.study
    found: set[str] = set()
    for axis, values in {**study.sweep, **study.variations}.items():
        if path in axis:
            found |= {show(value) for value in values}
    if path in study.variations:
        found |= {show(nominal_value(results, path))} - {show(None)}
    return found


def nominal_value(results: Results, path: str) -> object:
    """Value of a path where it is not varied, or None if it is not written in the file."""
    place: object = results.study.model_dump(exclude_unset=False)
    for part in path.split("."):
        if not isinstance(place, dict) or part not in place:
            return None
        place = place[part]
    return place
