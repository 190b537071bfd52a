"""Units of work on a Ray cluster: many machines, retried when one is lost."""

from __future__ import annotations

from holobeam.studies.engine import Runner


def ray_runner(address: str | None, device: str = "cpu") -> Runner:
    """Runner on a Ray cluster."""
    raise NotImplementedError(address, device)
