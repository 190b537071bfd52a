"""One exception tree; every message says what was wrong and what would be right."""

import pickle

import pytest
import torch

from holobeam import errors


def test_every_error_is_a_holobeam_error():
    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(kinds) >= 7
    assert all(issubclass(kind, errors.HolobeamError) for kind in kinds)


def test_input_errors_are_value_errors_and_missing_packages_import_errors():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.MissingDependencyError, ImportError)


def test_message_holds_argument_wrong_and_right():
    error = errors.InputError("power", "got -1", "it must be positive")
    assert str(error) == "power: got -1; it must be positive"


def test_errors_survive_a_process_boundary():
    error = errors.ShapeError("h", "got shape (3,)", "need (batch, users, antennas)")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.ShapeError
    assert str(copy) == str(error)


def test_unknown_name_offers_neighbours_or_the_list():
    near = errors.unknown_name("solver", "mmse-fats", ["mmse", "mmse-fast", "vp"])
    assert "mmse-fast" in str(near)
    assert "did you mean" in str(near)
    far = errors.unknown_name("solver", "qqqqqq", ["mmse", "vp"])
    assert "known: mmse, vp" in str(far)


def test_check_choice_returns_the_choice():
    assert errors.check_choice("budget", "each", ("mean", "each")) == "each"
    with pytest.raises(errors.UnknownNameError, match="budget"):
        errors.check_choice("budget", "eech", ("mean", "each"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_check_finite_counts_and_locates(bad):
    tensor = torch.zeros(2, 3)
    assert errors.check_finite("h", tensor) is tensor
    tensor[1, 2] = bad
    with pytest.raises(errors.InputError, match=r"h: 1 of 6 .*\(1, 2\)"):
        errors.check_finite("h", tensor)


def test_check_finite_looks_at_imaginary_parts():
    with pytest.raises(errors.InputError):
        errors.check_finite("h", torch.tensor([complex(0.0, float("nan"))]))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_check_positive(bad):
    assert errors.check_positive("power", torch.ones(2)).tolist() == [1.0, 1.0]
    with pytest.raises(errors.InputError, match="power"):
        errors.check_positive("power", torch.tensor([1.0, bad]))


@pytest.mark.parametrize("bad", [0, -3, 2.0, True, "2", None])
def test_check_count(bad):
    assert errors.check_count("users", 3) == 3
    with pytest.raises(errors.InputError, match="users"):
        errors.check_count("users", bad)
