"""Channels from ray-traced propagation paths.

Stored gains carry no propagation phase (a line of sight is real and positive), so the carrier's
phase ``exp(-j 2 pi (f_c + f_sub) tau)`` is put back here; adding the gains as they stand would add
all paths in phase.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from holobeam import arrays
from holobeam.channels.numpy_files import read_npz
from holobeam.channels.panel import Panel
from holobeam.errors import FileError, InputError, ShapeError, check_count, check_finite
from holobeam.units import SPEED_OF_LIGHT, db_to_linear, linear_to_db, wavelength

LINE_OF_SIGHT_TOLERANCE = 0.01
"""Metres: above the rounding of single-precision delays, below a grazing reflection's detour."""

STORED = (
    "gain", "delay", "aod_zenith", "aod_azimuth", "user_position", "bs_position", "frequency",
)  # fmt: skip
"""Arrays of a file of paths, in the order of the fields of :class:`RayPaths`."""

CHUNK_ENTRIES = 2**21
"""Complex numbers held at once while paths are added up."""


@dataclass(frozen=True, eq=False)
class RayPaths:
    """Propagation paths from one base station to many users.

    Attributes
    ----------
    gain
        ``(U, P)`` complex amplitude of each path between isotropic antennas, path loss included,
        propagation phase not; 0 where there is no path.
    delay
        ``(U, P)`` seconds.
    zenith, azimuth
        ``(U, P)`` rad, direction of departure at the base station in the global frame.
    user_position
        ``(U, 3)`` metres.
    bs_position
        ``(3,)`` metres.
    frequency
        Carrier, Hz.

    Notes
    -----
    All real tensors are kept in float64: at 28 GHz the carrier turns 28 000 times a microsecond.
    """

    gain: Complex[Tensor, "users paths"]
    delay: Float[Tensor, "users paths"]
    zenith: Float[Tensor, "users paths"]
    azimuth: Float[Tensor, "users paths"]
    user_position: Float[Tensor, "users 3"]
    bs_position: Float[Tensor, " 3"]
    frequency: float

    def __post_init__(self) -> None:
        _check_shapes(self)
        for field in fields(self)[:-1]:
            value = check_finite(field.name, getattr(self, field.name))
            double = torch.complex128 if field.name == "gain" else torch.float64
            object.__setattr__(self, field.name, value.to(double))
        if not (math.isfinite(self.frequency) and self.frequency > 0):
            raise InputError("frequency", f"got {self.frequency!r} Hz", "it must be positive")
        if bool((self.delay < 0).any()):
            raise InputError("delay", f"got {float(self.delay.min()):g} s", "it must be >= 0")

    @classmethod
    def load(cls, path: str | Path) -> RayPaths:
        """Read an npz file with the arrays of this class.

        Parameters
        ----------
        path
            Members ``gain``, ``delay``, ``aod_zenith``, ``aod_azimuth``, ``user_position``,
            ``bs_position`` and ``frequency``, with shapes and units as above.

        Raises
        ------
        FileError
            If the file is missing, damaged or hostile, or lacks a member.
        """
        values = map(torch.tensor, read_npz(Path(path), STORED).values())
        gain, delay, zenith, azimuth, user_position, bs_position, frequency = values
        if frequency.numel() != 1:
            raise FileError("path", f"{Path(path).name}: several frequencies", "need one, in Hz")
        carrier = float(frequency)
        return cls(gain, delay, zenith, azimuth, user_position, bs_position, carrier)

    @property
    def users(self) -> int:
        """Number of users U."""
        return int(self.gain.shape[0])

    @property
    def distance(self) -> Float[Tensor, " users"]:
        """Straight distance from the base station, metres."""
        return (self.user_position - self.bs_position).square().sum(dim=-1).sqrt()

    @property
    def line_of_sight(self) -> Bool[Tensor, " users"]:
        """Users with a path exactly as long as the straight line."""
        detour = SPEED_OF_LIGHT * self.delay - self.distance.unsqueeze(-1)
        straight = (detour.abs() < LINE_OF_SIGHT_TOLERANCE) & (self.gain != 0)
        return straight.any(dim=-1)

    @property
    def path_gain_db(self) -> Float[Tensor, " users"]:
        """Total power of the paths between isotropic antennas, dB; minus infinity without any."""
        return linear_to_db(self.gain.abs().square().sum(dim=-1))

    def select(self, users: Int[Tensor, " chosen"]) -> RayPaths:
        """Paths of some users only, in the order given."""
        index = _check_users(users, self.users)
        per_user = ("gain", "delay", "zenith", "azimuth", "user_position")
        return replace(self, **{name: getattr(self, name)[index] for name in per_user})

    def visible(self, panel: Panel, sector_deg: float = 60.0) -> Bool[Tensor, " users"]:
        """Users whose azimuth is within ``sector_deg`` of the panel's facing, either side."""
        if not 0 < sector_deg <= 180:
            raise InputError("sector_deg", f"got {sector_deg!r}", "need degrees in (0, 180]")
        x, y, _ = (self.user_position - self.bs_position).unbind(dim=-1)
        off_facing = torch.rad2deg(torch.atan2(y, x)) - panel.azimuth_deg
        return ((off_facing + 180.0) % 360.0 - 180.0).abs() <= sector_deg

    def channel(
        self,
        panel: Panel,
        users: Int[Tensor, "batch users"] | None = None,
        *,
        subcarriers: Float[Tensor, " subcarriers"] | None = None,
        noise_dbm: float | None = None,
        element_pattern: bool = True,
        squint: bool = True,
        dtype: torch.dtype = torch.complex128,
        device: torch.device | str = "cpu",
    ) -> Complex[Tensor, "batch subcarriers users antennas"]:
        """Channels between the elements of a panel and users.

        ``h[k, n] = sum_p gain_p G(u_p) exp(-j 2 pi (f_c + f) tau_p) exp(j k <r_n, u_p>) / sigma``,
        with r_n the element relative to the base station (so that a displaced panel turns the
        phases), u_p the direction of departure and k the wavenumber at ``f_c + f``.

        Parameters
        ----------
        panel
            The array, its facing and its place; its wavelength must be that of the paths.
        users
            ``(B, K)`` indices; None takes all users as one channel of K = U.
        subcarriers
            ``(F,)`` offsets f from the carrier, Hz; None is the carrier alone. See
            :func:`subcarrier_offsets`.
        noise_dbm
            Noise power; the channel is divided by its amplitude, so that noise power 1 and
            transmit powers in mW give the link budget. None leaves the channel as it is.
        element_pattern
            Weigh paths by :func:`holobeam.arrays.element_pattern`. Without it denser arrays get
            free gain, and panels hear through their backs.
        squint
            Let the wavenumber of the steering follow the subcarrier, as it does in nature.
        dtype, device
            Of the result; phases are computed in double precision.

        Returns
        -------
        Tensor
            ``(B, F, K, N)``; row k is ``h_k^H``.

        Raises
        ------
        InputError
            If an index is out of range, or the panel is made for another wavelength.
        """
        _check_wavelength(panel, self.frequency)
        everyone = torch.arange(self.users).unsqueeze(0)
        index = _check_users(everyone if users is None else users, self.users, rank=2)
        offsets = _check_offsets(subcarriers, self.frequency)
        distinct, place = torch.unique(index, return_inverse=True)
        at_once = max(1, CHUNK_ENTRIES // (self.gain.shape[1] * panel.array.antennas))
        rows = [
            _response(self.select(chunk), panel, offsets, element_pattern, squint)
            for chunk in distinct.split(at_once)
        ]
        responses = torch.cat(rows)
        if noise_dbm is not None:
            responses = responses / db_to_linear(noise_dbm / 2)
        return responses.to(dtype=dtype, device=device)[place.to(device)].transpose(1, 2)

    def keep_users(
        self,
        panel: Panel,
        *,
        sector_deg: float = 60.0,
        power_dbm: float = 20.0,
        noise_dbm: float = -85.0,
        min_snr_db: float = 0.0,
    ) -> Int[Tensor, " kept"]:
        """Users in the panel's sector that it can serve when alone.

        Parameters
        ----------
        panel
            The array and its facing.
        sector_deg
            Half width of the sector, degrees.
        power_dbm, noise_dbm
            Transmit power and noise power; -85 dBm is 100 MHz with a noise figure of 9 dB.
        min_snr_db
            Smallest SNR of a user alone, with the whole panel beamforming to it.

        Returns
        -------
        Tensor
            ``(kept,)`` int64, ascending.
        """
        seen = self.visible(panel, sector_deg).nonzero().squeeze(-1)
        if not seen.numel():
            return seen
        h = self.channel(panel, seen.unsqueeze(0), noise_dbm=noise_dbm)[0, 0]
        snr = db_to_linear(power_dbm) * h.abs().square().sum(dim=-1)
        return seen[snr >= db_to_linear(min_snr_db)]


def subcarrier_offsets(count: int, bandwidth: float) -> Float[Tensor, " {count}"]:
    """Offsets of equally spaced subcarriers from the carrier.

    Parameters
    ----------
    count
        Number of subcarriers F.
    bandwidth
        Hz; neighbours are ``bandwidth / count`` apart.

    Returns
    -------
    Tensor
        ``(F,)`` float64 Hz, ascending, of mean 0.

    Examples
    --------
    >>> subcarrier_offsets(4, 100e6).tolist()
    [-37500000.0, -12500000.0, 12500000.0, 37500000.0]
    """
    check_count("count", count)
    if not (math.isfinite(bandwidth) and bandwidth >= 0):
        raise InputError("bandwidth", f"got {bandwidth!r} Hz", "it must be >= 0")
    return (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * (bandwidth / count)


def _response(
    paths: RayPaths,
    panel: Panel,
    offsets: Float[Tensor, " subcarriers"],
    element_pattern: bool,
    squint: bool,
) -> Complex[Tensor, "users subcarriers antennas"]:
    """Add up the paths of each user, one subcarrier at a time."""
    directions = arrays.direction(paths.zenith, paths.azimuth)
    ahead = directions @ panel.element_positions().mT
    gain = paths.gain
    if element_pattern:
        gain = gain * arrays.element_pattern(panel.array, panel.to_local(directions))
    fixed = None if squint else _turn(paths.frequency * ahead / SPEED_OF_LIGHT)
    rows = []
    for frequency in (paths.frequency + offsets).tolist():
        steering = _turn(frequency * ahead / SPEED_OF_LIGHT) if fixed is None else fixed
        arrived = gain * _turn(-frequency * paths.delay)
        rows.append((arrived.unsqueeze(1) @ steering).squeeze(1))
    return torch.stack(rows, dim=1)


def _turn(turns: Float[Tensor, "*shape"]) -> Complex[Tensor, "*shape"]:
    """``exp(j 2 pi turns)``; whole turns are dropped first, which costs no accuracy."""
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns.frac())


def _check_shapes(paths: RayPaths) -> None:
    shape = tuple(paths.gain.shape)
    if len(shape) != 2 or not all(shape) or not paths.gain.is_complex():
        wrong = f"got {paths.gain.dtype} of shape {shape}"
        raise ShapeError("gain", wrong, "need complex (users, paths), neither of them 0")
    wanted = dict.fromkeys(("delay", "zenith", "azimuth"), shape)
    for name, right in {**wanted, "user_position": (shape[0], 3), "bs_position": (3,)}.items():
        value = getattr(paths, name)
        if tuple(value.shape) != right or not value.is_floating_point():
            wrong = f"got {value.dtype} of shape {tuple(value.shape)}"
            raise ShapeError(name, wrong, f"need real numbers of shape {right}")


def _check_users(users: Tensor, known: int, rank: int = 1) -> Int[Tensor, "*shape"]:
    if users.ndim != rank or users.numel() == 0:
        right = "need (users,) indices" if rank == 1 else "need (batch, users) indices"
        raise ShapeError("users", f"got shape {tuple(users.shape)}", right)
    if users.is_floating_point() or users.is_complex() or users.dtype == torch.bool:
        raise InputError("users", f"got {users.dtype}", "indices are whole numbers")
    if int(users.min()) < 0 or int(users.max()) >= known:
        wrong = f"indices from {int(users.min())} to {int(users.max())}"
        raise InputError("users", wrong, f"there are users 0 to {known - 1}")
    return users.to(device="cpu", dtype=torch.int64)


def _check_offsets(subcarriers: Tensor | None, carrier: float) -> Float[Tensor, " subcarriers"]:
    if subcarriers is None:
        return torch.zeros(1, dtype=torch.float64)
    if subcarriers.ndim != 1 or subcarriers.numel() == 0:
        raise ShapeError("subcarriers", f"got shape {tuple(subcarriers.shape)}", "need (F,) in Hz")
    if float(check_finite("subcarriers", subcarriers).min()) <= -carrier:
        raise InputError("subcarriers", "an offset below minus the carrier", "offsets are in Hz")
    return subcarriers.to(device="cpu", dtype=torch.float64)


def _check_wavelength(panel: Panel, frequency: float) -> None:
    right = wavelength(frequency)
    if not math.isclose(panel.array.wavelength, right, rel_tol=1e-3):
        raise InputError(
            "panel",
            f"its array is made for a wavelength of {panel.array.wavelength:g} m",
            f"the paths have {right:g} m; pass wavelength={right:.8g} to upa or ula",
        )
