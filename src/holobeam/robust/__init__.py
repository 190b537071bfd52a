"""Designs from imperfect channel knowledge, and how well they hold on the true channels.

A problem says what is known: ``h`` is the estimate, ``error_variance`` how wrong it is, ``true_h``
what the design is judged on. Steps (:class:`Denoise`, :class:`NoiseEquivalent`, :class:`Shrink`,
:class:`SampleAverage`) go before any solver in :class:`Prepared`.
"""

from holobeam.robust.adversary import worst_error
from holobeam.robust.evaluation import Robustness, outage_rate, robustness
from holobeam.robust.pilots import training_combiner
from holobeam.robust.sampled import SampledDownlink, sample_average
from holobeam.robust.steps import (
    Denoise,
    NoiseEquivalent,
    Prepared,
    SampleAverage,
    Shrink,
    Step,
)
from holobeam.robust.timescales import TwoTimescale, follow_channel, two_timescale
from holobeam.robust.tracking import follow_track
from holobeam.robust.worst_case import WorstCase

__all__ = [
    "Denoise",
    "NoiseEquivalent",
    "Prepared",
    "Robustness",
    "SampleAverage",
    "SampledDownlink",
    "Shrink",
    "Step",
    "TwoTimescale",
    "WorstCase",
    "follow_channel",
    "follow_track",
    "outage_rate",
    "robustness",
    "sample_average",
    "training_combiner",
    "two_timescale",
    "worst_error",
]
