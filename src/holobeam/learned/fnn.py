"""A plain network on one surface with one number of users, in one order (``fnn``)."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from holobeam.errors import check_choice, check_count
from holobeam.learned import compiled
from holobeam.learned.heads import HEADS, amplitudes, direct, project, structure, trace
from holobeam.learned.network import Network, Trace
from holobeam.learned.scene import Scene, Span, see, span, unserved
from holobeam.learned.unrolled import Point
from holobeam.problems.downlink import Downlink

_OTHER_FEED = 1e-2


class Fnn(Network):
    """Fully connected layers from the channel to amplitudes and a head.

    Parameters
    ----------
    antennas, users, rf_chains
        N, K and R, fixed.
    width, depth
        Of the hidden layers (Linear, LayerNorm, SiLU).
    head
        ``mmse`` (2 K outputs), ``direct`` (2 R K), ``ls`` or ``wls`` (2 N K).

    Notes
    -----
    It learns the feed by heart: the basis of the span it was trained on is kept beside its weights,
    and other spans are refused. It is not equivariant to anything. Source: docs/methods.md,
    section 20.
    """

    feed: Tensor

    def __init__(
        self,
        antennas: int = 25,
        users: int = 3,
        rf_chains: int = 3,
        *,
        width: int = 512,
        depth: int = 3,
        head: str = "mmse",
    ) -> None:
        super().__init__()
        self.antennas = check_count("antennas", antennas)
        self.users = check_count("users", users)
        self.rf_chains = check_count("rf_chains", rf_chains)
        self.head = check_choice("head", head, HEADS)
        per_user = {"mmse": 1, "direct": rf_chains, "ls": antennas, "wls": antennas}[head]
        sizes = [2 * antennas * users + 1, *[check_count("width", width)] * depth]
        hidden: list[nn.Module] = []
        for before, after in pairwise(sizes):
            hidden += [nn.Linear(before, after), nn.LayerNorm(after), nn.SiLU()]
        self.hidden = nn.Sequential(*hidden)
        self.out = nn.Linear(sizes[-1], antennas + 2 * users * per_user)
        self.register_buffer("feed", torch.zeros(antennas, rf_chains, 2))

    def refusal(self, problem: Downlink) -> str | None:
        """Reason why it can't serve the problem, or None."""
        reason = unserved(problem)
        if reason is not None:
            return reason
        sizes = {"elements": self.antennas, "users": self.users, "RF chains": self.rf_chains}
        found = (problem.frontend.antennas, problem.users, problem.frontend.rf_chains)
        for (name, size), other in zip(sizes.items(), found, strict=True):
            if size != other:
                return f"it is made for {size} {name}, not {other}; use mb-dnn-plus for any number"
        if self._knows_another(problem):
            return "it was trained on another feed; train it anew, or use mb-dnn-plus for any feed"
        return None

    def forward(self, problem: Downlink, control: Tensor | None = None) -> Trace:
        """Design for a batch of channels; compiled but for its layers where that serves."""
        del control
        if self.head == "mmse" and compiled.serves(self, problem):
            out = self.out(self.hidden(compiled.features(problem)))
            logits = out[:, self.antennas :].reshape(-1, self.users, 2)
            return compiled.design(problem, out[:, : self.antennas].sigmoid(), logits)
        scene = see(problem)
        if self.training and not bool(self.feed.any()):
            self.feed.copy_(torch.view_as_real(scene.feed))
        seen = torch.view_as_real(scene.columns.resolve_conj().contiguous()).flatten(1)
        out = self.out(self.hidden(torch.cat([seen, scene.loudness.unsqueeze(1)], dim=1)))
        chosen = amplitudes(out[:, : self.antennas].sigmoid())
        return trace(problem, scene, self._design(scene, chosen, out[:, self.antennas :]))

    def _design(
        self,
        scene: Scene,
        control: Float[Tensor, "batch antennas"],
        rest: Float[Tensor, "batch outputs"],
    ) -> Point:
        if self.head == "mmse":
            return structure(scene, control, rest.reshape(-1, self.users, 2))
        entries = torch.complex(*rest.reshape(len(rest), -1, self.users, 2).unbind(dim=3))
        if self.head != "direct":
            return project(scene, control, entries, weighted=self.head == "wls")
        if not bool(self.feed.any()):
            return direct(scene, control, entries)
        # In the basis it was trained with: that of a scene is arbitrary up to a rotation.
        turn = scene.feed.mH @ self._known().to(entries.dtype) / float(self.antennas)
        return direct(scene, control, turn @ entries)

    def _knows_another(self, problem: Downlink) -> bool:
        """Whether the feed leaves the span of the one that it was trained on."""
        if not bool(self.feed.any()):
            return False
        seen = span(problem.frontend)
        compared: tuple[Span, Tensor, bool] | None = self.__dict__.get("_compared")
        if compared is None or compared[0] is not seen or not torch.equal(compared[1], self.feed):
            compared = (seen, self.feed.clone(), self._missed(seen.entries))
            self.__dict__["_compared"] = compared
        return compared[2]

    def _missed(self, feed: Complex[Tensor, "antennas rf_chains"]) -> bool:
        known = self._known()
        feed = feed.to(known.device, known.dtype)
        missed = feed - known @ (known.mH @ feed) / float(self.antennas)
        return bool(missed.abs().max() > _OTHER_FEED * feed.abs().max())

    def _known(self) -> Complex[Tensor, "antennas rf_chains"]:
        """Basis of the feed that it was trained on, times ``sqrt(N)``."""
        basis = torch.view_as_complex(self.feed)
        # A running mean of weights that began at zero is short of it by a little.
        return basis * (basis.abs().square().mean().rsqrt())
