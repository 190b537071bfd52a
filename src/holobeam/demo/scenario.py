"""The Munich scenario: where the panel looks, who is served, through which front-ends.

Source: docs/methods.md, section 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from holobeam.channels import RayPaths, draw_drops, munich, munich_panel, subcarrier_offsets
from holobeam.channels.panel import Panel
from holobeam.frontends import Frontend, build
from holobeam.problems.downlink import Downlink
from holobeam.problems.inputs import Utility
from holobeam.units import dbm_to_mw, noise_power_dbm

BANDWIDTH = 100e6
"""Hz."""

NOISE_FIGURE_DB = 9.0

USERS_PER_DROP = 4
RF_CHAINS = 4

POSTER_DROP = (1075, 1784, 618, 1249)
"""Three users in line of sight and one that only reflections reach."""

FRONTENDS = ("rhs", "rhs-binary", "dma", "phase-shifters", "digital")
"""Names in :func:`holobeam.frontends.build`."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """A base station in Munich and groups of users.

    Attributes
    ----------
    paths
        Ray-traced paths to all users of the city.
    panel
        The array and its facing.
    kept
        Users in its sector that it can serve.
    drops
        ``(B, K)``: groups served together.
    frontends
        By name.
    """

    paths: RayPaths
    panel: Panel
    kept: Int[Tensor, " kept"]
    drops: Int[Tensor, "drops users"]
    frontends: dict[str, Frontend]

    @property
    def noise_dbm(self) -> float:
        """Thermal noise of a receiver."""
        return noise_power_dbm(BANDWIDTH, NOISE_FIGURE_DB)

    @cached_property
    def h(self) -> Complex[Tensor, "drops 1 users antennas"]:
        """Channels of the drops, over the noise amplitude, so that powers are in mW."""
        return self.channel(self.drops)

    @cached_property
    def everyone(self) -> Complex[Tensor, "city antennas"]:
        """Channels of all users of the city, kept or not."""
        return self.paths.channel(self.panel, noise_dbm=self.noise_dbm)[0, 0]

    @cached_property
    def line_of_sight(self) -> Bool[Tensor, " city"]:
        """Whether each user of the city sees the base station."""
        return self.paths.line_of_sight

    def channel(
        self, drops: Int[Tensor, "drops users"], tones: int = 1
    ) -> Complex[Tensor, "drops tones users antennas"]:
        """Channels of some drops, on one carrier or on tones over the whole band."""
        offsets = None if tones == 1 else subcarrier_offsets(tones, BANDWIDTH)
        return self.paths.channel(self.panel, drops, subcarriers=offsets, noise_dbm=self.noise_dbm)

    def strongest_direction(self, users: Int[Tensor, " some"]) -> Float[Tensor, "some 3"]:
        """Direction of the strongest path of each user, in the frame of the panel."""
        from holobeam.arrays import direction

        paths = self.paths.select(users)
        best = paths.gain.abs().argmax(dim=1, keepdim=True)
        zenith, azimuth = paths.zenith.gather(1, best), paths.azimuth.gather(1, best)
        return self.panel.to_local(direction(zenith, azimuth))[:, 0]


def munich_scenario(drops: int = 64, seed: int = 0) -> Scenario:
    """Build the scenario.

    Parameters
    ----------
    drops
        Groups of users B.
    seed
        Of the groups; 0 gives those that come with holobeam.
    """
    paths, panel = munich(), munich_panel()
    kept = paths.keep_users(panel, noise_dbm=noise_power_dbm(BANDWIDTH, NOISE_FIGURE_DB))
    groups = draw_drops(kept, drops, USERS_PER_DROP, seed=seed + 1)
    frontends = {name: build(name, panel.array, RF_CHAINS) for name in FRONTENDS}
    return Scenario(paths, panel, kept, groups, frontends)


def problem_at(
    h: Complex[Tensor, "batch tones users antennas"],
    frontend: Frontend,
    dbm: Float[Tensor, " batch"] | float,
    utility: Utility = "sum_rate",
) -> Downlink:
    """Problem at a radiated power in dBm; the noise is already in the channels."""
    power = dbm_to_mw(dbm) if isinstance(dbm, Tensor) else dbm_to_mw(float(dbm))
    return Downlink(h, frontend, noise_power=1.0, power=power, utility=utility)
