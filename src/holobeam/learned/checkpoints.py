"""Weights on disk: tensors in safetensors, everything else in JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from holobeam.durable import write_atomically
from holobeam.errors import FileError

LARGEST = 2**31
"""Bytes of the largest file of weights that is read."""

_KEY = "holobeam"


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name, and what they belong to.

    Attributes
    ----------
    model
        Name of the architecture.
    options
        What its constructor was given.
    tensors
        As in ``state_dict``.
    about
        Whatever else is said of them: data, seed, scores.
    """

    model: str
    options: dict[str, Any]
    tensors: dict[str, Tensor]
    about: dict[str, Any]


def write_weights(path: Path, weights: Weights) -> None:
    """Write weights and their description into one file, at once or not at all."""
    write_atomically(path, encode_weights(weights))


def encode_weights(weights: Weights) -> bytes:
    """Content of a file of weights; the same weights give the same bytes."""
    from safetensors.torch import save

    said = {"model": weights.model, "options": weights.options, "about": weights.about}
    return save(_plain(weights.tensors), {_KEY: json.dumps(said, sort_keys=True)})


def read_weights(path: Path) -> Weights:
    """Read what :func:`write_weights` wrote.

    Raises
    ------
    FileError
        If the file is missing, damaged, or something else; no code in it is ever run.
    """
    content = _content(path)
    tensors, meta = _parse(path, content)
    try:
        said = json.loads(meta[_KEY])
        model, options, about = said["model"], said["options"], said["about"]
    except (KeyError, TypeError, ValueError):
        raise _foreign(path, "it does not say what it holds") from None
    if not (isinstance(model, str) and isinstance(options, dict) and isinstance(about, dict)):
        raise _foreign(path, "its description has the wrong form")
    return Weights(model, options, tensors, about)


def write_state(folder: Path, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint: the tensors first, then the JSON that points at them.

    Killed at any moment, the folder holds the last whole checkpoint.
    """
    from safetensors.torch import save

    content = save(_plain(tensors))
    name = f"state-{state['step']:09d}.safetensors"
    write_atomically(folder / name, content)
    said = {**state, "tensors": name, "blake2b": _digest(content)}
    write_atomically(folder / "state.json", json.dumps(said, indent=1, sort_keys=True).encode())
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the last whole checkpoint of a folder; None where there is none.

    Raises
    ------
    FileError
        If there is one and it is damaged.
    """
    path = folder / "state.json"
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        tensors = folder / Path(state["tensors"]).name
        digest = state["blake2b"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError):
        raise _foreign(path, "it is not a checkpoint's description") from None
    content = _content(tensors)
    if _digest(content) != digest:
        raise _foreign(tensors, "its bytes are not those that were written")
    return _parse(tensors, content)[0], state


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise _foreign(path, "it is larger than 2 GiB")
        return path.read_bytes()
    except OSError as error:
        wrong = f"can't read {path}: {error.strerror}"
        raise FileError("weights", wrong, "name a file that `holobeam train` wrote") from error


def _parse(path: Path, content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        meta = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, UnicodeDecodeError, RuntimeError) as error:
        raise _foreign(path, f"it is not a safetensors file ({error})") from None
    return tensors, meta


def _foreign(path: Path, why: str) -> FileError:
    return FileError("weights", f"{path}: {why}", "name a file that `holobeam train` wrote")
