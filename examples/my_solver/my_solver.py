"""A solver of one's own: projected gradient on the controls, WMMSE on the digital part.

After ``pip install examples/my_solver`` it is ``holobeam.solve(problem, "my-solver")``.
"""

from dataclasses import dataclass

from holobeam.solvers import Solver, make_state
from holobeam.solvers.starts import digital_start, matched_control


@dataclass(frozen=True, kw_only=True)
class MySolver(Solver):
    """Gradient step on the controls as long as the curvature allows, then V in closed form."""

    name: str = "my-solver"
    max_iterations: int = 50

    def init(self, problem, generator, start=None):
        if start is not None:
            return start
        control = problem.frontend.project(matched_control(problem, generator))
        return make_state(problem, control, digital_start(problem, problem.link(control)))

    def step(self, problem, state):
        link = problem.link(state.control)
        weights = problem.weights(link, state.digital)
        digital = problem.digital_step(link, weights, state.digital)
        control = state.control
        if not problem.frontend.is_digital:
            quadratic = problem.analog_quadratic(problem.weights(link, digital), digital)
            bound = quadratic.row_bounds().clamp(min=1e-30)
            control = problem.frontend.project(control - quadratic.gradient(control) / bound)
        return make_state(problem, control, digital)
