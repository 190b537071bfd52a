import torch

import holobeam as hb
from holobeam.learned.curriculum import Scenario
from holobeam.learned.unrolled import UnrolledMmse


def surface(side=3, rf_chains=2):
    array = hb.arrays.upa((side, side), wavelength=0.01, spacing=0.25)
    feeds = hb.frontends.feed_positions(array, rf_chains, "edge-far")
    return hb.frontends.rhs(hb.frontends.reference_wave(array.positions, feeds, 0.01))


def scenario(side=3, users=2, rf_chains=2, snr_db=(0.0, 20.0)):
    model = hb.channels.sparse_paths((side, side), users)
    return Scenario(
        lambda count, seed, start: model.sample(count, seed, start=start),
        surface(side, rf_chains),
        snr_db,
    )


def small_network(seed=0, layers=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UnrolledMmse(layers=layers, hidden=4, edge_width=6, node_width=8)
