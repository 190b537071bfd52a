"""Reading study files: TOML, overrides, and errors that name the file, the line and the key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from holobeam.errors import FileError, InputError
from holobeam.studies.spec import Study
from holobeam.studies.training_table import PREFIX, TrainingTable, merged

Read = TypeVar("Read", bound=BaseModel)

MAX_BYTES = 1_000_000
"""Largest study file that is read."""


_UNKNOWN_KEY = {"extra_forbidden", "unexpected_keyword_argument"}
"""What pydantic calls a key that a table, or a dataclass, does not have."""


class StudyError(FileError):
    """A study file that says something that can't be meant; ``argument`` is ``file:line``."""


def read_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file.

    Parameters
    ----------
    path
        A ``.toml`` file.
    overrides
        ``key.path=value`` each, the value in TOML; put in before anything is checked.

    Raises
    ------
    StudyError
        Names the file, the line, and the nearest key.
    """
    path = Path(path)
    study = read_toml(path, Study, overrides)
    text = _text(path)
    _check_names(study, path, text)
    return _with_recipes(study, path, text)


def read_toml(path: Path, model: type[Read], overrides: Sequence[str] = ()) -> Read:
    """Read a TOML file into a model of tables; raises as :func:`read_study`."""
    text = _text(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise StudyError(where, f"not TOML: {error}", "see https://toml.io") from None
    for override in overrides:
        _override(data, override)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(path, text, error, model) from None


def study_source(path: str | Path, overrides: Sequence[str] = ()) -> str:
    """Text of a study file, with the overrides that it was run with as comments."""
    notes = "".join(f"# --set {override}\n" for override in overrides)
    return notes + _text(Path(path))


def find_studies(places: Iterable[str | Path]) -> list[Path]:
    """List the study files that some files and folders stand for, each once, in order.

    Raises
    ------
    FileError
        If a place does not exist, or a folder holds no study.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = sorted(place.rglob("*.toml"))
            if not inside:
                raise FileError("study", f"no .toml file in {place}", "name a folder of studies")
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise FileError("study", f"{place} does not exist", "name a study file or a folder")
    return list(dict.fromkeys(found))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StudyError(str(path), "larger than a megabyte", "study files are short texts")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise StudyError(str(path), "not text in UTF-8", "study files are TOML") from None
    except OSError as error:
        raise StudyError(str(path), f"can't be read: {error.strerror}", "name a file") from None


def split_path(text: str) -> list[str]:
    """Split a dotted path; parts in double quotes keep their dots."""
    parts = re.findall(r'"([^"]*)"|([^."]+)', text)
    return [quoted or plain.strip() for quoted, plain in parts]


