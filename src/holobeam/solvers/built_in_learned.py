"""The learned solvers that come with holobeam, named by import string: loaded when used."""

from __future__ import annotations

from holobeam.solvers.entry import Entry

_LEARNED = "holobeam.learned.zoo:learned"

LEARNED = (
    Entry(
        "unfolded-vp",
        "holobeam.learned.unfolded_solver:Unfolded",
        "3, 5, 10 or 20 iterations of vp with trained step sizes and momenta",
        "variant of the unfolded-pga paper; methods 21",
        "phase shifters, full or sub-connected; the rest with weights of its own",
    ),
    Entry(
        "unfolded-pga",
        "holobeam.learned.unfolded_solver:Unfolded",
        "3, 5, 10 or 20 iterations of pga with trained step sizes",
        "unfolded-pga paper, Algorithm 1; methods 21",
        "phase shifters, one power budget",
        (("model", "unfolded-pga"), ("layers", 10)),
    ),
    Entry(
        "cnn",
        _LEARNED,
        "convolutions and attention from the phases of the channels, one pass; any N, any K",
        "cited by the ggml paper (our reconstruction); methods 27",
        "fully connected phase shifters, a chain for each user, radiated power, sum rate",
    ),
    Entry(
        "unrolled-mmse",
        _LEARNED,
        "learned moves of all amplitudes at once, ten layers gone through twice; any size, any K",
        "mb-dnn paper (our answer to it); methods 19",
        "amplitude surfaces",
        (("max_iterations", 2),),
    ),
    Entry(
        "blind-ceiling",
        "holobeam.learned.blind:Blind",
        "as good as any network that treats elements alike and never sees the feed",
        "methods 22; question raised by the mb-dnn paper",
        "amplitude surfaces on a square grid, one subcarrier, radiated power",
    ),
    Entry(
        "mb-dnn",
        _LEARNED,
        "graph network that subtracts interference and sees the feed; optimal-structure head",
        "mb-dnn paper, corrected; methods 20",
        "amplitude surfaces with 3 RF chains, radiated power, sum rate",
    ),
    Entry(
        "mb-dnn-blind",
        _LEARNED,
        "mb-dnn whose amplitudes depend on the channel alone, as printed",
        "mb-dnn paper, corrected; methods 20",
        "amplitude surfaces, radiated power, sum rate",
    ),
    Entry(
        "2dgnn",
        _LEARNED,
        "graph network without products of channels; optimal-structure head",
        "baseline of the mb-dnn paper; methods 20",
        "amplitude surfaces with 3 RF chains, radiated power, sum rate",
    ),
    Entry(
        "fnn",
        _LEARNED,
        "plain network of one 5 x 5 surface with 3 users; optimal-structure head",
        "baseline of the mb-dnn paper; methods 20",
        "the surface of surface_benchmark(), 3 users, radiated power, sum rate",
    ),
    Entry(
        "mb-dnn-plus",
        _LEARNED,
        "graph network that sees the surface through the projector onto its feed",
        "methods 20",
        "amplitude surfaces, radiated power, sum rate",
    ),
    Entry(
        "mb-dnn-unrolled",
        _LEARNED,
        "mb-dnn-plus, then unrolled MMSE iterations",
        "methods 20",
        "amplitude surfaces, radiated power, sum rate",
    ),
)
