"""Computations as study files describe them: numbers that no solver of a problem makes.

A computation stands where channels and front-ends stand in other studies, and its methods where
solvers stand. Sample i depends on the seed and on i alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Complex
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError
from torch import Tensor

from holobeam.analog import scaling_law
from holobeam.analog.binary import minimize_binary
from holobeam.analog.two_level import one_opt, signs_of
from holobeam.channels.base import BLOCK, block_generator, uniform
from holobeam.channels.multicell import CellularDrops
from holobeam.errors import InputError, unknown_name
from holobeam.frontends.element_sets import Points
from holobeam.frontends.feeds import (
    MICROSTRIP_ATTENUATION,
    MICROSTRIP_WAVENUMBER,
    microstrips,
)
from holobeam.frontends.frontend import Frontend, dma, phase_shifters
from holobeam.problems.downlink import Downlink
from holobeam.problems.multicell import MultiCell
from holobeam.solvers.alternating import Alternating
from holobeam.solvers.registry import solve
from holobeam.studies.channel_tables import Table
from holobeam.units import db_to_linear, dbm_to_mw, wavelength

FREQUENCY = 28e9


@dataclass(frozen=True, eq=False)
class Computed:
    """What a method made of some samples.

    Attributes
    ----------
    value
        ``(B,)`` one number a sample.
    finished
        ``(B,)`` whether it is what was asked for, or only as far as a budget reached.
    """

    value: NDArray[np.float64]
    finished: NDArray[np.bool_]


class Computation(Table):
    """What every computation has in common.

    Attributes
    ----------
    words
        What its numbers are, for axes and tables.
    sample_words
        What its samples are.
    """

    words: ClassVar[str] = "value"
    sample_words: ClassVar[str] = "samples"

    @classmethod
    def methods(cls) -> dict[str, type[Table]]:
        """Methods by name, each with the table of its options."""
        raise NotImplementedError

    @property
    def size(self) -> float:
        """Size of one sample, for guessing times."""
        return 1.0

    def compute(
        self, method: str, options: Mapping[str, Any], span: tuple[int, int], seed: int
    ) -> Computed:
        """Numbers of samples ``span[0] .. span[1] - 1`` of a seed, by one method."""
        return self._compute(self.options(method, options), span, seed)

    def options(self, method: str, options: Mapping[str, Any]) -> Table:
        """Options of a method, checked.

        Raises
        ------
        InputError
            Naming the option; unknown names are answered with the nearest.
        """
        known = self.methods()
        if method not in known:
            raise unknown_name("solver", method, known)
        try:
            return known[method].model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(key) for key in first["loc"])
            if first["type"] == "extra_forbidden":
                fields = known[method].model_fields
                raise unknown_name(f"option of {method}", name, fields) from None
            right = f"got {first.get('input')!r}"
            raise InputError(f"{method}.{name}", first["msg"].lower(), right) from None

    def _compute(self, options: Table, span: tuple[int, int], seed: int) -> Computed:
        raise NotImplementedError


# -- the law of the SNR ------------------------------------------------------------------------


class Exact(Table):
    """The best controls of a finite strip, in closed form or by enumeration."""

    control: scaling_law.Control = "lorentzian"


class Law(Table):
    """The limit of a long strip."""

    control: scaling_law.Control = "lorentzian"


class Simulation(Table):
    """What a solver reaches on the strip, posed as a problem like any other."""

    control: scaling_law.Control = "lorentzian"
    solver: str = "wmmse-cd"
    starts: PositiveInt = 1
    options: dict[str, Any] = Field(default_factory=dict)


class SnrLaw(Computation):
    """Rate of one user in line of sight of one strip, against the elements on it.

    Attributes
    ----------
    elements, aperture
        Elements of the strip; with an aperture (wavelengths) as many as fit at the spacing.
    spacing
        Wavelengths between elements; an element takes the area of its cell, so that a strip of
        given aperture catches the same power whatever the spacing.
    attenuation, wavenumber, feeding
        Of the waveguide, 1/m and rad/m.
    reading
        Where the power is counted, see :mod:`holobeam.analog.scaling_law`.
    snr_db
        Of one lossless element of half a wavelength with the whole budget, dB.
    sector_deg
        Users are spread evenly over so many degrees to both sides.
    """

    words: ClassVar[str] = "rate (bit/s/Hz)"
    sample_words: ClassVar[str] = "user directions"

    kind: Literal["snr-law"]
    elements: PositiveInt = 64
    aperture: PositiveFloat | None = None
    spacing: PositiveFloat = 0.2
    attenuation: Annotated[float, Field(ge=0)] = MICROSTRIP_ATTENUATION
    wavenumber: PositiveFloat = MICROSTRIP_WAVENUMBER
    feeding: Literal["left", "centre"] = "left"
    reading: scaling_law.Reading = "fixed"
    snr_db: float = 0.0
    sector_deg: Annotated[float, Field(gt=0, lt=90)] = 60.0

    @classmethod
    def methods(cls) -> dict[str, type[Table]]:
        """``exact``, ``law``, ``simulation``."""
        return {"exact": Exact, "law": Law, "simulation": Simulation}

    @property
    def size(self) -> float:
        """Elements."""
        return float(self.count)

    @property
    def count(self) -> int:
        """Elements on the strip."""
        if self.aperture is None:
            return self.elements
        return max(1, round(self.aperture / self.spacing))

    @property
    def metres(self) -> float:
        """Spacing."""
        return self.spacing * wavelength(FREQUENCY)

    @property
    def snr_of_one(self) -> float:
        """SNR of one lossless element with the whole budget."""
        return float(db_to_linear(self.snr_db)) * self.spacing / 0.5

    def steering(self, span: tuple[int, int], seed: int) -> Complex[Tensor, "batch elements"]:
        """Line of sight to users ``span[0] .. span[1] - 1``, of amplitude 1."""
        width = math.radians(self.sector_deg)
        first, last = span[0] // BLOCK, (span[1] - 1) // BLOCK
        blocks = [
            uniform((BLOCK,), -width, width, block_generator(seed, block))
            for block in range(first, last + 1)
        ]
        angle = torch.cat(blocks)[span[0] - first * BLOCK :][: span[1] - span[0]]
        turn = 2.0 * math.pi * self.spacing * torch.arange(self.count, dtype=torch.float64)
        phase = turn * angle.sin().unsqueeze(1)
        return torch.polar(torch.ones_like(phase), phase)

    def feed(self) -> Complex[Tensor, "elements chains"]:
        """Wave along the strip."""
        return microstrips(
            1,
            self.count,
            self.metres,
            self.feeding,
            attenuation=self.attenuation,
            wavenumber=self.wavenumber,
        )

    def _compute(self, options: Table, span: tuple[int, int], seed: int) -> Computed:
        h = self.steering(span, seed)
        if isinstance(options, Simulation):
            rate = self._simulated(options, h, seed)
        elif isinstance(options, Exact):
            # Phase shifters sit behind no waveguide.
            wave = h if options.control == "phase-shifters" else h * self.feed()[:, 0]
            gain = scaling_law.best_gain(wave, options.control, self.reading).gain
            rate = (1.0 + self.snr_of_one * gain).log2()
        else:
            assert isinstance(options, Law)
            gain = torch.full((len(h),), self._limit(options.control), dtype=torch.float64)
            rate = (1.0 + self.snr_of_one * gain).log2()
        return Computed(rate.numpy(), np.ones(len(h), dtype=np.bool_))

    def _limit(self, control: scaling_law.Control) -> float:
        if self.reading == "fixed":
            return scaling_law.limit_gain(
                control, self.count, self.metres, self.attenuation, self.feeding
            )
        if self.attenuation and control != "phase-shifters":
            raise InputError(
                "computed.attenuation",
                f"got {self.attenuation} with reading = 'radiated'",
                "the law of radiated power is known for lossless strips: set it to 0",
            )
        return self.count * scaling_law.limit_coefficient(control, self.reading)

    def _simulated(self, options: Simulation, h: Tensor, seed: int) -> Tensor:
        # Each of the N elements takes 1/N of the power in the guide, so that the noise is N times.
        fixed = self.reading == "fixed"
        noise = (self.count if fixed else 1.0) / self.snr_of_one
        problem = Downlink(
            h.unsqueeze(1),
            self._frontend(options.control),
            noise_power=noise,
            power=1.0,
            power_at="feeds" if fixed else "radiated",
        )
        extra = options.options
        found = solve(problem, options.solver, seed=seed, starts=options.starts, **extra)
        return found.sum_rate

    def _frontend(self, control: scaling_law.Control) -> Frontend:
        if control == "phase-shifters":
            return phase_shifters(self.count, 1, "sub")
        return dma(self.feed(), control)


# -- exact searches, counted -------------------------------------------------------------------


class SphereDecoder(Table):
    """Sphere decoding; options as of :func:`minimize_binary`."""

    shift: Literal["sdp", "mixing", "hc", "minimal"] = "minimal"
    order: Literal["adaptive", "fixed"] | None = None
    pre_decision: bool = False
    hc_bound: bool = False


class Enumeration(Table):
    """All sign vectors."""


class BinarySearch(Computation):
    """Nodes that exact searches visit on problems of binary tuning as they come up in WMMSE.

    Sample i is the problem of the first base station on channel i, after some iterations with
    1-opt from random controls.

    Attributes
    ----------
    rf_chains, elements
        Strips, and elements on each: signs of a problem are their product.
    cells, users, receivers, streams, inter_site_distance, sector_deg
        Of :class:`CellularDrops`; streams of each user.
    power_dbm
        Of a cell; each chain may spend it over the number of elements.
    iterations
        Before the problem is taken.
    node_budget
        Nodes at which a search is broken off; it counts as visiting that many.
    """

    words: ClassVar[str] = "nodes visited"
    sample_words: ClassVar[str] = "problems"

    kind: Literal["binary-search"]
    rf_chains: PositiveInt = 4
    elements: PositiveInt = 4
    cells: PositiveInt = 3
    users: PositiveInt = 2
    receivers: PositiveInt = 2
    streams: PositiveInt = 1
    inter_site_distance: PositiveFloat = 200.0
    sector_deg: PositiveFloat = 60.0
    power_dbm: float = 20.0
    iterations: Annotated[int, Field(ge=0)] = 3
    node_budget: PositiveInt = 20_000_000

    @classmethod
    def methods(cls) -> dict[str, type[Table]]:
        """``sd`` and ``brute``."""
        return {"sd": SphereDecoder, "brute": Enumeration}

    @property
    def size(self) -> float:
        """Work of a search, about: it doubles every few signs."""
        return float(2.0 ** (self.rf_chains * self.elements / 2))

    def _compute(self, options: Table, span: tuple[int, int], seed: int) -> Computed:
        matrix, c = harvest(self.model_copy(update={"node_budget": 1}), span, seed)
        method = "brute" if isinstance(options, Enumeration) else "sd"
        budget = None if method == "brute" else self.node_budget
        chosen = options.model_dump()
        found = minimize_binary(matrix, c, method, node_budget=budget, **chosen)
        return Computed(found.nodes.double().numpy(), found.proven.numpy())


@lru_cache(maxsize=4)
def harvest(table: BinarySearch, span: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Problems ``x' Q x - 2 c' x`` of a span of channels: Q ``(B, n, n)`` and c ``(B, n)``."""
    model = CellularDrops(
        users_per_cell=table.users,
        cells=table.cells,
        receivers=table.receivers,
        rf_chains=table.rf_chains,
        elements=table.elements,
        inter_site_distance=table.inter_site_distance,
        sector_deg=table.sector_deg,
    )
    h = model.sample(span[1] - span[0], seed, start=span[0])
    feed = microstrips(table.rf_chains, table.elements, model.spacing * model.wavelength)
    limit = float(dbm_to_mw(table.power_dbm)) / model.antennas
    frontend = dma(feed, "binary")
    problem = MultiCell(h, frontend, power_per_rf_chain=limit, streams=table.streams)
    solver = Alternating(analog=one_opt, begin="random")
    state = solver.init(problem, torch.Generator().manual_seed(seed))
    state = solver.advance(problem, state, table.iterations)
    link = problem.link(state.control)
    digital = problem.digital_step(link, problem.weights(link, state.digital), state.digital)
    quadratic = problem.analog_quadratic(problem.weights(link, digital), digital)
    assert isinstance(frontend.element_set, Points)
    matrix, c, *_ = signs_of(quadratic, state.control.flatten(0, 1), frontend.element_set)
    return matrix[:: table.cells], c[:: table.cells]


Computations = Annotated[SnrLaw | BinarySearch, Field(discriminator="kind")]
