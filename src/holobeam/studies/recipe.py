"""How a model is trained, as a TOML file says it: lessons, settings, and the exam."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt

from holobeam.errors import InputError, unknown_name
from holobeam.learned.curriculum import Curriculum, Scenario
from holobeam.learned.network import Network
from holobeam.learned.settings import Settings
from holobeam.learned.validation import Validation
from holobeam.learned.zoo import build
from holobeam.problems.inputs import PowerAt
from holobeam.solvers.registry import solve
from holobeam.studies.channel_tables import Channels, Table
from holobeam.studies.reading import read_toml
from holobeam.studies.scenario import FrontendChoice

ZOO = "holobeam.learned.zoo"
"""Package that recipes ship in, beside the weights that they made."""


class Lesson(Table):
    """Channels, hardware and SNRs to train on.

    Attributes
    ----------
    share
        How often steps take this lesson, relative to the others.
    """

    channels: Channels
    frontend: FrontendChoice
    snr_db: tuple[float, float] = (-2.0, 22.0)
    power_at: PowerAt = "radiated"
    share: PositiveInt = 1

    def scenario(self, seed: int) -> Scenario:
        """Make the scenario; ``seed`` is only that of a channel drawn to see the array."""
        if self.snr_db[0] > self.snr_db[1]:
            raise InputError("snr_db", f"got {list(self.snr_db)}", "the lowest SNR comes first")
        channels = self.channels
        source = channels.source(1, seed)
        if source.physical:
            wrong = "these channels carry a link budget"
            raise InputError("lessons.channels", wrong, "train on normalised ones")
        return Scenario(
            lambda count, drawn, start: channels.source(count, drawn, start).h,
            self.frontend.build(source),
            self.snr_db,
            self.power_at,
        )


class Judge(Table):
    """Solver that the network is compared with."""

    name: str = "mmse-fast"
    starts: PositiveInt = 16
    options: dict[str, Any] = Field(default_factory=lambda: {"max_iterations": 100})


class Exam(Table):
    """Channels that no step trains on; those of the first lesson unless said."""

    channels: Channels | None = None
    frontend: FrontendChoice | None = None
    snr_db: list[float] = Field(default_factory=lambda: [0.0, 10.0, 20.0], min_length=1)
    count: PositiveInt = 256
    seed: int = 1_000_003
    reference: Judge = Judge()


class Recipe(Table):
    """One training run.

    Attributes
    ----------
    model, options
        Architecture and what its constructor takes.
    batch, seed, samples
        As in :class:`~holobeam.learned.curriculum.Curriculum`.
    """

    model: str
    options: dict[str, Any] = Field(default_factory=dict)
    batch: PositiveInt = 128
    seed: Annotated[int, Field(ge=0)] = 0
    samples: PositiveInt | None = None
    settings: Settings = Settings()
    lessons: list[Lesson] = Field(min_length=1)
    exam: Exam = Exam()

    def network(self) -> Network:
        """Make the network; its first weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return build(self.model, **self.options)

    def curriculum(self, device: str = "cpu") -> Curriculum:
        """Where training problems come from."""
        made = [lesson.scenario(self.seed) for lesson in self.lessons]
        shared = zip(made, self.lessons, strict=True)
        scenarios = tuple(one for one, lesson in shared for _ in range(lesson.share))
        return Curriculum(scenarios, self.batch, self.seed, self.samples, device=device)

    def validation(self, device: str = "cpu") -> Validation:
        """Pose the exam and let the reference solve it."""
        lesson, exam = self.lessons[0], self.exam
        source = (exam.channels or lesson.channels).source(exam.count, exam.seed)
        frontend = (exam.frontend or lesson.frontend).build(source)
        scenario = Scenario(lambda *_: source.h, frontend, (0.0, 0.0), lesson.power_at)
        problems = {}
        references = {}
        for snr_db in exam.snr_db:
            label = f"{snr_db:g} dB"
            judge = exam.reference
            exact = scenario.problem(source.h, snr_db)
            solved = solve(exact, judge.name, starts=judge.starts, **judge.options)
            references[label] = solved.sum_rate
            single = source.h.to(device, torch.complex64)
            problems[label] = scenario.problem(single, snr_db)
        return Validation(problems, references)


def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    names = (Path(entry.name) for entry in files(ZOO).iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".toml"))


def read_recipe(recipe: str, overrides: Sequence[str] = ()) -> tuple[Recipe, str]:
    """Read a recipe.

    Parameters
    ----------
    recipe
        Name of one in the package, or a ``.toml`` file.
    overrides
        ``key.path=value`` each.

    Returns
    -------
    tuple
        The recipe, and its text with the overrides as comments.
    """
    if recipe.endswith(".toml"):
        return _read(Path(recipe), overrides)
    if recipe not in shipped_recipes():
        raise unknown_name("recipe", recipe, shipped_recipes())
    with as_file(files(ZOO) / f"{recipe}.toml") as path:
        return _read(path, overrides)


def recipe_tables(recipe: str | dict[str, Any]) -> dict[str, Any]:
    """Tables of a recipe that ships, or those that are given, unchecked."""
    if isinstance(recipe, dict):
        return recipe
    if recipe not in shipped_recipes():
        raise unknown_name("recipe", recipe, shipped_recipes())
    return tomllib.loads((files(ZOO) / f"{recipe}.toml").read_text(encoding="utf-8"))


def _read(path: Path, overrides: Sequence[str]) -> tuple[Recipe, str]:
    recipe = read_toml(path, Recipe, overrides)
    notes = "".join(f"# --set {override}\n" for override in overrides)
    return recipe, notes + path.read_text(encoding="utf-8")
