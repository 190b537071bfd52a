"""Binary problems as they come up inside multi-cell WMMSE on binary metasurface antennas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from holobeam.analog import Quadratic

WAVELENGTH = 299_792_458.0 / 28e9
SPACING = WAVELENGTH / 5
ATTENUATION, PROPAGATION = 0.6, 827.67  # per metre along a microstrip
SITE_DISTANCE, NEAR, FAR, HEIGHT = 200.0, 20.0, 100.0, 8.0


@dataclass(frozen=True)
class Cells:
    """Three cells, two users each: sizes of one harvest."""

    elements: int = 8
    streams: int = 1
    cells: int = 3
    users: int = 2
    receive: int = 2
    strips: int = 4
    power_dbm: float = 20.0

    @property
    def antennas(self) -> int:
        """Elements of one cell."""
        return self.strips * self.elements

    @property
    def row_power(self) -> float:
        """Limit of one RF chain: every element radiates at most this."""
        return 10 ** (self.power_dbm / 10) / self.antennas

    def feed(self) -> np.ndarray:
        """Wave at the elements of all strips, fed from the left."""
        along = SPACING * np.arange(self.elements)
        return np.tile(np.exp(-(ATTENUATION + 1j * PROPAGATION) * along), self.strips)

    def channel(self, rng: np.random.Generator) -> np.ndarray:
        """Draw (L, U, M, N), divided by the noise amplitude, powers in mW."""
        turn = 2 * np.pi * np.arange(self.cells) / self.cells + np.pi / 2
        sites, facing = SITE_DISTANCE / np.sqrt(3) * np.exp(1j * turn), turn + np.pi
        count = self.cells * self.users
        own = np.arange(count) // self.users
        radius = np.sqrt(rng.uniform(NEAR**2, FAR**2, count))
        places = sites[own] + radius * np.exp(
            1j * (facing[own] + rng.uniform(-np.pi / 3, np.pi / 3, count))
        )
        k0 = 2 * np.pi / WAVELENGTH
        x = np.tile(SPACING * np.arange(self.elements), self.strips)
        z = np.repeat(WAVELENGTH / 2 * np.arange(self.strips), self.elements)
        h = np.zeros((self.cells, count, self.receive, self.antennas), complex)
        for cell in range(self.cells):
            for user in range(count):
                ray = (places[user] - sites[cell]) * np.exp(-1j * facing[cell])
                away = abs(ray)
                loss = 61.4 + 20 * np.log10(away)
                azimuth = np.r_[np.angle(ray), rng.uniform(-np.pi / 2, np.pi / 2, 3)]
                elevation = np.r_[-np.arctan(HEIGHT / away), rng.uniform(-np.pi / 6, np.pi / 6, 3)]
                scatter = rng.normal(size=3) + 1j * rng.normal(size=3)
                gain = np.r_[
                    np.exp(2j * np.pi * rng.uniform()), scatter * 10 ** (-0.5) / np.sqrt(6)
                ]
                arrival = rng.uniform(-np.pi / 2, np.pi / 2, 4)
                phase = np.outer(x, np.sin(azimuth) * np.cos(elevation))
                sent = np.exp(1j * k0 * (phase + np.outer(z, np.sin(elevation))))
                got = np.exp(1j * np.pi * np.outer(np.arange(self.receive), np.sin(arrival)))
                h[cell, user] = 10 ** ((94 - loss) / 20) * (got * gain) @ sent.conj().T
        return h


def _receivers(cells: Cells, seen: list[np.ndarray], digital: np.ndarray):
    """MMSE receivers and weights of every user, from its effective channels (L, M, R)."""
    receivers, weights = [], []
    for user, b in enumerate(seen):
        cell, k = divmod(user, cells.users)
        heard = b @ digital
        total = np.einsum("lms,lns->mn", heard, heard.conj()) + np.eye(cells.receive)
        own = heard[cell][:, k * cells.streams : (k + 1) * cells.streams]
        u = np.linalg.solve(total, own)
        error = np.eye(cells.streams) - own.conj().T @ u
        receivers.append(u)
        weights.append(np.linalg.inv((error + error.conj().T) / 2))
    return receivers, weights


def _rows(cells: Cells, cell: int, seen, mse, digital) -> None:
    """One sweep of the closed-form row update of one cell, in place."""
    receivers, weights = mse
    limit = cells.row_power
    quad = sum(
        b[cell].conj().T @ u @ w @ u.conj().T @ b[cell]
        for b, u, w in zip(seen, receivers, weights, strict=True)
    )
    mine = range(cell * cells.users, (cell + 1) * cells.users)
    linear = np.concatenate(
        [seen[i][cell].conj().T @ receivers[i] @ weights[i] for i in mine], axis=1
    )
    for r in range(cells.strips):
        t = linear[r] - quad[r] @ digital[cell] + quad[r, r] * digital[cell, r]
        size = np.linalg.norm(t)
        # A row that nobody listens to is switched off.
        digital[cell, r] = t / max(quad[r, r].real, size / np.sqrt(limit)) if size > 0 else 0.0


def quadratic(cells: Cells, cell: int, h, mse, digital) -> Quadratic:
    """Weighted error as a function of one cell's controls."""
    rows, wanted = [], []
    for user, (u, w) in enumerate(zip(*mse, strict=True)):
        root = np.linalg.cholesky(w)
        rows.append(root.conj().T @ u.conj().T @ h[cell, user])
        target = np.zeros((cells.streams, cells.users * cells.streams), complex)
        owner, k = divmod(user, cells.users)
        if owner == cell:
            target[:, k * cells.streams : (k + 1) * cells.streams] = root.conj().T
        wanted.append(target)
    radiated = cells.feed()[:, None] * np.repeat(digital[cell], cells.elements, axis=0)
    return Quadratic(
        torch.from_numpy(np.concatenate(rows))[None, None],
        torch.from_numpy(np.concatenate(wanted))[None, None],
        torch.from_numpy(radiated)[None, None, :, None],
        torch.zeros(1, 1, dtype=torch.float64),
    )