def _override(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=") if '"' not in override else _cut(override)
    if not equals or not key.strip():
        raise InputError("set", f"got {override!r}", "write key.path=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *parents, last = split_path(key.strip())
    place: Any = data
    for part in parents:
        place = _enter(place, part, override)
    if isinstance(place, list):
        place[_index(place, last, override)] = parsed
    elif isinstance(place, dict):
        place[last] = parsed
    else:
        raise InputError("set", f"{override!r} goes below a value", "name a table")


def _cut(override: str) -> tuple[str, str, str]:
    """Split at the first equals sign outside quotes."""
    quoted = False
    for place, letter in enumerate(override):
        quoted ^= letter == '"'
        if letter == "=" and not quoted:
            return override[:place], "=", override[place + 1 :]
    return override, "", ""


def _enter(place: Any, part: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, override)]
    if isinstance(place, dict):
        return place.setdefault(part, {})
    raise InputError("set", f"{override!r} goes below a value", "name a table")


def _index(place: list[Any], part: str, override: str) -> int:
    if part.isdigit() and int(part) < len(place):
        return int(part)
    labels = [str(item.get("label", item.get("name", ""))) for item in place]
    if part in labels:
        return labels.index(part)
    raise InputError(
        "set", f"{override!r} names no entry {part!r}", f"there are {', '.join(labels)}"
    )


def _explain(
    path: Path,
    text: str,
    error: ValidationError,
    root: type[BaseModel],
    above: Sequence[str] = (),
) -> StudyError:
    """Turn the first complaint of pydantic into one line that helps.

    ``above`` is where in the file the model's tables stand.
    """
    first = min(error.errors(), key=lambda e: e["type"] not in _UNKNOWN_KEY)
    keys = [str(key) for key in first["loc"]]
    line = locate(text, [*above, *keys])
    where = f"{path}:{line}" if line else str(path)
    wrong = f"{'.'.join(keys) or 'the file'}: {first['msg'].lower()}"
    if first["type"] in _UNKNOWN_KEY:
        known = _known_keys(keys, root)
        near = difflib.get_close_matches(keys[-1], known, n=2, cutoff=0.4)
        meant = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        return StudyError(where, f"unknown key {keys[-1]!r} in {'.'.join(keys[:-1])}", meant)
    if first["type"] == "union_tag_invalid":
        tags = str(first["ctx"]["expected_tags"]).replace("'", "").split(", ")
        tag = str(first["ctx"]["tag"])
        near = difflib.get_close_matches(tag, tags, n=2, cutoff=0.4)
        meant = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(tags)}"
        return StudyError(where, f"unknown name {tag!r} in {'.'.join(keys)}", meant)
    return StudyError(where, wrong, f"got {_short(first.get('input'))}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _known_keys(keys: Sequence[str], root: type[BaseModel]) -> list[str]:
    """Fields of the table that a location of an error lies in."""
    models: list[Any] = [root]
    for key in keys[:-1]:
        below: list[Any] = []
        for model in models:
            if isinstance(model, type) and issubclass(model, BaseModel):
                if key in model.model_fields:
                    below += _models(model.model_fields[key].annotation)
                elif key in _tags(model):
                    below.append(model)
            else:
                below.append(model)
        models = below or models
    return sorted({name for model in models for name in _fields(model)})


def _fields(model: Any) -> Iterable[str]:
    return [f.name for f in fields(model)] if is_dataclass(model) else model.model_fields


def _models(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    for name in ("model", "kind"):
        if name in model.model_fields:
            return tuple(map(str, get_args(model.model_fields[name].annotation)))
    return ()


def locate(text: str, keys: Sequence[str]) -> int | None:
    """Line of a TOML text on which the deepest part of a path of keys stands, from 1.

    Parameters
    ----------
    text
        TOML.
    keys
        Path of keys; entries of arrays of tables by their number.
    """
    best: tuple[int, int] | None = None
    table: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        head = re.match(r"^(\[\[?)\s*([^\]]+?)\s*\]", stripped)
        if head:
            table = split_path(head[2])
            if head[1] == "[[":
                name = ".".join(table)
                seen[name] = seen.get(name, -1) + 1
                table = [*table, str(seen[name])]
            path = table
        else:
            key = re.match(r'^((?:"[^"]+"|[A-Za-z0-9_.-]+)+)\s*=', stripped)
            if not key:
                continue
            path = [*table, *split_path(key[1])]
        depth = _shared(path, keys)
        if depth == len(path) and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def _shared(path: Sequence[str], keys: Sequence[str]) -> int:
    """Length of ``path`` if it leads towards ``keys`` (tags of unions are passed over), else 0."""
    place = 0
    for part in path:
        while place < len(keys) and keys[place] != part:
            place += 1
        if place == len(keys):
            return 0
        place += 1
    return len(path)


def _check_names(study: Study, path: Path, text: str) -> None:
    """Check what only the whole file can tell: labels and front-ends that are referred to."""
    labels = [solver.label for solver in study.solvers]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise _unknown(
            path, text, ["solvers"], f"two solvers labelled {twice!r}", "tell them apart"
        )
    for number, solver in enumerate(study.solvers):
        if solver.frontend and solver.frontend not in study.frontends:
            place = ["solvers", str(number), "frontend"]
            raise _near(path, text, place, ("front-end", solver.frontend), study.frontends)
        if not solver.frontend and len(study.frontends) > 1:
            place = ["solvers", str(number)]
            raise _unknown(path, text, place, f"{solver.label!r} names no frontend", "name one")
    for place, label in _referred(study):
        if label not in labels:
            raise _near(path, text, place, ("label", label), labels)


def _referred(study: Study) -> Iterable[tuple[list[str], str]]:
    """Every label that something refers to, and where."""
    for number, figure in enumerate(study.figures):
        for label in [*figure.solvers, *([figure.relative_to] if figure.relative_to else [])]:
            yield ["figures", str(number)], label
    claimed = study.claim.relations if study.claim else []
    for name, relations in (("expect", study.expect), ("claim.relations", claimed)):
        for number, relation in enumerate(relations):
            for field in ("above", "below", "solver", "than"):
                if hasattr(relation, field):
                    yield [*name.split("."), str(number), field], getattr(relation, field)
            for label in getattr(relation, "solvers", []):
                yield [*name.split("."), str(number), "solvers"], label
    for label in study.claim.converged if study.claim else []:
        yield ["claim", "converged"], label
    for label in study.timing.solvers if study.timing else []:
        yield ["timing", "solvers"], label
    for label in study.quick.options:
        yield ["quick", "options", label], label


def _with_recipes(study: Study, path: Path, text: str) -> Study:
    """Study with the recipes of its trainings read and checked: files stand beside it."""
    found = {}
    for name, table in study.trainings.items():
        recipe = _recipe_of(name, table.recipe, path, text)
        whole = table.model_copy(update={"recipe": recipe})
        _check_recipe(whole, table.set, path, text, ["trainings", name, "set"])
        _check_recipe(whole, study.quick.trainings, path, text, ["quick", "trainings"])
        found[name] = whole
    for number, solver in enumerate(study.solvers):
        weights = str(solver.options.get("weights", ""))
        name = weights.removeprefix(PREFIX)
        if weights.startswith(PREFIX) and name not in study.trainings:
            place = ["solvers", str(number), "options", "weights"]
            raise _near(path, text, place, ("training", name), study.trainings)
    return study.model_copy(update={"trainings": found}) if found else study


def _recipe_of(
    name: str, recipe: str | dict[str, Any], path: Path, text: str
) -> str | dict[str, Any]:
    """Name of a recipe that ships, or the tables of one."""
    from holobeam.studies.recipe import Recipe, shipped_recipes

    if isinstance(recipe, dict) or recipe in shipped_recipes():
        return recipe
    if not recipe.endswith(".toml"):
        place = ["trainings", name, "recipe"]
        raise _near(path, text, place, ("recipe", recipe), shipped_recipes())
    return read_toml(path.parent / recipe, Recipe).model_dump(mode="json", exclude_unset=True)


def _check_recipe(
    table: TrainingTable, changes: dict[str, Any], path: Path, text: str, above: list[str]
) -> None:
    """Check a recipe with some of its values replaced."""
    from holobeam.studies.recipe import Recipe, recipe_tables

    tables = merged(recipe_tables(table.recipe), changes)
    if table.lessons == "study":
        # Those of a point are put in when there is one.
        tables = {**tables, "lessons": _ANY_LESSON}
    try:
        Recipe.model_validate(tables)
    except ValidationError as error:
        raise _explain(path, text, error, Recipe, above) from None


_ANY_LESSON = [{"channels": {"model": "rayleigh"}, "frontend": {"kind": "digital"}}]


def _near(
    path: Path, text: str, keys: list[str], named: tuple[str, str], known: Iterable[str]
) -> StudyError:
    what, name = named
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.4)
    meant = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return _unknown(path, text, keys, f"unknown {what} {name!r}", meant)


def _unknown(path: Path, text: str, keys: list[str], wrong: str, right: str) -> StudyError:
    line = locate(text, keys)
    return StudyError(f"{path}:{line}" if line else str(path), wrong, right)
