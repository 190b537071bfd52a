"""What is known of a registered solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from holobeam.errors import InputError, unknown_name
from holobeam.solvers.base import Solver


@dataclass(frozen=True)
class Entry:
    """One registered solver.

    Attributes
    ----------
    name
        What users type.
    factory
        ``module:attribute`` of something that makes the solver from keyword options.
    summary
        One line.
    source
        Where the method is defined: a paper, and sections of docs/methods.md.
    serves
        Which front-ends it serves.
    options
        Defaults that make this name what it is.
    """

    name: str
    factory: str
    summary: str
    source: str
    serves: str
    options: tuple[tuple[str, Any], ...] = ()

    def make(self, **options: Any) -> Solver:
        """Make the solver; unknown options are answered with the nearest names."""
        module, _, attribute = self.factory.partition(":")
        factory: Callable[..., Solver] = getattr(import_module(module), attribute)
        merged = {"name": self.name, **dict(self.options), **options}
        try:
            return factory(**merged)
        except TypeError as error:
            known = _option_names(factory)
            wrong = next((name for name in options if known and name not in known), None)
            if wrong is None:
                raise InputError("options", str(error), f"known: {', '.join(known)}") from None
            raise unknown_name(f"option of {self.name}", wrong, known) from None


def _option_names(factory: Any) -> list[str]:
    made = factory if isinstance(factory, type) else type(factory())
    return sorted(field.name for field in fields(made))