def harvest(
    cells: Cells,
    channels: int,
    iterations: tuple[int, ...] = (0, 3, 8),
    seed: int = 0,
    cell: int = 0,
) -> list[Quadratic]:
    """Quadratics of one cell's controls at some iterations of WMMSE with 1-opt in the loop."""
    from holobeam.analog.two_level import one_opt
    from holobeam.frontends import Points

    found = []
    for channel in range(channels):
        rng = np.random.default_rng([seed, channel])
        h = cells.channel(rng)
        q = rng.integers(0, 2, (cells.cells, cells.antennas)).astype(complex)
        shape = (cells.cells, cells.strips, cells.users * cells.streams)
        digital = rng.normal(size=shape) + 1j * rng.normal(size=shape)
        digital *= np.sqrt(cells.row_power) / np.linalg.norm(digital, axis=2, keepdims=True)
        for iteration in range(max(iterations) + 1):
            folded = h * (q * cells.feed())[:, None, None]
            split = folded.reshape(*h.shape[:3], cells.strips, cells.elements).sum(axis=-1)
            seen = list(split.transpose(1, 0, 2, 3))
            mse = _receivers(cells, seen, digital)
            for each in range(cells.cells):
                _rows(cells, each, seen, mse, digital)
            parts = [quadratic(cells, each, h, mse, digital) for each in range(cells.cells)]
            if iteration in iterations:
                found.append(parts[cell])
            for each, part in enumerate(parts):
                now = torch.from_numpy(q[each])[None, :, None]
                q[each] = one_opt(part, now, Points((0.0, 1.0)))[0, :, 0].numpy()
    return found


def sign_problems(cells: Cells, channels: int, seed: int = 0) -> list[tuple[torch.Tensor, ...]]:
    """(Q, c) of harvested quadratics, all cells; cells that fell silent are left out."""
    from holobeam.analog.two_level import signs_of
    from holobeam.frontends import Points

    found = []
    for cell in range(cells.cells):
        for part in harvest(cells, channels, seed=seed, cell=cell):
            off = torch.zeros(1, cells.antennas, 1, dtype=torch.complex128)
            matrix, c, *_ = signs_of(part, off, Points((0.0, 1.0)))
            if float(matrix.abs().max()) > 0:
                found.append((matrix[0], c[0]))
    return found
