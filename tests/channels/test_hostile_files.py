"""Files made to hurt: each must be refused with a reason, before it costs memory."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from holobeam.channels import Rayleigh, read_channels, write_channels
from holobeam.errors import FileError

H = Rayleigh(antennas=5, users=3).sample(4, seed=0)


def refused(path, reason, variable=None, max_bytes=2**20):
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match=reason):
            read_channels(path, variable, max_bytes=max_bytes)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def npy_bytes(shape: str, descr: str = "'<c16'", body: bytes = b"") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + body


def make_npz(path: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("h.npy", content)
    return path


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickles_are_never_opened(tmp_path, suffix):
    path, touched = tmp_path / f"h{suffix}", tmp_path / "touched"
    value = np.array([[Payload(touched)]], dtype=object)
    np.save(path, value) if suffix == ".npy" else np.savez(path, h=value)
    refused(path, "pickles are never opened")
    path.write_bytes(pickle.dumps(Payload(touched)))
    refused(path, "can't be read")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("(1000000, 1000000)", "raise max_bytes"),
        ("(4611686018427387904, 4611686018427387904)", "raise max_bytes"),
        ("(-1, 4)", "whole numbers"),
        ("(True, 4)", "whole numbers"),
        ("(0, 4)", "empty"),
        ("()", "truncated or forged"),
        ("(4.0, 4)", "can't be read"),
        ("'ab'", "can't be read"),
        ("(" * 200, "can't be read"),
        ("(8, 4)", "truncated or forged"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_headers_that_lie(tmp_path, suffix, shape, reason):
    path, content = tmp_path / f"h{suffix}", npy_bytes(shape, body=bytes(64))
    path.write_bytes(content) if suffix == ".npy" else make_npz(path, content)
    refused(path, reason)


@pytest.mark.parametrize(
    "descr", ["'S8'", "'<U4'", "'V16'", "'?'", "'M8[s]'", "[('a', '<f8'), ('b', '<f8')]"]
)
def test_types_that_are_no_numbers(tmp_path, descr):
    path = tmp_path / "h.npy"
    path.write_bytes(npy_bytes("(2, 2)", descr, bytes(64)))
    refused(path, "need numbers")


def test_zip_bomb(tmp_path):
    content = npy_bytes("(400000, 4)", body=bytes(400_000 * 64))
    path = make_npz(tmp_path / "h.npz", content)
    assert path.stat().st_size < 2**20
    refused(path, "raise max_bytes")


def test_zip_that_understates_its_size(tmp_path):
    path = make_npz(tmp_path / "h.npz", npy_bytes("(2, 2)", body=bytes(10_000_000)))
    refused(path, "truncated or forged")
    content = bytearray(path.read_bytes())
    true = struct.pack("<I", 128 + 10_000_000)
    path.write_bytes(content.replace(true, struct.pack("<I", 128 + 64)))
    refused(path, "can't be read")


def test_zip_by_other_methods_and_wrong_checksum(tmp_path):
    content = npy_bytes("(2, 2)", body=bytes(64))
    refused(make_npz(tmp_path / "a.npz", content, zipfile.ZIP_LZMA), "use deflate")
    path = make_npz(tmp_path / "b.npz", content, zipfile.ZIP_STORED)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(bytes(64), bytes(63) + b"\x01"))
    refused(path, "CRC")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat", ".h5"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_truncation(tmp_path, suffix, share):
    path = tmp_path / f"h{suffix}"
    write_channels(path, H)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "; ")


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".mat", ".h5"])
def test_values_that_are_no_channel(tmp_path, suffix):
    path = tmp_path / f"h{suffix}"
    path.write_bytes(b"nonsense" * 100)
    refused(path, "; ")
    refused(tmp_path / f"missing{suffix}", "; ")
    path.unlink()
    path.mkdir()
    refused(path, "; ")


def test_nan_rank_and_suffix(tmp_path):
    bad = H.numpy().copy()
    bad[1, 0, 2, 3] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    refused(tmp_path / "nan.npy", "1 of 60 entries are NaN")
    np.save(tmp_path / "line.npy", np.ones(4))
    refused(tmp_path / "line.npy", r"need \(K, N\)")
    refused(tmp_path / "h.pkl", "unknown suffix")


def matlab(*elements: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def field(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(shape: tuple[int, ...], data: bytes, packed: bool = False, kind: int = 6) -> bytes:
    head = field(6, struct.pack("<II", kind, 0)) + field(5, struct.pack(f"<{len(shape)}i", *shape))
    content = field(14, head + field(1, b"h") + field(9, data))
    squeezed = zlib.compress(content)  # the only element that is not padded
    return struct.pack("<II", 15, len(squeezed)) + squeezed if packed else content


def test_matlab_made_by_hand_is_read(tmp_path):
    path = tmp_path / "h.mat"
    for packed in (False, True):
        data = matrix((1, 2), struct.pack("<2d", 3, 4), packed)
        path.write_bytes(matlab(data))
        assert read_channels(path).flatten().tolist() == [3, 4]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("shape", "size", "reason"),
    [
        ((2**30, 2**30), 64, "raise max_bytes"),
        ((-2, -2), 32, "whole numbers"),
        ((0, 4), 0, "empty"),
        ((2, 2), 16, "numbers where the dimensions say 4"),
        ((2, 2), 4_000_000, "longer than its dimensions"),
    ],
)
def test_matlab_dimensions_that_lie(tmp_path, packed, shape, size, reason):
    path = tmp_path / "h.mat"
    path.write_bytes(matlab(matrix(shape, bytes(size), packed)))
    refused(path, reason)


def test_matlab_tags_that_lie(tmp_path):
    path, good = tmp_path / "h.mat", matrix((2, 2), bytes(32))
    path.write_bytes(matlab(good, good))
    refused(path, "two variables")
    path.write_bytes(matlab(struct.pack("<II", 14, 2**32 - 1), good))
    refused(path, "truncated")
    lying = bytearray(good)
    lying[-36:-32] = struct.pack("<I", 2**31)
    path.write_bytes(matlab(bytes(lying)))
    refused(path, "longer than its matrix")
    path.write_bytes(matlab(matrix((2, 2), bytes(32), kind=1)))
    refused(path, "no numeric array")
    scipy.io.savemat(path, {"h": np.array([1, "a"], dtype=object)})
    refused(path, "no numeric array")


def test_matlab_bomb(tmp_path):
    path = tmp_path / "h.mat"
    path.write_bytes(matlab(matrix((2, 2), bytes(2**26), packed=True)))
    assert path.stat().st_size < 2**20
    refused(path, "longer than its dimensions")


def test_hdf5_points_nowhere_else(tmp_path):
    secret, path = tmp_path / "secret.h5", tmp_path / "h.h5"
    write_channels(secret, H)
    layout = h5py.VirtualLayout((4, 5), "c16")
    layout[:] = h5py.VirtualSource(secret, "h", (4, 1, 3, 5))[:, 0, 0, :]
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(64))
    with h5py.File(path, "w") as file:
        file["there"] = h5py.ExternalLink(secret, "h")
        file["through"] = h5py.SoftLink("/there")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (2, 2), "c16", external=[(raw, 0, 64)])
    for name in ("there", "through"):
        refused(path, "links are not followed", name)
    for name in ("virtual", "raw"):
        refused(path, "in other files", name)


def test_hdf5_link_on_the_way(tmp_path):
    path = tmp_path / "h.h5"
    with h5py.File(path, "w") as file:
        file["real/h"] = H.numpy()
        file["detour"] = h5py.SoftLink("/real")
    assert read_channels(path, "real/h").shape == H.shape


def test_hdf5_sizes_types_and_filters(tmp_path):
    path = tmp_path / "h.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("huge", (10**6, 10**6), "c16", chunks=(8, 8))
        file.create_dataset("empty", (0, 4), "c16")
        file.create_dataset("text", data=["a", "b"])
        file.create_dataset("null", data=h5py.Empty("f8"))
        file.create_dataset("wide", (2, 2), "c16", chunks=(2**14, 2**12), maxshape=(None, None))
        file.create_dataset("lzf", data=H.numpy(), compression="lzf")
        file.create_dataset("refs", (2, 2), h5py.ref_dtype)
    for name, reason in [
        ("huge", "raise max_bytes"),
        ("empty", "empty"),
        ("text", "pickles|numbers"),
        ("null", "; "),
        ("wide", "too large"),
        ("lzf", "use gzip"),
        ("refs", "pickles|numbers"),
    ]:
        refused(path, reason, name)


def test_hdf5_chunk_that_outgrows_its_size(tmp_path):
    path = tmp_path / "h.h5"
    with h5py.File(path, "w") as file:
        chunk = file.create_dataset("h", (4, 4), "c16", chunks=(4, 4), compression="gzip")
        chunk.id.write_direct_chunk((0, 0), zlib.compress(bytes(2**26)))
    refused(path, "more than its size")
