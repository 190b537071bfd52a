"""The one object that every analog method minimises, whatever the front-end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from holobeam.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Weighted mean-square error as a function of the controls.

    ``value(q) = sum_f ||Y_f X_f - T_f||^2 + rho_f ||X_f - Z_f||^2`` with the radiated rows
    ``X_f[n] = sum_c q[n, c] D_f[n, c]``.

    Attributes
    ----------
    y
        ``(B, F, J, N)``: channel and decoders.
    t
        ``(B, F, J, S)``: the wanted streams.
    d
        ``(B, F, N, C, S)``: feed and digital precoder.
    rho
        ``(B, F)`` real, >= 0: the price of radiated power (1 in a least-squares fit).
    z
        ``(B, F, N, S)`` or None: the wanted radiated rows of a least-squares fit.
    """

    y: Complex[Tensor, "batch subcarriers rows antennas"]
    t: Complex[Tensor, "batch subcarriers rows streams"]
    d: Complex[Tensor, "batch subcarriers antennas controls streams"]
    rho: Float[Tensor, "batch subcarriers"]
    z: Complex[Tensor, "batch subcarriers antennas streams"] | None = None

    def __post_init__(self) -> None:
        batch, subcarriers, rows, antennas = self.y.shape
        want = {
            "t": (batch, subcarriers, rows, self.d.shape[4]),
            "d": (batch, subcarriers, antennas, self.d.shape[3], self.d.shape[4]),
            "rho": (batch, subcarriers),
        }
        for name, shape in want.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise ShapeError(name, f"got shape {got}", f"need {shape} to go with y")

    def wide(self) -> Quadratic:
        """The same in double precision, without gradients."""
        y, t, d = (x.detach().to(torch.complex128) for x in (self.y, self.t, self.d))
        z = None if self.z is None else self.z.detach().to(torch.complex128)
        return Quadratic(y, t, d, self.rho.detach().double(), z)

    @property
    def antennas(self) -> int:
        """Number of elements N."""
        return int(self.y.shape[3])

    def rows(self, q: Complex[Tensor, "batch antennas controls"]) -> Tensor:
        """Radiated rows ``X``, ``(B, F, N, S)``."""
        return (q[:, None, :, :, None] * self.d).sum(dim=3)

    def residual(self, q: Complex[Tensor, "batch antennas controls"]) -> Tensor:
        """``Y X - T``, ``(B, F, J, S)``."""
        return self.y @ self.rows(q) - self.t

    def _pull(self, q: Tensor) -> Tensor:
        """``Y^H (Y X - T) + rho (X - Z)``, ``(B, F, N, S)``."""
        x = self.rows(q)
        away = x if self.z is None else x - self.z
        return self.y.mH @ (self.y @ x - self.t) + self.rho[:, :, None, None] * away

    def value(self, q: Complex[Tensor, "batch antennas controls"]) -> Float[Tensor, " batch"]:
        """Objective per channel."""
        x = self.rows(q)
        away = x if self.z is None else x - self.z
        fit = (self.y @ x - self.t).abs().square().sum(dim=(2, 3))
        price = self.rho * away.abs().square().sum(dim=(2, 3))
        return (fit + price).sum(dim=1)

    def gradient(
        self, q: Complex[Tensor, "batch antennas controls"]
    ) -> Complex[Tensor, "batch antennas controls"]:
        """Wirtinger gradient ``d value / d conj(q)`` (PyTorch's ``.grad`` is twice this)."""
        return (self._pull(q).unsqueeze(3) * self.d.conj()).sum(dim=(1, 4))

    def product(
        self, z: Complex[Tensor, "batch antennas controls"]
    ) -> Complex[Tensor, "batch antennas controls"]:
        """Matrix of :meth:`dense` times a vector, in ``O(F J S N)``."""
        x = self.rows(z)
        pull = self.y.mH @ (self.y @ x) + self.rho[:, :, None, None] * x
        return (pull.unsqueeze(3) * self.d.conj()).sum(dim=(1, 4))

    def curvature(self) -> Float[Tensor, "batch antennas controls"]:
        """Second derivative along each control: ``value`` grows by ``curvature |step|^2``."""
        energy = self.y.abs().square().sum(dim=2) + self.rho.unsqueeze(2)
        size = self.d.abs().square().sum(dim=4)
        return (energy.unsqueeze(3) * size).sum(dim=1)

    def row_bounds(self) -> Float[Tensor, "batch antennas controls"]:
        """Diagonal majoriser: Gershgorin row sums bounded without an N x N matrix.

        ``|A_nm| <= sum_j |y_jn||y_jm| |<D_n, D_m>|`` and Cauchy-Schwarz give, with
        ``a_n = |y_n| |D_n|`` summed over controls, ``a_n sum_m a_m`` per subcarrier.
        """
        size = self.d.abs().square().sum(dim=4).sqrt()
        along = self.y.abs().square().sum(dim=2).sqrt().unsqueeze(3) * size
        total = along.sum(dim=(2, 3), keepdim=True)
        siblings = size * size.sum(dim=3, keepdim=True) * self.rho[:, :, None, None]
        return (along * total + siblings).sum(dim=1)

    def dense(self) -> tuple[Tensor, Tensor]:
        """Matrix and vector of ``q^H A q - 2 Re(b^H q) + const``, for those who enumerate.

        Returns
        -------
        tuple of Tensor
            A ``(B, N C, N C)`` Hermitian and b ``(B, N C)``.
        """
        batch, subcarriers, antennas, controls, streams = self.d.shape
        flat = self.d.reshape(batch, subcarriers, antennas * controls, streams)
        columns = self.y.repeat_interleave(controls, dim=3)
        inner = flat.conj() @ flat.mT
        a = ((columns.mH @ columns) * inner).sum(dim=1)
        element = torch.arange(antennas, device=self.y.device).repeat_interleave(controls)
        same = (element[:, None] == element[None, :]).to(self.rho.dtype)
        a = a + (self.rho[:, :, None, None] * same * inner).sum(dim=1)
        wanted = self.y.mH @ self.t
        if self.z is not None:
            wanted = wanted + self.rho[:, :, None, None] * self.z
        b = (wanted.repeat_interleave(controls, dim=2) * flat.conj()).sum(dim=(1, 3))
        return a, b
