"""The judge: agrees with the house and with bare loops, and lets nothing infeasible pass."""

import math
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import holobeam as hb
from holobeam import frozen
from holobeam.errors import FileError, InputError
from holobeam.frozen import INSTANCES, InfeasibleError, instance, read_entry, values, write_entry
from holobeam.frozen.entries import codes

NAMES = [one.name for one in INSTANCES]


def random_entry(name, seed=0, points=None):
    """Random controls and precoders, on the set and within the budget."""
    one = instance(name)
    points = points or one.points[:1]
    problem = one.problem(points)
    generator = torch.Generator().manual_seed(seed)
    control = problem.frontend.sample(problem.batch, generator, torch.complex128, "cpu")
    shape = (problem.batch, problem.h.shape[1], problem.chains, problem.users)
    digital = torch.randn(shape, dtype=torch.complex128, generator=generator)
    control, digital = problem.feasible(control, digital)
    nobody = torch.zeros(problem.batch, dtype=torch.long)
    solution = hb.Solution(problem, control, digital, nobody, nobody)
    return frozen.from_solution(one, points, solution), solution


def saved(path, entry, **changes):
    """The members of a file, with some of them changed; None drops one."""
    write_entry(path, entry)
    with np.load(path) as file:
        members = {**file, **changes}
    np.savez(path, **{name: value for name, value in members.items() if value is not None})
    return path


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_problem_that_solvers_see(name):
    entry, solution = random_entry(name, points=instance(name).points)
    np.testing.assert_allclose(values(entry).reshape(-1), solution.utility.numpy(), rtol=1e-9)


@pytest.mark.parametrize("name", ["munich-ofdm", "rhs-8x8-weighted", "phase-shifters-32-chains"])
def test_agrees_with_bare_loops(name):
    entry, _ = random_entry(name)
    one, b = entry.instance, 7
    _, tones, users, antennas, chains = one.sizes
    total = 0.0
    for k in range(users):
        rate = 0.0
        for f in range(tones):
            received = []
            for j in range(users):
                wave = 0j
                for n in range(antennas):
                    out = 0j
                    for r in range(chains):
                        q = entry.control[0, b, n, r if one.controls > 1 else 0]
                        out += q * one.feed[n, r] * entry.digital[0, b, f, r, j]
                    wave += complex(one.h[b, f, k, n]) * out
                received.append(abs(wave) ** 2)
            noise = one.noise_power(one.points[0])[k]
            rate += math.log2(1 + received[k] / (sum(received) - received[k] + noise)) / tones
        total += one.user_weights[k] * rate
    assert values(entry)[0, b] == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("name", ["rhs-8x8", "dma-8x8", "phase-shifters-32-2bit", "rhs-8x8-binary"])
def test_controls_off_their_set_are_refused(name):
    entry, _ = random_entry(name)
    control = entry.control.copy()
    control[0, 5] *= 1.01  # amplitudes near 1, circles and levels leave their set
    control[0, 5, 0] = 1.01
    moved = replace(entry, control=control, digital=entry.digital / 1.1)
    with pytest.raises(InfeasibleError, match=r"element set by up to .* in 1 of 64 .*first: 5"):
        values(moved)
    imaginary = entry.control.copy()
    imaginary[0, 3, 0] += 1e-4j
    imaginary[0, 3, 0] += 1e-4
    if name != "dma-8x8":  # a step along the tangent of a circle may stay on it to first order
        with pytest.raises(InfeasibleError, match="first: 3"):
            values(replace(entry, control=imaginary, digital=entry.digital / 1.1))


@pytest.mark.parametrize(
    "name", ["rhs-8x8", "rhs-8x8-feeds", "phase-shifters-32-chains", "digital-32", "munich-ofdm"]
)
def test_power_over_the_budget_is_refused(name):
    entry, _ = random_entry(name)
    digital = entry.digital.copy()
    digital[0, 2] *= 1.0 + 2e-6
    with pytest.raises(InfeasibleError, match=r"over the budget by up to 4e-06 .*first: 2"):
        values(replace(entry, digital=digital))
    digital[0, 2] *= 1e200
    with pytest.raises(InfeasibleError, match="over the budget"):
        values(replace(entry, digital=digital))


