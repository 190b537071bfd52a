"""Words and looks of studies: names of axes and quantities, colours of contestants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holobeam.studies.checks import Decision
from holobeam.studies.plan import axis_paths, number, show
from holobeam.studies.spec import Study
from holobeam.studies.verdicts import Verdict

AXES: dict[str, tuple[str, str]] = {
    "problem.snr_db": ("transmit SNR", "dB"),
    "problem.power_dbm": ("power", "dBm"),
    "problem.power_at": ("power counted:", ""),
    "channels.shape": ("elements", ""),
    "channels.antennas": ("antennas N", ""),
    "channels.users": ("users K", ""),
    "channels.paths": ("paths", ""),
    "channels.spacing": ("spacing", "wavelengths"),
    "channels.subcarriers": ("subcarriers", ""),
    "channels.bandwidth": ("bandwidth", "Hz"),
    "channels.fraunhofer_distances": ("distance", "Fraunhofer distances"),
}
"""Name and unit of paths that studies sweep; others go by their last part."""

LAST_PARTS: dict[str, tuple[str, str]] = {
    "rf_chains": ("RF chains R", ""),
    "delta": ("power of the error over the channel's, delta", ""),
    "speed": ("speed", "m/s"),
    "max_iterations": ("iterations at most", ""),
    "attenuation": ("attenuation", "1/m"),
    "insertion_loss_db": ("insertion loss", "dB"),
    "radius": ("distance of users", "m"),
    "aperture": ("aperture", "wavelengths"),
    "spacing": ("spacing", "wavelengths"),
    "inter_site_distance": ("distance between sites", "m"),
    "samples": ("training channels", ""),
    "sector_deg": ("half width of the sector", "degrees"),
}

QUANTITIES: dict[str, str] = {
    "sum_rate": "sum rate (bit/s/Hz)",
    "rate_per_user": "mean rate of a user (bit/s/Hz)",
    "worst_user": "rate of the worst user (bit/s/Hz)",
    "outage_user": "user rate at 5 % outage (bit/s/Hz)",
    "median": "median sum rate (bit/s/Hz)",
    "snr_db": "SNR (dB)",
    "outage_rate": "sum rate at 5 % outage over errors (bit/s/Hz)",
    "worst_rate": "worst-case sum rate over errors (bit/s/Hz)",
    "milliseconds": "time per channel (ms)",
    "iterations": "iterations",
    "dc_watts": "DC power (W)",
    "history": "best objective so far (bit/s/Hz)",
    "training_samples": "training channels",
    "training_steps": "training steps",
    "training_seconds": "training time (CPU s)",
    "parameters": "parameters",
}

TONES: dict[str, str] = {
    Verdict.HOLDS: "teal",
    Verdict.PARTLY: "orange",
    Verdict.FAILS: "red",
    Verdict.UNCONFIRMED: "slate",
    Decision.CONFIRMED: "teal",
    Decision.REFUTED: "red",
    Decision.UNDECIDED: "orange",
    Decision.ABSENT: "grey",
    "skipped": "violet",
    "unreadable": "red",
    "no results yet": "violet",
    "unfinished": "orange",
    "quick run": "slate",
    "finished": "teal",
}
"""Colours of what is said."""

COLOURS = ("blue", "orange", "teal", "red", "violet", "brown", "pink", "slate", "grey")
MARKERS = ("o", "s", "D", "^", "v", "P")


def axis_words(axis: str) -> tuple[str, str]:
    """Name and unit of an axis; axes that share a value are joined by an equals sign."""
    found = [_path_words(path) for path in axis_paths(axis)]
    return " = ".join(dict.fromkeys(name for name, _ in found)), found[0][1]


def quantity_words(study: Study, quantity: str) -> str:
    """Name of a quantity with its unit; what a computed study computes has a name of its own."""
    if study.computed is None or quantity not in {"sum_rate", "median"}:
        return QUANTITIES[quantity]
    words = study.computed.words
    return f"median of {words}" if quantity == "median" else words


def sample_words(study: Study) -> str:
    """What a study draws."""
    return "channels" if study.computed is None else study.computed.sample_words


def _path_words(path: str) -> tuple[str, str]:
    last = path.rsplit(".", maxsplit=1)[-1]
    return AXES.get(path) or LAST_PARTS.get(last) or (last.replace("_", " "), "")


def axis_label(axis: str) -> str:
    """Name of an axis with its unit in brackets."""
    name, unit = axis_words(axis)
    return f"{name.removesuffix(':')} ({unit})" if unit else name.removesuffix(":")


def value_words(value: Any) -> str:
    """Short text of a value: shapes with a proper sign, words without underscores."""
    if isinstance(value, (list, tuple)):
        return show(value).replace("x", "\N{MULTIPLICATION SIGN}")
    return show(value).replace("_", " ") if isinstance(value, str) else show(value)


def at_words(axis: str, value: Any) -> str:
    """Axis and value in one phrase, for the title of a panel."""
    if isinstance(value, Mapping):
        return value_words(value)
    name, unit = axis_words(axis)
    return " ".join(filter(None, (name, value_words(value), unit)))


def setting_words(setting: str) -> str:
    """A varied setting for people."""
    path, equals, value = setting.partition("=")
    if not equals:
        return "nominal setting"
    name, unit = axis_words(path)
    return " ".join(filter(None, (name, value.replace("_", " "), unit)))


def sort_key(value: Any) -> float:
    """Place of a value in a sorted table; NaN for words."""
    place = number(value)
    return float("nan") if place is None else place


@dataclass(frozen=True)
class Look:
    """How a contestant is drawn, the same in every figure of a study."""

    colour: str
    marker: str
    dashed: bool
    width: float
    alpha: float


def looks(study: Study) -> dict[str, Look]:
    """Looks by label: baselines dashed, bounds broad and pale, the subject strong."""
    found = {}
    for place, table in enumerate(study.solvers):
        colour = COLOURS[place % len(COLOURS)]
        marker = MARKERS[(place // len(COLOURS)) % len(MARKERS)]
        if table.role == "bound":
            found[table.label] = Look(colour, "", False, 6.0, 0.45)
        else:
            baseline = table.role == "baseline"
            width = 2.8 if table.role == "subject" else 1.7 if baseline else 2.1
            found[table.label] = Look(colour, marker, baseline, width, 1.0)
    return found
