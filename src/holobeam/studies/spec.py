"""What a study file says: channels, hardware, sweep, solvers, figures, expectations and a claim."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from holobeam.studies.channel_tables import Channels, Table
from holobeam.studies.computed import Computations
from holobeam.studies.knowledge import CsiTable, Design, MotionTable, Slots, misfit
from holobeam.studies.scenario import FrontendChoice, Operation
from holobeam.studies.training_table import TrainingTable

Value = float | int | str | bool | None | list[float | int] | dict[str, Any]
"""A value of an axis: assigned to the axis's path, or a table of paths and values."""

Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Role = Literal["subject", "baseline", "bound", "reference"]
Quantity = Literal[
    "sum_rate",
    "rate_per_user",
    "worst_user",
    "outage_user",
    "median",
    "snr_db",
    "milliseconds",
    "iterations",
    "dc_watts",
    "history",
    "outage_rate",
    "worst_rate",
    "training_samples",
    "training_steps",
    "training_seconds",
    "parameters",
]

Spent = Literal["training_samples", "training_steps", "training_seconds", "parameters"]
"""What a training takes."""

Compared = Literal[
    "sum_rate",
    "worst_user",
    "outage_user",
    "snr_db",
    "decades",
    "outage_rate",
    "worst_rate",
]


class SolverTable(Table):
    """One contestant: a solver on a front-end.

    Attributes
    ----------
    label
        What figures and expectations call it; the name by default.
    role
        ``subject`` of the claim, ``baseline`` of the paper, ``bound``, or our own ``reference``.
    awaited
        Whether the solver is yet to come: it is left out, loudly, until it is registered.
    history
        Whether the utility after each iteration is kept.
    design
        Steps before the solver where channels are estimates (``[csi]``): ``denoise``,
        ``noise-equivalent``, ``shrink-element``, ``shrink-vector``, ``sample-average``,
        ``worst-case``.
    slots
        How slots of moving users (``[motion]``) are designed: ``cold`` from the solver's own start,
        ``warm`` from where the last one ended, or ``converged``: cold, with the solver's own
        number of iterations.
    """

    name: str
    label: str = ""
    frontend: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    starts: PositiveInt = 1
    role: Role = "reference"
    awaited: bool = False
    history: bool = False
    design: list[Design] = Field(default_factory=list)
    slots: Slots = "cold"

    @model_validator(mode="before")
    @classmethod
    def _label(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("label"):
            data = {**data, "label": data.get("name", "")}
        return data


class QuickTable(Table):
    """What replaces what in a quick run: fewer channels, a thinner sweep, shorter trainings.

    ``trainings`` is put into the recipe of every training.
    """

    channels: PositiveInt = 16
    sweep: dict[str, list[Value]] = Field(default_factory=dict)
    variations: dict[str, list[Value]] = Field(default_factory=dict)
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    batches: list[PositiveInt] = Field(default_factory=list)
    trainings: dict[str, Any] = Field(default_factory=dict)


class TimingTable(Table):
    """How solve times are measured, in a pass of their own."""

    batches: list[PositiveInt] = Field(default_factory=lambda: [1, 64])
    repeats: PositiveInt = 5
    quick_repeats: PositiveInt = 3
    solvers: list[str] = Field(default_factory=list)
    where: dict[str, list[Value]] = Field(default_factory=dict)


class FigureTable(Table):
    """One figure of the report.

    Attributes
    ----------
    kind
        ``curves``, or ``field``: where the power of a user's beam goes, one picture a solver.
    x
        Path of the axis, or ``iteration``, ``milliseconds`` (batch of ``batch``), ``user_rate``
        (distribution), ``training_samples``, ``training_seconds`` or ``parameters``.
    y
        ``median`` is that of the sum rates; ``snr_db`` that of the only user, from its rate.
    panels
        Path whose values get axes of their own.
    relative_to
        Label that every curve is divided by.
    channel
        Whose beams a ``field`` shows.
    """

    title: str
    kind: Literal["curves", "field"] = "curves"
    x: str = ""
    y: Quantity = "sum_rate"
    panels: str = ""
    solvers: list[str] = Field(default_factory=list)
    where: dict[str, list[Value]] = Field(default_factory=dict)
    relative_to: str = ""
    batch: PositiveInt = 1
    channel: Annotated[int, Field(ge=0)] = 0
    log_x: bool = False
    log_y: bool = False
    caption: str = ""


class Order(Table):
    """``above`` has the higher rate than ``below``: paired, point by point.

    Attributes
    ----------
    margin
        Mean difference that must be exceeded, bits/s/Hz (may be negative: "not below by more").
    ratio
        Ratio of means that must be exceeded instead.
    quantity
        What is compared; ``outage_user`` (5 % quantile of all users, error by the bootstrap over
        channels), ``snr_db`` (of the only user), ``decades`` (decimal logarithm of the sum rate,
        or of what a computed study counts: a margin of 1 is a factor of ten).
    """

    kind: Literal["order"]
    above: str
    below: str
    margin: float = 0.0
    ratio: PositiveFloat | None = None
    quantity: Compared = "sum_rate"
    pooled: bool = False
    where: dict[str, list[Value]] = Field(default_factory=dict)


class Bound(Table):
    """``above`` is on no channel below ``below``, but for ``within`` bits/s/Hz."""

    kind: Literal["bound"]
    above: str
    below: str
    within: float = 1e-3
    where: dict[str, list[Value]] = Field(default_factory=dict)


class Monotone(Table):
    """The mean rate rises (or falls) along an axis, from each value to the next."""

    kind: Literal["monotone"]
    solvers: list[str] = Field(default_factory=list)
    along: str
    direction: Literal["up", "down"] = "up"
    margin: float = 0.0
    ends: bool = False
    where: dict[str, list[Value]] = Field(default_factory=dict)


class Steady(Table):
    """The utility never falls from one iteration to the next (needs ``history``)."""

    kind: Literal["steady"]
    solvers: list[str]
    within: float = 1e-9
    where: dict[str, list[Value]] = Field(default_factory=dict)


class Converges(Table):
    """A share of the final gain is reached within some iterations (needs ``history``)."""

    kind: Literal["converges"]
    solver: str
    iterations: PositiveInt
    share: PositiveFloat = 0.95
    where: dict[str, list[Value]] = Field(default_factory=dict)


class Exponent(Table):
    """Time grows as a power of an axis, with an exponent in a range (needs timings)."""

    kind: Literal["exponent"]
    solver: str
    along: str
    low: float
    high: float
    batch: PositiveInt = 1
    where: dict[str, list[Value]] = Field(default_factory=dict)


class Faster(Table):
    """One solver takes less time than another by a factor (needs timings)."""

    kind: Literal["faster"]
    solver: str
    than: str
    factor: PositiveFloat = 1.0
    batch: PositiveInt = 1
    where: dict[str, list[Value]] = Field(default_factory=dict)


class Cheaper(Table):
    """The training of ``solver`` takes at most what another takes over a factor.

    Attributes
    ----------
    quantity
        ``training_samples``, ``training_steps``, ``training_seconds`` (CPU) or ``parameters``.
    """

    kind: Literal["cheaper"]
    solver: str
    than: str
    quantity: Spent = "training_samples"
    factor: PositiveFloat = 1.0
    where: dict[str, list[Value]] = Field(default_factory=dict)


Relation = Annotated[
    Order | Bound | Monotone | Steady | Converges | Exponent | Faster | Cheaper,
    Field(discriminator="kind"),
]


class ClaimTable(Table):
    """What the paper says, and which relations would bear it out.

    Attributes
    ----------
    text
        The claim.
    relations
        Hold in every setting: the claim holds.
    open
        Settings that the paper leaves open; each must be varied over three values or more.
    converged
        Labels that stand for the baselines at their converged best.
    paper_scale
        Whether a full run has the sizes, budgets and baselines of the paper.
    notes
        What a reader must know of our reading.
    """

    text: str
    relations: list[Relation] = Field(default_factory=list)
    open: list[str] = Field(default_factory=list)
    converged: list[str] = Field(default_factory=list)
    paper_scale: bool = False
    notes: str = ""


class Study(Table):
    """A whole study file.

    Attributes
    ----------
    paper, figure
        Where it belongs: the page and the block of the report.
    count
        Channels of a full run.
    shard
        Channels that one unit of work solves as a batch.
    sweep
        Axes: path (several joined by ``&`` get the same value) or a name whose values are tables.
    variations
        Settings varied one at a time about the nominal ones, over the same sweep.
    computed
        A computation instead of channels, problem and front-ends; solvers are then its methods.
    csi, motion
        What is known of channels: estimates, or channels that change from slot to slot.
    trainings
        What makes weights; a contestant takes them by ``weights = "training:NAME"``.
    needs
        Solvers without which the study is skipped, loudly; until they are there, channels,
        front-ends and solvers may be missing.
    """

    title: str
    paper: Slug
    figure: Slug
    text: str = ""
    count: PositiveInt = 100
    shard: PositiveInt = 64
    seed: Annotated[int, Field(ge=0)] = 0
    channels: Channels | None = None
    computed: Computations | None = None
    problem: Operation = Field(default_factory=Operation)
    csi: CsiTable | None = None
    motion: MotionTable | None = None
    trainings: dict[str, TrainingTable] = Field(default_factory=dict)
    frontends: dict[str, FrontendChoice] = Field(default_factory=dict)
    solvers: list[SolverTable] = Field(default_factory=list)
    sweep: dict[str, list[Value]] = Field(default_factory=dict)
    variations: dict[str, list[Value]] = Field(default_factory=dict)
    needs: list[str] = Field(default_factory=list)
    quick: QuickTable = Field(default_factory=QuickTable)
    timing: TimingTable | None = None
    figures: list[FigureTable] = Field(default_factory=list)
    expect: list[Relation] = Field(default_factory=list)
    claim: ClaimTable | None = None

    @model_validator(mode="after")
    def _whole(self) -> Study:
        if self.computed is not None:
            return self._computed_whole()
        parts = {name: getattr(self, name) for name in ("channels", "frontends", "solvers")}
        missing = [name for name, part in parts.items() if not part]
        if missing and not self.needs:
            lacking = " and ".join(missing)
            raise ValueError(
                f"{lacking} missing; only a study that waits (needs = [...]) may do so"
            )
        wrong = misfit(self)
        if wrong is not None:
            raise ValueError(wrong)
        return self

    def _computed_whole(self) -> Study:
        beside = ("channels", "frontends", "timing", "trainings")
        too_many = [name for name in beside if getattr(self, name)]
        if too_many:
            raise ValueError(f"computed and {' and '.join(too_many)}; a study has one or the other")
        if not self.solvers:
            raise ValueError("solvers missing; name methods of the computation")
        return self

    @property
    def name(self) -> str:
        """Paper and figure, as results are filed under."""
        return f"{self.paper}/{self.figure}"

    def solver(self, label: str) -> SolverTable:
        """Contestant with a label."""
        return next(s for s in self.solvers if s.label == label)
