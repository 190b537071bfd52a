from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holobeam.channels import Rayleigh, read_channels, write_channels
from holobeam.errors import FileError, HolobeamError, ShapeError, UnknownNameError

SHARED = Path(__file__).parents[3] / "shared" / "data"
SUFFIXES = [".npz", ".npy", ".mat", ".h5", ".hdf5"]
by_suffix = pytest.mark.parametrize("suffix", SUFFIXES)
DTYPES = [torch.complex64, torch.complex128]
H = Rayleigh(antennas=5, users=3).sample(4, seed=0)


@by_suffix
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(4, 2, 3, 5), (1, 1, 1, 1), (1, 2, 3, 1), (2, 1, 3, 2)], ids=str)
def test_round_trip_is_exact(tmp_path, suffix, dtype, shape):
    h = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    path = tmp_path / f"h{suffix}"
    write_channels(path, h)
    again = read_channels(path)
    assert torch.equal(again, h)
    assert again.dtype == dtype


@by_suffix
def test_writing_replaces_in_one_piece(tmp_path, suffix):
    path = tmp_path / f"h{suffix}"
    write_channels(path, H)
    write_channels(path, 2 * H.conj())
    assert torch.equal(read_channels(path), 2 * H.conj().resolve_conj())
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "h.npz"
    write_channels(path, H)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        write_channels(path, 2 * H)
    assert torch.equal(read_channels(path), H)
    assert os.listdir(tmp_path) == [path.name]


def test_written_matlab_files_are_read_by_scipy(tmp_path):
    write_channels(tmp_path / "h.mat", H)
    assert np.array_equal(scipy.io.loadmat(tmp_path / "h.mat")["h"], H.numpy())


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["c8", "c16", "f4", "f8", "i2", "u1"])
def test_matlab_5_as_scipy_reads_it(tmp_path, compressed, dtype):
    values = (np.arange(60).reshape(4, 3, 5) * (1 + 2j if dtype[0] == "c" else 1)).astype(dtype)
    path = tmp_path / "h.mat"
    others = {"note": "text", "cells": np.array([1, "a"], dtype=object), "list": {"a": 1}}
    scipy.io.savemat(path, {**others, "HH": values}, do_compression=compressed)
    assert np.array_equal(read_channels(path)[:, 0].numpy(), scipy.io.loadmat(path)["HH"])


def test_matlab_73_keeps_matlabs_axes(tmp_path):
    path = tmp_path / "h.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        pairs = np.zeros((5, 3, 4), dtype=[("real", "f8"), ("imag", "f8")])
        pairs["real"], pairs["imag"] = H[:, 0].real.numpy().T, H[:, 0].imag.numpy().T
        file["H"] = pairs
    assert torch.equal(read_channels(path), H)


def test_pairs_and_ranks(tmp_path):
    path = tmp_path / "h.h5"
    with h5py.File(path, "w") as file:
        file["group/pairs"] = torch.view_as_real(H[:, 0]).numpy()
        file["one"] = H[0, 0].numpy()
        file["real"] = np.ones((3, 2))
        file["gzip"] = H[:, 0].numpy()
        file.create_dataset("packed", data=H.numpy(), compression="gzip", shuffle=True)
    assert torch.equal(read_channels(path, "group/pairs"), H)
    assert torch.equal(read_channels(path, "/group/pairs"), H)
    assert torch.equal(read_channels(path, "one"), H[:1])
    assert torch.equal(read_channels(path, "gzip"), H)
    assert torch.equal(read_channels(path, "packed"), H)
    assert read_channels(path, "real").shape == (1, 1, 3, 2)


def test_byte_orders_and_fortran(tmp_path):
    np.save(tmp_path / "big.npy", H.numpy().astype(">c16"))
    np.save(tmp_path / "columns.npy", np.asfortranarray(H.numpy()))
    assert torch.equal(read_channels(tmp_path / "big.npy"), H)
    assert torch.equal(read_channels(tmp_path / "columns.npy"), H)


def test_which_variable(tmp_path):
    path = tmp_path / "h.npz"
    np.savez(path, h=H.numpy(), feed=np.ones((5, 3)))
    assert torch.equal(read_channels(path), H)
    with pytest.raises(UnknownNameError, match="did you mean feed"):
        read_channels(path, "fed")
    np.savez(path, first=H.numpy(), second=H.numpy())
    with pytest.raises(FileError, match="first, second; say which"):
        read_channels(path)


def test_bad_writes(tmp_path):
    for wrong in (H[0], H.real, H[:0]):
        with pytest.raises(ShapeError, match="need complex"):
            write_channels(tmp_path / "h.npz", wrong)
    for name in ("h.pkl", "h", "missing/h.npz"):
        with pytest.raises(FileError):
            write_channels(tmp_path / name, H)
    with pytest.raises(HolobeamError, match="finite"):
        write_channels(tmp_path / "h.npz", H * float("nan"))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from([".npz", ".npy", ".mat"]), st.data())
def test_damage_is_refused_or_harmless(tmp_path, suffix, data):
    path = tmp_path / f"h{suffix}"
    write_channels(path, H)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, min(len(content) - 1, 400)))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        h = read_channels(path, max_bytes=2**20)
    except HolobeamError:
        return
    assert h.numel() * 16 <= 2**20


def test_published_matlab_channels():
    path = SHARED / "ggml_channels.mat"
    if not path.exists():
        pytest.skip("the published channels are not ours to redistribute")
    h = read_channels(path)
    assert h.shape == (100, 1, 4, 64)
    assert float(h.abs().square().mean()) == pytest.approx(0.988, abs=5e-4)
    assert np.array_equal(h[:, 0].numpy(), scipy.io.loadmat(path)["HH"])
