"""What all commands share: consoles, options, progress, and checks before work begins."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from holobeam.errors import FileError

# A pipe has no width: give tables room instead of cutting them at 80 columns.
out = Console(width=None if sys.stdout.isatty() else 132)
err = Console(stderr=True)

Seed = Annotated[int, typer.Option(help="Of drawn channels and random starts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def check_writable(path: Path, suffixes: tuple[str, ...] = ()) -> None:
    """Raise before any work is done if ``path`` could not be written."""
    if suffixes and path.suffix not in suffixes:
        raise FileError("save", f"got suffix {path.suffix!r}", f"use {' or '.join(suffixes)}")
    if path.is_dir():
        raise FileError("out", f"{path} is a folder", "name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Trying is the only honest test: permissions don't tell of read-only or full disks.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise FileError(
            "out", f"can't write {path}: {error.strerror}", "choose a writable folder"
        ) from error


@contextmanager
def progress(label: str) -> Iterator[Any]:
    """Show a bar while a solver iterates; yields what its loop calls."""
    with bars() as shown:
        task = shown.add_task(label, total=None)
        yield lambda done, most: shown.update(task, completed=done, total=most)


@contextmanager
def stages() -> Iterator[Any]:
    """Show a bar over named stages."""
    with bars() as shown:
        task = shown.add_task("", total=1.0)
        yield lambda what, done: shown.update(task, description=what, completed=done)


def bars() -> Progress:
    """Bars of the house; nothing is shown where nobody watches."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
