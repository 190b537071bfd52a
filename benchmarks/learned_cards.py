"""Put trained weights into the package, with a card of what they reach on the frozen channels.

The card of ``cnn`` says what it reaches at several numbers of antennas instead.

``python -m benchmarks.learned_cards trained/fnn/fnn.safetensors --half`` after
``holobeam train fnn``.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import holobeam as hb
from benchmarks.cnn import size_scores
from holobeam.channels.bundled import surface_benchmark
from holobeam.learned.checkpoints import Weights, read_weights, write_weights
from holobeam.learned.network import Network
from holobeam.learned.validation import Validation
from holobeam.learned.zoo import restore

ZOO = Path(hb.__file__).parent / "learned" / "zoo"
NAME = "surface_benchmark"
SMALL = 4096


def benchmark() -> Validation:
    """The 256 frozen channels in single precision, and the best rates known of them."""
    frozen = surface_benchmark()
    frontend = hb.frontends.rhs(frozen.feed)
    problems, references = {}, {}
    for snr_db, best in zip(frozen.snr_db.tolist(), frozen.best_known_sum_rate, strict=True):
        label = f"{snr_db:g} dB"
        problems[label] = hb.Downlink(frozen.h.to(torch.complex64), frontend, snr_db=snr_db)
        references[label] = best
    return Validation(problems, references)


def card(name: str, weights: Weights, network: Network) -> dict[str, Any]:
    """What training said of the weights, and what they reach on the frozen channels."""
    known = {"command": f"holobeam train {name}", "licence": "Apache-2.0"}
    if weights.model == "cnn":
        data = "channels of the recipe, a fixed set for each lesson"
        return {**weights.about, "data": data, "sizes": size_scores(network), **known}
    reached = [{**asdict(score), "share": score.share} for score in benchmark().score(network)]
    return {
        **weights.about,
        "data": "channels and surface of the recipe, drawn anew for every step",
        NAME: {
            "reference": "best rates known of the 256 channels of surface_benchmark()",
            "scores": reached,
        },
        **known,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.learned_cards", description=__doc__)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--half", action="store_true", help="store large tensors in half precision")
    parser.add_argument("--out", type=Path, default=ZOO)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for path in chosen.weights:
        weights = read_weights(path)
        tensors = {
            name: value.half() if chosen.half and value.numel() > SMALL else value
            for name, value in weights.tensors.items()
        }
        kept = Weights(weights.model, weights.options, tensors, weights.about)
        about = card(path.stem, kept, restore(kept))
        write_weights(chosen.out / path.name, Weights(kept.model, kept.options, tensors, about))
        scores = about["sizes"] if weights.model == "cnn" else about[NAME]["scores"]
        told = {score["label"]: round(score["share"], 4) for score in scores}
        print(f"{path.stem}: {told}, {(chosen.out / path.name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
