"""Small surfaces, channels and networks with random weights."""

import torch

import holobeam as hb
from holobeam.learned.zoo import build

SURFACE = {"antennas": 12, "users": 3, "rf_chains": 3}

MODELS = {
    "mb-dnn": ("mb-dnn", {}),
    "mb-dnn-wls": ("mb-dnn", {"head": "wls"}),
    "mb-dnn-blind": ("mb-dnn", {"feed_aware": False}),
    "mb-dnn-blind-ls": ("mb-dnn", {"feed_aware": False, "head": "ls", "activations": "swapped"}),
    "mb-dnn-conjugate": ("mb-dnn", {"variant": "conjugate", "head": "wls"}),
    "mb-dnn-printed": (
        "mb-dnn",
        {
            "feed_aware": False,
            "variant": "literal",
            "activations": "printed",
            "head": "ls",
            "snr_aware": False,
        },
    ),
    "2dgnn": ("2dgnn", {"head": "wls"}),
    "2dgnn-mmse": ("2dgnn", {}),
    "fnn": ("fnn", SURFACE),
    "fnn-wls": ("fnn", {**SURFACE, "head": "wls"}),
    "fnn-ls": ("fnn", {**SURFACE, "head": "ls"}),
    "fnn-direct": ("fnn", {**SURFACE, "head": "direct"}),
    "mb-dnn-plus": ("mb-dnn-plus", {}),
    "mb-dnn-plus-wls": ("mb-dnn-plus", {"head": "wls"}),
    "mb-dnn-plus-ls": ("mb-dnn-plus", {"head": "ls"}),
    "mb-dnn-unrolled": ("mb-dnn-unrolled", {}),
    "unrolled-mmse": ("unrolled-mmse", {}),
}
EQUIVARIANT = tuple(name for name in MODELS if not name.startswith("fnn"))
INVARIANT = tuple(n for n in MODELS if n.startswith(("mb-dnn-plus", "mb-dnn-unr", "unrolled")))
BLIND = ("mb-dnn-blind", "mb-dnn-blind-ls", "mb-dnn-printed")


def make(name, seed=0, **options):
    """Network with weights that are random everywhere, also where training begins at zero."""
    model, chosen = MODELS[name]
    torch.manual_seed(seed)
    network = build(model, **{**chosen, **options})
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(0.2 * torch.randn_like(parameter) / parameter.shape[0] ** 0.5)
    return network.eval()


def surface(shape=(4, 3), chains=3, layout="edge-far"):
    array = hb.arrays.upa(shape, wavelength=0.01, spacing=0.25)
    places = hb.frontends.feed_positions(array, chains, layout)
    return hb.frontends.reference_wave(array.positions, places, 0.01)


def channels(batch=5, users=3, shape=(4, 3), seed=0):
    return hb.channels.sparse_paths(shape, users).sample(batch, seed=seed)


def downlink(h, feed, snr_db=10.0):
    return hb.Downlink(h, hb.frontends.rhs(feed), snr_db=snr_db)


def designed(network, problem):
    """Amplitudes, radiated precoder and rates of one pass, in double precision."""
    network = network.double() if problem.h.dtype == torch.complex128 else network
    with torch.no_grad():
        made = network(problem)
    control = made.control[:, :, 0].real
    radiated = problem.analog(made.control)[:, 0] @ made.digital[:, 0]
    scale = radiated.abs().square().sum(dim=(1, 2), keepdim=True).rsqrt()
    return control, radiated * scale, made.utilities[-1]
