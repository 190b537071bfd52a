"""Unfolded networks as solvers: one iteration is one layer, with the steps that ship."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from holobeam.errors import FileError, InputError
from holobeam.frontends.element_sets import Circle, Interval
from holobeam.learned.checkpoints import read_weights
from holobeam.learned.unfolded import Unfolding
from holobeam.learned.zoo import card, restore, shipped
from holobeam.problems.downlink import Downlink
from holobeam.solvers.base import Pass, Record, Solver, State, check_supported
from holobeam.solvers.refit import digital_refit
from holobeam.solvers.solution import Solution
from holobeam.solvers.starts import relaxed

_KINDS: dict[str, str] = {
    "": "fully connected phase shifters",
    "sub": "sub-connected phase shifters",
    "wideband": "fully connected phase shifters on several subcarriers",
    "sub-wideband": "sub-connected phase shifters on several subcarriers",
    "surface": "amplitude surfaces",
    "surface-wideband": "amplitude surfaces on several subcarriers",
    "metasurface": "metasurface antennas",
    "metasurface-wideband": "metasurface antennas on several subcarriers",
}
"""What sets of step sizes are trained for: ending of their name, and words."""


def hardware(problem: Downlink) -> str:
    """Kind of hardware that decides which set of step sizes serves a problem.

    Stepped sets count as the continuous set around them, and digital arrays, where nothing is left
    to step on, as phase shifters.
    """
    frontend = problem.frontend
    element_set = relaxed(frontend.element_set)
    wide = problem.h.shape[1] > 1
    if frontend.is_digital:
        kind = ""
    elif isinstance(element_set, Interval):
        kind = "surface"
    elif isinstance(element_set, Circle) and element_set.centre != 0:
        kind = "metasurface"
    else:
        kind = "sub" if frontend.controls == 1 else ""
    return "-".join(part for part in (kind, "wideband" if wide else "") if part)


@dataclass(frozen=True, kw_only=True)
class Unfolded(Solver):
    """A few iterations with trained step sizes.

    Attributes
    ----------
    max_iterations
        Layers to walk at most; 0: all of them.
    model
        ``unfolded-vp`` or ``unfolded-pga``.
    layers
        Which of the shipped parameter sets.
    weights
        A shipped set by name, or a file that ``holobeam train`` wrote; ``layers`` is not looked at
        then. Empty: the set of the problem's hardware.
    begin
        ``matched`` or ``random``.

    Raises
    ------
    InputError
        If no set of so many layers ships.

    Notes
    -----
    Source: docs/methods.md, section 21.
    """

    name: str = "unfolded-vp"
    max_iterations: int = 0
    tolerance: float = 0.0
    model: str = "unfolded-vp"
    layers: int = 5
    weights: str | Path = ""
    begin: str = "matched"

    def __post_init__(self) -> None:
        given = _network(str(self.weights), self.model) if str(self.weights) else None
        depth = self.layers if given is None else given.layers
        if given is None:
            _check_layers(self.model, depth)
        asked = self.max_iterations
        object.__setattr__(self, "max_iterations", min(asked, depth) if asked > 0 else depth)
        ready = None if given is None else self._of(given)
        object.__setattr__(self, "_given", ready)

    def inner(self, problem: Downlink) -> Solver:
        """``vp`` or ``pga`` with the step sizes that serve the problem."""
        return self._ready(self._set(problem))

    def _ready(self, name: str) -> Solver:
        given: Solver | None = self.__dict__["_given"]
        if given is not None:
            return given
        key = (name, self.name, self.begin, self.keep, self.max_iterations)
        if key not in _READY:
            _READY[key] = self._of(_network(name, self.model))
        return _READY[key]

    def _of(self, network: Unfolding) -> Solver:
        return replace(network.frozen(self.begin, self.keep, self.max_iterations), name=self.name)

    def refuses(self, problem: Downlink) -> str | None:
        """Serves what its step sizes were trained on; named ones serve whatever the solver does."""
        # What the solver itself can't serve doesn't depend on its step sizes.
        plain = self._ready(f"{self.model}-{self.layers}")
        reason = plain.supports(problem)
        if reason is None and problem.frontend.has_free_gain:
            return "its step sizes are trained for bounded controls; use vp, wmmse-mo or ggml"
        if reason is None and not str(self.weights) and self._set(problem) not in shipped():
            words = _KINDS[hardware(problem)]
            return (
                f"no set of {self.layers} layers ships for {words}; "
                f'choose one by weights="...", or use {self.model.removeprefix("unfolded-")}'
            )
        return reason

    def init(
        self, problem: Downlink, generator: torch.Generator, start: State | None = None
    ) -> State:
        """Point of the first layer."""
        return self.inner(problem).init(problem, generator, start)

    def step(self, problem: Downlink, state: State) -> State:
        """One layer."""
        return self.inner(problem).step(problem, state)

    def advance(self, problem: Downlink, state: State, count: int) -> State:
        """Several layers; the last one again beyond their number."""
        return self.inner(problem).advance(problem, state, count)

    def run(self, problem: Downlink, state: State, record: Record, count: int) -> Pass:
        """Several layers, compiled where that serves."""
        return self.inner(problem).run(problem, state, record, count)

    def variant(self, index: int) -> Solver:
        """Random controls for every start but the first."""
        return self if index == 0 else replace(self, begin="random")

    def refiner(self) -> Solver:
        """Itself where its steps stay on every element set, digital steps alone elsewhere."""
        return self if self.model == "unfolded-vp" else digital_refit()

    def __call__(self, problem: Downlink, **options: Any) -> Solution:
        """Solve; options as for :class:`Solver`."""
        check_supported(self, problem)
        return self.inner(problem)(problem, **options)

    def _set(self, problem: Downlink) -> str:
        kind = hardware(problem)
        return f"{self.model}-{self.layers}" + (f"-{kind}" if kind else "")


def shipped_layers(model: str) -> tuple[int, ...]:
    """Numbers of layers that sets ship for."""
    endings = (name.removeprefix(f"{model}-") for name in shipped() if name.startswith(model))
    return tuple(sorted({int(ending) for ending in endings if ending.isdigit()}))


def _check_layers(model: str, layers: Any) -> None:
    known = shipped_layers(model)
    if layers not in known:
        sets = ", ".join(str(count) for count in known)
        raise InputError(
            "layers",
            f"got {layers!r}, and {model} ships with {sets or 'no'} layers",
            'take one of those, or train another set and name its file: weights="..."',
        )


def _network(name: str, model: str) -> Unfolding:
    """Network of shipped weights or of a file."""
    found = read_weights(Path(name)) if name.endswith(".safetensors") else card(name)
    if found.model != model:
        wrong = f"{name} belongs to {found.model}"
        raise FileError("weights", wrong, f"name weights of {model}")
    network = restore(found)
    assert isinstance(network, Unfolding)
    return network


_READY: dict[tuple[str, str, str, str, int], Solver] = {}
"""Solvers made of shipped sets: at batch 1 making them would take as long as a layer."""
