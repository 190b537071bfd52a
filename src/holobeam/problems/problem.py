"""What the loop, the solutions and the combinations ask of a problem, whichever it is."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from holobeam.frontends.frontend import Frontend


class Problem(Protocol):
    """One cell (:class:`Downlink`) or many (:class:`MultiCell`); every tensor leads with B.

    Links and weights are the problem's own: solvers hand them from one method to the next.
    """

    @property
    def h(self) -> Tensor:
        """Channels."""
        ...

    @property
    def frontend(self) -> Frontend:
        """Hardware; with a front-end per cell the first of them."""
        ...

    @property
    def power_at(self) -> str:
        """Where power is counted."""
        ...

    @property
    def utility_name(self) -> str:
        """What is maximised."""
        ...

    @property
    def batch(self) -> int:
        """Number of channel realisations B."""
        ...

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of ``control`` and ``digital``, the batch axis first."""
        ...

    def link(self, control: Tensor) -> Any:
        """What is left once the controls are fixed."""
        ...

    def measured_link(self, control: Tensor) -> Any:
        """The same in double precision, to judge designs on."""
        ...

    def rates(self, link: Any, digital: Tensor) -> Tensor:
        """``(B, users)`` bits/s/Hz."""
        ...

    def utility(self, link: Any, digital: Tensor) -> Tensor:
        """``(B,)``."""
        ...

    def weights(self, link: Any, digital: Tensor) -> Any:
        """Matched receivers and mean-square-error weights."""
        ...

    def digital_step(self, link: Any, weights: Any, digital: Tensor) -> Tensor:
        """Minimise over the digital precoder."""
        ...

    def rescale(self, link: Any, digital: Tensor) -> Tensor:
        """Digital precoder within its budget."""
        ...

    def feasible(self, control: Tensor, digital: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest controls that the hardware can set, and the precoder within its budget."""
        ...

    def violation(self, control: Tensor, digital: Tensor) -> Tensor:
        """``(B,)``: largest breach of a constraint."""
        ...

    def analog(self, control: Tensor) -> Tensor:
        """Analog beamformer."""
        ...

    def true_rates(self, control: Tensor, digital: Tensor) -> Tensor:
        """``(B, users)`` on the true channels where given."""
        ...

    def radiated_power(self, precoder: Tensor) -> Tensor:
        """``(B,)`` what the antennas radiate."""
        ...

    def dc_power(self, precoder: Tensor, digital: Tensor) -> Tensor:
        """``(B,)`` mW, if powers are in mW."""
        ...

    def take(self, rows: Tensor) -> Problem:
        """Restrict the problem to some channels of the batch."""
        ...

    def with_(self, **changes: Any) -> Problem:
        """Copy with some fields replaced, unchecked."""
        ...
