"""Channels from a file of your own: write some, read them, solve, save the beamformers."""

import tempfile
from pathlib import Path

import numpy as np

import holobeam as hb

folder = Path(tempfile.mkdtemp())

# Any array (batch, users, antennas) or (batch, subcarriers, users, antennas) of complex numbers,
# row k = h_k^H, in .npz, .npy, .mat or HDF5; yours comes from a measurement.
rng = np.random.default_rng(0)
h = rng.normal(size=(10, 4, 32)) + 1j * rng.normal(size=(10, 4, 32))
np.savez(folder / "measured.npz", h=h)

channels = hb.channels.read_channels(folder / "measured.npz")
problem = hb.Downlink(channels, hb.frontends.phase_shifters(32, 4), snr_db=10.0)
solution = hb.solve(problem, "vp", seed=0)
print(f"mean sum rate {float(solution.sum_rate.mean()):.2f} bit/s/Hz")
print(f"beamformers in {solution.save(folder / 'beams.npz').name}")