def test_every_broken_constraint_is_named():
    entry, _ = random_entry("rhs-8x8", points=(0.0, 20.0))
    digital, control = entry.digital.copy(), entry.control.copy()
    digital[0] *= 1.1
    control[1, 4, 2] = -0.5
    with pytest.raises(InfeasibleError) as caught:
        values(replace(entry, digital=digital, control=control))
    text = str(caught.value)
    assert "point 0: power over the budget" in text
    assert "point 20: controls off their element set by up to 0.5" in text


@given(share=st.floats(0, 0.99), seed=st.integers(0, 3))
def test_the_tolerance_earns_nothing(share, seed):
    entry, _ = random_entry("phase-shifters-32", seed)
    exact = values(entry)
    louder = replace(entry, digital=entry.digital * math.sqrt(1 + share * frozen.TOLERANCE))
    np.testing.assert_allclose(values(louder), exact, atol=1e-11)
    larger = replace(
        entry,
        control=entry.control * (1 + 0.4 * share * frozen.TOLERANCE),
        digital=entry.digital,
    )
    np.testing.assert_allclose(values(larger), exact, atol=1e-11)


@given(scale=st.floats(1e-3, 0.999), seed=st.integers(0, 3))
def test_less_power_is_feasible_and_earns_less(scale, seed):
    entry, _ = random_entry("digital-32", seed)
    assert (values(replace(entry, digital=entry.digital * scale)) < values(entry)).all()


@given(angle=st.floats(-3, 3))
def test_the_phase_of_a_beam_does_not_matter(angle):
    entry, _ = random_entry("rhs-8x8-weighted")
    turned = entry.digital * np.exp(1j * angle * np.arange(4))
    np.testing.assert_allclose(values(replace(entry, digital=turned)), values(entry), rtol=1e-10)


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("name", ["rhs-8x8", "digital-32", "munich-ofdm"])
def test_files_give_back_what_was_written(tmp_path, suffix, name):
    entry, _ = random_entry(name)
    entry = replace(entry, how="by hand")
    write_entry(tmp_path / f"a{suffix}", entry)
    back = read_entry(tmp_path / f"a{suffix}")
    assert (back.instance, back.points, back.how) == (entry.instance, entry.points, "by hand")
    assert len(back.sha256) == 64
    np.testing.assert_array_equal(values(back), values(entry))
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_what_a_stranger_writes_is_understood(tmp_path):
    """Single precision, NumPy text, no axes of length 1, real amplitudes."""
    entry, _ = random_entry("rhs-8x8-feeds")
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        instance="rhs-8x8-feeds",
        control=entry.control[0, ..., 0].real.astype(np.float32),
        digital=entry.digital[0, :, 0].astype(np.complex64),
    )
    np.testing.assert_allclose(values(read_entry(path)), values(entry), rtol=1e-5)
    from scipy.io import savemat

    members = {"control": entry.control[0, ..., 0].real, "digital": entry.digital[0, :, 0]}
    savemat(tmp_path / "mine.mat", members)
    again = read_entry(tmp_path / "mine.mat", "rhs-8x8-feeds")
    np.testing.assert_allclose(values(again), values(entry), rtol=1e-12)


def test_matlab_7_3_files(tmp_path):
    import h5py

    entry, _ = random_entry("rhs-8x8-feeds")
    path = tmp_path / "mine.mat"
    pair = np.dtype([("real", "<f8"), ("imag", "<f8")])
    with h5py.File(path, "w", userblock_size=512) as file:
        for title, axes in (("control", entry.control[0]), ("digital", entry.digital[0])):
            pairs = np.empty(axes.shape, pair)
            pairs["real"], pairs["imag"] = axes.real, axes.imag
            file[title] = pairs.transpose()
    np.testing.assert_allclose(values(read_entry(path, "rhs-8x8-feeds")), values(entry))


def refuses(path, hint, name=None, error=FileError):
    with pytest.raises(error, match=hint):
        read_entry(path, name)


