"""Trained weights that ship with holobeam, and solvers made of them."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from holobeam.errors import FileError, InputError, unknown_name
from holobeam.learned.checkpoints import Weights, read_weights
from holobeam.learned.network import Learned, Network

ARCHITECTURES = {
    "2dgnn": "holobeam.learned.gnn2d:TwoDimensionalGnn",
    "cnn": "holobeam.learned.attention_cnn:AttentionCnn",
    "fnn": "holobeam.learned.fnn:Fnn",
    "mb-dnn": "holobeam.learned.mbgnn:MbDnn",
    "mb-dnn-plus": "holobeam.learned.mb_plus:MbPlus",
    "mb-dnn-unrolled": "holobeam.learned.mb_plus:MbUnrolled",
    "unrolled-mmse": "holobeam.learned.unrolled:UnrolledMmse",
    "unfolded-vp": "holobeam.learned.unfolded:UnfoldedVp",
    "unfolded-pga": "holobeam.learned.unfolded:UnfoldedPga",
}
"""What can be trained: name and ``module:class``."""


def build(model: str, **options: Any) -> Network:
    """Make a network with fresh weights.

    Parameters
    ----------
    model
        One of :data:`ARCHITECTURES`.
    options
        Of its constructor.
    """
    if model not in ARCHITECTURES:
        raise unknown_name("model", model, ARCHITECTURES)
    module, _, name = ARCHITECTURES[model].partition(":")
    try:
        network: Network = getattr(import_module(module), name)(**options)
    except TypeError as error:
        raise InputError("options", f"{model}: {error}", "see the model's documentation") from None
    return network


def restore(weights: Weights) -> Network:
    """Make the network that some weights belong to, ready to design.

    Raises
    ------
    FileError
        If the weights are not those of the architecture that they name.
    """
    network = build(weights.model, **weights.options)
    tensors = {name: value.float() for name, value in weights.tensors.items()}
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        wrong = f"they don't fit {weights.model}: {str(error).splitlines()[-1].strip()}"
        raise FileError("weights", wrong, "train the model anew") from None
    return network.eval().requires_grad_(False)


@cache
def shipped() -> tuple[str, ...]:
    """Names of the weights in the package."""
    names = (Path(entry.name) for entry in files(__name__).iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".safetensors"))


@cache
def card(name: str) -> Weights:
    """Read weights that ship with the package, and what is said of them."""
    if name not in shipped():
        raise unknown_name("weights", name, shipped())
    with as_file(files(__name__) / f"{name}.safetensors") as path:
        return read_weights(path)


@cache
def _pretrained(name: str) -> Network:
    return restore(card(name))


@lru_cache(maxsize=16)
def _from_file(path: Path, changed: int, size: int) -> Network:
    """Network of a file as it was at a time: a solver is made for every batch that is solved."""
    del changed, size
    return restore(read_weights(path))


def _of_file(path: Path) -> Network:
    try:
        about = path.stat()
    except OSError:
        return restore(read_weights(path))
    return _from_file(path, about.st_mtime_ns, about.st_size)


def learned(
    name: str = "unrolled-mmse",
    weights: str | Path = "",
    begin: str = "plain",
    max_iterations: int = 1,
) -> Learned:
    """Make a solver of trained weights.

    Parameters
    ----------
    name
        What tables call it; also which shipped weights it takes.
    weights
        Other shipped ones by name, or a file that ``holobeam train`` wrote.
    begin
        ``plain`` or ``random``.
    max_iterations
        Passes, each from where the last one ended.
    """
    if str(weights).endswith(".safetensors"):
        network = _of_file(Path(weights))
    else:
        network = _pretrained(str(weights) or name)
    return Learned(name=name, network=network, begin=begin, max_iterations=max_iterations)
