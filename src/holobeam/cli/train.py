"""The command that trains learned beamformers."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from holobeam.cli.terminal import AsJson, bars, check_writable, err, out, print_json
from holobeam.durable import write_atomically
from holobeam.errors import InputError, MissingDependencyError, check_choice
from holobeam.learned.checkpoints import Weights, read_state, write_weights
from holobeam.learned.settings import Moment
from holobeam.learned.training import Watch, averaged
from holobeam.learned.training import train as run_training
from holobeam.learned.validation import Score
from holobeam.studies.recipe import Recipe, read_recipe

DEFAULT_OUT = Path("trained")


def train(
    model: Annotated[
        str, typer.Argument(help="Name of a recipe that ships with holobeam, or a .toml file.")
    ],
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Checkpoints and weights; trained/MODEL.")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="e.g. --set settings.steps=500."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    until: Annotated[
        int | None, typer.Option(help="Stop at this step; the same command goes on from there.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write scalars for TensorBoard into the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a learned beamformer; run again, and it goes on from its last checkpoint.

    Channels are drawn anew for every step, each from a seed of its own, so that a run that was
    killed ends with the same weights. On several devices: torchrun --nproc-per-node 8 -m holobeam
    train MODEL.
    """
    device = _device(check_choice("device", device, ("cpu", "cuda")))
    recipe, text = read_recipe(model, override or [])
    name = Path(model).stem
    place = folder or DEFAULT_OUT / name
    check_writable(place / "recipe.toml")
    _same_recipe(place, text)
    network = recipe.network().to(device)
    validation = recipe.validation(device)
    last: list[Moment] = []
    try:
        with _watch(recipe, place, last, tensorboard) as watch:
            average = run_training(
                network,
                recipe.curriculum(device),
                recipe.settings,
                place,
                validation=validation,
                watch=watch,
                until=until,
            )
    except KeyboardInterrupt:
        err.print(
            "\nstopped; at most the steps since the last checkpoint are lost. To go on:\n  "
            + shlex.join(["holobeam", *sys.argv[1:]]),
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    if int(os.environ.get("RANK", "0")):
        return
    scores = last[-1].scores if last else validation.score(averaged(network, average))
    path = place / f"{name}.safetensors"
    about = _about(recipe, text, place, scores)
    write_weights(path, Weights(recipe.model, recipe.options, average, about))
    _tell(path, recipe, scores, about, as_json)


def _device(kind: str) -> str:
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("device", "PyTorch sees no CUDA device", "use --device cpu")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if kind == "cuda" else kind


def _same_recipe(place: Path, text: str) -> None:
    """Keep the recipe beside the checkpoints, and refuse to go on with another one."""
    path = place / "recipe.toml"
    if (place / "state.json").exists() and path.exists() and path.read_text() != text:
        wrong = f"{place} holds checkpoints of another recipe"
        raise InputError("out", wrong, "give another folder, or the recipe in recipe.toml")
    write_atomically(path, text.encode())


def _about(recipe: Recipe, text: str, place: Path, scores: tuple[Score, ...]) -> dict[str, Any]:
    # From the checkpoint, not from what was watched: a run that is over still knows its cost.
    found = read_state(place)
    assert found is not None, "the last step leaves a checkpoint"
    state = found[1]
    return {
        "recipe": text,
        "seed": recipe.seed,
        "steps": state["step"],
        "channels": recipe.samples or state["step"] * recipe.batch,
        "seconds": round(state["seconds"], 1),
        "cpu_seconds": round(state["cpu_seconds"], 1),
        "scores": [asdict(score) for score in scores],
        "licence": "Apache-2.0",
    }


@contextmanager
def _watch(recipe: Recipe, place: Path, last: list[Moment], tensorboard: bool) -> Iterator[Watch]:
    """Bar with the share of the reference on a terminal, a line a validation elsewhere."""
    writer = _writer(place) if tensorboard else None
    with bars() as shown:
        task = shown.add_task(recipe.model, total=recipe.settings.steps)

        def watch(moment: Moment) -> None:
            scored = moment.scores or (last[-1].scores if last else ())
            last[:] = [moment if moment.scores else _with_scores(moment, scored)]
            line = f"{recipe.model} {moment.utility:6.2f} bits/s/Hz {_shares(scored)}"
            shown.update(task, completed=moment.step, description=line)
            if moment.scores and not err.is_terminal:
                err.print(f"step {moment.step}: {line} ({moment.seconds:.0f} s)", highlight=False)
            if writer is not None:
                writer.add_scalar("utility", moment.utility, moment.step)
                for score in moment.scores:
                    writer.add_scalar(f"share/{score.label}", score.share, moment.step)

        try:
            yield watch
        finally:
            if writer is not None:
                writer.close()


def _with_scores(moment: Moment, scores: tuple[Score, ...]) -> Moment:
    return Moment(**{**moment.__dict__, "scores": scores})


def _shares(scores: tuple[Score, ...]) -> str:
    return "  ".join(f"{s.label} {100 * s.share:.1f}%" for s in scores)


def _writer(place: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "--tensorboard needs the package tensorboard: pip install 'holobeam[train]'"
        ) from error
    return SummaryWriter(str(place / "tensorboard"))


def _tell(
    path: Path, recipe: Recipe, scores: tuple[Score, ...], about: dict[str, Any], as_json: bool
) -> None:
    if as_json:
        print_json({"weights": str(path), **json.loads(json.dumps(about))})
        return
    judge = recipe.exam.reference.name
    for score in scores:
        apart = f"{score.difference:+.3f} +- {score.difference_error:.3f}"
        out.print(
            f"{score.label:>7}: {score.utility:.3f} bits/s/Hz, "
            f"{100 * score.share:.1f} % of {judge} ({apart})",
            highlight=False,
        )
    use = f'hb.solver("{recipe.model}", weights="{path}")'
    out.print(f"{path}: use it as {use}", highlight=False, soft_wrap=True)