def test_members_that_are_missing_or_misshapen(tmp_path):
    entry, _ = random_entry("rhs-8x8")
    path = tmp_path / "a.npz"
    refuses(saved(path, entry, control=None), "lacks control")
    refuses(saved(path, entry, digital=None), "a solution of rhs-8x8 holds control and digital")
    wide = np.ones((1, 64, 64, 4))
    refuses(saved(path, entry, control=wide), r"needs \(1, 64, 64, 1\)", error=InputError)
    short = entry.digital[:, :60]
    refuses(saved(path, entry, digital=short), r"got shape \(1, 60", error=InputError)
    swapped = entry.control.transpose(0, 2, 1, 3)[:, :63]
    refuses(saved(path, entry, control=swapped), "antennas", error=InputError)


@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, np.nan)])
@pytest.mark.parametrize("member", ["control", "digital"])
def test_partial_solutions_are_refused(tmp_path, member, bad):
    entry, _ = random_entry("rhs-8x8")
    broken = getattr(entry, member).copy()
    broken[0, 9] = bad
    path = saved(tmp_path / "a.npz", entry, **{member: broken})
    hint = rf"{member}: .* in 1 of 64 channels \(first: 9\).*every channel"
    refuses(path, hint, error=InputError)


def test_names_hashes_and_points_must_fit(tmp_path):
    entry, _ = random_entry("rhs-8x8")
    path = tmp_path / "a.npz"
    refuses(saved(path, entry, instance=None), "names no instance")
    refuses(saved(path, entry), "of rhs-8x8, not of rhs-8x8-binary", "rhs-8x8-binary")
    refuses(saved(path, entry, sha256=np.zeros(32, np.uint8)), "sha256 is not that of rhs-8x8")
    refuses(saved(path, entry, sha256=np.zeros(5, np.uint8)), "sha256 is not that of rhs-8x8")
    refuses(saved(path, entry, point=np.array([5.0])), "rhs-8x8 has 0, 10, 20")
    refuses(saved(path, entry, point=np.array([0.0, 0.0])), "each once")
    refuses(saved(path, entry, instance=codes("rhs-9x9")), "did you mean", error=InputError)
    refuses(saved(path, entry, instance=np.array("rhs\x1b[2J")), "printable", error=InputError)
    refuses(saved(path, entry, how=np.array([7, 27], np.uint8)), "how is no text")
    refuses(saved(path, entry, how=np.array("x" * 501)), "no short text")
    refuses(saved(path, entry, how=np.full(501, 65, np.uint8)), "how is no text")


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (type(self.target).touch, (self.target,))


def test_hostile_files(tmp_path):
    entry, _ = random_entry("rhs-8x8")
    path, touched = tmp_path / "a.npz", tmp_path / "touched"
    payload = np.array([[Payload(touched)]], dtype=object)
    refuses(saved(path, entry, control=payload), "pickles are never opened")
    refuses(saved(path, entry, instance=payload), "pickles are never opened")
    path.write_bytes(pickle.dumps(Payload(touched)))
    refuses(path, "can't be read")
    assert not touched.exists()
    refuses(saved(path, entry, control=np.zeros(2**25, np.uint8)), "raise max_bytes")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("instance.npy", b"")
    refuses(path, "use deflate")
    refuses(tmp_path / "missing.npz", "no such file")
    refuses(tmp_path / "missing.mat", "no such file")
    refuses(tmp_path / "a.pkl", "unknown suffix")


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_truncated_files(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    entry, _ = random_entry("rhs-8x8")
    write_entry(path, entry)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refuses(path, "; ")


def test_writing_fails_with_one_error_and_leaves_nothing(tmp_path):
    entry, _ = random_entry("rhs-8x8")
    with pytest.raises(FileError, match=r"\.npz or \.mat"):
        write_entry(tmp_path / "a.csv", entry)
    with pytest.raises(FileError, match="can't write"):
        write_entry(tmp_path / "nowhere" / "a.npz", entry)
    assert not list(tmp_path.iterdir())
