"""What can go wrong, each with the argument, what was wrong and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

Choice = TypeVar("Choice", bound=str)


class HolobeamError(Exception):
    """Root of every error that holobeam raises on purpose."""


class InputError(HolobeamError, ValueError):
    """An argument that can't be used.

    Parameters
    ----------
    argument
        Name of the argument as the caller wrote it.
    wrong
        What was wrong with it.
    right
        What would be right.
    """

    def __init__(self, argument: str, wrong: str, right: str) -> None:
        self.argument, self.wrong, self.right = argument, wrong, right
        super().__init__(argument, wrong, right)

    def __str__(self) -> str:
        return f"{self.argument}: {self.wrong}; {self.right}"


class ShapeError(InputError):
    """A tensor with the wrong rank, or an axis of the wrong length."""


class UnknownNameError(InputError):
    """A name that nothing is registered under."""


class FileError(InputError):
    """A file that is missing, truncated, hostile, or holds something else."""


class UnsupportedError(HolobeamError):
    """A solver asked to serve a problem that it can't serve."""


class MissingDependencyError(HolobeamError, ImportError):
    """An optional package that is not installed."""


def unknown_name(argument: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not known, with its nearest neighbours."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    right = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UnknownNameError(argument, f"unknown name {name!r}", right)


def check_choice(argument: str, value: str, choices: tuple[Choice, ...]) -> Choice:
    """Return ``value`` as one of ``choices`` or raise :class:`UnknownNameError`."""
    for choice in choices:
        if value == choice:
            return choice
    raise unknown_name(argument, str(value), choices)


def check_finite(argument: str, tensor: Tensor) -> Tensor:
    """Return ``tensor`` or raise :class:`InputError` if it holds NaN or infinity."""
    parts = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    if not bool(torch.isfinite(parts).all()):
        bad = ~torch.isfinite(tensor)
        count = int(bad.sum())
        first = tuple(int(i) for i in bad.nonzero()[0])
        raise InputError(
            argument,
            f"{count} of {tensor.numel()} entries are NaN or infinite (first at {first})",
            "every entry must be finite",
        )
    return tensor


def check_positive(argument: str, tensor: Tensor) -> Tensor:
    """Return ``tensor`` or raise :class:`InputError` unless every entry is finite and positive."""
    check_finite(argument, tensor)
    if bool((tensor <= 0).any()):
        raise InputError(argument, f"got {float(tensor.min()):g}", "it must be positive")
    return tensor


def check_count(argument: str, value: int, least: int = 1) -> int:
    """Return ``value`` or raise :class:`InputError` unless it is a whole number >= ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(argument, f"got {value!r}", f"it must be a whole number >= {least}")
    return value
