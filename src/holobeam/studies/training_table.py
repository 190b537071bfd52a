"""Trainings as study files describe them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat

from holobeam.studies.channel_tables import Table

PREFIX = "training:"
"""What ``weights`` of a contestant begins with where a training of the study makes them."""


class TrainingTable(Table):
    """One training run of a study.

    Attributes
    ----------
    recipe
        Name of one that ships, a ``.toml`` file beside the study, or the tables of one.
    set
        What of the recipe is replaced: tables within tables; lists are replaced as a whole.
    lessons
        What is trained on: the lessons of the ``recipe``, or the channels, front-end and operating
        point that the contestant meets in the ``study``.
    reach
        Share of the rate of the exam's reference at which training ends before its last step.
    """

    recipe: str | dict[str, Any]
    set: dict[str, Any] = Field(default_factory=dict)
    lessons: Literal["recipe", "study"] = "recipe"
    reach: PositiveFloat | None = None


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables with some values replaced, at any depth."""
    found = dict(base)
    for key, value in changes.items():
        below = found.get(key)
        deeper = isinstance(value, dict) and isinstance(below, dict)
        found[key] = merged(below or {}, value) if deeper else value
    return found
