"""The graph network without products of channels, baseline of the mb-dnn paper (``2dgnn``)."""

from __future__ import annotations

from typing import ClassVar

from holobeam.learned.graph_layer import Message
from holobeam.learned.mbgnn import MbDnn


class TwoDimensionalGnn(MbDnn):
    """:class:`MbDnn` whose edges hear the mean of the other users' edges instead of interference.

    Notes
    -----
    ``variant`` matters to what beams begin at alone. Source: mb-dnn paper, equations (8)-(9);
    docs/methods.md, section 20.
    """

    message: ClassVar[Message] = "mean"
